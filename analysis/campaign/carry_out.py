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

from analysis.campaign.attack import attack_shipped
from analysis.campaign.exports import Made, Programs, export_programs
from analysis.campaign.inputs import Inputs
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.selection import anchors, everything, heads, surveys
from analysis.campaign.subject import Subject, Variant
from analysis.campaign.tails import Tails
from analysis.decision.front import on_front
from analysis.estimate import find_anchors, survey_results, widest_gap
from analysis.run import Run
from harness.errors import LostDeviceError, ResultsError
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.measure.ready import ReadyDevice
from harness.measure.rounds import Work, measure, work_name
from harness.networks.splits import SplitPoint
from harness.results.axes import curve_key
from harness.results.files import write_whole
from harness.results.schema import Cell, RoundRecord, RunConfig
from harness.results.store import RunStore

Queue = Mapping[tuple[int, int], Sequence[Work]]
"""A device's work, by input size."""


def unfinished(store: RunStore, inputs: Inputs) -> list[str]:
    """Addresses of the devices that something is still to be measured on."""
    config, done = store.file.config, store.journal.rounds()
    missing = {
        cells[0].device
        for variant in inputs.variants
        for program in everything(config, variant)
        for cells in groups(store, variant, program)
        if not is_finished(program, cells, done, config.rounds)
    }
    return [entry.address for entry in store.file.devices if entry.label in missing]


def groups(store: RunStore, variant: Variant, program: Program) -> list[tuple[Cell, ...]]:
    """The cells of a program's outputs: a group for every device and count of threads that it is measured with."""
    places = {point.index: place for place, point in enumerate(program.points)}
    by_curve: dict[tuple[object, ...], list[Cell]] = defaultdict(list)
    for cell in store.file.cells:
        if variant.owns(cell) and cell.unavailable is None and cell.split_index in places:
            by_curve[curve_key(cell)].append(cell)
    return [tuple(sorted(cells, key=lambda cell: places[cell.split_index])) for cells in by_curve.values()]


def is_finished(program: Program, cells: Sequence[Cell], done: Container[tuple[str, int]], rounds: int) -> bool:
    """Whether all rounds of a program on a group of cells are done."""
    name = work_name(cells, profiled=program.profiled)
    return all((name, round_) in done for round_ in range(rounds))


