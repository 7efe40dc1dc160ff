"""What devices shipped, attacked."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from analysis.campaign.inputs import Inputs
from analysis.campaign.leakage import attack_network
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.shipped import shipped_cells, targets_of
from analysis.campaign.strong import KeptActivations, attack_strongly, untried
from analysis.campaign.subject import Variant
from analysis.marks import NEAR_FLOOR_DB, above_floor_db
from harness.networks.splits import SplitPoint
from harness.results.schema import AUTO, Cell
from harness.results.store import RunStore
from harness.workstation.memory import keep_freed_memory


def unattacked(store: RunStore) -> list[tuple[str, str]]:
    """What was shipped and is not attacked yet: the hash of the cell, and the attack."""
    shipped, done = shipped_cells(store), store.journal.leakage()
    every = [(cell.hash, attack) for cell in store.file.cells for attack in store.file.config.attacks]
    missing = [(cell, attack) for cell, attack in every if cell in shipped and (cell, attack) not in done]
    return missing + [(cell.hash, AUTO) for cell in untried(store)]


def attack_shipped(store: RunStore, inputs: Inputs, phases: Phases) -> None:
    """Attack everything that was shipped and is not attacked yet."""
    if not unattacked(store):
        return
    shipped = shipped_cells(store)
    cells = [cell for cell in store.file.cells if cell.hash in shipped]
    kept = KeptActivations()
    keep_freed_memory()
    with phases.phase(Phase.ATTACK, len(cells) * len(store.file.config.attacks)):
        for record in store.journal.leakage().values():
            if record.attack in store.file.config.attacks:
                phases.step(f"{record.cell} {record.attack} (before)")
        for variant in inputs.variants:
            _attack(store, variant, cells, phases, kept)
    attack_strongly(store, inputs, phases, kept)


def _attack(store: RunStore, variant: Variant, cells: Sequence[Cell], phases: Phases, kept: KeptActivations) -> None:
    subject, targets = variant.subject, targets_of(variant, cells)
    names = {t.cell.hash: t.point.name for t in targets}

    def keep(point: SplitPoint, activations: Tensor) -> None:
        records = store.journal.leakage()
        hashes = {target.cell.hash for target in targets if target.point == point}
        above_db = [above_floor_db(r) for r in records.values() if r.cell in hashes and r.status == "ok"]
        if above_db and store.file.config.attack_total_s is not None:
            kept.keep(variant, point, abs(max(above_db) - NEAR_FLOOR_DB), activations)

    for record in attack_network(store, subject.network, variant.graph, targets, subject.pictures, keep):
        what = f"{variant.name} {names[record.cell]}"
        if record.status == "failed":
            phases.note(f"{what}: {record.attack} failed: {record.reason}")
        phases.step(f"{what}: {record.attack}")
