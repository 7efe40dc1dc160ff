"""What devices shipped, attacked."""

from __future__ import annotations

from collections.abc import Sequence

from analysis.campaign.inputs import Inputs
from analysis.campaign.leakage import AttackTarget, attack_network
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.subject import Variant
from harness.networks.splits import Cut
from harness.results.schema import Cell
from harness.results.store import RunStore
from harness.workstation.memory import keep_freed_memory


def shipped_cells(store: RunStore) -> set[str]:
    """Cells whose activations are there: a survey shipped them, or the cell's own head did and never failed."""
    rounds = store.journal.rounds().values()
    heads = [record for record in rounds if not record.profiled]
    own = {r.work for r in heads if r.status == "ok"} - {r.work for r in heads if r.status == "failed"}
    surveys = (r for r in rounds if r.profiled and r.status == "ok" and r.round == 0)
    return own | {cell for record in surveys for cell in record.cells}


def unattacked(store: RunStore) -> list[tuple[str, str]]:
    """What was shipped and is not attacked yet: the hash of the cell, and the attack."""
    shipped, done = shipped_cells(store), store.journal.leakage()
    every = [(cell.hash, attack) for cell in store.file.cells for attack in store.file.config.attacks]
    return [(cell, attack) for cell, attack in every if cell in shipped and (cell, attack) not in done]


def attack_shipped(store: RunStore, inputs: Inputs, phases: Phases) -> None:
    """Attack everything that was shipped and is not attacked yet."""
    if not unattacked(store):
        return
    shipped = shipped_cells(store)
    cells = [cell for cell in store.file.cells if cell.hash in shipped]
    keep_freed_memory()
    with phases.phase(Phase.ATTACK, len(cells) * len(store.file.config.attacks)):
        for record in store.journal.leakage().values():
            phases.step(f"{record.cell} {record.attack} (before)")
        for variant in inputs.variants:
            _attack(store, variant, cells, phases)


def _attack(store: RunStore, variant: Variant, cells: Sequence[Cell], phases: Phases) -> None:
    subject, targets = variant.subject, []
    points = {point.index: point for point in subject.points}
    for cell in cells:
        if variant.owns(cell):
            cut = variant.cut(points[cell.split_index])
            assert isinstance(cut, Cut)  # noqa: S101 - it was shipped
            targets.append(AttackTarget(cell, points[cell.split_index], cut))
    names = {t.cell.hash: t.point.name for t in targets}
    for record in attack_network(store, subject.network, variant.graph, targets, subject.pictures):
        what = f"{variant.name} {names[record.cell]}"
        if record.status == "failed":
            phases.note(f"{what}: {record.attack} failed: {record.reason}")
        phases.step(f"{what}: {record.attack}")
