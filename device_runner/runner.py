"""One call of head_runner on a device."""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import ValidationError

from device_runner.devices.base import Completed, Device
from device_runner.errors import RunnerCode, RunnerError
from device_runner.link import LinkShape
from device_runner.report import RunnerReport
from device_runner.said import last_line

_REMEDIES = {
    RunnerCode.PROGRAM_MISSING: "export the head again: bench export",
    RunnerCode.PROGRAM_DAMAGED: "delete its folder in exported_models and run again; if it says so again, the "
    "backend does not take an operation of this head: cut before it",
    RunnerCode.OPERATOR_MISSING: "report the operator; this head stays without times",
    RunnerCode.VERIFICATION_FAILED: "the program computes something else than PyTorch, so its times would mean "
    "nothing: cut before the operation that differs",
}

_MAY_NOT_RUN = "use a folder that is not mounted noexec, on a 64-bit system: see bench devices"
_UNSTARTED = {126: ("cannot be executed", _MAY_NOT_RUN), 127: ("is not found", "bench devices --clean, then run again")}

_ENDED = "somebody on the device ended it: run again"
_SIGNAL_REMEDIES: dict[int, str] = {
    signal.SIGHUP: _ENDED,
    signal.SIGINT: _ENDED,
    signal.SIGTERM: _ENDED,
    signal.SIGKILL: "the device ran out of memory: fewer threads, a smaller input, or an earlier split",
    signal.SIGSYS: "the device forbids a system call to its programs: run as another user, or report it",
    signal.SIGXCPU: "the device limits a program's CPU time: raise the limit (ulimit -t), or use fewer iterations",
}
_CANNOT_RUN = "the bundle does not run on this device: report it with what bench devices says"
_LAST_SIGNAL = 64

Iterations = int | Literal["auto"]
"""How many timed runs a round has; "auto": until their median is known (native/src/timing.h says when it is)."""


@dataclass(frozen=True)
class Shipping:
    """Where a runner ships activations.

    Attributes:
        pictures: path on the device of the pictures file.
        address: host:port of the receiver, as the device sees it.
        token: admits the runner; it travels on standard input.
        cells: content hash of each output's cell; round: their round, from 0.
    """

    pictures: str
    address: str
    token: str
    cells: tuple[str, ...]
    round: int


@dataclass(frozen=True)
class Job:
    """What head_runner is asked to do; paths are paths on the device.

    Tuples have one entry an output, in the program's order, or none at all.

    Attributes:
        program: a head has one output, a survey program that of every split point; None at split 0, where the picture
            itself travels.
        reference: `picture`, and what the outputs should be: `activation.0`, `activation.1`, ..; None at split 0.
        max_abs_err, min_cosine: verification passes within these; None leaves that measure of that output unjudged.
        zero_points: of int8 activations, None for others.
        profiled: after everything else, a second copy of the program tells where its time goes, in as many runs; these
            are to be a number.
        affinity: hexadecimal mask of the cores that may be used; None: all that the system allows.
        link_shape: what `shipping` is slowed down to.
        write_output: once verified, the outputs go here, as a reference file that other devices can be held to.
        power: two absolute paths, of current in microampere and voltage in microvolt, as Android's
            /sys/class/power_supply/battery/{current_now,voltage_now} have them; only for a program of one output.
    """

    program: str | None = None
    reference: str | None = None
    max_abs_err: tuple[float | None, ...] = ()
    min_cosine: tuple[float | None, ...] = ()
    zero_points: tuple[int | None, ...] = ()
    profiled: bool = False
    threads: int = 1
    warmup: int = 0
    iterations: Iterations = 0
    shipping: Shipping | None = None
    affinity: str | None = None
    link_shape: LinkShape | None = None
    write_output: str | None = None
    power: tuple[str, str] | None = None


