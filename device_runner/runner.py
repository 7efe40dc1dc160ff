"""One call of head_runner on a device, and what it reports."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from device_runner.devices.base import Completed, Device
from device_runner.errors import RunnerCode, RunnerError
from device_runner.link import LinkShape
from device_runner.said import last_line

Report = TypeVar("Report", bound=BaseModel)

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


@dataclass(frozen=True)
class Shipping:
    """Where a runner ships activations.

    Attributes:
        pictures: path on the device of the pictures file.
        address: host:port of the receiver, as the device sees it.
        token: admits the runner; it travels on standard input.
        cell: content hash of the cell; round: its round, from 0.
    """

    pictures: str
    address: str
    token: str
    cell: str
    round: int


@dataclass(frozen=True)
class Job:
    """What head_runner is asked to do; paths are paths on the device.

    Attributes:
        program, reference: None at split 0, where the picture itself travels.
        max_abs_err, min_cosine: verification passes within these; None leaves that measure unjudged.
        zero_point: of an int8 activation.
        affinity: hexadecimal mask of the cores that may be used; None: all that the system allows.
        link_shape: what `shipping` is slowed down to.
        write_output: once verified, the output goes here, as a reference file that other devices can be held to.
        power: two absolute paths, of current in microampere and voltage in microvolt, as Android's
            /sys/class/power_supply/battery/{current_now,voltage_now} have them.
    """

    program: str | None = None
    reference: str | None = None
    max_abs_err: float | None = None
    min_cosine: float | None = None
    zero_point: int | None = None
    threads: int = 1
    warmup: int = 0
    iterations: int = 0
    shipping: Shipping | None = None
    affinity: str | None = None
    link_shape: LinkShape | None = None
    write_output: str | None = None
    power: tuple[str, str] | None = None


class Verification(BaseModel):
    """How far the device's output is from the expected one; NaN or infinity leave both empty."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_abs_err: float | None
    cosine: float | None
    passed: bool


class Output(BaseModel):
    """Type and shape of what the head gave."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: str
    shape: tuple[int, ...]


class Shipment(BaseModel):
    """One held-out picture's way: from the picture to the tail's answer, on the device's clock."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    picture: int
    head_ns: int
    transfer_ns: int
    tail_ns: int
    end_to_end_ns: int
    wire_bytes: int


class RunnerReport(BaseModel):
    """Every sample of one call of head_runner, in the order in which they were taken; what is None nobody measured.

    Attributes:
        affinity: hexadecimal mask of the cores that it was allowed.
        timer_resolution_ns: the smallest step of the device's clock.
        overhead_ns: what an iteration of the timing loop takes with a head that does nothing; a sample holds a part.
        power_mw, energy_mj: mean power while the head ran over and over, and what one run took of it.
        power_samples: readings behind the two. power_reason: why there are none, where they were asked for.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    load_ns: int
    verification: Verification | None
    output: Output
    warmup_ns: list[int]
    head_ns: list[int]
    shipments: list[Shipment]
    peak_rss_bytes: int
    threads: int
    affinity: str | None = None
    timer_resolution_ns: int | None = None
    overhead_ns: int | None = None
    power_mw: float | None = None
    energy_mj: float | None = None
    power_samples: int | None = None
    power_reason: str | None = None


class UnverifiedError(RunnerError):
    """The head ran, but gave something else than expected; the figures are kept."""

    def __init__(self, message: str, remedy: str, report: RunnerReport) -> None:
        super().__init__(message, remedy=remedy, code=RunnerCode.VERIFICATION_FAILED)
        self.report = report


def run_head(device: Device, runner: Sequence[str], job: Job, *, timeout_s: float) -> RunnerReport:
    """Call head_runner once; `runner` is how its command line begins, as `Device.deploy` gives it.

    Raises:
        UnverifiedError: its output is not the expected one.
        RunnerError: any other failure that the runner reports, or it was killed.
        DeviceError: the device was lost or the time is over.
    """
    command = [*runner, *_arguments(job), *shipping_arguments(job.shipping, job.link_shape)]
    done = device.call(command, stdin=token_line(job.shipping), timeout_s=timeout_s)
    return read_report(done, RunnerReport, UnverifiedError)


def token_line(shipping: Shipping | None) -> bytes:
    """What head_runner reads on standard input."""
    return f"{shipping.token}\n".encode() if shipping else b""


def read_report(done: Completed, form: type[Report], unverified: Callable[[str, str, Report], RunnerError]) -> Report:
    """Read what a call of head_runner printed.

    Args:
        form: what it prints.
        unverified: makes the error that keeps the report of a failed verification, from message, remedy and report.

    Raises:
        RunnerError: the one that `unverified` makes, any other failure that the runner reports, or it was killed.
    """
    if done.status == RunnerCode.OK:
        return _parse(done, form)
    said = last_line(done.stderr).removeprefix("head_runner: ")
    if done.status not in RunnerCode.__members__.values():
        raise _not_its_own(done.status, said)
    said = said or f"head_runner ended with status {done.status}"
    code = RunnerCode(done.status)
    remedy = _REMEDIES.get(code, "")
    if code is RunnerCode.VERIFICATION_FAILED:
        raise unverified(said, remedy, _parse(done, form))
    raise RunnerError(said, remedy=remedy, code=code)


def option_texts(options: Mapping[str, object]) -> list[str]:
    """Options as they stand on a command line; those that are None are left out."""
    return [text for option, value in options.items() if value is not None for text in (option, str(value))]


def shipping_arguments(shipping: Shipping | None, link_shape: LinkShape | None) -> list[str]:
    """The options that say where activations go, and over what link."""
    if shipping is None:
        return []
    options = {
        "--pictures": shipping.pictures,
        "--connect": shipping.address,
        "--cell": shipping.cell,
        "--round": shipping.round,
        "--link-rate": link_shape.rate_bytes_per_s if link_shape else None,
        "--link-rtt-ns": round(link_shape.rtt_s * 1e9) if link_shape else None,
    }
    return option_texts(options)


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


def _parse(done: Completed, form: type[Report]) -> Report:
    try:
        return form.model_validate_json(done.stdout)
    except ValidationError as exc:
        raise RunnerError(
            "head_runner's report cannot be read", remedy="the bundle is of another version: delete the cache"
        ) from exc


def _arguments(job: Job) -> list[str]:
    return option_texts(
        {
            "--pte": job.program,
            "--reference": job.reference,
            "--max-abs-err": job.max_abs_err,
            "--min-cosine": job.min_cosine,
            "--zero-point": job.zero_point,
            "--threads": job.threads,
            "--warmup": job.warmup,
            "--iterations": job.iterations,
            "--affinity": job.affinity,
            "--write-output": job.write_output,
            "--power": ":".join(job.power) if job.power else None,
        }
    )
