"""One run's networks, heads and attacks. Each phase keeps what it finishes and can be resumed; campaign.py measures."""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache, cached_property
from pathlib import Path
from typing import Protocol

from torch import Tensor

from analysis.attacks import ATTACKS, check_attacks
from analysis.leakage import Target, attack_network, write_pictures
from analysis.selection import to_measure, to_survey
from analysis.subject import Experiment, Subject
from device_runner.devices import open_device
from device_runner.errors import BroughtCodeError, SplitbenchError, UsageError
from device_runner.link import LinkShape
from harness.affinity import check_affinity, core_mask
from harness.cool_down import CoolDown
from harness.environment import describe_environment
from harness.errors import ExportError, ModelError, ResultsError, SplitError
from harness.export import ExportSettings, Made, Wanted, export, head_hash
from harness.memory import keep_freed_memory
from harness.models import load_model
from harness.pictures import Pictures, load_pictures, summary
from harness.plan import Estimate, Settings, estimate, plan_cell
from harness.prepare import ReadyDevice, prepared
from harness.results.schema import Cell, DeviceEntry, RunConfig, RunFile
from harness.results.store import RunStore
from harness.splits import Cut, CuttableGraph, Network

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
class Benchmark:
    """One run, phase by phase.

    Args:
        config: what was asked for.
        models_root: where exported heads are kept.
        watcher: is told how far the job is.

    Attributes:
        phase_seconds: how long each finished phase took.
        refusals: why a network cannot be measured, by its name; the others go on without it.
    """

    config: RunConfig
    models_root: Path
    watcher: Watcher
    phase_seconds: dict[str, float] = field(default_factory=dict)
    refusals: dict[str, SplitbenchError] = field(default_factory=dict)
    _pictures_by_size: dict[tuple[int, int], Pictures] = field(default_factory=dict)

    @classmethod
    def resumed(cls, store: RunStore, models_root: Path, watcher: Watcher) -> Benchmark:
        """The run in `store` again, with the networks that it could measure when it began."""
        measured = {cell.model for cell in store.file.cells}
        models = tuple(name for name in store.file.config.models if name in measured)
        return cls(store.file.config.model_copy(update={"models": models}), models_root, watcher)

    @contextmanager
    def phase(self, name: str, total: int | None = None) -> Iterator[None]:
        """A phase that takes as long as the block runs."""
        self.watcher.phase(name, total)
        began = time.perf_counter()
        yield
        self.phase_seconds[name] = self.phase_seconds.get(name, 0.0) + time.perf_counter() - began

    @cached_property
    def subjects(self) -> list[Subject]:
        """The networks, their split points and pictures."""
        check_attacks(self.config.attacks)  # an unknown attack is known now, not after an hour
        check_config(self.config)
        with self.phase("split", len(self.config.models)):
            found = [self._subject_or_refusal(name) for name in self.config.models]
        if not any(isinstance(one, Subject) for one in found):
            raise next(iter(self.refusals.values()))
        return [one for one in found if isinstance(one, Subject)]

    def _subject_or_refusal(self, name: str) -> Subject | None:
        try:
            return self._subject(name)
        except (BroughtCodeError, ModelError, SplitError) as exc:
            self.refusals[name] = exc
            if len(self.config.models) > 1:
                self.watcher.note(_refusal_notice(name, exc))
            return None

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
        elif model.weights.startswith("file "):
            self.watcher.note(f"{name}: weights of {model.weights}")  # and what was done to make them fit
        self.watcher.step(f"{name}: {len(network.points)} split points, {len(subject.points)} chosen, {model.weights}")
        return subject

    def _pictures(self, size: tuple[int, int]) -> Pictures:
        if size not in self._pictures_by_size:
            pictures = load_pictures(self.config.pictures, size=size, seed=self.config.seed, note=self.watcher.note)
            if not self._pictures_by_size:  # at other sizes the files are the same
                for line in summary(pictures.left_out):
                    self.watcher.note(f"left out: {line}")
            check_sources(self.config.attacks, pictures)
            self._pictures_by_size[size] = pictures
        return self._pictures_by_size[size]

    def estimates(self) -> dict[str, Estimate]:
        """What the run would roughly take, per network and precision, with nothing cached."""
        return {
            f"{s.model.name} {precision}": estimate(
                s.points,
                to_measure(self.config, (s, precision)) if self.config.survey != "only" else (),
                self.config,
                surveys=len(to_survey(self.config, (s, precision))),
                nodes=len(s.network.graph(1).graph.nodes),
                pictures=len(s.pictures.held_out),
                cores=os.cpu_count() or 1,
            )
            for s in self.subjects
            for precision in self.config.precisions
        }

    def export(self, wanted: Mapping[Experiment, Sequence[Wanted]]) -> dict[tuple[Experiment, Wanted], Made]:
        """Heads and survey programs, from the cache or lowered now.

        Args:
            wanted: by subject and precision.
        """
        made: dict[tuple[Experiment, Wanted], Made] = {}
        if any(wanted.values()):
            with self.phase("export", sum(map(len, wanted.values()))):
                for experiment, ones in wanted.items():
                    made |= {(experiment, one): found for one, found in self._export(experiment, ones)}
        return made

    def _export(self, experiment: Experiment, wanted: Sequence[Wanted]) -> Iterator[tuple[Wanted, Made]]:
        subject, precision = experiment
        graph: Callable[[], CuttableGraph] = lambda: subject.graph(precision)  # noqa: E731 - typed
        for one, made in export(subject.network, wanted, self._settings(experiment), graph):
            if isinstance(made, ExportError):
                self.watcher.note(str(made))
            self.watcher.step(f"{subject.model.name} {precision} {_name(one)}")
            yield one, made

    def _settings(self, experiment: Experiment) -> ExportSettings:
        subject, precision = experiment
        return ExportSettings(
            precision=precision,
            reference=reference_picture(subject.model.input_size),
            calibration_sha256=subject.pictures.sha256 if precision == "int8" else "",
            root=self.models_root,
        )

    @property
    def experiments(self) -> list[Experiment]:
        """Every subject in every precision."""
        return [(subject, precision) for subject in self.subjects for precision in self.config.precisions]

    @contextmanager
    def ready(self, wanted: Sequence[str] | None = None) -> Iterator[list[ReadyDevice]]:
        """Connect to the devices (by default all) and deploy the runner, for as long as the block runs."""
        self.subjects  # noqa: B018 - what is wrong with the options is known before a device is touched
        shape = LinkShape.parse(self.config.link) if self.config.link else None
        with ExitStack() as stack:
            with self.phase("device", len(self.config.devices if wanted is None else wanted)):
                found = []
                for address in self.config.devices if wanted is None else wanted:
                    ready = stack.enter_context(prepared(address, way_back=self.config.way_back, shape=shape))
                    core_mask(self.config.affinity, ready.device)  # fails now if it lacks these cores
                    self.watcher.step(f"{ready.entry.label}: {ready.facts.model}, link {ready.entry.link}")
                    found.append(ready)
            yield found

    def plan(self, devices: Sequence[DeviceEntry]) -> tuple[Cell, ...]:
        """Every cell, in the order model, precision, split, device, threads."""
        cells = []
        for subject, precision in self.experiments:
            settings = Settings(self.config, subject.pictures.sha256)
            for point in subject.points:
                cut = subject.cut(point, precision)
                program = head_hash(subject.network, point, self._settings((subject, precision)))
                cells += [
                    plan_cell(subject.network, point, precision, device, threads, cut, program, settings)
                    for device in devices
                    for threads in self.config.threads
                ]
        return tuple(cells)

    def create(self, folder: Path, devices: Sequence[ReadyDevice]) -> RunStore:
        """Plan everything and lay the run's folder."""
        entries = tuple(ready.entry for ready in devices)
        subject, cells = self.subjects[0], self.plan(entries)
        held_out = subject.pictures.held_out
        if any(s.pictures.held_out.names != held_out.names for s in self.subjects):
            raise UsageError("these networks' pictures differ in more than size", remedy="run them one by one")
        now = datetime.datetime.now(datetime.UTC)
        file = RunFile(
            run_id=folder.resolve().name,
            created=now.isoformat(timespec="seconds"),
            config=self.config,
            environment=describe_environment(devices),
            pictures="; ".join(dict.fromkeys(s.pictures.description for s in self.subjects)),
            pictures_sha256=subject.pictures.sha256,
            held_out=held_out.names,
            held_out_sources=held_out.sources,
            notices=self._notices(),
            devices=entries,
            cells=cells,
        )
        store = RunStore.create(folder, file)
        write_pictures(folder / "pictures" / "held_out", held_out.as_float(), held_out.names)
        if subject.pictures.left_out:
            lines = "".join(f"{one}\n" for one in sorted(subject.pictures.left_out, key=str))
            (folder / "pictures" / "left_out.txt").write_bytes(lines.encode())
        return store

    def _notices(self) -> tuple[str, ...]:
        random = [RANDOM_NOTICE.format(s.model.name) for s in self.subjects if not s.model.trained]
        return (*random, *(_refusal_notice(name, error) for name, error in self.refusals.items()))

    def check_unchanged(self, store: RunStore) -> None:
        """A run goes on only with the networks, pictures and libraries that it began with.

        Raises:
            ResultsError: something that decides the figures is different now.
            SplitbenchError: a network that it began with cannot be measured any more.
        """
        for refusal in self.refusals.values():
            raise refusal
        if {cell.hash for cell in self.plan(store.file.devices)} != {cell.hash for cell in store.file.cells}:
            raise ResultsError(
                f"{store.folder.name} cannot go on: weights, pictures or programs are not those that it began with",
                remedy="start a new run; exported heads are kept",
            )

    def unattacked(self, store: RunStore) -> list[tuple[str, str]]:
        """What was shipped and is not attacked yet: the hash of the cell, and the attack."""
        shipped, done = shipped_cells(store), store.leakage()
        every = [(cell.hash, attack) for cell in store.file.cells for attack in self.config.attacks]
        return [(cell, attack) for cell, attack in every if cell in shipped and (cell, attack) not in done]

    def attack(self, store: RunStore) -> None:
        """Attack everything that was shipped and is not attacked yet."""
        if not self.unattacked(store):
            return
        shipped, done = shipped_cells(store), store.leakage()
        cells = [cell for cell in store.file.cells if cell.hash in shipped]
        keep_freed_memory()
        with self.phase("attack", len(cells) * len(self.config.attacks)):
            for record in done.values():
                self.watcher.step(f"{record.cell} {record.attack} (before)")
            for subject, precision in self.experiments:
                self._attack(store, subject, precision, cells)

    def _attack(self, store: RunStore, subject: Subject, precision: str, cells: list[Cell]) -> None:
        points = {p.index: p for p in subject.points}
        targets = []
        for cell in cells:
            if (cell.model, cell.precision) == (subject.model.name, precision):
                point = points[cell.split_index]
                cut = subject.cut(point, precision)
                assert isinstance(cut, Cut)  # noqa: S101 - it was shipped
                targets.append(Target(cell, point, cut))
        names = {t.cell.hash: t.point.name for t in targets}
        graph: Callable[[], CuttableGraph] = lambda: subject.graph(precision)  # noqa: E731 - typed
        for record in attack_network(store, subject.network, graph, targets, subject.pictures):
            if record.status == "failed":
                what = f"{subject.model.name} {precision} {names[record.cell]}"
                self.watcher.note(f"{what}: {record.attack} failed: {record.reason}")
            self.watcher.step(f"{subject.model.name} {precision} {names[record.cell]}: {record.attack}")


