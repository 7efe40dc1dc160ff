"""Head times from the profile of a survey program, scaled by the few heads that were measured alone.

A profiled time is never shown as a measured one: it has an interval, and `head_source` says what it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd

from device_runner.runner import Verification
from device_runner.survey import SurveyShipment
from harness.results.profiled import profiled_times
from harness.results.schema import SurveyRecord
from harness.stats import Array

# Half the width of an interval where the anchors agree; beyond that it grows with what they disagree.
LEAST_UNCERTAINTY = 0.10
# XNNPACK tells whole microseconds.
RESOLUTION_NS = 1000.0
NO_PLACES = "its operators cannot be told apart, so that no profile leads to a split"


@dataclass
class SurveyedCell:
    """What a survey says of one cell.

    Attributes:
        rounds_ns: per round the profiled times of its head, one an iteration, not scaled; none without a profile.
        reason: why there are none.
    """

    verification: Verification | None = None
    shipments: list[SurveyShipment] = field(default_factory=list)
    rounds_ns: list[Array] = field(default_factory=list)
    reason: str = ""

    @property
    def profiled_ns(self) -> float | None:
        """Median profiled time, half the resolution or more; None without a profile."""
        return max(float(np.median(np.concatenate(self.rounds_ns))), RESOLUTION_NS / 2) if self.rounds_ns else None


def surveyed_cells(records: Iterable[SurveyRecord]) -> dict[str, SurveyedCell]:
    """What the finished rounds of a run's surveys say, by cell."""
    cells: dict[str, SurveyedCell] = {}
    for record in sorted(records, key=lambda record: record.round):
        report = record.report
        if report is None:
            continue
        times = profiled_times(report.profile, record.before, record.planar)
        for place, (cell, output) in enumerate(zip(record.cells, report.outputs, strict=True)):
            found = cells.setdefault(cell, SurveyedCell())
            found.verification = output.verification
            found.shipments += output.shipments
            if times is not None:
                found.rounds_ns.append(times.head_ns(place))
            else:
                found.reason = report.profile_reason or NO_PLACES
    return cells


@dataclass(frozen=True)
class Accuracy:
    """How far estimated head times lie from measured ones.

    Attributes:
        heads: that were estimated and measured, without the anchors.
        median_error, p95_error: of the relative deviations; shares of 1.
        inside: share of the measured times that lie in their estimate's interval.
    """

    heads: int
    median_error: float
    p95_error: float
    inside: float

    @classmethod
    def of(cls, estimates: pd.DataFrame) -> Self | None:
        """Sum `Run.estimates()` up; None where no head but the anchors was measured."""
        judged = estimates[~estimates["anchor"]]
        if judged.empty:
            return None
        median, p95 = np.percentile(judged["error"].abs(), [50, 95])
        inside = judged["measured_ms"].between(judged["low_ms"], judged["high_ms"]).mean()
        return cls(len(judged), float(median), float(p95), float(inside))

    @property
    def figures(self) -> str:
        """For instance "3.1 % (median; 95th percentile 9 %; 96 % inside their intervals)"."""
        return (
            f"{100 * self.median_error:.1f} % (median; 95th percentile {100 * self.p95_error:.0f} %;"
            f" {100 * self.inside:.0f} % inside their intervals)"
        )

    def __str__(self) -> str:
        counted = f"{self.heads} {'head' if self.heads == 1 else 'heads'}"
        return f"Estimate: the survey's profile gave head times to within {self.figures} of those measured, {counted}"


@dataclass(frozen=True)
class HeadEstimate:
    """An estimated head time and its interval, nanoseconds."""

    p50: float
    low: float
    high: float


def estimate_head(profiled: float, anchors: Mapping[float, float]) -> HeadEstimate | None:
    """Scale one profiled time by the heads that were measured alone.

    What a head takes alone, divided by its profiled time, is interpolated between the two anchors around it (its
    logarithm, over the logarithm of the profiled time).

    Args:
        profiled: time up to the split, as the profile has it, nanoseconds.
        anchors: profiled -> measured time of each head that was measured, nanoseconds.

    Returns:
        None without an anchor.
    """
    known = sorted((p, m) for p, m in anchors.items() if p > 0 and m > 0)
    if not known or profiled <= 0:
        return None
    at = np.log([p for p, _ in known])
    ratio = np.log([m / p for p, m in known])
    here = np.log(profiled)
    after = int(np.searchsorted(at, here))
    around = ratio[max(after - 1, 0) : after + 1]
    uncertainty = max(LEAST_UNCERTAINTY, float(np.ptp(around)))
    p50 = float(profiled * np.exp(np.interp(here, at, ratio)))
    low = max(0.0, p50 * float(np.exp(-uncertainty)) - RESOLUTION_NS)
    return HeadEstimate(p50, low, p50 * float(np.exp(uncertainty)) + RESOLUTION_NS)


def widest_gap(profiled: Iterable[float], anchors: Mapping[float, float]) -> tuple[float, float] | None:
    """Where one more anchor would tell most: midway between the two neighbours whose scales differ most.

    Args:
        profiled: times that could be measured.
        anchors: as for `estimate_head`.

    Returns:
        By how much the two scales differ (of their logarithms), and the profiled time nearest to the middle; None where
        nothing lies between two anchors.
    """
    candidates = sorted(profiled)
    found = []
    for (low, first), (high, second) in pairwise(sorted(anchors.items())):
        if inside := [time for time in candidates if low < time < high]:
            middle = float(np.sqrt(low * high))
            found.append((abs(float(np.log(first / low * high / second))), min(inside, key=lambda t: abs(t - middle))))
    return max(found, default=None)
