"""All that a report shows of a run, read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import pandas as pd

from analysis.decision.advice import advice
from analysis.decision.published import published_effects
from analysis.estimate import Accuracy
from analysis.report.effort import Effort, efforts
from analysis.report.rows import Chart, charts
from analysis.report.timer import Timer, timers
from analysis.run import Run


@dataclass(frozen=True)
class Findings:
    """What there is to report.

    Attributes:
        folder: the run's, for its pictures; what is missing there is left out.
        summary, leakage, estimates, progress: tables of the run (columns: harness.results.columns); all may be empty.
        environment: what was asked and where, nested as it likes (run.json without its cells).
        notices: what must be said about the whole run.
        timers: of its devices, as far as they are known.
        advice: sentences on its networks, as far as they were attacked.
        efforts: of each network and precision, where the run chose itself where to attack strongly.
    """

    folder: Path
    summary: pd.DataFrame
    leakage: pd.DataFrame
    estimates: pd.DataFrame
    progress: pd.DataFrame
    environment: Mapping[str, object]
    notices: Sequence[str] = ()
    timers: Sequence[Timer] = ()
    advice: Sequence[str] = ()
    efforts: Sequence[Effort] = ()

    @classmethod
    def of(cls, run: Run, *, link: str | None = None) -> Self:
        """Read a run; `link` is as for `Run.summary`."""
        summary = run.summary(link=link)
        return cls(
            run.store.folder,
            summary,
            run.leakage(),
            run.estimates(),
            run.progress(),
            run.file.model_dump(exclude={"cells"}),
            run.file.notices,
            timers(run.file, run.store.journal.rounds().values()),
            advice(summary, run.file.structures, published_effects()),
            efforts(run.file, run.store.journal.leakage()),
        )

    @cached_property
    def charts(self) -> list[Chart]:
        """The rows of the summary, by chart."""
        return charts(self.summary)

    @property
    def accuracy(self) -> Accuracy | None:
        """Of a survey's estimates; None where there are none to judge."""
        return Accuracy.of(self.estimates)
