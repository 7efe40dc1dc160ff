"""One call of head_runner on a device, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, ValidationError

from device_runner.devices.base import Completed, Device
from device_runner.errors import RunnerCode, RunnerError

_REMEDIES = {
    RunnerCode.PROGRAM_MISSING: "export the head again: bench export",
    RunnerCode.PROGRAM_DAMAGED: "delete its folder in exported_models and run again",
    RunnerCode.OPERATOR_MISSING: "report the operator; this head stays without times",
    RunnerCode.VERIFICATION_FAILED: "the device computes something else than PyTorch; its times would mean nothing",
}


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
    """

    program: str | None
    reference: str | None
    max_abs_err: float | None
    min_cosine: float | None
    zero_point: int | None
    threads: int
    warmup: int
    iterations: int
    shipping: Shipping | None = None


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
    """Every sample of one call of head_runner, in the order in which they were taken."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    load_ns: int
    verification: Verification | None
    output: Output
    warmup_ns: list[int]
    head_ns: list[int]
    shipments: list[Shipment]
    peak_rss_bytes: int
    threads: int


class UnverifiedError(RunnerError):
    """The head ran, but gave something else than expected; the figures are kept."""

    def __init__(self, message: str, *, report: RunnerReport) -> None:
        super().__init__(message, remedy=_REMEDIES[RunnerCode.VERIFICATION_FAILED], code=RunnerCode.VERIFICATION_FAILED)
        self.report = report


def run_head(device: Device, runner: str, job: Job, *, timeout_s: float) -> RunnerReport:
    """Call head_runner once.

    Raises:
        UnverifiedError: its output is not the expected one.
        RunnerError: any other failure that the runner reports, or it was killed.
        DeviceError: the device was lost or the time is over.
    """
    stdin = f"{job.shipping.token}\n".encode() if job.shipping else b""
    done = device.call([runner, *_arguments(job)], stdin=stdin, timeout_s=timeout_s)
    if done.status == RunnerCode.OK:
        return _read(done)
    message = done.stderr.decode(errors="replace").strip().splitlines()
    said = message[-1].removeprefix("head_runner: ") if message else f"head_runner ended with status {done.status}"
    if done.status == RunnerCode.VERIFICATION_FAILED:
        raise UnverifiedError(said, report=_read(done))
    if done.status not in RunnerCode.__members__.values():
        raise RunnerError(f"head_runner was killed or crashed (status {done.status}): {said}", remedy="free memory")
    code = RunnerCode(done.status)
    raise RunnerError(said, remedy=_REMEDIES.get(code, ""), code=code)


def _read(done: Completed) -> RunnerReport:
    try:
        return RunnerReport.model_validate_json(done.stdout)
    except ValidationError as exc:
        raise RunnerError(
            "head_runner's report cannot be read", remedy="the bundle is of another version: delete the cache"
        ) from exc


def _arguments(job: Job) -> list[str]:
    given: list[tuple[str, object]] = [
        ("--pte", job.program),
        ("--reference", job.reference),
        ("--max-abs-err", job.max_abs_err),
        ("--min-cosine", job.min_cosine),
        ("--zero-point", job.zero_point),
        ("--threads", job.threads),
        ("--warmup", job.warmup),
        ("--iterations", job.iterations),
    ]
    if job.shipping:
        given += [
            ("--pictures", job.shipping.pictures),
            ("--connect", job.shipping.address),
            ("--cell", job.shipping.cell),
            ("--round", job.shipping.round),
        ]
    return [text for flag, value in given if value is not None for text in (flag, str(value))]
