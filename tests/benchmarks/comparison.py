"""One comparison: two things measured in turns within one run, and what their pairs say."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from harness.stats import cluster_interval

Measure = Callable[[], float]


@dataclass(frozen=True)
class Result:
    """What a comparison gave.

    Attributes:
        value, low, high: the figure that is judged, with its 95 % interval (low and high are None for single samples).
        goal: it should be at most this; None: nothing is asked of it.
        samples: everything measured, by name, as it came.
    """

    name: str
    unit: str
    value: float
    low: float | None
    high: float | None
    goal: float | None
    samples: dict[str, list[float]]


def in_pairs(ours: Measure, other: Measure, pairs: int, seed: int = 0) -> tuple[list[float], list[float]]:
    """Measure both, in turns; who goes first is drawn anew each time, so that drift favours neither."""
    rng = random.Random(seed)
    found: dict[Measure, list[float]] = {ours: [], other: []}
    for _ in range(pairs):
        for measure in rng.sample([ours, other], 2):
            found[measure].append(measure())
    return found[ours], found[other]


def judge(
    name: str, unit: str, goal: float | None, figures: Sequence[float], samples: dict[str, list[float]]
) -> Result:
    """Summarise one figure per pair by its median, with an interval that resamples pairs."""
    interval = cluster_interval([np.array([figure]) for figure in figures], "median")
    low, high = interval or (None, None)
    return Result(name, unit, float(np.median(figures)), low, high, goal, samples)
