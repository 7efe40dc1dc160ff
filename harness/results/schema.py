"""What a run is made of on disk."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, model_validator

from device_runner.devices.probe import DeviceState
from device_runner.runner import RunnerReport
from device_runner.survey import SurveyReport

SCHEMA_VERSION = 2
# 2: threads became several, devices are entries, cells gained affinity, rounds the device's state, and runs a survey.
# 1: first.


class RunConfig(BaseModel):
    """What the user asked for; a run can be repeated from it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    models: tuple[str, ...]
    split: str
    devices: tuple[str, ...]
    precisions: tuple[Literal["fp32", "int8"], ...]
    input_size: tuple[int, int] | None
    threads: tuple[int, ...] = (1,)
    affinity: str = "all"
    link: str | None = None
    way_back: Literal["auto", "direct", "tunnel"] = "auto"
    cool_down: str | None = None
    warmup: int = 3
    iterations: int = 10
    rounds: int = 5
    survey: Literal["first", "only", "none"] = "first"
    attacks: tuple[str, ...]
    attack_budget_s: float | None = None
    pictures: str
    weights: str
    seed: int


class DeviceEntry(BaseModel):
    """A device of the run, and how its activations came back.

    Attributes:
        address: as the user gave it.
        label: what tables and charts call it; an emulated one says so.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str
    label: str
    link: str


class Cell(BaseModel):
    """A split of a model in one precision on one device; `hash` covers all that decides its figures.

    Attributes:
        delegated_share, pte_bytes: of the head's program; None until it is exported.
        unavailable: why there is no head, known before anything is measured.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    hash: str
    model: str
    weights: str
    weights_sha256: str
    trained: bool
    input_size: tuple[int, int]
    split_index: int
    split: str
    op: str
    activation_shape: tuple[int, ...]
    device: str
    backend: Literal["xnnpack", "none"]
    precision: Literal["fp32", "int8"]
    codec: Literal["uint8", "fp32", "int8"]
    threads: int
    affinity: str
    link: str
    head_params: int
    head_macs: int
    delegated_share: float | None = None
    pte_bytes: int | None = None
    activation_bytes: int
    unavailable: str | None = None


class RunFile(BaseModel):
    """run.json: what was asked, where, and every planned cell."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: int = SCHEMA_VERSION
    run_id: str
    created: str
    config: RunConfig
    environment: dict[str, str]
    pictures: str
    pictures_sha256: str
    held_out: tuple[str, ...]
    held_out_sources: tuple[str, ...]
    notices: tuple[str, ...]
    devices: tuple[DeviceEntry, ...]
    cells: tuple[Cell, ...]

    @model_validator(mode="after")
    def _every_picture_has_a_source(self) -> Self:
        if len(self.held_out) != len(self.held_out_sources):
            raise ValueError("its held-out pictures and their sources differ in number")
        return self


class RoundRecord(BaseModel):
    """One finished (cell, round), kept before the next begins.

    Attributes:
        report: every sample; None where the runner gave none.
        reason: of a failure.
        energy_reason: why no energy was measured.
        before, after: how the device fared; None in runs that did not ask it.
        anchor: it was measured so that the profiled times of its neighbours can be scaled.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: str
    round: int
    status: Literal["ok", "failed"]
    reason: str = ""
    report: RunnerReport | None = None
    energy_reason: str = ""
    before: DeviceState | None = None
    after: DeviceState | None = None
    anchor: bool = False


class SurveyRecord(BaseModel):
    """One finished round of a survey program: what it says of many cells at once.

    Attributes:
        survey: hash over its cells.
        cells: the cell of each of its outputs.
        before: the operators that each output needs, by kind (harness.operators.operators_before).
        planar: whether each output is a map (4 dimensions).
        report: every sample; None where the runner gave none. Round 0 ships.
        reason: of a failure.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    survey: str
    round: int
    status: Literal["ok", "failed"]
    reason: str = ""
    cells: tuple[str, ...]
    before: tuple[dict[str, int], ...]
    planar: tuple[bool, ...]
    report: SurveyReport | None = None

    @model_validator(mode="after")
    def _parts_are_of_the_cells(self) -> Self:
        lengths = {len(self.before), len(self.planar), len(self.report.outputs) if self.report else len(self.cells)}
        if lengths != {len(self.cells)}:
            raise ValueError("its parts are of another number of cells")
        return self


class LeakageRecord(BaseModel):
    """One finished (cell, attack): per held-out picture, and what does not depend on the picture.

    Attributes:
        psnr_db, ssim: per held-out picture, in the run's order.
        floor_psnr_db: per picture: of the training mean picture, which needs no activation.
        oracle_psnr_db: per picture: of an oracle who knows the picture's mean colour.
        residual: per picture: distance of the reconstruction's activation from the received one, relative to the
            latter's norm; empty at split 0.
        converged: had the attack; None where it has no course of its own.
        chosen: the name of the attack that it took, for one that chooses among others.
        progress: seconds since the attack began, and the mean PSNR in dB that it had reached on validation pictures.
        agreement: per picture: does the network's top-1 class of the reconstruction equal that of the picture?
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cell: str
    attack: str
    status: Literal["ok", "failed", "skipped"]
    reason: str = ""
    budget_s: float | None = None
    train_pictures: int = 0
    train_seconds: float | None = None
    psnr_db: tuple[float, ...] = ()
    ssim: tuple[float, ...] = ()
    floor_psnr_db: tuple[float, ...] = ()
    oracle_psnr_db: tuple[float, ...] = ()
    agreement: tuple[bool, ...] = ()
    residual: tuple[float, ...] = ()
    converged: bool | None = None
    chosen: str | None = None
    progress: tuple[tuple[float, float], ...] = ()

    @model_validator(mode="after")
    def _figures_are_of_the_same_pictures(self) -> Self:
        lengths = {len(self.ssim), len(self.floor_psnr_db), len(self.oracle_psnr_db), len(self.agreement)}
        if lengths != {len(self.psnr_db)} or len(self.residual) not in (0, len(self.psnr_db)):
            raise ValueError("its figures are of different numbers of pictures")
        return self
