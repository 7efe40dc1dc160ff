"""Executes a plan: round by round, every program verified, timed and shipped; what is finished is kept at once."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

from device_runner.devices import Device
from device_runner.devices.probe import DeviceState, read_state
from device_runner.errors import DeviceError, HeldError, RunnerError
from device_runner.files import digest
from device_runner.runner import Job, Shipping, UnverifiedError, run_program
from harness.errors import LostDeviceError, TailError
from harness.export.manifest import Exported
from harness.measure.affinity import core_mask
from harness.measure.cool_down import CoolDown
from harness.measure.energy import with_energy
from harness.measure.ready import ReadyDevice
from harness.measure.receiver import Session
from harness.measure.verification import PROGRAM_LIMIT_S, device_job, host_job
from harness.results.schema import Cell, RoundRecord, TailUse
from harness.results.store import RunStore
from harness.tails.process import LoadedTail, TailProcess, TailRequest

# Of a survey under `--iterations auto`: each has a time for every operator, so that a thousand would be large.
PROFILE_ITERATIONS = 10


@dataclass(frozen=True)
class Work:
    """A program, the cell of each of its outputs, and what the workstation does with their activations.

    Attributes:
        title: what progress calls it.
        tails: what answers each activation; at split 0 the whole network.
        engine: that they are to run on.
        is_kept: its activations are those that are attacked; a head's are not where a survey has shipped them already.
        anchor: it is measured for the sake of its neighbours' profiled times.
    """

    title: str
    cells: tuple[Cell, ...]
    program: Exported
    tails: tuple[TailRequest, ...]
    engine: str
    is_kept: bool = True
    anchor: bool = False

    @property
    def profiled(self) -> bool:
        """Whether it is a survey."""
        return self.program.manifest.profiled

    @property
    def name(self) -> str:
        """Names it among the run's work."""
        return work_name(self.cells, profiled=self.profiled)

    def ships(self, round_: int) -> bool:
        """Whether activations travel in a round: of a survey the later rounds are for the profile alone."""
        return round_ == 0 or not self.profiled

    def record(self, round_: int, **outcome: object) -> RoundRecord:
        """What is kept of a round."""
        facts: dict[str, object] = {
            "work": self.name,
            "cells": tuple(cell.hash for cell in self.cells),
            "round": round_,
            "anchor": self.anchor,
        }
        if self.profiled:
            facts["operators"] = tuple(output.operators for output in self.program.manifest.outputs)
            facts["maps"] = tuple(len(cell.activation_shape) == 4 for cell in self.cells)
        return RoundRecord.model_validate(facts | outcome)


def work_name(cells: Sequence[Cell], *, profiled: bool) -> str:
    """Names the work on these cells: a head by its cell, a survey by a hash over its cells."""
    return digest(*(cell.hash for cell in cells))[:16] if profiled else cells[0].hash


def measure(
    store: RunStore, work: Sequence[Work], ready: ReadyDevice, pictures: Path, tails: TailProcess
) -> Iterator[RoundRecord]:
    """Every round of every piece of work on one device that is not on disk yet, one after the other.

    What fails is not tried again in later rounds of this call.

    Args:
        pictures: safetensors file with the held-out pictures, N x 3 x H x W uint8, as `pictures`.
        tails: where tails are computed.

    Yields:
        What came of each finished round, after it was kept.

    Raises:
        LostDeviceError: the device is gone; what is finished is kept.
        SplitbenchError: the run cannot go on (no space left, no compiler); what is finished is kept.
    """
    config = store.file.config
    by_name = {w.name: w for w in work}
    done = {key: record.status for key, record in store.journal.rounds().items()}
    failed = {name for (name, _), status in done.items() if status == "failed"}
    cool_down = CoolDown.parse(config.cool_down) if config.cool_down else None
    session = _DeviceSession(store, ready, pictures, tails, cool_down)
    for round_ in range(config.rounds):
        for name in round_order(by_name, round_, config.seed):
            if (name, round_) in done or name in failed:
                continue
            record = session.attempt(by_name[name], round_)
            store.journal.keep_round(record)
            if record.status == "failed":
                failed.add(name)
            yield record


def round_order(names: Iterable[str], round_: int, seed: int) -> list[str]:
    """The order of one round, shuffled, so that heat and drift favour none; the same seed gives the same order."""
    order = sorted(names)
    random.Random(f"{seed}/{round_}").shuffle(order)  # noqa: S311 - an order, not a secret
    return order


