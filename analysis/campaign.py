"""What a run does on its devices, and in which order: a survey with its anchors, then the heads, group by group."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Container, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from safetensors.torch import save

from analysis.benchmark import Benchmark
from analysis.estimate import surveyed_cells, widest_gap
from analysis.run import Run, Series, anchor_times, series_of
from analysis.selection import anchors, to_measure, to_survey
from analysis.subject import Experiment, Subject
from analysis.tradeoff import on_front
from harness.errors import LostDeviceError, ResultsError
from harness.export import Made, Wanted
from harness.manifest import Head, Survey
from harness.measure import SurveyWork, Work, measure, survey_hash
from harness.prepare import ReadyDevice
from harness.results.schema import Cell, RoundRecord
from harness.results.store import RunStore, write_whole
from harness.splits import SplitPoint

Queue = Mapping[tuple[int, int], Sequence[Work | SurveyWork]]
"""A device's work, by input size."""


def carry_out(
    job: Benchmark, store: RunStore, devices: Sequence[ReadyDevice], surveyed: Callable[[], None]
) -> list[LostDeviceError]:
    """Everything that is not finished: the survey and its attacks, then the heads one by one, most interesting first.

    Args:
        surveyed: called when the whole curve is there, before the heads that give it measured times.

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
    campaign = _Campaign(job, store, list(devices))
    if surveys := campaign.surveys:
        before = store.surveys().keys() | store.leakage().keys()
        campaign.survey(surveys)
        job.attack(store)
        if store.surveys().keys() | store.leakage().keys() != before:
            surveyed()
    if job.config.survey != "only":
        campaign.measure_heads()
    campaign.measure_unsurveyed(surveys)
    job.attack(store)
    return campaign.lost


def unfinished(job: Benchmark, store: RunStore) -> list[str]:
    """Addresses of the devices that something is still to be measured on."""
    done = {*store.rounds(), *store.surveys()}
    missing = {
        cells[0].device
        for experiment in job.experiments
        for wanted in wanted_of(job, experiment)
        for name, cells in pieces(store, experiment, wanted).items()
        if any((name, round_) not in done for round_ in range(job.config.rounds))
    }
    return [entry.address for entry in store.file.devices if entry.label in missing]


def wanted_of(job: Benchmark, experiment: Experiment) -> list[Wanted]:
    """All programs of an experiment that run on a device; split 0 has none, and ships."""
    heads = [] if job.config.survey == "only" else to_measure(job.config, experiment)
    surveys = to_survey(job.config, experiment)
    return [*surveys, *dict.fromkeys([*(anchors(job.config, experiment) if surveys else ()), *heads])]


def pieces(store: RunStore, experiment: Experiment, wanted: Wanted) -> dict[str, tuple[Cell, ...]]:
    """What a program is measured as, on every device and with every count of threads: the work's hash -> its cells."""
    subject, precision = experiment
    points = wanted if isinstance(wanted, tuple) else (wanted,)
    places = {point.index: place for place, point in enumerate(points)}
    found: dict[tuple[str, int], list[Cell]] = defaultdict(list)
    for cell in store.file.cells:
        known = (cell.model, cell.precision) == (subject.model.name, precision) and cell.unavailable is None
        if known and cell.split_index in places:
            found[cell.device, cell.threads].append(cell)
    groups = (tuple(sorted(cells, key=lambda cell: places[cell.split_index])) for cells in found.values())
    return {survey_hash(cells) if isinstance(wanted, tuple) else cells[0].hash: cells for cells in groups}