class UnverifiedError(RunnerError):
    """The program ran, but gave something else than expected; the figures of all its outputs are kept."""

    def __init__(self, message: str, remedy: str, report: RunnerReport) -> None:
        super().__init__(message, remedy=remedy, code=RunnerCode.VERIFICATION_FAILED)
        self.report = report


def run_program(device: Device, runner: Sequence[str], job: Job, *, timeout_s: float) -> RunnerReport:
    """Call head_runner once; `runner` is how its command line begins, as `Device.deploy` gives it.

    Raises:
        UnverifiedError: an output is not the expected one; of several, the message tells its number.
        RunnerError: any other failure that the runner reports, or it was killed.
        DeviceError: the device was lost or the time is over.
    """
    token = f"{job.shipping.token}\n".encode() if job.shipping else b""
    return _read_report(device.call([*runner, *_arguments(job)], stdin=token, timeout_s=timeout_s))


def _read_report(done: Completed) -> RunnerReport:
    if done.status == RunnerCode.OK:
        return _parse(done)
    said = last_line(done.stderr).removeprefix("head_runner: ")
    if done.status not in RunnerCode.__members__.values():
        raise _not_its_own(done.status, said)
    said = said or f"head_runner ended with status {done.status}"
    code = RunnerCode(done.status)
    remedy = _REMEDIES.get(code, "")
    if code is RunnerCode.VERIFICATION_FAILED:
        raise UnverifiedError(said, remedy, _parse(done))
    raise RunnerError(said, remedy=remedy, code=code)


def _not_its_own(status: int, said: str) -> RunnerError:
    """The error for a status that head_runner does not give: a signal ended it, or it did not even start."""
    number = -status if status < 0 else status - 128
    if 0 < number <= _LAST_SIGNAL:
        what, remedy = f"was killed by {_signal_name(number)}", _SIGNAL_REMEDIES.get(number, _CANNOT_RUN)
    else:
        what, remedy = _UNSTARTED.get(status, ("exited with an unknown status", "see what it said; run again"))
    return RunnerError(f"head_runner {what} (status {status})" + (f": {said}" if said else ""), remedy=remedy)


def _signal_name(number: int) -> str:
    known = {known.value: known.name for known in signal.Signals}
    return known.get(number, f"signal {number}")


def _parse(done: Completed) -> RunnerReport:
    try:
        return RunnerReport.model_validate_json(done.stdout)
    except ValidationError as exc:
        raise RunnerError(
            "head_runner's report cannot be read", remedy="the bundle is of another version: delete the cache"
        ) from exc


def _arguments(job: Job) -> list[str]:
    options = {
        "--pte": job.program,
        "--reference": job.reference,
        "--max-abs-err": _listed(job.max_abs_err),
        "--min-cosine": _listed(job.min_cosine),
        "--zero-point": _listed(job.zero_points),
        "--threads": job.threads,
        "--warmup": job.warmup,
        "--iterations": job.iterations,
        "--affinity": job.affinity,
        "--write-output": job.write_output,
        "--power": ":".join(job.power) if job.power else None,
    }
    profiled = ["--profile"] if job.profiled else []
    return [*profiled, *_option_texts(options), *_shipping_arguments(job.shipping, job.link_shape)]


def _shipping_arguments(shipping: Shipping | None, link_shape: LinkShape | None) -> list[str]:
    if shipping is None:
        return []
    options = {
        "--pictures": shipping.pictures,
        "--connect": shipping.address,
        "--cell": ",".join(shipping.cells),
        "--round": shipping.round,
        "--link-rate": link_shape.rate_bytes_per_s if link_shape else None,
        "--link-rtt-ns": round(link_shape.rtt_s * 1e9) if link_shape else None,
    }
    return _option_texts(options)


def _option_texts(options: Mapping[str, object]) -> list[str]:
    return [text for option, value in options.items() if value is not None for text in (option, str(value))]


def _listed(values: Sequence[float | None]) -> str | None:
    return ",".join("" if value is None else str(value) for value in values) if values else None
