"""What is known of an exported program: all that a verifier, a receiver and a report need."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from device_runner.files import file_sha256
from device_runner.strict import StrictModel
from harness.codecs import AnyCodec
from harness.errors import ExportError

PROGRAM = "head.pte"
MANIFEST = "manifest.json"
REFERENCE = "reference.safetensors"

MANIFEST_FORMAT: Literal[3] = 3  # 3: heads and surveys are both programs of outputs; 2: int8 scales have a floor


class Output(StrictModel):
    """One output of a program: the activation of one split.

    Attributes:
        codec: how it travels.
        activation_shape: with its batch dimension of 1.
        tolerance_abs: largest permitted absolute error against the expected activation (fp32), or None.
        tolerance_cosine: smallest permitted cosine against it (int8), or None.
        operators: how many of each kind it needs (`count_operators`); empty where nothing is profiled.
    """

    split_index: int
    split: str
    codec: AnyCodec
    activation_shape: tuple[int, ...]
    tolerance_abs: float | None = None
    tolerance_cosine: float | None = None
    operators: dict[str, int] = Field(default_factory=dict)

    @property
    def device_tolerance(self) -> float | None:
        """How far another machine's output may be from this one's: in steps where its numbers are steps."""
        return self.tolerance_abs if self.codec.steps is None else self.codec.steps


class Manifest(StrictModel):
    """An exported program, described; manifest.json beside head.pte.

    Attributes:
        outputs: a head has one; at split 0 it is the picture itself, and there is no program.
        start: the split whose activation it takes, of a part of a tail; None: the picture.
        profiled: its operators are timed one by one (`harness.export.program.Program`).
        delegated_share: of the program's multiply-accumulates, the share that XNNPACK took over; None without any.
        versions: libraries that made the program.
    """

    format: Literal[3] = MANIFEST_FORMAT
    model: str
    weights_sha256: str
    input_size: tuple[int, int]
    precision: Literal["fp32", "int8"]
    outputs: tuple[Output, ...]
    start: int | None = None
    profiled: bool = False
    pte_sha256: str | None = None
    pte_bytes: int | None = None
    delegated_share: float | None = None
    versions: dict[str, str] = Field(default_factory=dict)


class Exported(BaseModel):
    """A program on disk: its folder and its manifest. Split 0 has neither program nor reference.

    Attributes:
        folder: holds head.pte, manifest.json and, for what runs on devices, reference.safetensors; None at split 0.
    """

    model_config = ConfigDict(frozen=True)

    folder: Path | None
    manifest: Manifest

    @property
    def program(self) -> Path | None:
        """The ExecuTorch program, or None at split 0."""
        return self.folder / PROGRAM if self.folder else None

    @property
    def reference(self) -> Path | None:
        """The reference picture and what the outputs are expected to be: `picture`, `activation.0`, ..

        None at split 0, and for a part of a tail, which no runner verifies: its engine does, with the whole tail.
        """
        return self.folder / REFERENCE if self.folder and self.manifest.start is None else None


def read_exported(folder: Path) -> Exported | None:
    """The program in a folder, or None where there is none.

    Raises:
        ExportError: the folder holds something else, or its program is not the one that the manifest describes.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return None
    remedy = f"delete {folder} and run again"
    try:
        manifest = Manifest.model_validate_json(path.read_bytes())
    except ValidationError as exc:
        raise ExportError(f"{path} is no manifest of this version", remedy=remedy) from exc
    program = folder / PROGRAM
    if not program.is_file() or file_sha256(program) != manifest.pte_sha256:
        raise ExportError(f"{program} is not the program that its manifest describes", remedy=remedy)
    return Exported(folder=folder, manifest=manifest)