@dataclass
class _Campaign:
    """The devices that are still there, and what runs on them."""

    job: Benchmark
    store: RunStore
    devices: list[ReadyDevice]
    lost: list[LostDeviceError] = field(default_factory=list)

    @property
    def surveys(self) -> dict[Experiment, tuple[tuple[SplitPoint, ...], ...]]:
        """The splits of each survey program, by experiment that has any."""
        surveys = {e: to_survey(self.job.config, e) for e in self.job.experiments}
        return {e: programs for e, programs in surveys.items() if programs}

    def survey(self, surveys: Mapping[Experiment, Sequence[Wanted]]) -> None:
        """Run the survey programs, and measure the anchors in between."""
        self._measure({e: [*ones, *anchors(self.job.config, e)] for e, ones in surveys.items()}, anchor=True)
        self._measure({e: self._where_anchors_disagree(e) for e in surveys}, anchor=True)

    def _where_anchors_disagree(self, experiment: Experiment) -> list[SplitPoint]:
        """One more anchor: midway between the two neighbours whose scales differ most, on any device."""
        subject, precision = experiment
        surveyed = surveyed_cells(self.store.surveys().values())
        rounds: dict[str, list[RoundRecord]] = defaultdict(list)
        for record in self.store.rounds().values():
            rounds[record.cell].append(record)
        series: dict[Series, dict[float, SplitPoint]] = defaultdict(dict)
        chosen = {point.index: point for point in to_measure(self.job.config, experiment)}
        for cell in self.store.file.cells:
            is_ours = (cell.model, cell.precision) == (subject.model.name, precision) and cell.split_index in chosen
            if is_ours and cell.hash in surveyed and (profiled := surveyed[cell.hash].profiled_ns):
                series[series_of(cell)][profiled] = chosen[cell.split_index]
        known = anchor_times(self.store.file.cells, rounds, surveyed)
        gaps = [
            (gap[0], points[gap[1]])
            for one, points in series.items()
            if (gap := widest_gap(points.keys() - known.get(one, {}).keys(), known.get(one, {})))
        ]
        return [max(gaps, key=lambda gap: gap[0])[1]] if gaps else []

    def measure_unsurveyed(self, surveys: Mapping[Experiment, Sequence[tuple[SplitPoint, ...]]]) -> None:
        """Measure the heads one by one where a survey program cannot be had, or gives something else than PyTorch."""
        known = surveyed_cells(self.store.surveys().values())
        missing: dict[Experiment, Sequence[Wanted]] = {}
        for experiment, programs in surveys.items():
            failed = [program for program in programs if self._is_unknown(experiment, program, known)]
            missing[experiment] = [point for program in failed for point in program]
            if failed:
                self.job.watcher.note(f"{_title(experiment)}: no survey; its heads are measured one by one")
        self._measure(missing)

    def _is_unknown(self, experiment: Experiment, wanted: Wanted, known: Container[str]) -> bool:
        """Whether a device that is still there has not surveyed what it was to survey."""
        labels = {ready.entry.label for ready in self.devices}
        found = pieces(self.store, experiment, wanted).values()
        return any(cell.hash not in known for cells in found for cell in cells if cell.device in labels)

    def measure_heads(self) -> None:
        """Measure every head, those on the front of time and leakage first."""
        front = self._on_front()
        points = {e: to_measure(self.job.config, e) for e in self.job.experiments}
        for wanted_now in (True, False):
            self._measure(
                {
                    (subject, precision): [
                        p for p in chosen if ((subject.model.name, precision, p.index) in front) == wanted_now
                    ]
                    for (subject, precision), chosen in points.items()
                }
            )

    def _on_front(self) -> set[tuple[str, str, int]]:
        """Model, precision and split of what nothing beats in time and leakage, as far as is known."""
        summary = Run(self.store).summary()
        rows = summary[on_front(summary)]
        return set(zip(rows["model"], rows["precision"], rows["split_index"], strict=True))

    def _measure(self, wanted: Mapping[Experiment, Sequence[Wanted]], *, anchor: bool = False) -> None:
        """Export what is not finished, and measure it: on this machine first and alone, then one queue a device."""
        records = self.store.rounds() | self.store.surveys()
        failed = {name for (name, _), record in records.items() if record.status == "failed"}  # --resume forgets these
        done = {*records, *itertools.product(failed, range(self.job.config.rounds))}
        missing = {e: [w for w in ones if self._is_missing(e, w, done)] for e, ones in wanted.items()}
        made = self.job.export(missing)
        if not made:
            return
        self._keep_facts(made)
        rounds = self.job.config.rounds
        queues = [(ready, self._work(ready, made, anchor=anchor)) for ready in self.devices]
        with self.job.phase("measure", rounds * sum(len(work) for _, queue in queues for work in queue.values())):
            for ready, queue in queues:
                if ready.device.target == "host":
                    self._run_queue(ready, queue)
            self._side_by_side([(ready, queue) for ready, queue in queues if ready.device.target != "host"])

    def _side_by_side(self, queues: Sequence[tuple[ReadyDevice, Queue]]) -> None:
        """A thread a device. What ends one of them, or Ctrl-C, ends the others after the round that they are in."""
        ended = Event()
        with ThreadPoolExecutor(max(1, len(queues))) as pool:
            running = [pool.submit(self._run_queue, ready, queue, ended) for ready, queue in queues]
            try:
                for finished in as_completed(running):
                    finished.result()
            finally:
                ended.set()

    def _is_missing(self, experiment: Experiment, wanted: Wanted, done: Container[tuple[str, int]]) -> bool:
        labels = {ready.entry.label for ready in self.devices}
        return any(
            (name, round_) not in done
            for name, cells in pieces(self.store, experiment, wanted).items()
            if cells[0].device in labels
            for round_ in range(self.job.config.rounds)
        )

    def _keep_facts(self, made: Mapping[tuple[Experiment, Wanted], Made]) -> None:
        """Put what is known of the new programs into the run; a head that was not made has failed."""
        facts: dict[str, dict[str, object]] = {}
        for (experiment, wanted), found in made.items():
            for name in pieces(self.store, experiment, wanted):
                if isinstance(found, Head):
                    facts[name] = found.manifest.model_dump(include={"pte_bytes", "delegated_share"})
                elif isinstance(wanted, SplitPoint):
                    self.store.keep_round(RoundRecord(cell=name, round=0, status="failed", reason=str(found)))
        self.store.keep_cells([cell.model_copy(update=facts.get(cell.hash, {})) for cell in self.store.file.cells])

    def _work(self, ready: ReadyDevice, made: Mapping[tuple[Experiment, Wanted], Made], *, anchor: bool) -> Queue:
        """A device's work, by input size."""
        work: dict[tuple[int, int], list[Work | SurveyWork]] = defaultdict(list)
        surveyed = surveyed_cells(self.store.surveys().values())
        for (experiment, wanted), found in made.items():
            subject, _ = experiment
            for cells in pieces(self.store, experiment, wanted).values():
                if cells[0].device != ready.entry.label:
                    continue
                tails = tuple(subject.network.tail(subject.network.points[cell.split_index]) for cell in cells)
                if isinstance(found, Survey):
                    work[subject.model.input_size].append(SurveyWork(cells, found, tails))
                elif isinstance(found, Head):
                    is_surveyed = cells[0].hash in surveyed
                    one = Work(cells[0], found, tails[0], surveyed=is_surveyed, anchor=anchor)
                    work[subject.model.input_size].append(one)
        return work

    def _run_queue(self, ready: ReadyDevice, queue: Queue, ended: Event | None = None) -> None:
        try:
            for size, work in sorted(queue.items()):
                self._run(ready, work, self._pictures(size), ended or Event())
        except LostDeviceError as exc:
            self.job.watcher.note(str(exc))
            self.lost.append(exc)
            self.devices.remove(ready)

    def _run(self, ready: ReadyDevice, work: Sequence[Work | SurveyWork], pictures: Path, ended: Event) -> None:
        names = {one.hash: _name(one) for one in work}
        where = "" if len(self.job.config.devices) == 1 else f"{ready.entry.label}, "
        for record in measure(self.store, work, ready, pictures):
            name = names[record.cell if isinstance(record, RoundRecord) else record.survey]
            if record.status == "failed":
                self.job.watcher.note(f"{where}{name}: {record.reason}")
            self.job.watcher.step(f"{where}round {record.round + 1}: {name}")
            if ended.is_set():
                return

    def _pictures(self, size: tuple[int, int]) -> Path:
        """The held-out pictures in one size, as a file for the devices; those of all devices may ask at once."""
        path = self.store.folder / "pictures" / f"held_out-{size[0]}x{size[1]}.safetensors"
        if not path.exists():
            subject: Subject = next(s for s in self.job.subjects if s.model.input_size == size)
            write_whole(path, save({"pictures": subject.pictures.held_out.pixels.contiguous()}))
        return path


def _title(experiment: Experiment) -> str:
    subject, precision = experiment
    return f"{subject.model.name} {precision}"


def _name(work: Work | SurveyWork) -> str:
    cell = work.cell if isinstance(work, Work) else work.cells[-1]
    what = cell.split if isinstance(work, Work) else f"survey of {len(work.cells)} splits"
    return f"{cell.model} {cell.precision} {what}"
