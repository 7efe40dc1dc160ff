"""`--attack auto`: a stronger attack where that decides, never beyond its total, and nothing is left out in silence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from analysis.attacks import Pairs
from analysis.campaign import strong
from analysis.campaign.attack import attack_shipped, unattacked
from analysis.campaign.inputs import Inputs
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.strong import STRONG, KeptActivations, spent_s
from analysis.campaign.subject import Subject, Variant
from analysis.judging import collect_pairs
from analysis.run import Run
from harness.networks.splits import Network
from harness.pictures import Pictures
from harness.results.schema import AUTO, Cell, LeakageRecord, RoundRecord
from harness.results.store import RunStore
from tests.analysis.conftest import SIZE
from tests.parts.runs import small_run

ENOUGH_S, NOTHING_S = 600.0, 1e-3
Ship = Callable[..., RunStore]


class Told:
    """Is told how far a run is."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.phases: list[Phase] = []

    def phase(self, phase: Phase, total: int | None) -> None:
        """Remember it."""
        del total
        self.phases.append(phase)

    def step(self, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Remember it."""
        self.notes.append(text)


@pytest.fixture
def inputs(network: Network, pictures: Pictures, tmp_path: Path) -> Inputs:
    subject = Subject(network, tuple(network.points), pictures)
    return Inputs((subject,), tmp_path, (Variant(subject, "fp32"),))


@pytest.fixture
def ship(tmp_path: Path, network: Network, pictures: Pictures) -> Ship:
    """A run whose cells, one for each split and device, have shipped their activations of the held-out pictures."""

    def make(
        total_s: float | None, *, splits: Sequence[int] = (1, 2, 3), devices: Sequence[str] = ("local",)
    ) -> RunStore:
        cells = [_cell(network, index, device) for index in splits for device in devices]
        file = small_run(cells, pictures, ["linear"], attack_total_s=total_s)
        store = RunStore.create(tmp_path / "run", file)
        for cell in cells:
            head = network.head(network.points[cell.split_index])
            for place, picture in enumerate(pictures.held_out.as_float()):
                store.keep_activation(cell.hash, place, save({"activation": head(picture[None]).contiguous()}))
            store.journal.keep_round(RoundRecord(work=cell.hash, cells=(cell.hash,), round=0, status="ok"))
        return store

    return make


def _cell(network: Network, index: int, device: str) -> Cell:
    point = network.points[index]
    return Cell.model_validate(
        dict.fromkeys(("weights", "weights_sha256", "op", "affinity", "link"), "")
        | {"hash": f"{device}{index}", "model": "small", "split": point.name, "device": device, "trained": False}
        | {"input_size": SIZE, "split_index": index, "backend": "xnnpack", "activation_shape": point.activation_shape}
        | {"precision": "fp32", "codec": "fp32", "threads": 1, "head_params": 0, "head_macs": point.head_macs}
        | {"activation_bytes": point.activation_bytes}
    )


def attacked(store: RunStore, inputs: Inputs) -> tuple[dict[tuple[str, str], LeakageRecord], Told]:
    told = Told()
    attack_shipped(store, inputs, Phases(told))
    assert unattacked(store) == []
    return RunStore(store.folder).journal.leakage(), told


def test_with_enough_time_every_split_meets_the_stronger_attacker_and_the_time_is_told(
    ship: Ship, inputs: Inputs
) -> None:
    store = ship(ENOUGH_S, splits=(1, 2))
    records, told = attacked(store, inputs)
    assert set(records) == {(f"local{i}", name) for i in (1, 2) for name in ("linear", STRONG)}
    assert {record.status for record in records.values()} == {"ok"}
    assert all((records[f"local{i}", STRONG].spent_s or 0) > 0 for i in (1, 2))
    assert 0 < spent_s(store) < ENOUGH_S
    assert told.phases == [Phase.ATTACK, Phase.STRONG]
    assert not Run(store).summary()["weakly_attacked"].any()


def test_what_the_total_is_too_small_for_is_not_begun_and_the_reason_is_kept(ship: Ship, inputs: Inputs) -> None:
    store = ship(NOTHING_S)
    records, _ = attacked(store, inputs)
    assert {attack for _, attack in records} == {"linear", AUTO}
    assert {record.reason for (_, attack), record in records.items() if attack == AUTO} == {
        "the total of 0.001 s was not enough: --attack-total 1s"
    }
    assert set(Run(store).summary()["attack"]) == {"linear"}


def test_a_resumed_run_repeats_nothing_and_has_what_is_left_of_the_total(ship: Ship, inputs: Inputs) -> None:
    store = ship(ENOUGH_S, splits=(1, 2))
    attacked(store, inputs)
    paths = {path.name: path for path in (store.folder / "journal" / "leakage").iterdir()}
    lost = store.journal.leakage()["local2", STRONG]
    for name, path in list(paths.items()):
        if name.startswith("local2") and STRONG in name:
            path.unlink()
            del paths[name]
    spent = LeakageRecord.model_validate(store.journal.leakage()["local1", STRONG].model_dump() | {"spent_s": ENOUGH_S})
    store.journal.keep_leakage(spent)
    before = {name: path.read_bytes() for name, path in paths.items()}
    again = RunStore(store.folder)
    assert unattacked(again) == [("local2", AUTO)]
    records, _ = attacked(again, inputs)
    assert {name: path.read_bytes() for name, path in paths.items()} == before
    assert lost.key not in records
    assert records["local2", AUTO].reason == "the total of 600 s was not enough: --attack-total 100m"


def test_devices_share_a_fit_and_the_time_of_it_is_counted_once(ship: Ship, inputs: Inputs) -> None:
    records, _ = attacked(ship(ENOUGH_S, splits=(2,), devices=("local", "phone")), inputs)
    here, there = records["local2", STRONG], records["phone2", STRONG]
    assert here.train_seconds == there.train_seconds
    assert (here.spent_s is None) != (there.spent_s is None)


def test_a_split_where_the_stronger_attack_cannot_work_has_a_failed_row_and_holds_up_no_other(
    ship: Ship, inputs: Inputs, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = 0

    def short_of_memory(*_: object) -> float:
        nonlocal calls
        calls += 1
        if calls == 1:
            raise RuntimeError("not enough memory")
        return 1e-6

    monkeypatch.setattr(strong, "evaluation_s", short_of_memory)
    store = ship(ENOUGH_S, splits=(1, 2))
    told = Told()
    attack_shipped(store, inputs, Phases(told))
    strongly = [record for record in store.journal.leakage().values() if record.attack == STRONG]
    assert sorted(record.status for record in strongly) == ["failed", "ok"]
    assert any("not enough memory" in note for note in told.notes)
    assert set(Run(store).summary()["status"]) <= {"ok", "skipped", "failed"}


def test_attacks_chosen_by_name_are_all_there_is(ship: Ship, inputs: Inputs) -> None:
    records, told = attacked(ship(None), inputs)
    assert {attack for _, attack in records} == {"linear"}
    assert told.phases == [Phase.ATTACK]


def test_only_activations_nearest_to_the_verdict_are_kept_and_what_was_not_is_computed_again(inputs: Inputs) -> None:
    (variant,) = inputs.variants
    network, pictures = variant.subject.network, variant.subject.pictures
    points = network.points[1:4]
    own = collect_pairs(network, points, pictures)
    sizes = [own[p.index].activations.numel() * 4 for p in points]
    kept = KeptActivations(most_bytes=sum(sizes) - 1)
    for point, from_verdict_db in zip(points, (9.0, 0.5, 3.0), strict=True):
        kept.keep(variant, point, from_verdict_db, torch.zeros_like(own[point.index].activations))
    assert [bool(kept.pairs(variant, point).activations.any()) for point in points] == [True, False, False]
    for point in points:  # each was handed over once
        again, first = kept.pairs(variant, point), own[point.index]
        assert torch.equal(again.activations, first.activations)
        assert torch.equal(again.pictures, first.pictures)
        assert again.sources == first.sources


def test_a_search_takes_longer_the_more_evaluations_it_makes_whatever_they_are_of() -> None:
    seconds = strong.evaluation_s(torch.nn.Conv2d(3, 4, 3).requires_grad_(False), _pairs())
    assert 0 < seconds < math.inf


def _pairs() -> Pairs:
    generator = torch.Generator().manual_seed(0)
    pictures = torch.rand(4, 3, 8, 8, generator=generator)
    return Pairs(pictures, torch.rand(4, 4, 6, 6, generator=generator), ("a", "a", "b", "b"))
