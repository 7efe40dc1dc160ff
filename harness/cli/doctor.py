"""bench doctor."""

from __future__ import annotations

import click


@click.command(epilog="Example: bench doctor")
def doctor() -> None:
    """Say what is installed, what is missing, and the one line that mends it."""
    from harness.workstation.doctor import examine

    findings = examine()
    for finding in findings:
        mark = "ok" if finding.remedy is None else "optional" if finding.optional else "MISSING"
        click.echo(
            f"{mark:8} {finding.what}: {finding.found}{'' if finding.remedy is None else f' -> {finding.remedy}'}"
        )
    if any(finding.remedy and not finding.optional for finding in findings):
        raise click.exceptions.Exit(1)
