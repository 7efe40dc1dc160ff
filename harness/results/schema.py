"""What a run is made of on disk."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from device_runner.devices.probe import DeviceState
from device_runner.report import RunnerReport
from device_runner.runner import Iterations
from device_runner.strict import StrictModel

SCHEMA_VERSION = 3
# 3: heads and surveys are both programs, whose rounds have one form; devices say whether they are emulated, and a
#    shaped link is called so.
# 2: threads became several, devices are entries, cells gained affinity, rounds the device's state, and runs a survey.
# 1: first.

# How many pictures attacks learn from unless the user says otherwise.
TRAIN_PICTURES = 600
# The attack of a record that says why `--attack auto` tried no stronger one at a cell.
AUTO = "auto"


class NetworkConfig(StrictModel):
    """Which networks, cut where, in which precisions, and the pictures that go through them."""

    models: tuple[str, ...]
    split: str
    precisions: tuple[Literal["fp32", "int8"], ...]
    input_size: tuple[int, int] | None
    pictures: str
    train_pictures: int = TRAIN_PICTURES
    held_out: int = 16
    folds: int = 1
    weights: str
    seed: int


class RunConfig(NetworkConfig):
    """What the user asked for; a run can be repeated from it.

    Attributes:
        iterations: timed runs of each head in each round.
        tail: the engine that finishes networks on the workstation; auto: the fastest.
        tail_threads: that it computes on.
        attacks: those that every cell is attacked with.
        attack_total_s: seconds for a stronger one where it decides (`--attack auto`); None: there is none.
    """

    devices: tuple[str, ...]
    threads: tuple[int, ...] = (1,)
    affinity: str = "all"
    link: str | None = None
    way_back: Literal["auto", "direct", "tunnel"] = "auto"
    cool_down: str | None = None
    warmup: int = 3
    iterations: Iterations = "auto"
    rounds: int = 5
    tail: str = "auto"
    tail_threads: int = 1
    survey: Literal["first", "only", "none"] = "first"
    attacks: tuple[str, ...]
    attack_budget_s: float | None = None
    compute: str = "auto"
    attack_total_s: float | None = None


class DeviceEntry(StrictModel):
    """A device of the run, and how its activations came back.

    Attributes:
        address: as the user gave it.
        label: what tables and charts call it; an emulated one says so.
        emulated: its processor is not real: times mean nothing.
    """

    address: str
    label: str
    emulated: bool
    link: str


class Cell(StrictModel):
    """A split of a model in one precision on one device; `hash` covers all that decides its figures.

    Attributes:
        delegated_share, pte_bytes: of the head's program; None until it is exported.
        unavailable: why there is no head, known before anything is measured.
    """

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
    codec: str
    threads: int
    affinity: str
    link: str
    head_params: int
    head_macs: int
    delegated_share: float | None = None
    pte_bytes: int | None = None
    activation_bytes: int
    unavailable: str | None = None


class ChosenEngine(StrictModel):
    """The engine that finishes a network on the workstation, and what it was chosen by.

    Attributes:
        times_ms: of each engine that could, the median time of the whole network; empty where the user chose.
        unavailable: why the others could not.
    """

    engine: str
    times_ms: dict[str, float] = Field(default_factory=dict)
    unavailable: dict[str, str] = Field(default_factory=dict)


class StructureCounts(StrictModel):
    """What of a network's structure is known to change what leaks: how often its graph has it.

    Attributes:
        convolutions: one after the other, on the longest way through the network.
        residual: sums of two values that are made from the picture (skip connections of residual networks).
        dense: concatenations of a value and what was made from it (DenseNet).
        inception: concatenations of branches.
        max_pooling: max pooling layers.
    """

    convolutions: int
    residual: int
    dense: int
    inception: int
    max_pooling: int


class RunFile(StrictModel):
    """run.json: what was asked, where, and every planned cell.

    Attributes:
        structures: of each network, by name; empty in runs that did not count.
        engines: that finish each network, by name, as far as they have been chosen.
    """

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
    structures: dict[str, StructureCounts] = Field(default_factory=dict)
    engines: dict[str, ChosenEngine] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _every_picture_has_a_source(self) -> Self:
        if len(self.held_out) != len(self.held_out_sources):
            raise ValueError("its held-out pictures and their sources differ in number")
        return self

    def is_emulated(self, cell: Cell) -> bool:
        """Whether a cell's device is emulated, so that its times mean nothing."""
        return any(entry.emulated for entry in self.devices if entry.label == cell.device)


