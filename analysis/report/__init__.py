"""What a run shows, for people: a table for the terminal, charts, and one HTML file with the pictures."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from rich.console import RenderableType

from analysis.report.chart import write_charts
from analysis.report.estimate_chart import write_estimate_chart
from analysis.report.findings import Findings
from analysis.report.html import render_html
from analysis.report.progress_chart import write_progress_chart
from analysis.report.table import summary_tables, to_csv
from analysis.run import Run
from harness.results.files import write_whole

__all__ = ["Findings", "Report", "to_csv", "write", "write_report"]


class Report(NamedTuple):
    """A report.

    Attributes:
        html: the whole report, one file that works offline.
        charts: PNG, 1200 pixels wide; none where nothing was measured. Then one of the estimates
            and one of the attacks' progress, where there is any.
        tables: for rich; no line is wider than 100 columns.
    """

    html: Path
    charts: list[Path]
    tables: RenderableType


def write_report(run: Run, *, link: str | None = None) -> Report:
    """Write report.html and the charts into a run's folder, over those of an earlier report.

    Args:
        link: also model this one, such as "40mbit/5ms", beside the measured one.

    Raises:
        ResultsError: no space, or not allowed.
    """
    return write(Findings.of(run, link=link))


def write(findings: Findings) -> Report:
    """Write the report of what was found; raises as `write_report` does."""
    charts = [
        *write_charts(findings.charts, findings.folder),
        *write_estimate_chart(findings.estimates, findings.folder),
        *write_progress_chart(findings.progress, findings.folder),
    ]
    page = findings.folder / "report.html"
    write_whole(page, render_html(findings).encode())
    return Report(page, charts, summary_tables(findings))
