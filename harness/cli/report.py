"""bench report [RUN]."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from harness.cli import options


@click.command(epilog="Example: bench report --csv table.csv")
@click.argument("run", required=False)
@click.option(
    "--csv", type=options.NewFile(), help="Write the tidy table here; '-' is standard output, and nothing else."
)
@click.option("--link", metavar="RATE/RTT", help="Model another link beside the measured one: 40mbit/5ms.")
def report(run: str | None, csv: Path | None, link: str | None) -> None:
    """Show table, chart and pictures of RUN, or of the newest run."""
    from analysis import load_run
    from analysis.report import to_csv
    from harness.cli.show import show

    loaded = load_run(run)
    if str(csv) == "-":
        to_csv(loaded.summary(link=link), sys.stdout)
        return
    show(loaded, link=link)
    if csv is not None:
        to_csv(loaded.summary(link=link), csv)
