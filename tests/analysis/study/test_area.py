"""The area of a leakage curve against closed forms."""

from __future__ import annotations

import pytest

from analysis.study.area import leakage_area


def test_a_level_curve_has_the_area_of_its_height_above_the_floor() -> None:
    assert leakage_area([0.1, 0.5, 0.9], [20.0, 20.0, 20.0], 12.0, 50.0) == pytest.approx(8)


def test_a_straight_line_from_the_cap_to_the_floor_has_half_of_the_area() -> None:
    assert leakage_area([0.0, 0.25, 1.0], [50.0, 40.0, 10.0], 10.0, 50.0) == pytest.approx(20)


def test_values_are_clipped_to_the_cap_and_to_the_floor() -> None:
    assert leakage_area([0.0, 0.5, 0.5, 1.0], [60.0, 55.0, 3.0, 1.0], 10.0, 50.0) == pytest.approx(20)


def test_the_curve_is_level_before_the_first_point_and_behind_the_last() -> None:
    assert leakage_area([0.4, 0.6], [30.0, 20.0], 10.0, 50.0) == pytest.approx(0.4 * 20 + 0.2 * 15 + 0.4 * 10)


def test_the_order_of_the_splits_does_not_matter() -> None:
    assert leakage_area([0.8, 0.1], [11.0, 40.0], 10.0, 50.0) == leakage_area([0.1, 0.8], [40.0, 11.0], 10.0, 50.0)
