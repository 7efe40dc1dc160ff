"""How finely a device's clock counts, and what the harness itself adds to a sample."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from analysis.report.rows import printable
from device_runner.report import RunnerReport
from harness.results.schema import RoundRecord, RunFile


@dataclass(frozen=True)
class Timer:
    """What a device's head times can be trusted to; medians over the rounds.

    Attributes:
        step_ns: the smallest step of its clock.
        added_ns: what an iteration takes with a head that does nothing: a sample holds at most that.
        head_ns: of its heads, all samples; None where only pictures travelled.
    """

    device: str
    step_ns: float
    added_ns: float
    head_ns: float | None

    @property
    def added(self) -> str:
        """For instance "at most 70 ns to a sample (0.001% of the median head)"."""
        share = f" ({self.added_ns / self.head_ns:.3%} of the median head)" if self.head_ns else ""
        return f"at most {self.added_ns:,.0f} ns to a sample{share}"

    def __str__(self) -> str:
        return f"{printable(self.device)}: clock step {self.step_ns:,.0f} ns, the harness adds {self.added}"


def timers(file: RunFile, rounds: Iterable[RoundRecord]) -> list[Timer]:
    """One for each device whose runner told these figures, which those of earlier versions did not."""
    device_of = {cell.hash: cell.device for cell in file.cells}
    reports: dict[str, list[RunnerReport]] = defaultdict(list)
    for record in rounds:
        if record.report is not None and not record.profiled:
            reports[device_of[record.work]].append(record.report)
    known = (_timer(device, reports[device]) for device in dict.fromkeys(device_of.values()))
    return [timer for timer in known if timer is not None]


def _timer(device: str, reports: list[RunnerReport]) -> Timer | None:
    steps = [report.timer_resolution_ns for report in reports if report.timer_resolution_ns is not None]
    added = [report.overhead_ns for report in reports if report.overhead_ns is not None]
    heads = [ns for report in reports for ns in report.run_ns]
    if not steps or not added:
        return None
    return Timer(device, median(steps), median(added), median(heads) if heads else None)
