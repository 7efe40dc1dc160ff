"""What a run found, printed, and where its report lies."""

from __future__ import annotations

from analysis import Run
from analysis.estimate import Accuracy
from analysis.report import summary_tables, timers, write_report
from device_runner.shown import shown


def show(run: Run, *, link: str | None = None) -> None:
    """Write the report of a run and print its table."""
    from rich.console import Console

    summary, estimates = run.summary(link=link), run.estimates()
    clocks = timers(run.file, run.store.journal.rounds().values())
    written = write_report(
        run.store.folder,
        summary,
        leakage=run.leakage(),
        estimates=estimates,
        progress=run.progress(),
        environment=run.file.model_dump(exclude={"cells"}),
        notices=run.file.notices,
        timers=clocks,
    )
    console = Console(emoji=False)
    if not console.is_terminal:
        console = Console(width=100, emoji=False)  # what the tables are made for
    accuracy = Accuracy.of(estimates)
    console.print(summary_tables(summary, notices=run.file.notices, accuracy=accuracy, timers=clocks))
    for path in (*written.charts, written.html):
        console.print(shown(path), highlight=False, markup=False, soft_wrap=True)
