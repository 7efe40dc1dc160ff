"""Attacks of a run fail alone, and the pictures that they rebuilt are written whole."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from analysis.attacks import Pairs, spectral
from analysis.attacks.spectral import Spectral
from analysis.campaign import leakage
from analysis.campaign.leakage import AttackTarget, attack_network, write_pictures
from analysis.errors import AttackError
from harness.errors import ResultsError
from harness.networks.splits import Network
from harness.pictures import Fold, Pictures
from harness.results.schema import Cell
from harness.results.store import RunStore
from tests.parts.attacks import Raising
from tests.parts.runs import small_run

SIZE = (32, 32)


def test_written_pictures_are_those_that_were_given_and_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    pixels = torch.randint(256, (3, 3, 12, 16), dtype=torch.uint8)
    folder = tmp_path / "linear"
    write_pictures(folder, torch.zeros(1, 3, 12, 16), ["earlier"])
    write_pictures(folder, pixels / 255, ["a", "b", "c"])
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png", "c.png"]
    for name, picture in zip("abc", pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{name}.png")), picture.permute(1, 2, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["linear"]


def test_pictures_that_cannot_be_written_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"cannot write to .*; free disk space"):
        write_pictures(tmp_path / "file" / "linear", torch.zeros(1, 3, 12, 16), ["a"])


USERS = "tests.parts.attacks"


@pytest.fixture
def shipped(tmp_path: Path, network: Network, pictures: Pictures) -> Callable[..., tuple[RunStore, list[AttackTarget]]]:
    """A run of these attacks whose one cell has shipped what its head makes of the held-out pictures."""

    def ship(*attacks: str, budget_s: float | None = None) -> tuple[RunStore, list[AttackTarget]]:
        point = network.points[3]
        cell = Cell.model_validate(
            dict.fromkeys(("model", "weights", "weights_sha256", "split", "op", "device", "affinity", "link"), "")
            | {"hash": "c0", "trained": False, "input_size": SIZE, "split_index": point.index, "backend": "xnnpack"}
            | {"activation_shape": point.activation_shape, "precision": "fp32", "codec": "fp32", "threads": 1}
            | {"head_params": 0, "head_macs": 0, "activation_bytes": point.activation_bytes}
        )
        file = small_run([cell], pictures, attacks, attack_budget_s=budget_s)
        store = RunStore.create(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", file)
        for index, picture in enumerate(pictures.held_out.as_float()):
            store.keep_activation("c0", index, save({"activation": network.head(point)(picture[None]).contiguous()}))
        return store, [AttackTarget(cell, point, network.cut(point))]

    return ship


def test_attacks_that_fail_are_rows_and_change_nothing_of_the_others(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]], network: Network, pictures: Pictures
) -> None:
    bad = ("Poisonous", "Exits", "Uncountable", "Undecided", "Bytes")
    store, targets = shipped(*(f"{USERS}:{one}" for one in bad), "linear", f"{USERS}:Mean")
    found = {
        r.attack.partition(":")[2] or r.attack: r
        for r in attack_network(store, network, lambda: network, targets, pictures)
    }
    assert {name: record.status for name, record in found.items()} == {
        "Poisonous": "ok",
        "Exits": "failed",
        "Uncountable": "failed",
        "Undecided": "failed",
        "Bytes": "failed",
        "linear": "ok",
        "Mean": "ok",
    }
    assert re.fullmatch(r"SystemExit: .*no licence \(attacks\.py:\d+\)", found["Exits"].reason)
    assert "pictures are on [0, 1]" in found["Bytes"].reason
    assert RunStore(store.folder).journal.leakage() == {(r.cell, r.attack): r for r in found.values()}
    alone, targets = shipped("linear", f"{USERS}:Mean")
    for record in attack_network(alone, network, lambda: network, targets, pictures):
        same = found[record.attack.partition(":")[2] or record.attack]
        assert same.model_copy(update={"train_seconds": record.train_seconds}) == record


def test_with_folds_every_picture_has_its_figures(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]], network: Network, pictures: Pictures
) -> None:
    sources, half = sorted(set(pictures.train.sources)), len(pictures.held_out) // 2
    folds = (Fold(frozenset(sources[:1]), slice(0, half)), Fold(frozenset(sources[1:3]), slice(half, None)))
    folded = replace(pictures, folds=folds)
    store, targets = shipped("linear", "spectral", budget_s=1.0)
    linear, spectral = attack_network(store, network, lambda: network, targets, folded)
    for record in (linear, spectral):
        assert record.status == "ok", record.reason
        assert len(record.psnr_db) == len(record.residual or record.psnr_db) == len(pictures.held_out)
        assert 0 < record.train_pictures < len(pictures.train)
    store, targets = shipped("linear")
    (single,) = attack_network(store, network, lambda: network, targets, pictures)
    assert single.train_pictures == len(pictures.train)
    assert single.psnr_db != linear.psnr_db


def test_ctrl_c_within_an_attack_ends_the_run_and_keeps_what_was_finished(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]],
    network: Network,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Raising, "error", KeyboardInterrupt(), raising=False)
    store, targets = shipped(f"{USERS}:Mean", f"{USERS}:Raising")
    with pytest.raises(KeyboardInterrupt):
        list(attack_network(store, network, lambda: network, targets, pictures))
    assert set(RunStore(store.folder).journal.leakage()) == {("c0", f"{USERS}:Mean")}


def ship_several(store: RunStore, network: Network, pictures: Pictures, *places: int) -> list[AttackTarget]:
    """Cells at these split points, which have shipped what their heads make of the held-out pictures."""
    (first,) = store.file.cells
    points = [network.points[place] for place in places]
    cells = [
        first.model_copy(update={"hash": f"c{p.index}", "split_index": p.index, "activation_shape": p.activation_shape})
        for p in points
    ]
    for cell, point in zip(cells, points, strict=True):
        for index, picture in enumerate(pictures.held_out.as_float()):
            activation = network.head(point)(picture[None]).contiguous()
            store.keep_activation(cell.hash, index, save({"activation": activation}))
    return [AttackTarget(cell, point, network.cut(point)) for cell, point in zip(cells, points, strict=True)]


def test_searches_at_several_splits_side_by_side_find_what_one_after_the_other_does(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]],
    network: Network,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(spectral, "EVALUATIONS", 10)
    found = []
    for threads in (1, 2):
        monkeypatch.setattr(torch, "get_num_threads", lambda threads=threads: threads)
        store, _ = shipped("spectral")
        targets = ship_several(store, network, pictures, 1, 3, 4)
        records = list(attack_network(store, network, lambda: network, targets, pictures))
        assert RunStore(store.folder).journal.leakage() == {(r.cell, r.attack): r for r in records}
        found.append({r.cell: (r.status, r.psnr_db, r.search_residual) for r in records})
        assert set(found[-1]) == {target.cell.hash for target in targets}
        assert all(status == "ok" for status, *_ in found[-1].values()), records
    assert found[0] == found[1]


def test_a_search_whose_process_is_killed_fails_alone_and_the_next_goes_on(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]],
    network: Network,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leakage, "gradients_survive_fork", lambda: True)
    targets: list[AttackTarget] = []

    def fit(_: Spectral, own: Pairs, *__: object) -> None:
        if own.activation_shape == targets[0].point.activation_shape[1:]:
            os.kill(os.getpid(), signal.SIGKILL)
        raise AttackError("not today")

    monkeypatch.setattr(Spectral, "_fit", fit)
    store, _ = shipped("spectral")
    targets += ship_several(store, network, pictures, 1, 3)
    found = {r.cell: r for r in attack_network(store, network, lambda: network, targets, pictures)}
    assert found["c1"].reason == "the process that attacked ended with status -9 (out of memory?)"
    assert found["c3"].reason == "not today"
    assert {r.status for r in found.values()} == {"failed"}


def test_a_damaged_file_ends_the_run_from_a_process_too(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]],
    network: Network,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leakage, "gradients_survive_fork", lambda: True)
    monkeypatch.setattr(Spectral, "_fit", lambda *_: None)
    store, targets = shipped("spectral")
    store.activation_path("c0", 0).write_bytes(b"")
    with pytest.raises(ResultsError, match="cannot be read; delete its folder"):
        list(attack_network(store, network, lambda: network, targets, pictures))


@pytest.mark.parametrize(
    ("attack", "budget_s", "apart"), [("spectral", None, True), ("spectral", 1.0, False), ("refine", None, False)]
)
def test_what_has_a_budget_or_goes_on_from_the_split_before_has_all_cores(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]],
    network: Network,
    pictures: Pictures,
    monkeypatch: pytest.MonkeyPatch,
    attack: str,
    budget_s: float | None,
    apart: bool,
) -> None:
    monkeypatch.setattr(leakage, "gradients_survive_fork", lambda: True)

    def fit(*_: object) -> None:
        raise AttackError(str(os.getpid()))

    monkeypatch.setattr(Spectral, "_fit", fit)
    store, targets = shipped(attack, budget_s=budget_s)
    (record,) = attack_network(store, network, lambda: network, targets, pictures)
    assert (record.reason != str(os.getpid())) == apart


def test_best_takes_a_users_attack_of_the_run_where_that_is_best(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]], network: Network, pictures: Pictures
) -> None:
    store, targets = shipped("best", f"{USERS}:Rival", budget_s=1.0)
    best, rival = attack_network(store, network, lambda: network, targets, pictures)
    assert (best.status, best.chosen) == ("ok", "rival")
    assert best.psnr_db == rival.psnr_db


def test_a_search_is_judged_by_what_it_found_and_not_by_what_that_was_mixed_into(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]], network: Network, pictures: Pictures
) -> None:
    store, targets = shipped("linear", "spectral", "best", "whitebox", f"{USERS}:Rival", budget_s=0.8)
    found = {r.attack: r for r in attack_network(store, network, lambda: network, targets, pictures)}
    assert {record.status for record in found.values()} == {"ok"}
    spectral, whitebox = found["spectral"], found["whitebox"]
    assert len(spectral.search_residual) == len(whitebox.search_residual) == len(pictures.held_out.names)
    assert np.mean(spectral.search_residual) < np.mean(spectral.residual)
    assert found["linear"].search_residual == found[f"{USERS}:Rival"].search_residual == ()
    assert found["best"].search_residual == ()  # it took the user's, which does not search
    assert found["best"].chosen == "rival"


def test_what_was_rebuilt_is_shown_to_a_network_that_was_not_attacked(
    shipped: Callable[..., tuple[RunStore, list[AttackTarget]]], network: Network, pictures: Pictures
) -> None:
    store, targets = shipped("linear", f"{USERS}:Mean")
    linear, mean = attack_network(store, network, lambda: network, targets, pictures)
    assert linear.judge == mean.judge == "efficientnet_lite0"
    assert len(linear.judge_top1) == len(pictures.held_out.names)
    assert np.mean(linear.judge_similarity) > np.mean(mean.judge_similarity)
    table = store.table("leakage").to_pandas()
    assert table["judge_similarity"].tolist() == [*linear.judge_similarity, *mean.judge_similarity]