def shipped_cells(store: RunStore) -> set[str]:
    """Cells whose activations are there: a survey shipped them, or the cell's own head did and never failed."""
    rounds = store.rounds().values()
    own = {r.cell for r in rounds if r.status == "ok"} - {r.cell for r in rounds if r.status == "failed"}
    return own | {
        cell for (_, round_), r in store.surveys().items() if r.status == "ok" and not round_ for cell in r.cells
    }


def unmeasured(asked: Sequence[str], measured: Collection[str]) -> ModelError | None:
    """What is to be said at the end where networks that were asked for could not be measured."""
    missing = [name for name in asked if name not in measured]
    if not missing:
        return None
    return ModelError(f"{', '.join(missing)} could not be measured", remedy="the lines that begin with ! say why")


def _refusal_notice(name: str, error: SplitbenchError) -> str:
    return f"{name} is left out: {error}"


def _name(wanted: Wanted) -> str:
    return f"survey of {len(wanted)} splits" if isinstance(wanted, tuple) else wanted.name


def check_config(config: RunConfig) -> None:
    """What can be wrong with the options is known now, not after an hour.

    Raises:
        UsageError: a device, link, affinity or cool-down that cannot be read, or a device or network named twice.
    """
    if len(set(config.models)) < len(config.models):
        raise UsageError("a network is named twice", remedy="name each once")
    for address in config.devices:
        open_device(address)
    if len(set(config.devices)) < len(config.devices):
        raise UsageError("a device is named twice", remedy="cells on one device never overlap: name each once")
    check_affinity(config.affinity)
    if config.link is not None:
        LinkShape.parse(config.link)
    if config.cool_down is not None:
        CoolDown.parse(config.cool_down)


def check_sources(attacks: Sequence[str], pictures: Pictures) -> None:
    """Every attack learns from several photographs: that these are too few is known before anything is measured.

    Raises:
        UsageError: an attack needs more source photographs than there are to learn from.
    """
    found = len(set(pictures.train.sources))
    for name in attacks:
        needed = ATTACKS.load(name).fewest_sources
        if found < needed:
            raise UsageError(
                f"attack {name} learns from {needed} or more photographs, and there are {found} beside those held out "
                f"({pictures.description})",
                remedy=f"give more photographs (near neighbours count as one), or run without --attack {name}",
            )


@cache
def reference_picture(size: tuple[int, int]) -> Tensor:
    """The picture that heads are verified and timed on, whatever --pictures says: a built-in one; 3 x H x W uint8."""
    return load_pictures("builtin", size=size, train_count=1, held_out_count=1).train.pixels[0].contiguous()
