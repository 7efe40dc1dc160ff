"""Records of a study that nobody carried out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Literal

import pytest

from analysis.study.cells import SHARES, Kind, Specimen, State, StudyCell
from analysis.study.photographs import FOLDS, Photographs, gather
from analysis.study.records import CutFacts, FitFacts, StudyRecord
from tests.parts.threads import one_thread

RecordMaker = Callable[..., StudyRecord]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks this small gain nothing from threads, and equal threads give equal sums."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def photographs() -> Photographs:
    return gather(["builtin"])


@pytest.fixture
def record() -> RecordMaker:
    return make_record


def make_record(
    network: str = "skip/plain",
    psnr_db: float = 20.0,
    *,
    seed: int = 0,
    cut: int = 0,
    attack: str = "linear",
    kind: Kind = "family",
    state: State = "untrained",
    fold: int | None = None,
    converged: bool | None = None,
    reached: bool | None = None,
    status: Literal["ok", "failed"] = "ok",
) -> StudyRecord:
    """A cell with two pictures of each of two photographs, rebuilt at `psnr_db` on average."""
    where = Specimen(kind=kind, network=network, state=state, seed=seed, fold=seed % FOLDS if fold is None else fold)
    cell = StudyCell(specimen=where, cut=cut, attack=attack)
    spread = (-2.0, -1.0, 1.0, 2.0)
    facts = CutFacts(
        split=f"stage{cut}", activation_shape=(1, 8, 4, 4), head_params=1000, head_macs=1_000_000, mac_share=SHARES[cut]
    )
    return StudyRecord(
        key=cell.key("photographs"),
        cell=cell,
        status=status,
        reason="" if status == "ok" else "it broke",
        weights=f"random, seed {seed}",
        input_size=(64, 64),
        at=facts,
        fit=None if reached is None else FitFacts(accuracy=0.7, steps=100, reached=reached),
        converged=converged,
        seconds=1.5,
        sources=("a", "a", "b", "b"),
        psnr_db=tuple(psnr_db + off for off in spread) if status == "ok" else (),
        ssim=(0.4, 0.5, 0.5, 0.6) if status == "ok" else (),
        floor_psnr_db=(12.0,) * 4 if status == "ok" else (),
    )
