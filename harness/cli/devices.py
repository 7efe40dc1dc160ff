"""bench devices [ADDRESS ...]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from device_runner.shown import shown
from harness.cli import options

if TYPE_CHECKING:
    from collections.abc import Iterator

    from harness.workstation.inventory import DeviceFinding


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
    findings = []
    for finding in inventory.look_at(addresses):
        findings.append(finding)
        table.add_row(*(Text(shown(cell)) for cell in _cells(finding)))
    table_console().print(table)
    for finding in findings:
        click.echo(shown("; ".join(_said(finding))))
    if any(finding.problem for finding in findings):
        raise click.exceptions.Exit(1)


def _said(finding: DeviceFinding) -> Iterator[str]:
    from device_runner.errors import DeviceError

    problem = finding.problem
    yield str(problem) if isinstance(problem, DeviceError) else f"{finding.address}: {problem or 'ok'}"
    if finding.same_as:
        yield f"the same machine as {finding.same_as}"
    if finding.holder:
        yield f"being measured on by {finding.holder}"


def _cells(finding: DeviceFinding) -> tuple[str, ...]:
    facts, state = finding.facts, finding.state
    if facts is None:
        return (finding.address,)
    warm = f"{state.temperature_c:.0f} C" if state and state.temperature_c is not None else ""
    return (
        finding.address,
        f"{facts.model} (emulated)" if facts.emulated else facts.model,
        facts.soc,
        f"{facts.cores} {facts.machine}",
        f"{facts.memory_bytes / 2**30:.1f} GiB",
        f"{facts.free_bytes / 2**30:.1f} GiB",
        facts.system,
        warm,
    )
