"""bench study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from harness.cli import options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from analysis.study.cells import Plan, StudyCell
    from analysis.study.verdicts import Verdict
    from harness.cli.progress import Display

FOLDER = options.RUNS / "study"


@click.command(epilog="Example: bench study --quick --pictures builtin --pictures ~/photographs")
@click.option("--quick", is_flag=True, help="A look at everything in 15 minutes, without verdicts.")
@click.option(
    "--pictures",
    type=options.Text(),
    multiple=True,
    default=("builtin",),
    help="builtin, a folder, or torchvision:DATASET:ROOT; repeatable. 20 photographs are needed for a verdict.",
)
@click.option("--seeds", type=click.IntRange(1, 100), help="Seeds of each network; 5 are needed for a verdict.  [10]")
@click.option("--out", type=options.Text(Path), default=FOLDER, help="Where finished cells are kept.")
@click.option("--document", type=options.NewFile(), help="The document; by default study.md in the folder of --out.")
def study(quick: bool, pictures: tuple[str, ...], seeds: int | None, out: Path, document: Path | None) -> None:
    """Network structure against leakage: the experiment of Oh & Lee (EMDL 2019). Run again, it goes on."""
    from analysis.campaign.phases import Phase
    from analysis.study import cells, photographs, records
    from analysis.study.carry_out import carry_out, missing
    from analysis.study.document import write_document
    from harness.cli.progress import Display

    make_plan = cells.quick_plan if quick else cells.full_plan
    plan = make_plan(seeds) if seeds else make_plan()
    gathered = photographs.gather(pictures, lambda text: click.echo(f"! {text}", err=True))
    journal = records.StudyJournal(out)
    with Display() as display, journal.locked():
        todo = missing(plan, gathered, journal)
        _announce(display, plan, todo, len(gathered.sources))
        if todo:
            display.phase(Phase.ATTACK, len(todo))
            try:
                carry_out(todo, gathered, journal, lambda record: display.step(_name(record.cell)))
            except KeyboardInterrupt:
                display.close()
                click.echo("bench: interrupted; the same command goes on", err=True)
                raise click.exceptions.Exit(130) from None
        display.close()
        keys = [cell.key(gathered.sha256) for cell in plan.cells]
        path = document or out / "study.md"
        _show(write_document(path, plan, list(journal.read(keys).values()), gathered))
        click.echo(f"document: {path}")


def _announce(display: Display, plan: Plan, todo: Sequence[StudyCell], photographs: int) -> None:
    """Say what is to be done and about how long it takes, before it begins."""
    import os

    from analysis.study.cells import estimated_seconds
    from analysis.study.verdicts import FEWEST_PHOTOGRAPHS, FEWEST_SEEDS

    cores = len(os.sched_getaffinity(0))
    hours, minutes = divmod(round(estimated_seconds(todo) / cores / 60), 60)
    done = len(plan.cells) - len(todo)
    click.echo(f"{len(plan.cells)} cells, {done} done; about {hours} h {minutes} min on {cores} cores")
    if photographs < FEWEST_PHOTOGRAPHS:
        display.note(f"{photographs} photographs: under {FEWEST_PHOTOGRAPHS}, every verdict is undecided")
    if plan.seeds < FEWEST_SEEDS:
        display.note(f"{plan.seeds} seeds: under {FEWEST_SEEDS}, every verdict is undecided")


def _show(verdicts: Sequence[Verdict]) -> None:
    from rich.table import Table

    from analysis.study.document import interval
    from harness.cli.progress import table_console

    table = Table(box=None, header_style="bold", title="Verdicts")
    for heading in ("claim", "compared", "networks", "attack", "effect dB", "verdict"):
        table.add_column(heading, justify="right" if heading == "effect dB" else "left")
    for one in verdicts:
        effect = one.effect
        claim = f"{one.claim.text} ({one.claim.paper.split(',')[0]})"
        table.add_row(claim, effect.contrast.name, effect.state, effect.attack, interval(effect.psnr_db), one.word)
    table_console().print(table)


def _name(cell: StudyCell) -> str:
    specimen = cell.specimen
    return f"{specimen.network} {specimen.state}, seed {specimen.seed}: {cell.attack}"
