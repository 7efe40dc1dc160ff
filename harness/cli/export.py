"""bench export MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import click

from harness.cli import options


@click.command(epilog="Example: bench export mobilenet_v2 --split features.3 --precision int8")
@options.model_argument
@options.split
@options.precision
@options.input_size
@options.weights
@options.pictures
@options.seed
@click.option("--out", type=options.Text(Path), default=options.EXPORTED, help="Folder for heads.")
def export(
    model: str,
    split: str,
    precision: tuple[Literal["fp32", "int8"], ...],
    input_size: tuple[int, int] | None,
    weights: str,
    pictures: str,
    seed: int,
    out: Path,
) -> None:
    """Export the heads of MODEL to ExecuTorch; what is cached is not exported again."""
    from harness.cli.progress import Display
    from harness.results.schema import NetworkConfig

    config = NetworkConfig(
        models=(model,),
        split=split,
        precisions=precision,
        input_size=input_size,
        pictures=pictures,
        weights=weights,
        seed=seed,
    )
    from analysis.campaign.exports import export_programs
    from analysis.campaign.inputs import load_inputs
    from analysis.campaign.phases import Phases
    from harness.errors import ExportError
    from harness.export.manifest import Exported
    from harness.export.program import Program

    with Display() as display:
        phases = Phases(display)
        inputs = load_inputs(config, out, phases)
        heads = {v: [Program.head(point) for point in v.subject.points] for v in inputs.variants}
        made = export_programs(heads, out, phases)
    exported = [one for one in made.values() if isinstance(one, Exported)]
    for head in sorted(exported, key=lambda head: (head.manifest.precision, head.manifest.outputs[0].split_index)):
        if head.program is not None:
            click.echo(f"{head.program}  {head.manifest.precision}  {head.manifest.pte_bytes} bytes")
    failed = [one for one in made.values() if isinstance(one, ExportError)]
    if failed:
        raise ExportError(f"{len(failed)} of {len(made)} heads cannot be exported", remedy="see the lines above")
