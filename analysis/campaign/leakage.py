"""attack x shipped activations -> leakage, for every split of a network."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from torch import Tensor

from analysis.attacks import HeadFunction, Pairs
from analysis.attacks.matching import feature_residual
from analysis.campaign.folds import FoldedTrial
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
        Each finished (cell, attack), after it was kept.
    """
    done = store.journal.leakage()
    attacks = store.file.config.attacks
    missing = [t for t in targets if any((t.cell.hash, name) not in done for name in attacks)]
    if not missing:
        return
    recorder, budget_s = Recorder(store, network, pictures), store.file.config.attack_budget_s
    yield from recorder.reference([t for t in missing if t.point.index == 0])
    mixed = [t for t in missing if not holds_pictures_apart(network, t.point)]
    untried = [(name, t) for t in mixed for name in attacks if (t.cell.hash, name) not in done]
    yield from (recorder.without_figures(name, t, "failed", _MIXED) for name, t in untried)
    missing = [t for t in missing if t not in mixed]
    points = sorted({t.point for t in missing if t.point.index}, key=lambda point: point.index)
    for group in groups(points, learned_from(pictures)):
        own = collect_pairs(graph(), group, pictures, recorder.device)
        for point in group:
            here = [t for t in missing if t.point == point]
            pairs = own.pop(point.index)
            there = pairs.to(recorder.device)
            for name in attacks:
                todo = [t for t in here if (t.cell.hash, name) not in done]
                yield from recorder.attack(name, there, todo, budget_s)
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

    def attack(
        self, name: str, own: Pairs, targets: Sequence[AttackTarget], budget_s: float | None
    ) -> Iterator[LeakageRecord]:
        """Train one attack for one split and judge it on every device's activations."""
        if not targets:
            return
        head = TorchHead(self.network, targets[0].point, targets[0].cut, self.device)
        try:
            trial = FoldedTrial(name, self.store.file.config.attacks, self.pictures.folds)
            reason = trial.skip(own)
            if reason is not None:
                yield from (self.without_figures(name, target, "skipped", reason) for target in targets)
                return
            began = time.perf_counter()
            trial.fit(own, head, budget_s, start_from=self._last.get(name))
            seconds = time.perf_counter() - began
        except AttackError as exc:
            yield from (self.without_figures(name, target, "failed", str(exc)) for target in targets)
            return
        self._last[name] = trial
        for target in targets:
            known = LeakageRecord(
                cell=target.cell.hash,
                attack=name,
                status="ok",
                budget_s=budget_s,
                train_pictures=trial.train_pictures,
                train_seconds=seconds,
            )
            try:
                shipped = shipped_activations(self.store, target).to(self.device)
                rebuilt = trial.rebuild(shipped)
                account = _account(trial, head, rebuilt, shipped)
                yield self._keep(known.model_copy(update=account), target, rebuilt.cpu())
            except ResultsError:
                raise
            except FAILURES as exc:
                yield self.without_figures(name, target, "failed", str(exc))

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
        record = LeakageRecord.model_validate(
            {"cell": target.cell.hash, "attack": name, "status": status, "reason": reason}
        )
        self.store.journal.keep_leakage(record)
        return record

    def _top1(self, pictures: Tensor) -> Tensor:
        with torch.no_grad():
            return self._whole(pictures).flatten(1).argmax(1)


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
        except (OSError, ValueError, RuntimeError) as exc:
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
