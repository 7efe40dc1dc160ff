"""Head times from the profile of a survey program, scaled by the few heads that were measured alone.

A profiled time is never shown as a measured one: it has an interval, and `head_source` says what it is.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Self

import numpy as np
import pandas as pd

from device_runner.report import Shipment, Verification
from harness.results.axes import Key, curve_key
from harness.results.profiled import profiled_times
from harness.results.schema import Cell, RoundRecord, TailUse
from harness.stats import Array, percentiles

# Half the width of an interval where the anchors agree; beyond that it grows with what they disagree.
LEAST_UNCERTAINTY = 0.10
# XNNPACK tells whole microseconds.
RESOLUTION_NS = 1000.0
NO_PLACES = "its operators cannot be told apart, so that no profile leads to a split"


@dataclass
class SurveyResult:
    """What a survey says of one cell.

    Attributes:
        tail: what answered its activations.
        rounds_ns: per round the profiled times of its head, one an iteration, not scaled; none without a profile.
        reason: why there are none.
    """

    verification: Verification | None = None
    shipments: list[Shipment] = field(default_factory=list)
    tail: TailUse | None = None
    rounds_ns: list[Array] = field(default_factory=list)
    reason: str = ""

    @property
    def profiled_ns(self) -> float | None:
        """Median profiled time, half the resolution or more; None without a profile."""
        return max(float(np.median(np.concatenate(self.rounds_ns))), RESOLUTION_NS / 2) if self.rounds_ns else None


def survey_results(records: Iterable[RoundRecord]) -> dict[str, SurveyResult]:
    """What the finished rounds of a run's surveys say, by cell."""
    results: dict[str, SurveyResult] = {}
    for record in sorted(records, key=lambda record: record.round):
        report = record.report
        if report is None or not record.profiled or record.status == "failed":
            continue
        times = profiled_times(report.profile, record.operators, record.maps)
        for place, (cell, output) in enumerate(zip(record.cells, report.outputs, strict=True)):
            result = results.setdefault(cell, SurveyResult())
            result.verification = output.verification
            result.shipments += output.shipments
            result.tail = record.tails[place] if record.tails else result.tail
            if times is not None:
                result.rounds_ns.append(times.head_ns(place))
            else:
                result.reason = report.profile_reason or NO_PLACES
    return results


@dataclass(frozen=True)
class Anchor:
    """A head that was profiled and measured, too: both its times, nanoseconds."""

    profiled_ns: float
    measured_ns: float


Anchors = Mapping[Key, Mapping[str, Anchor]]
"""By curve, by cell."""


def find_anchors(
    cells: Iterable[Cell],
    records: Iterable[RoundRecord],
    results: Mapping[str, SurveyResult],
    *,
    chosen_only: bool = False,
) -> Anchors:
    """Every head that was profiled and measured, too.

    Args:
        chosen_only: of those alone that the survey measured for this purpose.
    """
    heads: dict[str, list[RoundRecord]] = defaultdict(list)
    for record in records:
        if not record.profiled and (record.anchor or not chosen_only):
            heads[record.work].append(record)
    anchors: dict[Key, dict[str, Anchor]] = defaultdict(dict)
    for cell in cells:
        measured = measured_ns(heads[cell.hash])
        profiled = results[cell.hash].profiled_ns if cell.hash in results else None
        if measured and profiled:
            anchors[curve_key(cell)][cell.hash] = Anchor(profiled, measured)
    return anchors


def measured_ns(heads: Iterable[RoundRecord]) -> float | None:
    """Median time of a head; None where none was measured."""
    reports = [record.report for record in heads if record.status == "ok" and record.report]
    rounds = [np.asarray(report.run_ns, dtype=np.float64) for report in reports if report.run_ns]
    return percentiles(rounds, 50)[0] if rounds else None


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


def estimate_head(profiled: float, anchors: Iterable[Anchor]) -> HeadEstimate | None:
    """Scale one profiled time by the heads that were measured alone.

    What a head takes alone, divided by its profiled time, is interpolated between the two anchors around it (its
    logarithm, over the logarithm of the profiled time).

    Args:
        profiled: time up to the split, as the profile has it, nanoseconds.
        anchors: the heads to scale by.

    Returns:
        None without an anchor.
    """
    known = sorted((a.profiled_ns, a.measured_ns) for a in anchors if a.profiled_ns > 0 and a.measured_ns > 0)
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


@dataclass(frozen=True)
class Gap:
    """Where one more anchor would tell most.

    Attributes:
        width: by how much the scales of the two anchors around it differ (of their logarithms).
        cell: whose profiled time is nearest to their middle.
    """

    width: float
    cell: Cell


def widest_gap(candidates: Mapping[Cell, float], anchors: Iterable[Anchor]) -> Gap | None:
    """Midway between the two neighbours whose scales differ most; None where nothing lies between two anchors.

    Args:
        candidates: cells that could be measured, and their profiled times, nanoseconds.
    """
    gaps = []
    for low, high in pairwise(sorted(anchors, key=lambda anchor: anchor.profiled_ns)):
        inside = {cell: ns for cell, ns in candidates.items() if low.profiled_ns < ns < high.profiled_ns}
        if inside:
            middle = float(np.sqrt(low.profiled_ns * high.profiled_ns))
            scales = low.measured_ns / low.profiled_ns, high.measured_ns / high.profiled_ns
            nearest = min(inside, key=lambda cell: abs(inside[cell] - middle))
            gaps.append(Gap(abs(float(np.log(scales[0] / scales[1]))), nearest))
    return max(gaps, key=lambda gap: gap.width, default=None)
