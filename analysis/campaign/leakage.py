"""attack x shipped activations -> leakage, for every split of a network."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import SafetensorError, safe_open
from torch import Tensor

from analysis.attacks import ATTACKS, HeadFunction, Pairs
from analysis.attacks.matching import feature_residual, search_bytes
from analysis.campaign.folds import FoldedTrial
from analysis.campaign.side_by_side import Ended, SideBySide, gradients_survive_fork
from analysis.errors import AttackError
from analysis.independent_judge import IndependentJudge
from analysis.judging import FAILURES, Judge, collect_pairs, groups, holds_pictures_apart, learned_from, values
from analysis.metrics import oracle_mean_colour_psnr_db
from device_runner.files import scratch_beside
from harness.errors import ResultsError
from harness.networks.splits import Cut, CuttableGraph, Network, SplitPoint
from harness.networks.torch_head import TorchHead
from harness.pictures import Pictures
from harness.results.files import writing
from harness.results.schema import Cell, LeakageRecord
from harness.results.store import RunStore
from harness.workstation.compute import Compute

_MIXED = (
    "its activation does not hold one picture after the other along its first dimension: attacks cannot learn from it"
)


@dataclass(frozen=True)
class AttackTarget:
    """A measured cell whose shipped activations are to be attacked.

    Attributes:
        cut: how what was shipped is read; its node does not matter.
    """

    cell: Cell
    point: SplitPoint
    cut: Cut


def attack_network(
    store: RunStore,
    network: Network,
    graph: Callable[[], CuttableGraph],
    targets: Sequence[AttackTarget],
    pictures: Pictures,
    keep: Callable[[SplitPoint, Tensor], None] | None = None,
) -> Iterator[LeakageRecord]:
    """Every (cell, attack) of one network in one precision that is not on disk yet.

    Attacks are trained on what the receiver's own heads make of its own pictures, once per split, and judged on what
    each device shipped for the held-out ones.

    Args:
        graph: the graph that heads were cut from (the network, or its int8 twin); called only if something is missing.
        keep: is given the activations of the receiver's own pictures once a split is done; it may need them again.

    Yields:
        Each finished (cell, attack), after it was kept. Those that may be tried at several splits at once are, unless a
        budget bounds each one's time on the clock: that is with all cores.
    """
    done = store.journal.leakage()
    attacks = store.file.config.attacks
    missing = [t for t in targets if any((t.cell.hash, name) not in done for name in attacks)]
    if not missing:
        return
    recorder = Recorder(store, network, pictures)
    yield from recorder.reference([t for t in missing if t.point.index == 0])
    mixed = [t for t in missing if not holds_pictures_apart(network, t.point)]
    untried = [(name, t) for t in mixed for name in attacks if (t.cell.hash, name) not in done]
    yield from (recorder.without_figures(name, t, "failed", _MIXED) for name, t in untried)
    missing = [t for t in missing if t not in mixed]
    with SideBySide(recorder.outcomes) as side_by_side:
        for task in _tasks(recorder, graph, missing, keep):
            if recorder.may_run_beside_others(task):
                outcomes = side_by_side.begin(task, search_bytes(task.own.input_size))
            else:
                alone = ((task, outcome) for outcome in recorder.outcomes(task))
                outcomes = chain(side_by_side.rest(), alone)
            yield from (record for one in outcomes for record in recorder.kept(*one))
        yield from (record for one in side_by_side.rest() for record in recorder.kept(*one))


@dataclass(frozen=True)
class Task:
    """An attack to try at one split, on what devices shipped there.

    Args:
        own: what it learns from, where it computes.
        targets: at least one, all at the same split.
        budget_s: about how long it may take.
    """

    attack: str
    own: Pairs
    targets: Sequence[AttackTarget]
    budget_s: float | None


@dataclass(frozen=True)
class Outcome:
    """What came of an attack on one device's activations, not yet judged.

    Args:
        known: what is known of the attack before it is judged.
        rebuilt: float32, N x 3 x H x W, in memory that any process can be handed; None where there is no figure.
    """

    target: AttackTarget
    known: LeakageRecord
    rebuilt: np.ndarray | None = None


def _tasks(
    recorder: Recorder,
    graph: Callable[[], CuttableGraph],
    missing: Sequence[AttackTarget],
    keep: Callable[[SplitPoint, Tensor], None] | None,
) -> Iterator[Task]:
    """Split after split, each attack that is not done yet."""
    config, done = recorder.store.file.config, recorder.store.journal.leakage()
    points = sorted({t.point for t in missing if t.point.index}, key=lambda point: point.index)
    for group in groups(points, learned_from(recorder.pictures)):
        own = collect_pairs(graph(), group, recorder.pictures, recorder.device)
        for point in group:
            here = [t for t in missing if t.point == point]
            pairs = own.pop(point.index)
            there = pairs.to(recorder.device)
            for name in config.attacks:
                if todo := [t for t in here if (t.cell.hash, name) not in done]:
                    yield Task(name, there, todo, config.attack_budget_s)
            if keep is not None:
                keep(point, pairs.activations)


class Recorder:
    """Tries attacks on one network of a run, and keeps what came of each."""

    def __init__(self, store: RunStore, network: Network, pictures: Pictures) -> None:
        self.store, self.network, self.pictures = store, network, pictures
        self.device = Compute.of(store.file.config.compute).device
        original = pictures.held_out.as_float()
        self._judge = Judge.of(pictures)
        self._independent_judge = IndependentJudge.of(network.model.name, original)
        self._oracle = values(oracle_mean_colour_psnr_db(original))
        self._last: dict[str, FoldedTrial] = {}
        self._whole = TorchHead(network, network.points[-1])
        self._classes = self._top1(original)

    def reference(self, targets: Sequence[AttackTarget]) -> Iterator[LeakageRecord]:
        """Split 0: the receiver has the picture itself, whatever the attack."""
        for target in targets:
            for name in self.store.file.config.attacks:
                own = LeakageRecord(cell=target.cell.hash, attack=name, status="ok", train_seconds=0.0)
                yield self._keep(own, target, shipped_activations(self.store, target))

    def attack(self, task: Task) -> Iterator[LeakageRecord]:
        """Train one attack for one split and judge it on every device's activations."""
        return (record for outcome in self.outcomes(task) for record in self.kept(task, outcome))

    def may_run_beside_others(self, task: Task) -> bool:
        """Whether a process with one core suits it, and works."""
        suits = ATTACKS.load(task.attack).splits_at_once and task.budget_s is None and self.device.type == "cpu"
        return suits and gradients_survive_fork()

    def outcomes(self, task: Task) -> Iterator[Outcome]:
        """What comes of an attack; nothing is kept."""
        head = TorchHead(self.network, task.targets[0].point, task.targets[0].cut, self.device)
        try:
            trial = FoldedTrial(task.attack, self.store.file.config.attacks, self.pictures.folds)
            reason = trial.skip(task.own)
            if reason is not None:
                yield from (Outcome(t, _without_figures(task.attack, t, "skipped", reason)) for t in task.targets)
                return
            began = time.perf_counter()
            trial.fit(task.own, head, task.budget_s, start_from=self._last.get(task.attack))
            seconds = time.perf_counter() - began
        except AttackError as exc:
            yield from (Outcome(t, _without_figures(task.attack, t, "failed", str(exc))) for t in task.targets)
            return
        self._last[task.attack] = trial
        for target in task.targets:
            known = LeakageRecord(
                cell=target.cell.hash,
                attack=task.attack,
                status="ok",
                budget_s=task.budget_s,
                train_pictures=trial.train_pictures,
                train_seconds=seconds,
            )
            try:
                shipped = shipped_activations(self.store, target).to(self.device)
                rebuilt = trial.rebuild(shipped)
                account = _account(trial, head, rebuilt, shipped)
                yield Outcome(target, known.model_copy(update=account), rebuilt.cpu().numpy())
            except ResultsError:
                raise
            except FAILURES as exc:
                yield Outcome(target, _without_figures(task.attack, target, "failed", str(exc)))

    def kept(self, task: Task, outcome: Outcome | Ended) -> Iterator[LeakageRecord]:
        """Judge what an attack rebuilt, if it did, and keep that."""
        if isinstance(outcome, Ended):
            reason = f"the process that attacked ended with status {outcome.status} (out of memory?)"
            done = self.store.journal.leakage()
            left = [t for t in task.targets if (t.cell.hash, task.attack) not in done]
            yield from (self.without_figures(task.attack, target, "failed", reason) for target in left)
        elif outcome.rebuilt is None:
            self.store.journal.keep_leakage(outcome.known)
            yield outcome.known
        else:
            try:
                yield self._keep(outcome.known, outcome.target, torch.from_numpy(outcome.rebuilt))
            except ResultsError:
                raise
            except FAILURES as exc:
                yield self.without_figures(task.attack, outcome.target, "failed", str(exc))

    def _keep(self, known: LeakageRecord, target: AttackTarget, rebuilt: Tensor) -> LeakageRecord:
        """Judge what was rebuilt from what one device shipped.

        Args:
            known: what is known of the attack before it is judged.
        """
        folder = self.store.reconstruction_folder(target.cell.hash, known.attack)
        write_pictures(folder, rebuilt, self.pictures.held_out.names)
        judged = asdict(self._judge.scores(rebuilt)) | {
            "oracle_psnr_db": self._oracle,
            "agreement": tuple((self._top1(rebuilt) == self._classes).tolist()),
        }
        if self._independent_judge:
            judged |= asdict(self._independent_judge.recognition(rebuilt))
        record = known.model_copy(update=judged)
        self.store.journal.keep_leakage(record)
        return record

    def without_figures(self, name: str, target: AttackTarget, status: str, reason: str) -> LeakageRecord:
        """Keep why an attack has none."""
        record = _without_figures(name, target, status, reason)
        self.store.journal.keep_leakage(record)
        return record

    def _top1(self, pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return self._whole(pictures).flatten(1).argmax(1)


def _without_figures(name: str, target: AttackTarget, status: str, reason: str) -> LeakageRecord:
    return LeakageRecord.model_validate({"cell": target.cell.hash, "attack": name, "status": status, "reason": reason})


def _account(trial: FoldedTrial, head: HeadFunction, rebuilt: Tensor, shipped: Tensor) -> dict[str, object]:
    """What an attack says of itself once it has rebuilt pictures, and how well the activations match, if it tried."""
    found = trial.found
    return asdict(trial.learned()) | {
        "residual": values(feature_residual(head, rebuilt, shipped)) if trial.is_white_box else (),
        "search_residual": values(feature_residual(head, found, shipped)) if found is not None else (),
    }


def shipped_activations(store: RunStore, target: AttackTarget) -> Tensor:
    """What the device shipped for the held-out pictures, as the receiver reads it: N x ..., float32.

    Raises:
        ResultsError: a file is missing or damaged.
    """
    activations = []
    for picture in range(len(store.file.held_out)):
        path = store.activation_path(target.cell.hash, picture)
        try:
            with safe_open(path, framework="pt") as stored:
                activations.append(stored.get_tensor("activation"))
        except (OSError, ValueError, RuntimeError, SafetensorError) as exc:
            raise ResultsError(f"{path} cannot be read", remedy="delete its folder and --resume") from exc
    return target.cut.codec.decode(torch.cat(activations))


def write_pictures(folder: Path, pictures: Tensor, names: Sequence[str]) -> None:
    """Write pictures (N x 3 x H x W on [0, 1]) as PNG files; the folder is whole or as it was.

    Raises:
        ResultsError: no space left.
    """
    pixels = (pictures.clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).numpy()
    with writing(folder, "free disk space, then --resume"), scratch_beside(folder) as scratch:
        with ThreadPoolExecutor(os.cpu_count()) as pool:  # zlib lets go of the interpreter
            list(pool.map(_write_png, [scratch / f"{name}.png" for name in names], pixels))
        shutil.rmtree(folder, ignore_errors=True)
        scratch.rename(folder)


def _write_png(path: Path, pixels: np.ndarray) -> None:
    Image.fromarray(np.ascontiguousarray(pixels)).save(path, compress_level=1)
