"""Which cells' activations there are, and how they are read."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.campaign.leakage import AttackTarget
from analysis.campaign.subject import Variant
from harness.networks.splits import Cut
from harness.results.schema import Cell
from harness.results.store import RunStore


def shipped_cells(store: RunStore) -> set[str]:
    """Cells whose activations are there: a survey shipped them, or the cell's own head did and never failed."""
    rounds = store.journal.rounds().values()
    heads = [record for record in rounds if not record.profiled]
    own = {r.work for r in heads if r.status == "ok"} - {r.work for r in heads if r.status == "failed"}
    surveys = (r for r in rounds if r.profiled and r.status == "ok" and r.round == 0)
    return own | {cell for record in surveys for cell in record.cells}


def targets_of(variant: Variant, cells: Iterable[Cell]) -> list[AttackTarget]:
    """Those of a network in one precision among cells that were shipped."""
    points = {point.index: point for point in variant.subject.points}
    targets = []
    for cell in cells:
        if variant.owns(cell):
            cut = variant.cut(points[cell.split_index])
            assert isinstance(cut, Cut)  # noqa: S101 - it was shipped
            targets.append(AttackTarget(cell, points[cell.split_index], cut))
    return targets
