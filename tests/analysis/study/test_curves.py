"""Curves join folds, need every cut, and have the area of what they show."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from analysis.study.area import AREA_CAP_DB, leakage_area
from analysis.study.cells import SHARES
from analysis.study.curves import curves
from analysis.study.records import StudyRecord

RecordMaker = Callable[..., StudyRecord]
PSNR = (30.0, 24.0, 18.0, 15.0)


def fold(record: RecordMaker, index: int, added: float = 0.0, network: str = "resnet18") -> list[StudyRecord]:
    return [record(network, psnr + added, kind="zoo", cut=cut, fold=index) for cut, psnr in enumerate(PSNR)]


def test_a_curve_has_the_mean_of_all_folds_at_each_cut(record: RecordMaker) -> None:
    (curve,) = curves([*fold(record, 0), *fold(record, 1, 2.0)], "zoo")
    assert curve.psnr_db == pytest.approx([psnr + 1 for psnr in PSNR])
    assert curve.cells == 8


def test_the_area_is_that_of_its_pictures_curves_from_the_picture_itself_on(record: RecordMaker) -> None:
    (curve,) = curves(fold(record, 0), "zoo")
    areas = [
        leakage_area([0, *SHARES], [AREA_CAP_DB, *(psnr + off for psnr in PSNR)], 12.0, AREA_CAP_DB)
        for off in (-2.0, -1.0, 1.0, 2.0)
    ]
    assert curve.area_db.mean == pytest.approx(sum(areas) / 4)
    assert curve.area_db.interval is not None
    assert curve.area_db.interval[0] < curve.area_db.mean < curve.area_db.interval[1]
    assert 0 < curve.ssim_area.mean < 1


def test_a_fold_that_lacks_a_cut_is_left_out(record: RecordMaker) -> None:
    (curve,) = curves([*fold(record, 0), *fold(record, 1)[:3]], "zoo")
    assert curve.cells == 4
    assert curves(fold(record, 0)[1:], "zoo") == []


def test_kinds_and_attacks_are_never_mixed(record: RecordMaker) -> None:
    found = [
        *fold(record, 0),
        record("resnet18", kind="case", state="trained"),
        record(),
        record("alexnet", kind="zoo"),
    ]
    assert [(curve.network, curve.attack) for curve in curves(found, "zoo")] == [("resnet18", "linear")]
