"""bench devices [ADDRESS ...]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from device_runner.shown import shown
from harness.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.workstation.inventory import InventoryEntry


@click.command(epilog="Example: bench devices ssh://pi@raspberrypi.local adb")
@click.argument("addresses", nargs=-1, type=options.Text(), metavar="[ADDRESS ...]")
@click.option("--clean", is_flag=True, help="Remove what splitbench put on the devices named, and only that.")
def devices(addresses: tuple[str, ...], clean: bool) -> None:
    """Show what each device is and whether heads can run on it: those named, or every device found."""
    from harness.workstation import inventory

    if clean and not addresses:
        raise click.UsageError("--clean removes nothing from devices that are not named")
    if clean:
        for address in addresses:
            inventory.clean(address)
            click.echo(f"{address}: clean")
        return
    from rich.table import Table
    from rich.text import Text

    from harness.cli.progress import table_console

    table = Table(box=None, header_style="bold")
    for heading in ("device", "model", "SoC", "cores", "RAM", "free", "system", "temp."):
        table.add_column(heading)
    entries = []
    for entry in inventory.look_at(addresses):
        entries.append(entry)
        table.add_row(*(Text(shown(cell)) for cell in _cells(entry)))
    table_console().print(table)
    for entry in entries:
        click.echo(shown("; ".join(_said(entry))))
    if any(entry.problem for entry in entries):
        raise click.exceptions.Exit(1)


def _said(entry: InventoryEntry) -> Iterator[str]:
    from device_runner.errors import DeviceError

    problem = entry.problem
    yield str(problem) if isinstance(problem, DeviceError) else f"{entry.address}: {problem or 'ok'}"
    if entry.same_as:
        yield f"the same machine as {entry.same_as}"
    if entry.holder:
        yield f"being measured on by {entry.holder}"


def _cells(entry: InventoryEntry) -> tuple[str, ...]:
    facts, state = entry.facts, entry.state
    if facts is None:
        return (entry.address,)
    warm = f"{state.temperature_c:.0f} C" if state and state.temperature_c is not None else ""
    return (
        entry.address,
        f"{facts.model} (emulated)" if facts.emulated else facts.model,
        facts.soc,
        f"{facts.cores} {facts.machine}",
        f"{facts.memory_bytes / 2**30:.1f} GiB",
        f"{facts.free_bytes / 2**30:.1f} GiB",
        facts.system,
        warm,
    )
