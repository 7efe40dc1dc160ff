"""What a run asks for is checked before anything is measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from analysis.campaign.inputs import _Loader, check_sources, load_inputs
from analysis.campaign.phases import Phase, Phases
from device_runner.errors import UsageError
from harness.pictures import load_pictures
from harness.results.schema import NetworkConfig


class Quiet:
    """Is told how far a run is, and tells nobody."""

    def phase(self, phase: Phase, total: int | None) -> None:
        """Nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def test_as_many_pictures_are_made_as_were_asked_for() -> None:
    config = NetworkConfig(
        models=("resnet18",),
        split="1",
        precisions=("fp32",),
        input_size=(32, 32),
        pictures="builtin",
        train_pictures=30,
        held_out=6,
        weights="random",
        seed=0,
    )
    inputs = load_inputs(config, Path("unused"), Phases(Quiet()))
    (subject,) = inputs.subjects
    assert (len(subject.pictures.train), len(subject.pictures.held_out)) == (30, 6)
    folded = _Loader(config.model_copy(update={"folds": 3}), Phases(Quiet()), ())._pictures((32, 32))
    assert len(folded.held_out) == 18
    assert not any("folds" in notice for notice in inputs.notices)
    inputs = replace(inputs, subjects=(replace(subject, pictures=folded),))
    assert any(notice.startswith("3 folds: each attack was fitted 3 times") for notice in inputs.notices)


def test_too_few_photographs_for_an_attack_are_known_at_once(tmp_path: Path) -> None:
    for seed in range(3):
        coarse = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((50, 50), Image.Resampling.BICUBIC).save(tmp_path / f"{seed}.png")
    pictures = load_pictures(str(tmp_path), size=(32, 32), train_count=4, held_out_count=2)
    check_sources(["linear"], pictures)
    with pytest.raises(UsageError, match="attack decoder learns from 3 or more photographs, and there are 2") as error:
        check_sources(["linear", "decoder"], pictures)
    assert "--attack decoder" in error.value.remedy
