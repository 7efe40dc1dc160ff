"""bench doctor."""

from __future__ import annotations

import click


@click.command(epilog="Example: bench doctor")
def doctor() -> None:
    """Say what is installed, what is missing, and the one line that mends it."""
    from harness.workstation.doctor import examine

    checks = examine()
    for check in checks:
        mark = "ok" if check.remedy is None else "optional" if check.optional else "MISSING"
        click.echo(f"{mark:8} {check.what}: {check.found}{'' if check.remedy is None else f' -> {check.remedy}'}")
    if any(check.remedy and not check.optional for check in checks):
        raise click.exceptions.Exit(1)
