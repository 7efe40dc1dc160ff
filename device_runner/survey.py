"""One call of head_runner for a survey program: a network whose outputs are the activations of many split points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from device_runner.devices.base import Device
from device_runner.errors import RunnerCode, RunnerError
from device_runner.link import LinkShape
from device_runner.runner import (
    Output,
    Shipping,
    Verification,
    option_texts,
    read_report,
    shipping_arguments,
    token_line,
)


@dataclass(frozen=True)
class SurveyJob:
    """What head_runner is asked to do; paths are paths on the device.

    Tuples have one entry an output, in the program's order, or none at all.

    Attributes:
        program: the network, one output a split point.
        reference: `picture`, and what the outputs should be: `activation.0`, `activation.1`, ..
        max_abs_err, min_cosine: verification passes within these; None leaves that measure of that output unjudged.
        zero_points: of int8 activations, None for others.
        shipping: where activations go; its own `cell` is not looked at.
        cells: content hash of each output's cell; needed where `shipping` is given.
        affinity: hexadecimal mask of the cores that may be used; None: all that the system allows.
        link_shape: what `shipping` is slowed down to.
        write_output: once verified, the outputs go here, as a reference file that other devices can be held to.
    """

    program: str
    reference: str
    max_abs_err: tuple[float | None, ...] = ()
    min_cosine: tuple[float | None, ...] = ()
    zero_points: tuple[int | None, ...] = ()
    cells: tuple[str, ...] = ()
    threads: int = 1
    warmup: int = 0
    iterations: int = 0
    shipping: Shipping | None = None
    affinity: str | None = None
    link_shape: LinkShape | None = None
    write_output: str | None = None


class SurveyShipment(BaseModel):
    """One activation's way to the receiver and to the tail's answer, on the device's clock."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    picture: int
    transfer_ns: int
    tail_ns: int
    wire_bytes: int


class SurveyOutput(Output):
    """One output: the activation of one split point."""

    verification: Verification
    shipments: list[SurveyShipment]


class Profile(BaseModel):
    """Where the program's time goes.

    Attributes:
        operators: their names as the backend gives them, in the order in which they run; a name can stand there twice.
        times_ns: by iteration, each by operator. XNNPACK tells whole microseconds.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    operators: list[str]
    times_ns: list[list[int]]

    @model_validator(mode="after")
    def _times_are_of_the_operators(self) -> Self:
        if any(len(times) != len(self.operators) for times in self.times_ns):
            raise ValueError("an iteration has times of another number of operators")
        return self


class SurveyReport(BaseModel):
    """Every sample of one survey, in the order in which they were taken.

    Attributes:
        run_ns: of the whole program, without the profiler.
        profile: of iterations of their own. profile_reason: why there is none.
        affinity: hexadecimal mask of the cores that it was allowed.
        timer_resolution_ns: the smallest step of the device's clock.
        overhead_ns: what an iteration of the timing loop takes with a program that does nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    load_ns: int
    outputs: list[SurveyOutput]
    run_ns: list[int]
    profile: Profile | None
    profile_reason: str | None
    peak_rss_bytes: int
    threads: int
    affinity: str | None
    timer_resolution_ns: int
    overhead_ns: int


class UnverifiedSurveyError(RunnerError):
    """A survey program ran, but gave something else than expected; the figures of all its outputs are kept."""

    def __init__(self, message: str, remedy: str, report: SurveyReport) -> None:
        super().__init__(message, remedy=remedy, code=RunnerCode.VERIFICATION_FAILED)
        self.report = report


def run_survey(device: Device, runner: Sequence[str], job: SurveyJob, *, timeout_s: float) -> SurveyReport:
    """Call head_runner once; `runner` is how its command line begins, as `Device.deploy` gives it.

    Raises:
        UnverifiedSurveyError: an output is not the expected one; the message tells its number.
        RunnerError: any other failure that the runner reports, or it was killed.
        DeviceError: the device was lost or the time is over.
    """
    shipping = replace(job.shipping, cell=",".join(job.cells)) if job.shipping else None
    command = [*runner, "--survey", *_arguments(job), *shipping_arguments(shipping, job.link_shape)]
    done = device.call(command, stdin=token_line(shipping), timeout_s=timeout_s)
    return read_report(done, SurveyReport, UnverifiedSurveyError)


def _arguments(job: SurveyJob) -> list[str]:
    return option_texts(
        {
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
        }
    )


def _listed(values: Sequence[float | None]) -> str | None:
    return ",".join("" if value is None else str(value) for value in values) if values else None
