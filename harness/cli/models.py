"""bench models."""

from __future__ import annotations

import click


@click.command(epilog="Example: bench models | grep mobilenet")
def models() -> None:
    """List the networks that have a name."""
    from harness.networks.models import model_names

    for name in model_names():
        click.echo(name)
