"""bench splits MODEL."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from device_runner.shown import shown
from harness.cli import options


@click.command(epilog="Example: bench splits resnet18 --split finest --json")
@options.model_argument
@options.split
@options.input_size
@click.option("--json", "as_json", is_flag=True, help="One JSON list, for scripts.")
def splits(model: str, split: str, input_size: tuple[int, int] | None, as_json: bool) -> None:
    """List the split points of MODEL: what travels, and how much work lies before and after."""
    from harness.networks.models import load_model
    from harness.networks.splits import Network

    network = Network(load_model(model, weights="random", input_size=input_size))
    chosen = network.select(split)
    if as_json:
        click.echo(json.dumps([asdict(point) for point in chosen], indent=1))
        return
    from rich.table import Table
    from rich.text import Text

    from harness.cli.progress import table_console

    caption = Text(f"{len(chosen)} of {len(network.points)} split points of {shown(model)}")
    table = Table(box=None, header_style="bold", caption=caption)
    for heading in ("#", "split", "op", "activation", "KB", "params before", "after", "MMACs before", "after"):
        table.add_column(heading, justify="left" if heading in ("split", "op", "activation") else "right")
    for p in chosen:
        table.add_row(
            str(p.index),
            Text(shown(p.name)),
            Text(p.op),
            "x".join(map(str, p.activation_shape)),
            f"{p.activation_bytes / 1000:.1f}",
            f"{p.head_params:,}",
            f"{p.tail_params:,}",
            f"{p.head_macs / 1e6:.1f}",
            f"{p.tail_macs / 1e6:.1f}",
        )
    table_console().print(table)
