"""What is known of an exported head: all that a verifier, a receiver and a report need."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from device_runner.files import file_sha256
from harness.errors import ExportError

PROGRAM = "head.pte"
REFERENCE = "reference.safetensors"

MANIFEST_FORMAT: Literal[2] = 2  # 2: the scales of int8 weights have a floor


class Manifest(BaseModel):
    """An exported head, described; manifest.json beside head.pte.

    Attributes:
        codec: how the activation travels: "uint8" (the picture, split 0), "fp32" or "int8".
        scale, zero_point: of an int8 activation: (q - zero_point) * scale.
        max_frame_bytes: exact size of the largest frame payload; anything larger is refused.
        tolerance_abs: largest permitted absolute error against the expected activation (fp32), or None.
        tolerance_cosine: smallest permitted cosine against it (int8), or None.
        delegated_share: of the head's multiply-accumulates, the share that XNNPACK took over; None without any.
        versions: libraries that made the program.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: Literal[2] = MANIFEST_FORMAT
    model: str
    weights_sha256: str
    input_size: tuple[int, int]
    split_index: int
    split: str
    precision: Literal["fp32", "int8"]
    codec: Literal["uint8", "fp32", "int8"]
    activation_shape: tuple[int, ...]
    activation_bytes: int
    scale: float | None = None
    zero_point: int | None = None
    max_frame_bytes: int
    tolerance_abs: float | None = None
    tolerance_cosine: float | None = None
    pte_sha256: str | None = None
    pte_bytes: int | None = None
    delegated_share: float | None = None
    versions: dict[str, str] = {}


class Head(BaseModel):
    """A head on disk: its folder and its manifest. Split 0 has neither program nor reference.

    Attributes:
        folder: holds head.pte, manifest.json and reference.safetensors; None at split 0.
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
        """The reference picture and the activation expected for it, or None at split 0."""
        return self.folder / REFERENCE if self.folder else None


class SurveyManifest(BaseModel):
    """A survey program, described; survey.json beside its head.pte.

    Attributes:
        outputs: the split that each of its outputs belongs to, described like the split's own head.
        before: the operators that each output needs, by kind (harness.operators.operators_before).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    outputs: tuple[Manifest, ...]
    before: tuple[dict[str, int], ...]
    pte_sha256: str
    pte_bytes: int


_Described = TypeVar("_Described", Manifest, SurveyManifest)


class Survey(BaseModel):
    """One program on disk that gives the activations of many splits; its reference holds activation.0, .1, ..."""

    model_config = ConfigDict(frozen=True)

    folder: Path
    manifest: SurveyManifest

    @property
    def program(self) -> Path:
        """The ExecuTorch program."""
        return self.folder / PROGRAM

    @property
    def reference(self) -> Path:
        """The reference picture and the activations expected for it."""
        return self.folder / REFERENCE


def read_head(folder: Path) -> Head | None:
    """The head in a folder, or None where there is none.

    Raises:
        ExportError: the folder holds something else, or its program is not the one that the manifest describes.
    """
    manifest = _read(folder, "manifest.json", Manifest)
    return Head(folder=folder, manifest=manifest) if manifest else None


def read_survey(folder: Path) -> Survey | None:
    """The survey program in a folder, or None where there is none.

    Raises:
        ExportError: likewise.
    """
    manifest = _read(folder, "survey.json", SurveyManifest)
    return Survey(folder=folder, manifest=manifest) if manifest else None


def _read(folder: Path, name: str, kind: type[_Described]) -> _Described | None:
    path = folder / name
    if not path.is_file():
        return None
    remedy = f"delete {folder} and run again"
    try:
        manifest = kind.model_validate_json(path.read_bytes())
    except ValidationError as exc:
        raise ExportError(f"{path} is no manifest of this version", remedy=remedy) from exc
    program = folder / PROGRAM
    if not program.is_file() or file_sha256(program) != manifest.pte_sha256:
        raise ExportError(f"{program} is not the program that its manifest describes", remedy=remedy)
    return manifest
