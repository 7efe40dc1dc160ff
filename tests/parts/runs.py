"""The record of a run of one small network, as it is before anything was measured."""

from __future__ import annotations

from collections.abc import Sequence

from harness.pictures import Pictures
from harness.results.schema import Cell, RunConfig, RunFile


def small_run(
    cells: Sequence[Cell],
    pictures: Pictures,
    attacks: Sequence[str],
    *,
    attack_budget_s: float | None = None,
    attack_total_s: float | None = None,
) -> RunFile:
    """Of these cells, which all have the same pictures."""
    config = RunConfig(
        models=("small",),
        split="all",
        devices=tuple(dict.fromkeys(cell.device or "local" for cell in cells)),
        precisions=("fp32",),
        input_size=cells[0].input_size,
        attacks=tuple(attacks),
        attack_budget_s=attack_budget_s,
        attack_total_s=attack_total_s,
        pictures="builtin",
        weights="random",
        seed=0,
    )
    return RunFile(
        run_id="run",
        created="",
        config=config,
        environment={},
        pictures="",
        pictures_sha256="",
        held_out=pictures.held_out.names,
        held_out_sources=pictures.held_out.sources,
        notices=(),
        devices=(),
        cells=tuple(cells),
    )
