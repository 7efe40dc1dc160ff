"""A specimen is made from its own attributes, and cut where the study says."""

from __future__ import annotations

import pytest
import torch

from analysis.study.cells import NETWORKS, SHARES, Specimen
from analysis.study.photographs import Photographs
from analysis.study.specimens import SIZES, make
from harness.errors import ModelError
from harness.networks.models import Model


def specimen(network: str, **changes: object) -> Specimen:
    plain = {"kind": "family", "network": network, "state": "untrained", "seed": 0, "fold": 0}
    return Specimen.model_validate(plain | changes)


def test_a_network_of_a_family_is_cut_where_its_variant_says(photographs: Photographs) -> None:
    ready = make(specimen("skip/residual"), photographs)
    for cut, path in enumerate(NETWORKS["skip/residual"].cuts):
        assert path in (ready.points[cut].name, *ready.points[cut].aliases)
        assert ready.facts(cut).activation_shape == ready.points[cut].activation_shape


def test_the_same_specimen_is_made_twice_and_another_seed_or_fold_is_another(photographs: Photographs) -> None:
    one, again, seed, fold = (
        make(specimen("skip/plain", **changes), photographs).network.weights_sha256
        for changes in ({}, {}, {"seed": 1}, {"fold": 1})
    )
    assert one == again
    assert len({one, seed, fold}) == 3, "batch norm is calibrated on the fold's own pictures"


def test_nobody_elses_random_numbers_matter(photographs: Photographs) -> None:
    hashes = set()
    for seed in (1, 2):
        torch.manual_seed(seed)
        hashes.add(make(specimen("norm/without"), photographs).network.weights_sha256)
    assert len(hashes) == 1


def test_a_named_network_is_cut_near_equal_shares_of_its_macs(photographs: Photographs) -> None:
    ready = make(specimen("squeezenet1_1", kind="zoo"), photographs)
    found = [ready.facts(cut).mac_share for cut in range(len(SHARES))]
    assert found == pytest.approx(SHARES, abs=0.1)
    assert ready.pictures.train.pixels.shape[2:] == (64, 64)


def test_sizes_other_than_the_usual_are_for_networks_that_take_no_less() -> None:
    assert set(SIZES) == {"inception_v3"}


def test_a_case_without_trained_weights_is_refused_with_a_remedy(
    photographs: Photographs, monkeypatch: pytest.MonkeyPatch
) -> None:
    def untrained(*_: object, **__: object) -> Model:
        return NETWORKS["skip/plain"].untrained(0, torch.rand(4, 3, 64, 64))

    monkeypatch.setattr("analysis.study.specimens.load_model", untrained)
    with pytest.raises(ModelError, match="splitbench"):
        make(specimen("efficientnet_lite1", kind="case", state="trained"), photographs)
