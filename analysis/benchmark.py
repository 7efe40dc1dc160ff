"""The main job: split points, heads, timed runs, attacks. Each phase keeps what it finishes and can be resumed."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

from safetensors.torch import save
from torch import Tensor

from analysis.attacks import ATTACKS
from analysis.leakage import Target, attack_network, write_pictures
from device_runner.devices import open_device
from device_runner.errors import UsageError
from device_runner.link import LinkShape
from harness.affinity import check_affinity, core_mask
from harness.cool_down import CoolDown
from harness.environment import describe_environment
from harness.errors import ExportError, LostDeviceError, ResultsError
from harness.export import ExportSettings, Precision, export_heads
from harness.manifest import Head
from harness.measure import Work, measure
from harness.models import Model, load_model
from harness.pictures import Pictures, load_pictures
from harness.plan import Estimate, Settings, estimate, plan_cell
from harness.prepare import ReadyDevice, prepared
from harness.quantize import CALIBRATION_PICTURES, QuantizedNetwork
from harness.results.schema import Cell, DeviceEntry, RunConfig, RunFile
from harness.results.store import RunStore, write_whole
from harness.splits import CuttableGraph, Network, SplitPoint

RANDOM_NOTICE = "{}: weights are RANDOM; the leakage of random weights is not that of trained ones"
# Batch norm of random weights is calibrated on three batches.
_NORM_PICTURES = 96


class Watcher(Protocol):
    """Who is told how far the job is."""

    def phase(self, name: str, total: int | None) -> None:
        """A phase begins; `total` steps, where that is known."""

    def step(self, text: str) -> None:
        """One step of the phase is done."""

    def note(self, text: str) -> None:
        """Something that the user must know."""


@dataclass
class Subject:
    """One network of the run, with all that is made from it once."""

    network: Network
    points: tuple[SplitPoint, ...]
    pictures: Pictures

    @property
    def model(self) -> Model:
        """The network's model."""
        return self.network.model

    @cached_property
    def quantized(self) -> QuantizedNetwork:
        """The int8 twin, made when first needed."""
        return QuantizedNetwork(self.network, self.pictures.train.as_float()[:CALIBRATION_PICTURES])

    def graph(self, precision: str) -> CuttableGraph:
        """The graph that heads of this precision are cut from."""
        return self.quantized if precision == "int8" else self.network