@dataclass
class _DeviceSession:
    """One device, and what its work has in common."""

    store: RunStore
    ready: ReadyDevice
    pictures: Path
    tails: TailProcess
    cool_down: CoolDown | None
    state: DeviceState | None = None
    sent: set[str] = field(default_factory=set)
    """Names of the work whose files are on the device."""

    @property
    def device(self) -> Device:
        return self.ready.device

    @property
    def limit_s(self) -> float:
        """How long a job may take. Before it ships, every other device of the run may, and another harness."""
        others = 0 if self.device.on_workstation else len(self.store.file.config.devices)
        return PROGRAM_LIMIT_S * (1 + others)

    def attempt(self, work: Work, round_: int) -> RoundRecord:
        """One round of a piece of work; where the connection broke it is tried once more.

        Raises:
            LostDeviceError: the device does not answer any more.
        """
        pause_s = self.cool_down.longest_s if self.cool_down else 0.0
        try:
            with self.ready.undisturbed(pause_s):
                for _ in range(2):
                    try:
                        return self._execute(work, round_)
                    except HeldError:
                        raise
                    except DeviceError as exc:
                        self._require_alive(exc)
                        reason = str(exc)
                return work.record(round_, status="failed", reason=reason)
        except HeldError as exc:
            raise LostDeviceError(self.device.name, exc) from exc

    def _require_alive(self, lost: DeviceError) -> None:
        self.state = None
        self.sent.clear()
        try:
            read_state(self.device)
        except DeviceError as exc:
            raise LostDeviceError(self.device.name, lost, exc) from exc

    def _execute(self, work: Work, round_: int) -> RoundRecord:
        if self.cool_down:
            self.cool_down.wait(self.device)
            self.state = None
        with self._turn(self.device.on_workstation):
            return self._run(work, round_)

    def _turn(self, needed: bool) -> AbstractContextManager[None]:
        return self.ready.its_turn() if needed else nullcontext()

    def _run(self, work: Work, round_: int) -> RoundRecord:
        # Heads follow one another at once: what was read after one is read before the next.
        before = self.state or read_state(self.device)
        self.state = None
        sessions: list[Session] = []
        try:
            with ExitStack() as stack:
                # The first time it is verified here, and sent there, and its tails are loaded.
                with self._turn(work.name not in self.sent and not self.device.on_workstation):
                    tails = stack.enter_context(self._loaded(work, round_))
                    job = self._job(work, round_)
                self.sent.add(work.name)
                sessions = self._sessions(work, round_, tails)
                with self.ready.receiver.expect(*sessions):
                    report = run_program(self.device, self.ready.runner, job, timeout_s=self.limit_s)
            if round_ == 0 and job.program and not work.profiled and (command := self.ready.power.command):
                report = with_energy(report, self.device, self.ready.runner, job, command)
        except TailError as exc:
            return work.record(round_, status="failed", reason=str(exc), state_before=before)
        except RunnerError as exc:
            for broken in (session.broken for session in sessions if session.broken is not None):
                raise broken from exc
            refusals = [reason for session in sessions for reason in session.refusals[-1:]]
            reason = "; ".join([str(exc), *refusals[:1]])
            kept = exc.report if isinstance(exc, UnverifiedError) else None
            return work.record(round_, status="failed", reason=reason, report=kept, state_before=before)
        self.state = read_state(self.device)
        return work.record(
            round_,
            status="ok",
            report=report,
            state_before=before,
            state_after=self.state,
            tails=tuple(TailUse(engine=tail.engine, threads=tail.threads, reason=tail.reason) for tail in tails),
            energy_reason="" if work.profiled else report.power_reason or self.ready.power.reason,
        )

    def _job(self, work: Work, round_: int) -> Job:
        config = self.store.file.config
        ships = work.ships(round_)
        return replace(
            self._verified_job(work.program),
            profiled=work.profiled,
            threads=work.cells[0].threads,
            affinity=core_mask(config.affinity, self.device),
            warmup=config.warmup,
            iterations=PROFILE_ITERATIONS if work.profiled and config.iterations == "auto" else config.iterations,
            shipping=self._shipping(work, round_) if ships else None,
            link_shape=self.ready.shape if ships else None,
            # It takes seconds: once a head is enough.
            power=self.ready.power.files if round_ == 0 and not work.profiled else None,
        )

    def _shipping(self, work: Work, round_: int) -> Shipping:
        return Shipping(
            pictures=self.device.push(self.pictures),
            address=self.ready.receiver_address(),
            token=self.ready.receiver.token,
            cells=tuple(cell.hash for cell in work.cells),
            round=round_,
        )

    def _verified_job(self, program: Exported) -> Job:
        """Program and reference on the device: PyTorch's activations here, on other machines the host runner's."""
        if program.program is None:
            return Job()
        job = host_job(program) if self.device.target == "host" else device_job(program)
        return replace(
            job,
            program=self.device.push(Path(job.program or "")),
            reference=self.device.push(Path(job.reference or "")),
        )

    def _loaded(self, work: Work, round_: int) -> AbstractContextManager[list[LoadedTail]]:
        """The tails that a round needs, ready before any time is taken."""
        return self.tails.loaded(work.engine, work.tails if work.ships(round_) else ())

    def _sessions(self, work: Work, round_: int, tails: Sequence[LoadedTail]) -> list[Session]:
        def keep(cell: Cell) -> Callable[[int, bytes], None]:
            def keep_activation(picture: int, payload: bytes) -> None:
                if work.is_kept:
                    self.store.keep_activation(cell.hash, picture, payload)

            return keep_activation

        outputs = zip(work.cells, work.program.manifest.outputs, tails, strict=bool(tails))
        return [
            Session(
                cell=cell.hash,
                round=round_,
                max_payload_bytes=output.codec.max_payload_bytes(output.activation_shape),
                shape=output.activation_shape,
                dtype=output.codec.dtype,
                pictures=len(self.store.file.held_out),
                answer=tail.answer,
                keep=keep(cell),
            )
            for cell, output, tail in outputs
        ]