@dataclass
class Campaign:
    """The devices that are still there, and what runs on them.

    Attributes:
        lost: an error for each device that was lost meanwhile.
    """

    store: RunStore
    inputs: Inputs
    devices: list[ReadyDevice]
    tails: Tails
    phases: Phases
    lost: list[LostDeviceError] = field(default_factory=list)

    def carry_out(self, on_survey: Callable[[], None]) -> None:
        """Everything that is not finished: the survey and its attacks, then the heads, most interesting first.

        Args:
            on_survey: called when the whole curve is there, before the heads that give it measured times.

        Raises:
            ResultsError: a device came back over another link than the run began with, or nothing can be stored.
        """
        for ready in self.devices:
            if ready.entry not in self.store.file.devices:
                raise ResultsError(
                    f"{ready.entry.label} came back over {ready.entry.link}, not as the run began",
                    remedy="start a new run, or choose the way with --way-back",
                )
        by_survey = {v: programs for v in self.inputs.variants if (programs := surveys(self.config, v))}
        if by_survey:
            known = self._finished()
            self._survey(by_survey)
            self._attack()
            if self._finished() != known:
                on_survey()
        if self.config.survey != "only":
            self._measure_heads()
        self._measure_what_surveys_lack(by_survey)
        self._attack()

    @property
    def config(self) -> RunConfig:
        """What was asked for."""
        return self.store.file.config

    def _finished(self) -> set[object]:
        """Surveys and attacks."""
        rounds = self.store.journal.rounds().values()
        return {record.key for record in rounds if record.profiled} | set(self.store.journal.leakage())

    def _attack(self) -> None:
        attack_shipped(self.store, self.inputs, self.phases)

    def _survey(self, by_survey: Programs) -> None:
        """Run the survey programs, and measure the anchors in between."""
        self._measure({v: [*programs, *anchors(self.config, v)] for v, programs in by_survey.items()}, anchor=True)
        self._measure({v: self._where_anchors_disagree(v) for v in by_survey}, anchor=True)

    def _where_anchors_disagree(self, variant: Variant) -> list[Program]:
        """One more anchor: midway between the two neighbours whose scales differ most, on any device."""
        rounds = list(self.store.journal.rounds().values())
        results = survey_results(rounds)
        measured = find_anchors(self.store.file.cells, rounds, results)
        by_split = {head.points[0].index: head for head in heads(self.config, variant)}
        candidates: dict[tuple[object, ...], dict[Cell, float]] = defaultdict(dict)
        for cell in self.store.file.cells:
            result, key = results.get(cell.hash), curve_key(cell)
            is_candidate = variant.owns(cell) and cell.split_index in by_split and cell.hash not in measured[key]
            if is_candidate and result and result.profiled_ns:
                candidates[key][cell] = result.profiled_ns
        gaps = [gap for key, cells in candidates.items() if (gap := widest_gap(cells, measured[key].values()))]
        return [by_split[max(gaps, key=lambda gap: gap.width).cell.split_index]] if gaps else []

    def _measure_what_surveys_lack(self, by_survey: Programs) -> None:
        """Measure the heads one by one where a survey program cannot be had, or gives something else than PyTorch."""
        known = survey_results(self.store.journal.rounds().values())
        missing: dict[Variant, Sequence[Program]] = {}
        for variant, programs in by_survey.items():
            failed = [program for program in programs if self._is_unknown(variant, program, known)]
            missing[variant] = [Program.head(point) for program in failed for point in program.points]
            if failed:
                self.phases.note(f"{variant.name}: no survey; its heads are measured one by one")
        self._measure(missing)

    def _is_unknown(self, variant: Variant, program: Program, known: Container[str]) -> bool:
        """Whether a device that is still there has not surveyed what it was to survey."""
        return any(cell.hash not in known for cells in self._groups_here(variant, program) for cell in cells)

    def _groups_here(self, variant: Variant, program: Program) -> list[tuple[Cell, ...]]:
        """The groups of cells on devices that are still there."""
        labels = {ready.entry.label for ready in self.devices}
        return [cells for cells in groups(self.store, variant, program) if cells[0].device in labels]

    def _measure_heads(self) -> None:
        """Measure every head, those on the front of time and leakage first."""
        summary = Run(self.store).summary()
        if self.config.attacks:  # what only some splits were attacked with compares nothing
            summary = summary[summary["attack"].isin(self.config.attacks)]
        front = set(summary.loc[on_front(summary), "cell"])
        chosen = {v: heads(self.config, v) for v in self.inputs.variants}
        for first in (True, False):
            now = {v: [p for p in programs if self._is_on(front, v, p) == first] for v, programs in chosen.items()}
            self._measure(now)

    def _is_on(self, front: Container[object], variant: Variant, head: Program) -> bool:
        return any(cell.hash in front for cells in groups(self.store, variant, head) for cell in cells)

    def _measure(self, programs: Programs, *, anchor: bool = False) -> None:
        """Export what is not finished, and measure it: on this machine first and alone, then one queue a device."""
        records, rounds = self.store.journal.rounds(), self.config.rounds
        failed = {work for (work, _), record in records.items() if record.status == "failed"}  # --resume forgets these
        done = {*records, *itertools.product(failed, range(rounds))}
        missing = {v: [p for p in wanted if self._is_missing(v, p, done)] for v, wanted in programs.items()}
        if not any(missing.values()):
            return
        self.tails.process.start()  # beside the export
        made = export_programs(missing, self.inputs.exported, self.phases)
        self._keep_facts(made)
        self._prepare_tails(made)
        queues = [(ready, self._work(ready, made, anchor=anchor)) for ready in self.devices]
        total = rounds * sum(len(work) for _, queue in queues for work in queue.values())
        with self.phases.phase(Phase.MEASURE, total):
            for ready, queue in queues:
                if ready.device.target == "host":
                    self._run_queue(ready, queue)
            self._side_by_side([(ready, queue) for ready, queue in queues if ready.device.target != "host"])

    def _side_by_side(self, queues: Sequence[tuple[ReadyDevice, Queue]]) -> None:
        """A thread a device; they ship in turns.

        What ends one of them, or Ctrl-C, ends the others: after the round that they are in, or, where they wait for
        their turn, now.
        """
        ended = Event()
        with ThreadPoolExecutor(max(1, len(queues))) as pool:
            running = [pool.submit(self._run_queue, ready, queue, ended) for ready, queue in queues]
            try:
                for finished in as_completed(running):
                    finished.result()
            except BaseException:  # also Ctrl-C: the run is over
                ended.set()
                for ready, _ in queues:
                    ready.turn.call_off()
                raise

    def _is_missing(self, variant: Variant, program: Program, done: Container[tuple[str, int]]) -> bool:
        here = self._groups_here(variant, program)
        return not all(is_finished(program, cells, done, self.config.rounds) for cells in here)

    def _keep_facts(self, made: Made) -> None:
        """Put what is known of the new heads into the run; one that was not made has failed."""
        facts: dict[str, dict[str, object]] = {}
        for (variant, program), outcome in made.items():
            if program.profiled:
                continue
            for (cell,) in groups(self.store, variant, program):
                if isinstance(outcome, Exported):
                    facts[cell.hash] = outcome.manifest.model_dump(include={"pte_bytes", "delegated_share"})
                else:
                    failed = RoundRecord(
                        work=cell.hash, cells=(cell.hash,), round=0, status="failed", reason=str(outcome)
                    )
                    self.store.journal.keep_round(failed)
        self.store.keep_cells([cell.model_copy(update=facts.get(cell.hash, {})) for cell in self.store.file.cells])

    def _prepare_tails(self, made: Made) -> None:
        by_subject: dict[Subject, dict[SplitPoint, None]] = defaultdict(dict)
        for (variant, program), outcome in made.items():
            if isinstance(outcome, Exported):
                by_subject[variant.subject] |= dict.fromkeys(program.points)
        for subject, points in by_subject.items():
            self.tails.prepare(subject, points)

    def _work(self, ready: ReadyDevice, made: Made, *, anchor: bool) -> Queue:
        """A device's work, by input size."""
        work: dict[tuple[int, int], list[Work]] = defaultdict(list)
        results = survey_results(self.store.journal.rounds().values())
        for (variant, program), outcome in made.items():
            subject = variant.subject
            for cells in groups(self.store, variant, program):
                if cells[0].device != ready.entry.label or not isinstance(outcome, Exported):
                    continue
                outputs = zip(program.points, outcome.manifest.outputs, strict=True)
                tails = tuple(self.tails.request(subject, point, output.codec) for point, output in outputs)
                one = Work(
                    title=f"{variant.name} {program.name}",
                    cells=cells,
                    program=outcome,
                    tails=tails,
                    engine=self.tails.engine(subject),
                    is_kept=program.profiled or cells[0].hash not in results,
                    anchor=anchor and not program.profiled,
                )
                work[subject.model.input_size].append(one)
        return work

    def _run_queue(self, ready: ReadyDevice, queue: Queue, ended: Event | None = None) -> None:
        try:
            for size, work in sorted(queue.items()):
                self._run(ready, work, self._pictures(size), ended or Event())
        except LostDeviceError as exc:
            self.phases.note(str(exc))
            self.lost.append(exc)
            self.devices.remove(ready)

    def _run(self, ready: ReadyDevice, work: Sequence[Work], pictures: Path, ended: Event) -> None:
        names = {one.name: one.title for one in work}
        where = "" if len(self.config.devices) == 1 else f"{ready.entry.label}, "
        for record in measure(self.store, work, ready, pictures, self.tails.process):
            if record.status == "failed":
                self.phases.note(f"{where}{names[record.work]}: {record.reason}")
            self.phases.step(f"{where}round {record.round + 1}: {names[record.work]}")
            if ended.is_set():
                return

    def _pictures(self, size: tuple[int, int]) -> Path:
        """The held-out pictures in one size, as a file for the devices; those of all devices may ask at once."""
        path = self.store.folder / "pictures" / f"held_out-{size[0]}x{size[1]}.safetensors"
        if not path.exists():
            subject: Subject = next(s for s in self.inputs.subjects if s.model.input_size == size)
            write_whole(path, save({"pictures": subject.pictures.held_out.pixels.contiguous()}))
        return path
