"""Every output is found among the operators that ran, and only its own layout change counts for it."""

from __future__ import annotations

import numpy as np
import pytest

from harness.results.profiled import ProfiledTimes, find_places

CONVOLUTION, LINEAR, TRANSPOSE = (
    "Convolution (NHWC, F32) IGEMM",
    "Fully Connected (NC, F32) GEMM",
    "Transpose (ND, X32)",
)
# As XNNPACK runs two convolutions, both of them outputs, and a classifier behind them.
RAN = [
    "Subtract (ND) #1",
    "Multiply (ND) #1",
    f"{TRANSPOSE} #1",
    f"{CONVOLUTION} #1",
    f"{TRANSPOSE} #2",
    f"{CONVOLUTION} #2",
    f"{TRANSPOSE} #3",
    "Mean (ND) #1",
    f"{LINEAR} #1",
]
NORMALISED = {"subtract": 1, "multiply": 1}
BEFORE = (
    NORMALISED | {"product": 1},
    NORMALISED | {"product": 2},
    NORMALISED | {"product": 3, "pool": 1},
)
PLANAR = (True, True, False)


def test_outputs_end_before_their_own_transpose() -> None:
    places = find_places(RAN, BEFORE, PLANAR)
    assert places is not None
    assert [(place.end, place.transpose) for place in places] == [(4, 4), (6, 6), (9, None)]


def test_a_head_pays_for_its_own_transpose_and_not_for_the_others() -> None:
    places = find_places(RAN, BEFORE, PLANAR)
    assert places is not None
    times = np.array([[10.0**place for place in range(len(RAN))]])
    heads = [ProfiledTimes(times, places).head_ns(output)[0] for output in range(3)]
    assert heads == [11_111, 1_101_111, 110_101_111]


def test_outputs_within_one_fused_operator_take_the_transposes_there_in_order() -> None:
    ran = [*RAN[:4], f"{TRANSPOSE} #2", "Clamp (NC) #1", f"{TRANSPOSE} #3", f"{CONVOLUTION} #2"]
    counts = (NORMALISED | {"product": 1}, NORMALISED | {"product": 1}, NORMALISED | {"product": 2})
    places = find_places(ran, counts, (True, True, False))
    assert places is not None
    assert [(place.end, place.transpose) for place in places] == [(4, 4), (6, 6), (8, None)]


def test_a_kind_whose_totals_differ_is_not_relied_on() -> None:
    places = find_places([*RAN, "Add (ND) #1"], BEFORE, PLANAR)
    assert places is not None
    assert places[-1].end == 9


@pytest.mark.parametrize("ran", [[], RAN[:-1], [*RAN, f"{CONVOLUTION} #3"]])
def test_operators_that_cannot_be_told_apart_give_nothing(ran: list[str]) -> None:
    assert find_places(ran, BEFORE, PLANAR) is None
