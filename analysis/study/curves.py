"""What is recovered of a named network at equal shares of its MACs, and that in one number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from analysis.study.area import AREA_CAP_DB, leakage_area
from analysis.study.cells import SHARES, Kind
from analysis.study.records import CutFacts, StudyRecord
from harness.stats import Array, source_interval


@dataclass(frozen=True)
class Area:
    """Area of a leakage curve over the share of MACs: the mean over pictures, and its 95 % interval."""

    mean: float
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class LeakageCurve:
    """A network under one attack, all folds of photographs together.

    Args:
        at: its cuts, one for each of `SHARES`.
        psnr_db, ssim: mean over pictures, per cut.
        floor_psnr_db: mean over pictures.
        area_db: above the floor, capped at 50 dB; ssim_area: from 0 to 1.
        unconverged: cells in which the attack had not converged, of `cells`.
    """

    network: str
    weights: str
    input_size: tuple[int, int]
    attack: str
    at: tuple[CutFacts, ...]
    psnr_db: tuple[float, ...]
    ssim: tuple[float, ...]
    floor_psnr_db: float
    area_db: Area
    ssim_area: Area
    unconverged: int
    cells: int


def curves(records: Sequence[StudyRecord], kind: Kind) -> list[LeakageCurve]:
    """A curve for each network of a kind and each attack that was finished at all of its cuts in some fold."""
    by_network: dict[tuple[str, str], dict[int, dict[int, StudyRecord]]] = {}
    for record in records:
        specimen = record.cell.specimen
        if record.status == "ok" and specimen.kind == kind:
            folds = by_network.setdefault((specimen.network, record.cell.attack), {})
            folds.setdefault(specimen.fold, {})[record.cell.cut] = record
    whole = {
        key: [
            [fold[cut] for cut in range(len(SHARES))] for _, fold in sorted(folds.items()) if len(fold) == len(SHARES)
        ]
        for key, folds in by_network.items()
    }
    return [_curve(*key, folds) for key, folds in whole.items() if folds]


def _curve(network: str, attack: str, folds: Sequence[Sequence[StudyRecord]]) -> LeakageCurve:
    """One curve from several folds, each a record per cut."""
    psnr_db = np.concatenate([np.array([record.psnr_db for record in fold]) for fold in folds], axis=1)
    ssim = np.concatenate([np.array([record.ssim for record in fold]) for fold in folds], axis=1)
    floor = np.concatenate([np.array(fold[0].floor_psnr_db) for fold in folds])
    sources = [source for fold in folds for source in fold[0].sources]
    at = tuple(record.at for record in folds[0] if record.at is not None)
    share = [one.mac_share for one in at]
    everything = [record for fold in folds for record in fold]
    return LeakageCurve(
        network,
        everything[0].weights,
        everything[0].input_size,
        attack,
        at,
        tuple(map(float, psnr_db.mean(1))),
        tuple(map(float, ssim.mean(1))),
        float(floor.mean()),
        _area(share, psnr_db, floor, AREA_CAP_DB, sources),
        _area(share, ssim, np.zeros(len(sources)), 1.0, sources),
        sum(record.converged is False for record in everything),
        len(everything),
    )


def _area(share: Sequence[float], values: Array, floor: Array, cap: float, sources: Sequence[str]) -> Area:
    """Areas of all pictures (values: cuts x pictures); at a share of 0 the picture itself travels."""
    areas = [
        leakage_area([0.0, *share], [cap, *of_picture], float(lowest), cap)
        for of_picture, lowest in zip(values.T, floor, strict=True)
    ]
    return Area(float(np.mean(areas)), source_interval(areas, sources))