class TailUse(StrictModel):
    """What finished the network where activations were shipped.

    Attributes:
        reason: why it is not the engine of the run; "" where it is.
    """

    engine: str
    threads: int
    reason: str = ""


class RoundRecord(StrictModel):
    """One finished round of a program, kept before the next begins.

    Attributes:
        work: names the program among the run's work: the cell of a head, a hash over the cells of a survey.
        cells: the cell of each of the program's outputs.
        operators: how many of each kind every output needs (`count_operators`); () if not profiled.
        maps: whether each output is a map (4 dimensions).
        report: every sample; None where the runner gave none. A survey's round 0 ships.
        tails: what answered each of its cells; () where nothing was shipped, and in runs that did not say.
        reason: of a failure.
        energy_reason: why no energy was measured.
        state_before, state_after: how the device fared; None in runs that did not ask it.
        anchor: it was measured so that the profiled times of its neighbours can be scaled.
    """

    work: str
    cells: tuple[str, ...]
    round: int
    status: Literal["ok", "failed"]
    reason: str = ""
    operators: tuple[dict[str, int], ...] = ()
    maps: tuple[bool, ...] = ()
    report: RunnerReport | None = None
    tails: tuple[TailUse, ...] = ()
    energy_reason: str = ""
    state_before: DeviceState | None = None
    state_after: DeviceState | None = None
    anchor: bool = False

    @model_validator(mode="after")
    def _parts_are_of_the_cells(self) -> Self:
        parts = [len(part) for part in (self.operators, self.maps, self.tails) if part]
        outputs = [len(self.report.outputs)] if self.report else []
        if {*parts, *outputs} - {len(self.cells)} or len(self.operators) != len(self.maps):
            raise ValueError("its parts are of another number of cells")
        return self

    @property
    def profiled(self) -> bool:
        """Whether it is a survey's: its operators were timed one by one."""
        return bool(self.operators)

    @property
    def key(self) -> tuple[str, int]:
        """Names it among the run's records."""
        return self.work, self.round


class LeakageRecord(StrictModel):
    """One finished (cell, attack): per held-out picture, and what does not depend on the picture.

    Attributes:
        psnr_db, ssim: per held-out picture, in the run's order.
        floor_psnr_db: per picture: of the training mean picture, which needs no activation.
        oracle_psnr_db: per picture: of an oracle who knows the picture's mean colour.
        residual: per picture: distance of the reconstruction's activation from the received one, relative to the
            latter's norm; empty at split 0.
        search_residual: the same of what the attack's search found, before it was mixed with anything; empty where
            there was no search.
        converged: had the attack; None where it has no course of its own.
        cut_short: by its budget, before it would have ended itself; None in runs that did not say.
        chosen: the name of the attack that it took, for one that chooses among others.
        progress: seconds since the attack began, and the mean PSNR in dB that it had reached on validation pictures.
        spent_s: seconds of the run's `attack_total_s` that it took; one of the cells that share a fit has all.
        agreement: per picture: does the network's top-1 class of the reconstruction equal that of the picture?
        judge: another trained network, which was asked the same; None where none is installed.
        judge_top1: per picture: its answer.
        judge_similarity: per picture: cosine of its features of reconstruction and picture.
    """

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
    judge: str | None = None
    judge_top1: tuple[bool, ...] = ()
    judge_similarity: tuple[float, ...] = ()
    residual: tuple[float, ...] = ()
    search_residual: tuple[float, ...] = ()
    converged: bool | None = None
    cut_short: bool | None = None
    chosen: str | None = None
    progress: tuple[tuple[float, float], ...] = ()
    spent_s: float | None = None

    @property
    def key(self) -> tuple[str, str]:
        """Names it among the run's records."""
        return self.cell, self.attack

    @model_validator(mode="after")
    def _figures_are_of_the_same_pictures(self) -> Self:
        lengths = {len(self.ssim), len(self.floor_psnr_db), len(self.oracle_psnr_db), len(self.agreement)}
        optional = {
            *(len(self.residual), len(self.search_residual)),
            *(len(self.judge_top1), len(self.judge_similarity)),
        } - {0}
        if lengths != {len(self.psnr_db)} or optional - lengths:
            raise ValueError("its figures are of different numbers of pictures")
        return self
