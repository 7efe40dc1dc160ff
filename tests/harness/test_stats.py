"""Intervals resample what is independent; instability is a ratio of medians."""

from __future__ import annotations

import numpy as np
import pytest

from harness.stats import cluster_interval, is_unstable, percentiles, source_interval


def test_fewer_than_two_groups_have_no_interval_and_no_verdict() -> None:
    assert cluster_interval([np.arange(100.0)]) is None
    assert is_unstable([np.arange(100.0)]) is None


def test_the_interval_holds_the_mean_of_the_groups() -> None:
    groups = [np.full(50, value) for value in (1.0, 2.0, 3.0, 4.0)]
    low, high = cluster_interval(groups) or (0.0, 0.0)
    assert low < 2.5 < high


def test_more_samples_of_the_same_groups_do_not_narrow_the_interval() -> None:
    few = cluster_interval([np.full(2, value) for value in (1.0, 2.0, 3.0)])
    many = cluster_interval([np.full(2000, value) for value in (1.0, 2.0, 3.0)])
    assert few == many


def test_equal_groups_have_an_interval_of_no_width() -> None:
    assert cluster_interval([np.ones(5), np.ones(5)], "median") == (1.0, 1.0)


def test_a_round_of_many_samples_counts_no_more_than_one_of_few() -> None:
    few, many = ([np.full(size, 2.0), np.full(10, 1.0), np.full(10, 3.0)] for size in (10, 1000))
    assert percentiles(few, 10, 50, 90) == percentiles(many, 10, 50, 90) == (1.0, 2.0, 3.0)
    assert cluster_interval(few, "median") == cluster_interval(many, "median") == (1.0, 3.0)
    uneven = [np.full(1000, 9.0), np.full(10, 1.0), np.full(10, 1.0)]
    assert percentiles(uneven, 50) == (1.0,)


def test_rounds_of_as_many_samples_have_the_usual_percentiles_and_medians() -> None:
    rng = np.random.default_rng(0)
    for rounds, size in ((1, 1), (1, 8), (2, 3), (5, 10), (3, 7)):
        groups = [rng.integers(0, 20, size).astype(float) for _ in range(rounds)]
        assert percentiles(groups, 0, 50, 90, 99, 100) == pytest.approx(
            np.percentile(np.concatenate(groups), [0, 50, 90, 99, 100])
        )
    groups = [rng.random(9) + i for i in range(4)]
    draws = np.random.default_rng(0).integers(4, size=(2000, 4))
    resampled = [np.median(np.concatenate([groups[i] for i in drawn])) for drawn in draws]
    assert cluster_interval(groups, "median") == pytest.approx(np.percentile(resampled, [2.5, 97.5]))


def test_the_same_samples_give_the_same_interval() -> None:
    groups = [np.random.default_rng(i).random(20) for i in range(5)]
    assert cluster_interval(groups, "median") == cluster_interval(groups, "median")


@pytest.mark.parametrize(("medians", "unstable"), [((100, 105, 109), False), ((100, 105, 120), True)])
def test_rounds_that_differ_by_more_than_a_tenth_are_unstable(medians: tuple[float, ...], unstable: bool) -> None:
    assert is_unstable([np.full(9, median, dtype=float) for median in medians]) is unstable


def test_more_crops_of_the_same_photographs_do_not_narrow_the_interval() -> None:
    few = source_interval([10.0, 14.0, 18.0], ["a", "b", "c"])
    many = source_interval([10.0, 14.0, 18.0] * 50, ["a", "b", "c"] * 50)
    assert few is not None
    assert many == pytest.approx(few)
    assert few[0] < 14 < few[1]


def test_one_photograph_has_no_interval() -> None:
    assert source_interval([10.0, 11.0], ["a", "a"]) is None
