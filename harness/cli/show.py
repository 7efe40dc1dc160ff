"""What a run found, printed, and where its report lies."""

from __future__ import annotations

from analysis import Run
from analysis.report import write_report
from device_runner.shown import shown


def show(run: Run, *, link: str | None = None) -> None:
    """Write the report of a run and print its table."""
    from rich.console import Console

    written = write_report(run, link=link)
    console = Console(emoji=False)
    if not console.is_terminal:
        console = Console(width=100, emoji=False)  # what the tables are made for
    console.print(written.tables)
    for path in (*written.charts, written.html):
        console.print(shown(path), highlight=False, markup=False, soft_wrap=True)
