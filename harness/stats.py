"""Summaries of samples: medians, and intervals that resample what is independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
UNSTABLE_SPREAD = 0.10
_HAIR = 1e-9  # more than sums of shares are off by, less than any share

Array = npt.NDArray[np.float64]


def cluster_interval(
    groups: Sequence[Array], statistic: Literal["median", "mean"] = "mean"
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of a statistic, resampling whole groups.

    Iterations within a round are autocorrelated, crops of one photograph alike: the group is the unit, not the sample.

    Args:
        groups: the samples of each round, or of each source photograph.
        statistic: over the drawn groups: "mean" of all their samples, or "median", in which every group counts alike.

    Returns:
        Lower and upper end, or None for fewer than two groups.
    """
    if len(groups) < 2:
        return None
    rng = np.random.default_rng(0)
    draws = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    if statistic == "mean":
        sums, sizes = np.array([group.sum() for group in groups]), np.array([len(group) for group in groups])
        values = sums[draws].sum(axis=1) / sizes[draws].sum(axis=1)
    else:  # five rounds are drawn in 126 ways: each once
        ways, way = np.unique(np.sort(draws, axis=1), axis=0, return_inverse=True)
        values = _medians(groups, ways)[way]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


def percentiles(groups: Sequence[Array], *percents: float) -> tuple[float, ...]:
    """Percentiles over all samples, every group counting alike: a round with more samples says no more than others.

    Where all have as many, these are numpy's (linear between two samples).
    """
    samples, shares, _ = _in_order(groups)
    middles = np.cumsum(shares) - shares / 2
    places = (middles - middles[0]) / max(middles[-1] - middles[0], np.finfo(float).tiny)
    return tuple(float(value) for value in np.interp(np.array(percents) / 100, places, samples))


def _in_order(groups: Sequence[Array]) -> tuple[Array, Array, npt.NDArray[np.intp]]:
    """All samples in order, the share of its group that each is, and the number of that group."""
    samples = np.concatenate(groups)
    order = np.argsort(samples, kind="stable")
    sizes = [len(group) for group in groups]
    return samples[order], np.repeat(1 / np.array(sizes), sizes)[order], np.repeat(np.arange(len(sizes)), sizes)[order]


def _medians(groups: Sequence[Array], ways: npt.NDArray[np.int64]) -> Array:
    """The median of the groups of each way of drawing them: the samples are sorted once for all of these."""
    samples, shares, numbers = _in_order(groups)
    medians = np.empty(len(ways))
    for place, way in enumerate(ways):
        below = np.cumsum(shares * np.bincount(way, minlength=len(groups))[numbers])
        half = below[-1] / 2
        # One sample, or the two that half of all lies between.
        low, high = np.searchsorted(below, half - _HAIR), np.searchsorted(below, half + _HAIR)
        medians[place] = (samples[low] + samples[high]) / 2
    return medians


def source_interval(values: Sequence[float], sources: Sequence[str]) -> tuple[float, float] | None:
    """95 % bootstrap interval of the mean that resamples source photographs: crops of one are not independent.

    Args:
        values: one a picture.
        sources: the source photograph of each.

    Returns:
        Lower and upper end, or None for fewer than two source photographs.
    """
    known = np.asarray(values, dtype=float)
    groups = [known[[source == one for source in sources]] for one in dict.fromkeys(sources)]
    return cluster_interval(groups, "mean")


def is_unstable(groups: Sequence[Array]) -> bool | None:
    """Do the rounds' medians differ by more than 10 % of their median? None for fewer than two rounds."""
    if len(groups) < 2:
        return None
    medians = np.array([np.median(group) for group in groups])
    return bool(np.ptp(medians) > UNSTABLE_SPREAD * np.median(medians))
