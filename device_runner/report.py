"""What head_runner reports: every sample of one call, in the order in which they were taken."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from device_runner.strict import StrictModel


class Verification(StrictModel):
    """How far the device's output is from the expected one; NaN or infinity leave both empty."""

    max_abs_err: float | None
    cosine: float | None
    passed: bool


class Shipment(StrictModel):
    """One held-out picture's way: from the picture to the tail's answer, on the device's clock, part after part.

    Attributes:
        head_ns, end_to_end_ns: None where the program has several outputs: its run is all of theirs.
        encode_ns: building the frame on the device; None in runs that did not tell it apart: it is in `transfer_ns`.
        decode_ns: reading the activation on the workstation, by its clock; None likewise: it is in `tail_ns`.
    """

    picture: int
    head_ns: int | None
    encode_ns: int | None = None
    transfer_ns: int
    decode_ns: int | None = None
    tail_ns: int
    end_to_end_ns: int | None
    wire_bytes: int


class OutputReport(StrictModel):
    """One output of a program: the activation of one split point.

    Attributes:
        verification: None without a program, where the picture itself travels.
        shipments: by picture.
    """

    dtype: str
    shape: tuple[int, ...]
    verification: Verification | None
    shipments: list[Shipment]


class Profile(StrictModel):
    """Where the program's time goes.

    Attributes:
        operators: their names as the backend gives them, in the order in which they run; a name can stand there twice.
        times_ns: by iteration, each by operator. XNNPACK tells whole microseconds.
    """

    operators: list[str]
    times_ns: list[list[int]]

    @model_validator(mode="after")
    def _times_are_of_the_operators(self) -> Self:
        if any(len(times) != len(self.operators) for times in self.times_ns):
            raise ValueError("an iteration has times of another number of operators")
        return self


class RunnerReport(StrictModel):
    """Every sample of one call of head_runner; what is None nobody measured.

    Attributes:
        outputs: in the program's order; without a program the one that travels is the picture.
        run_ns: of the whole program, without the profiler.
        profile: of iterations of their own. profile_reason: why there is none, where it was asked for.
        affinity: hexadecimal mask of the cores that it was allowed.
        timer_resolution_ns: the smallest step of the device's clock.
        overhead_ns: what an iteration of the timing loop takes with a program that does nothing; a sample holds a part.
        power_mw, energy_mj: mean power while the head ran over and over, and what one run took of it.
        power_samples: readings behind the two. power_reason: why there are none, where they were asked for.
    """

    load_ns: int
    outputs: list[OutputReport] = Field(min_length=1)
    warmup_ns: list[int]
    run_ns: list[int]
    profile: Profile | None = None
    profile_reason: str | None = None
    peak_rss_bytes: int
    threads: int
    affinity: str | None = None
    timer_resolution_ns: int | None = None
    overhead_ns: int | None = None
    power_mw: float | None = None
    energy_mj: float | None = None
    power_samples: int | None = None
    power_reason: str | None = None
