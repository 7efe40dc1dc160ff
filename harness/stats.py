"""Summaries of samples: medians, and intervals that resample what is independent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

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
    compute: Callable[[Array], np.floating[Any]] = np.median if statistic == "median" else np.mean
    rng = np.random.default_rng(0)
    draws = rng.integers(len(groups), size=(RESAMPLES, len(groups)))
    values = [float(compute(np.concatenate([groups[i] for i in draw]))) for draw in draws]
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
