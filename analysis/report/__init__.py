"""What a run found, for people: a table for the terminal, a chart, and one HTML file with the pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from analysis.report.chart import write_charts
from analysis.report.estimate_chart import write_estimate_chart
from analysis.report.html import render_html
from analysis.report.progress_chart import write_progress_chart
from analysis.report.table import summary_tables, to_csv
from analysis.report.timer import Timer, timers
from harness.results.files import write_whole

__all__ = ["Report", "summary_tables", "timers", "to_csv", "write_report"]


class Report(NamedTuple):
    """The files of a report.

    Attributes:
        html: the whole report, one file that works offline.
        charts: PNG, 1200 pixels wide, one per experiment; none where nothing was measured. Then one of the estimates
            and one of the attacks' progress, where there is any.
    """

    html: Path
    charts: list[Path]


def write_report(
    run_folder: Path,
    summary: pd.DataFrame,
    *,
    leakage: pd.DataFrame,
    estimates: pd.DataFrame,
    progress: pd.DataFrame,
    environment: Mapping[str, object],
    notices: Sequence[str] = (),
    timers: Sequence[Timer] = (),
) -> Report:
    """Write report.html and the charts into a run's folder, over those of an earlier report.

    Args:
        run_folder: the run, for its pictures; what is missing there is left out.
        summary: the tidy table, one row per cell x attack (columns: harness.results.columns.SUMMARY).
        leakage: PSNR and SSIM per picture (columns: harness.results.columns.LEAKAGE); may be empty.
        estimates: profiled and measured head times (columns: harness.results.columns.ESTIMATES); may be empty.
        progress: of the attacks (columns: harness.results.columns.PROGRESS); may be empty.
        environment: what was asked and where, nested as it likes (run.json without its cells).
        notices: what must be said about the whole run.
        timers: of its devices, as far as they are known.

    Raises:
        ResultsError: no space, or not allowed.
    """
    charts = [
        *write_charts(summary, run_folder),
        *write_estimate_chart(estimates, run_folder),
        *write_progress_chart(progress, run_folder),
    ]
    page = render_html(
        run_folder,
        summary,
        leakage=leakage,
        estimates=estimates,
        environment=environment,
        notices=notices,
        timers=timers,
    )
    write_whole(run_folder / "report.html", page.encode())
    return Report(run_folder / "report.html", charts)
