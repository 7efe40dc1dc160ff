"""A profiled time is scaled by measured neighbours, has an interval, and never comes from nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from analysis.estimate import (
    LEAST_UNCERTAINTY,
    NO_PLACES,
    RESOLUTION_NS,
    Anchor,
    estimate_head,
    survey_results,
    widest_gap,
)
from harness.results.schema import Cell, RoundRecord
from tests.parts.cells import tiny_cell
from tests.parts.surveys import VERIFIED, survey_report, survey_shipment

OPERATORS = ["Convolution (NHWC, F32) #1", "Transpose (ND, X32) #1", "Fully Connected (NC, F32) GEMM #1"]


def record(
    round_: int = 0, *, times: list[list[int]] | None = None, operators: list[str] = OPERATORS, ships: bool = False
) -> RoundRecord:
    shipments = [survey_shipment(0, 5, 6, 7)] if ships else []
    report = survey_report(2, operators, times, *shipments)
    return RoundRecord(
        work="s",
        round=round_,
        status="ok",
        cells=("first", "last"),
        operators=({"product": 1}, {"product": 2}),
        maps=(True, False),
        report=report,
    )


def cells(profiled_ns: Sequence[float]) -> dict[Cell, float]:
    return {tiny_cell(index): ns for index, ns in enumerate(profiled_ns)}


def test_rounds_are_kept_apart_and_shipments_collected() -> None:
    cells = survey_results([record(1, times=[[20, 3, 30]]), record(0, times=[[10, 1, 30], [10, 1, 30]], ships=True)])
    assert [times.tolist() for times in cells["first"].rounds_ns] == [[11, 11], [23]]
    assert [times.tolist() for times in cells["last"].rounds_ns] == [[40, 40], [50]]
    assert cells["first"].profiled_ns == RESOLUTION_NS / 2  # no less than what the profiler can tell
    assert [s.wire_bytes for s in cells["last"].shipments] == [7]


@pytest.mark.parametrize(
    ("surveyed", "reason"),
    [(record(), "no event came"), (record(times=[[1, 2]], operators=["Clamp", "Clamp"]), NO_PLACES)],
)
def test_without_a_profile_the_reason_is_there(surveyed: RoundRecord, reason: str) -> None:
    found = survey_results([surveyed])["first"]
    assert found.profiled_ns is None
    assert found.reason == reason
    assert found.verification == VERIFIED


def test_a_constant_scale_is_found_exactly() -> None:
    estimate = estimate_head(3e6, [Anchor(1e6, 1.2e6), Anchor(10e6, 12e6)])
    assert estimate is not None
    assert estimate.p50 == pytest.approx(3.6e6)
    assert estimate.high == pytest.approx(3.6e6 * np.exp(LEAST_UNCERTAINTY) + RESOLUTION_NS)
    assert estimate.low == pytest.approx(3.6e6 * np.exp(-LEAST_UNCERTAINTY) - RESOLUTION_NS)


def test_a_scale_that_changes_is_interpolated_and_widens_the_interval_there_alone() -> None:
    anchors = [Anchor(1e6, 1e6), Anchor(4e6, 8e6), Anchor(16e6, 32e6)]
    between, beyond = estimate_head(2e6, anchors), estimate_head(8e6, anchors)
    assert between is not None
    assert beyond is not None
    assert between.p50 == pytest.approx(2e6 * np.sqrt(2))
    assert (between.high - RESOLUTION_NS) / between.p50 == pytest.approx(2.0)
    assert beyond.p50 == pytest.approx(16e6)
    assert (beyond.high - RESOLUTION_NS) / beyond.p50 == pytest.approx(np.exp(LEAST_UNCERTAINTY))


def test_what_is_quicker_than_the_profiler_can_tell_has_no_lower_end() -> None:
    estimate = estimate_head(RESOLUTION_NS / 2, [Anchor(1e6, 1e6)])
    assert estimate is not None
    assert estimate.low == 0
    assert estimate.high > RESOLUTION_NS


@pytest.mark.parametrize(("profiled", "anchors"), [(1.0, []), (0.0, [Anchor(1.0, 1.0)]), (1.0, [Anchor(0.0, 1.0)])])
def test_nothing_to_scale_with_gives_nothing(profiled: float, anchors: list[Anchor]) -> None:
    assert estimate_head(profiled, anchors) is None


def test_one_more_anchor_goes_where_the_scales_differ_most() -> None:
    anchors = [Anchor(1e6, 1e6), Anchor(9e6, 9e6), Anchor(81e6, 162e6)]
    candidates = [2e6, 3e6, 20e6, 30e6, 70e6]
    widest, smaller = widest_gap(cells(candidates), anchors), widest_gap(cells([3e6, 90e6]), anchors)
    assert widest is not None
    assert widest.width == pytest.approx(np.log(2))
    assert cells(candidates)[widest.cell] == 30e6
    assert smaller is not None
    assert cells([3e6, 90e6])[smaller.cell] == 3e6
    assert widest_gap(cells([0.5e6, 90e6]), anchors) is None
    assert widest_gap(cells([2e6]), []) is None
