"""`--attack auto`: once `linear` was tried everywhere, a stronger attack where that decides, within a total."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.attacks import HeadFunction, Pairs
from analysis.attacks.fourier import Filter
from analysis.attacks.matching import Search
from analysis.attacks.spectral import budget_for, evaluations_for
from analysis.campaign.inputs import Inputs
from analysis.campaign.leakage import AttackTarget, Recorder, Task
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.shipped import shipped_cells, targets_of
from analysis.campaign.subject import Variant
from analysis.decision.deciding import by_worth
from analysis.judging import FAILURES, collect_pairs, paired
from analysis.run import Run
from harness.networks.splits import SplitPoint
from harness.networks.torch_head import BATCH, CPU, TorchHead
from harness.results.schema import AUTO, Cell, LeakageRecord
from harness.results.store import RunStore

# At equal CPU time ahead of `best`, which spends most of it on decoders (docs/attacks.md).
STRONG = "spectral"
# Activations that wait for the stronger attack, so that they need not be computed again.
KEPT_BYTES = 512 * 2**20
# Of what a whole search takes: with less it hardly leaves its start, and what is much more is better spent elsewhere.
LEAST_SHARE, MOST_SHARE = 1 / 5, 1.25
# What a search takes for each pixel beside the head (Fourier transforms, steps), in multiply-accumulates of heads.
_MACS_PER_PIXEL = 5000
_PROBED_EVALUATIONS = 2


def untried(store: RunStore) -> list[Cell]:
    """Shipped cells that the weak attack has a figure for, where `auto` tried nothing stronger nor said why not."""
    config = store.file.config
    if config.attack_total_s is None:
        return []
    shipped, records = shipped_cells(store), store.journal.leakage()
    judged = {cell for (cell, attack), record in records.items() if attack in config.attacks and record.status == "ok"}
    told = {cell for cell, attack in records if attack not in config.attacks}
    return [cell for cell in store.file.cells if cell.split_index and cell.hash in (shipped & judged) - told]


def spent_s(store: RunStore) -> float:
    """What is spent of the total already."""
    return sum(record.spent_s or 0.0 for record in store.journal.leakage().values())


class KeptActivations:
    """Activations of the receiver's own pictures that the stronger attack will most likely learn from, too."""

    def __init__(self, most_bytes: int = KEPT_BYTES) -> None:
        self._most_bytes = most_bytes
        self._kept: dict[tuple[Variant, int], tuple[float, Tensor]] = {}

    def keep(self, variant: Variant, point: SplitPoint, from_verdict_db: float, activations: Tensor) -> None:
        """Keep them, as long as there is room for them beside those of splits that are nearer to the verdict."""
        self._kept[variant, point.index] = (from_verdict_db, activations)
        while sum(one.numel() * one.element_size() for _, one in self._kept.values()) > self._most_bytes:
            del self._kept[max(self._kept, key=lambda key: self._kept[key][0])]

    def pairs(self, variant: Variant, point: SplitPoint, device: torch.device = CPU) -> Pairs:
        """The pairs of a split, which are kept no longer; what was not is computed again, on `device`."""
        pictures = variant.subject.pictures
        if (variant, point.index) not in self._kept:
            return collect_pairs(variant.graph(), [point], pictures, device)[point.index]
        _, activations = self._kept.pop((variant, point.index))
        return paired(pictures, activations)


@dataclass(frozen=True)
class _Task:
    """A split to attack: all cells that devices shipped there, which share a fit."""

    variant: Variant
    targets: Sequence[AttackTarget]
    decides: bool

    @property
    def point(self) -> SplitPoint:
        return self.targets[0].point

    @property
    def work(self) -> int:
        """What one evaluation of one picture takes, in multiply-accumulates of heads."""
        return self.point.head_macs + _MACS_PER_PIXEL * math.prod(self.variant.subject.model.input_size)

    def __str__(self) -> str:
        return f"{self.variant.name} {self.point.name}: {STRONG}"


def attack_strongly(store: RunStore, inputs: Inputs, phases: Phases, kept: KeptActivations) -> None:
    """Try the stronger attack at one split after the other, and keep why not at those that the total is too small for.

    Args:
        kept: from the attack that every split had.
    """
    tasks = _tasks(store, inputs)
    if tasks:
        with phases.phase(Phase.STRONG):
            _Spender(store, phases, kept).spend(tasks)


def _tasks(store: RunStore, inputs: Inputs) -> list[_Task]:
    """What is untried, worth most first."""
    cells = untried(store)
    if not cells:
        return []
    targets: dict[tuple[str, str, int], list[AttackTarget]] = defaultdict(list)
    variants = {(variant.subject.model.name, str(variant.precision)): variant for variant in inputs.variants}
    for (model, precision), variant in variants.items():
        for target in targets_of(variant, cells):
            targets[model, precision, target.point.index].append(target)
    (weak,) = store.file.config.attacks
    return [
        _Task(variants[place.model, place.precision], here, place.tier == 0)
        for place in by_worth(Run(store).summary(), weak)
        if (here := targets[place.model, place.precision, place.split_index])
    ]


