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
@click.option("--out", type=options.Text(Path), default=options.EXPORTED, show_default=True, help="Folder for heads.")
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
    from harness.results.schema import RunConfig

    config = RunConfig(
        models=(model,),
        split=split,
        devices=("local",),
        precisions=precision,
        input_size=input_size,
        pictures=pictures,
        weights=weights,
        seed=seed,
        attacks=(),
    )
    from analysis.benchmark import Benchmark
    from harness.errors import ExportError
    from harness.manifest import Head

    with Display() as display:
        job = Benchmark(config, out, display)
        heads = job.export({(subject, kind): subject.points for subject, kind in job.experiments})
    exported = [head for head in heads.values() if isinstance(head, Head)]
    for head in sorted(exported, key=lambda head: (head.manifest.precision, head.manifest.split_index)):
        if head.program is not None:
            click.echo(f"{head.program}  {head.manifest.precision}  {head.manifest.pte_bytes} bytes")
    failed = [head for head in heads.values() if isinstance(head, ExportError)]
    if failed:
        raise ExportError(f"{len(failed)} of {len(heads)} heads cannot be exported", remedy="see the lines above")