@dataclass
class Benchmark:
    """One run, phase by phase.

    Args:
        config: what was asked for.
        models_root: where exported heads are kept.
        watcher: is told how far the job is.

    Attributes:
        phase_seconds: how long each finished phase took.
    """

    config: RunConfig
    models_root: Path
    watcher: Watcher
    phase_seconds: dict[str, float] = field(default_factory=dict)
    _pictures_by_size: dict[tuple[int, int], Pictures] = field(default_factory=dict)

    @contextmanager
    def _phase(self, name: str, total: int | None = None) -> Iterator[None]:
        self.watcher.phase(name, total)
        began = time.perf_counter()
        yield
        self.phase_seconds[name] = self.phase_seconds.get(name, 0.0) + time.perf_counter() - began

    @cached_property
    def subjects(self) -> list[Subject]:
        """The networks, their split points and pictures."""
        for name in self.config.attacks:
            ATTACKS.load(name)  # an unknown attack is known now, not after an hour
        check_config(self.config)
        with self._phase("split", len(self.config.models)):
            return [self._subject(name) for name in self.config.models]

    def _subject(self, name: str) -> Subject:
        config = self.config
        model = load_model(
            name,
            weights=config.weights,
            seed=config.seed,
            input_size=config.input_size,
            calibration=lambda size: self._pictures(size).train.as_float()[:_NORM_PICTURES],
        )
        network = Network(model)
        subject = Subject(network, network.select(config.split), self._pictures(model.input_size))
        if not model.trained:
            self.watcher.note(RANDOM_NOTICE.format(name))
        for reason in subject.pictures.left_out:
            self.watcher.note(f"left out: {reason}")
        self.watcher.step(f"{name}: {len(network.points)} split points, {len(subject.points)} chosen, {model.weights}")
        return subject

    def _pictures(self, size: tuple[int, int]) -> Pictures:
        if size not in self._pictures_by_size:
            self._pictures_by_size[size] = load_pictures(self.config.pictures, size=size, seed=self.config.seed)
        return self._pictures_by_size[size]

    def estimates(self) -> dict[str, Estimate]:
        """What the run would roughly take, per network and precision, with nothing cached."""
        return {
            f"{s.model.name} {precision}": estimate(
                s.points,
                self.config,
                nodes=len(s.network.graph(1).graph.nodes),
                pictures=len(s.pictures.held_out),
                cores=os.cpu_count() or 1,
            )
            for s in self.subjects
            for precision in self.config.precisions
        }

    @cached_property
    def heads(self) -> dict[tuple[str, str, int], Head | ExportError]:
        """Every head, by model, precision and split; exported now unless it is cached."""
        subjects = self.subjects
        with self._phase("export", sum(len(s.points) for s in subjects) * len(self.config.precisions)):
            return {
                (subject.model.name, precision, point.index): head
                for subject in subjects
                for precision in self.config.precisions
                for point, head in self._export(subject, precision)
            }

    def _export(self, subject: Subject, precision: Precision) -> Iterator[tuple[SplitPoint, Head | ExportError]]:
        settings = ExportSettings(
            precision=precision,
            reference=reference_picture(subject.model.input_size),
            calibration_sha256=subject.pictures.sha256 if precision == "int8" else "",
            root=self.models_root,
        )
        for point, head in export_heads(subject.network, subject.points, settings, lambda: subject.graph(precision)):
            if isinstance(head, ExportError):
                self.watcher.note(str(head))
            self.watcher.step(f"{subject.model.name} {precision} {point.name}")
            yield point, head

    @contextmanager
    def ready(self, wanted: Sequence[str] | None = None) -> Iterator[list[ReadyDevice]]:
        """Connect to the devices (by default all) and deploy the runner, for as long as the block runs."""
        self.subjects  # noqa: B018 - what is wrong with the options is known before a device is touched
        shape = LinkShape.parse(self.config.link) if self.config.link else None
        with ExitStack() as stack:
            with self._phase("device", len(self.config.devices if wanted is None else wanted)):
                found = []
                for address in self.config.devices if wanted is None else wanted:
                    ready = stack.enter_context(prepared(address, way_back=self.config.way_back, shape=shape))
                    core_mask(self.config.affinity, ready.device)  # cores that it has not are known now
                    self.watcher.step(f"{ready.entry.label}: {ready.facts.model}, link {ready.entry.link}")
                    found.append(ready)
            yield found

    def plan(self, devices: Sequence[DeviceEntry]) -> tuple[Cell, ...]:
        """Every cell, in the order model, precision, split, device, threads."""
        return tuple(
            plan_cell(
                s.model,
                point,
                precision,
                device,
                threads,
                self.heads[s.model.name, precision, point.index],
                Settings(self.config, s.pictures.sha256),
            )
            for s in self.subjects
            for precision in self.config.precisions
            for point in s.points
            for device in devices
            for threads in self.config.threads
        )

    def create(self, folder: Path, devices: Sequence[ReadyDevice]) -> RunStore:
        """Plan everything and lay the run's folder."""
        entries = tuple(ready.entry for ready in devices)
        subject, cells = self.subjects[0], self.plan(entries)
        held_out = subject.pictures.held_out
        if any(s.pictures.held_out.names != held_out.names for s in self.subjects):
            raise UsageError("these networks' pictures differ in more than size", remedy="run them one by one")
        now = datetime.datetime.now(datetime.UTC)
        file = RunFile(
            run_id=folder.name,
            created=now.isoformat(timespec="seconds"),
            config=self.config,
            environment=describe_environment(devices),
            pictures="; ".join(dict.fromkeys(s.pictures.description for s in self.subjects)),
            pictures_sha256=subject.pictures.sha256,
            held_out=held_out.names,
            held_out_sources=held_out.sources,
            notices=tuple(RANDOM_NOTICE.format(s.model.name) for s in self.subjects if not s.model.trained),
            devices=entries,
            cells=cells,
        )
        store = RunStore.create(folder, file)
        write_pictures(folder / "pictures" / "held_out", held_out.as_float(), held_out.names)
        return store

    def check_unchanged(self, store: RunStore) -> None:
        """A run goes on only with the networks, pictures and libraries that it began with.

        Raises:
            ResultsError: something that decides the figures is different now.
        """
        if {cell.hash for cell in self.plan(store.file.devices)} != {cell.hash for cell in store.file.cells}:
            raise ResultsError(
                f"{store.folder.name} cannot go on: weights, pictures or programs are not those that it began with",
                remedy="start a new run; exported heads are kept",
            )

    def unfinished(self, store: RunStore) -> list[str]:
        """Addresses of the devices that a cell is still to be measured on."""
        done = {(r.cell, r.round) for r in store.rounds().values()}
        missing = {
            cell.device
            for cell in store.file.cells
            if cell.unavailable is None and any((cell.hash, r) not in done for r in range(self.config.rounds))
        }
        return [entry.address for entry in store.file.devices if entry.label in missing]

    def measure(self, store: RunStore, devices: Sequence[ReadyDevice]) -> list[LostDeviceError]:
        """Time and ship every cell that is not finished; this machine's own first and alone, then one queue a device.

        Returns:
            One error for each device that was lost meanwhile.

        Raises:
            ResultsError: a device came back over another link than the run began with, or nothing can be stored.
        """
        for ready in devices:
            if ready.entry not in store.file.devices:
                raise ResultsError(
                    f"{ready.entry.label} came back over {ready.entry.link}, not as the run began",
                    remedy="start a new run, or choose the way with --way-back",
                )
        cells = [cell for cell in store.file.cells if cell.unavailable is None]
        with self._phase("measure", len(cells) * self.config.rounds):
            for done in store.rounds().values():
                self.watcher.step(f"{done.cell} round {done.round} (before)")
            own = [ready for ready in devices if ready.device.target == "host"]
            others = [ready for ready in devices if ready.device.target != "host"]
            lost = [self._measure_device(store, ready) for ready in own]
            if others:
                with ThreadPoolExecutor(len(others)) as pool:
                    lost += pool.map(lambda ready: self._measure_device(store, ready), others)
        return [error for error in lost if error is not None]

    def _measure_device(self, store: RunStore, ready: ReadyDevice) -> LostDeviceError | None:
        try:
            for size in sorted({cell.input_size for cell in store.file.cells}):
                self._measure_size(store, ready, size)
        except LostDeviceError as exc:
            self.watcher.note(str(exc))
            return exc
        return None

    def _measure_size(self, store: RunStore, ready: ReadyDevice, size: tuple[int, int]) -> None:
        subjects = [s for s in self.subjects if s.model.input_size == size]
        pictures = store.folder / "pictures" / f"held_out-{size[0]}x{size[1]}.safetensors"
        if not pictures.exists():
            write_whole(pictures, save({"pictures": subjects[0].pictures.held_out.pixels.contiguous()}))
        points = {(s.model.name, p.index): (s, p) for s in subjects for p in s.points}
        work, names = [], {}
        for cell in store.file.cells:
            head = self.heads[cell.model, cell.precision, cell.split_index]
            if cell.device == ready.entry.label and cell.input_size == size and isinstance(head, Head):
                subject, point = points[cell.model, cell.split_index]
                work.append(Work(cell, head, subject.network.tail(point)))
                names[cell.hash] = f"{cell.model} {cell.precision} {cell.split}"
        where = "" if len(self.config.devices) == 1 else f"{ready.entry.label}, "
        for record in measure(store, work, ready, pictures):
            if record.status == "failed":
                self.watcher.note(f"{where}{names[record.cell]}: {record.reason}")
            self.watcher.step(f"{where}round {record.round + 1}: {names[record.cell]}")

    def attack(self, store: RunStore) -> None:
        """Attack everything that was shipped and is not attacked yet."""
        if not self.config.attacks:
            return
        finished = {record.cell for record in store.rounds().values() if record.status == "ok"}
        finished -= {record.cell for record in store.rounds().values() if record.status == "failed"}
        cells = [cell for cell in store.file.cells if cell.hash in finished]
        with self._phase("attack", len(cells) * len(self.config.attacks)):
            for done in store.leakage().values():
                self.watcher.step(f"{done.cell} {done.attack} (before)")
            for subject in self.subjects:
                for precision in self.config.precisions:
                    self._attack(store, subject, precision, cells)

    def _attack(self, store: RunStore, subject: Subject, precision: str, cells: list[Cell]) -> None:
        points = {p.index: p for p in subject.points}
        targets = []
        for cell in cells:
            head = self.heads[cell.model, cell.precision, cell.split_index]
            if (cell.model, cell.precision) == (subject.model.name, precision) and isinstance(head, Head):
                targets.append(Target(cell, points[cell.split_index], head))
        names = {t.cell.hash: t.point.name for t in targets}
        graph: Callable[[], CuttableGraph] = lambda: subject.graph(precision)  # noqa: E731 - typed
        for record in attack_network(store, subject.network, graph, targets, subject.pictures):
            self.watcher.step(f"{subject.model.name} {precision} {names[record.cell]}: {record.attack}")


def check_config(config: RunConfig) -> None:
    """What can be wrong with the options is known now, not after an hour.

    Raises:
        UsageError: a device, link, affinity or cool-down that cannot be read, or a device that is named twice.
    """
    for address in config.devices:
        open_device(address)
    if len(set(config.devices)) < len(config.devices):
        raise UsageError("a device is named twice", remedy="cells on one device never overlap: name each once")
    check_affinity(config.affinity)
    if config.link:
        LinkShape.parse(config.link)
    if config.cool_down:
        CoolDown.parse(config.cool_down)


@cache
def reference_picture(size: tuple[int, int]) -> Tensor:
    """The picture that heads are verified and timed on, whatever --pictures says: a built-in one; 3 x H x W uint8."""
    return load_pictures("builtin", size=size, train_count=1, held_out_count=1).train.pixels[0].contiguous()
