"""Summaries of samples: medians, and intervals that resample what is independent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

RESAMPLES = 2000
UNSTABLE_SPREAD = 0.10

Array = npt.NDArray[np.float64]


def cluster_interval(
    groups: Sequence[Array], statistic: Literal["median", "mean"] = "mean"
) -> tuple[float, float] | None:
    """95 % percentile bootstrap interval of a statistic, resampling whole groups.

    Iterations within a round are autocorrelated, crops of one photograph alike: the group is the unit, not the sample.

    Args:
        groups: the samples of each round, or of each source photograph.
        statistic: "median" or "mean" over all samples of the drawn groups.

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
        values = np.array([np.median(np.concatenate([groups[i] for i in drawn])) for drawn in ways])[way]
    low, high = np.percentile(values, [2.5, 97.5])
    return float(low), float(high)


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