class _Spender:
    """Spends what is left of a run's total."""

    def __init__(self, store: RunStore, phases: Phases, kept: KeptActivations) -> None:
        self._store, self._phases, self._kept = store, phases, kept
        self._total_s = store.file.config.attack_total_s or 0.0
        self._end = time.perf_counter() + self._total_s - spent_s(store)
        self._folds = store.file.config.folds
        self._recorders: dict[Variant, Recorder] = {}
        self._seconds_per_work: dict[Variant, float] = {}

    def spend(self, tasks: Sequence[_Task]) -> None:
        """Each gets its share of what is left; one that cannot be afforded is not begun."""
        for place, task in enumerate(tasks):
            rivals = sum(other.decides == task.decides for other in tasks[place:])
            if not self._attack(task, rivals):
                self._tell_why_not(task)

    @property
    def _left_s(self) -> float:
        return self._end - time.perf_counter()

    def _attack(self, task: _Task, rivals: int) -> bool:
        """Attack, unless what is left is too little for it.

        Args:
            rivals: tasks that have the same claim to what is left, this one included.
        """
        began = time.perf_counter()
        if self._left_s <= 0 or self._whole_s(task) * LEAST_SHARE > self._left_s:
            return False
        recorder = self._recorder(task.variant)
        own = self._kept.pairs(task.variant, task.point, recorder.device).to(recorder.device)
        if task.variant not in self._seconds_per_work:
            head = TorchHead(task.variant.subject.network, task.point, task.targets[0].cut, recorder.device)
            try:
                self._seconds_per_work[task.variant] = evaluation_s(head, own) / task.work
            except FAILURES as exc:
                self._keep([recorder.without_figures(STRONG, t, "failed", str(exc)) for t in task.targets], task, began)
                return True
            if self._whole_s(task) * LEAST_SHARE > self._left_s:
                return False
        whole_s, left_s = self._whole_s(task), max(self._left_s, 1e-3)
        seconds = min(max(left_s / rivals, LEAST_SHARE * whole_s), MOST_SHARE * whole_s, left_s)
        share_s = budget_for(seconds / self._folds, self._pictures(task))
        budget_s = min(share_s, self._store.file.config.attack_budget_s or math.inf)
        self._keep(list(recorder.attack(Task(STRONG, own, task.targets, budget_s))), task, began)
        return True

    def _whole_s(self, task: _Task) -> float:
        """What a whole search would about take; 0 as long as nothing is known."""
        evaluations = self._folds * evaluations_for(self._pictures(task))
        return self._seconds_per_work.get(task.variant, 0.0) * task.work * evaluations

    def _pictures(self, task: _Task) -> int:
        """What each fold's fit rebuilds."""
        return len(self._store.file.held_out) // self._folds * len(task.targets)

    def _recorder(self, variant: Variant) -> Recorder:
        if variant not in self._recorders:
            subject = variant.subject
            self._recorders[variant] = Recorder(self._store, subject.network, subject.pictures)
        return self._recorders[variant]

    def _keep(self, records: Sequence[LeakageRecord], task: _Task, began: float) -> None:
        """Add what was spent: it is known once everything is done."""
        first = records[0].model_copy(update={"spent_s": time.perf_counter() - began})
        self._store.journal.keep_leakage(first)
        for record in records:
            if record.status == "failed":
                self._phases.note(f"{task} failed: {record.reason}")
        self._phases.step(f"{task} ({self._total_s - max(self._left_s, 0):.0f} of {self._total_s:g} s)")

    def _tell_why_not(self, task: _Task) -> None:
        reason = f"the total of {self._total_s:g} s was not enough: --attack-total {_more(self._total_s)}"
        for target in task.targets:
            record = LeakageRecord(cell=target.cell.hash, attack=AUTO, status="skipped", reason=reason)
            self._store.journal.keep_leakage(record)


def evaluation_s(head: HeadFunction, own: Pairs) -> float:
    """Seconds that a search takes to evaluate one picture once."""
    few = own.first(BATCH)
    start = few.pictures.mean(0, keepdim=True).expand_as(few.pictures)
    search = Search(head, Filter.of(few.pictures - start), _PROBED_EVALUATIONS, math.inf)
    head(few.pictures)  # its graph is made when it is first asked
    began = time.perf_counter()
    search.pictures(few.activations, start)
    return (time.perf_counter() - began) / (len(few) * _PROBED_EVALUATIONS)


def _more(total_s: float) -> str:
    """A larger total, as the option takes it."""
    seconds = math.ceil(10 * total_s)
    return f"{seconds // 60}m" if seconds % 60 == 0 else f"{seconds}s"
