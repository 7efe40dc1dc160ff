"""bench attacks."""

from __future__ import annotations

import click


@click.command(
    epilog="Without --attack: linear at every split, spectral at some. Example: bench run --attack linear --attack best"
)
def attacks() -> None:
    """List the attacks: what each needs to know, what it costs, what it does."""
    from rich.table import Table

    from analysis.attacks import ATTACKS
    from harness.cli.progress import table_console

    table = Table(box=None, header_style="bold")
    for heading in ("attack", "access", "knows", "cost a split", "what it does"):
        table.add_column(heading, overflow="fold")
    for name in ATTACKS:
        kind = ATTACKS.load(name)
        table.add_row(name, kind.access, kind.knows, kind.cost, (kind.__doc__ or "").splitlines()[0])
    table_console().print(table)
