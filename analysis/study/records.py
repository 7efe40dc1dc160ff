"""What is kept of a finished cell, and the file that it is kept in."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import ValidationError

from analysis.study.cells import StudyCell
from device_runner import files
from device_runner.strict import StrictModel
from harness.results.files import locked, writing


class CutFacts(StrictModel):
    """Where a specimen was cut.

    Attributes:
        mac_share: of all MACs, done before the cut.
    """

    split: str
    activation_shape: tuple[int, ...]
    head_params: int
    head_macs: int
    mac_share: float


class FitFacts(StrictModel):
    """How fitting a specimen went.

    Attributes:
        accuracy: on crops that it was not fitted on, of the same photographs.
        reached: whether that is the accuracy at which fitting stops.
    """

    accuracy: float
    steps: int
    reached: bool


class StudyRecord(StrictModel):
    """One cell that was tried.

    Attributes:
        key: of the cell and of all else that decides its figures.
        reason: why there are no figures.
        converged: whether more time would hardly have helped the attack; None where it has no course of its own.
        sources, psnr_db, ssim, floor_psnr_db: per held-out picture.
        seconds: that learning and rebuilding took.
    """

    key: str
    cell: StudyCell
    status: Literal["ok", "failed", "skipped"]
    reason: str = ""
    weights: str = ""
    input_size: tuple[int, int] = (0, 0)
    at: CutFacts | None = None
    fit: FitFacts | None = None
    converged: bool | None = None
    seconds: float = 0.0
    sources: tuple[str, ...] = ()
    psnr_db: tuple[float, ...] = ()
    ssim: tuple[float, ...] = ()
    floor_psnr_db: tuple[float, ...] = ()


class StudyJournal:
    """A study's folder: `cells.jsonl` has a line for each cell that was tried, on disk before the next begins.

    Args:
        folder: is made where it is missing.

    Raises:
        ResultsError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self._path = folder, folder / "cells.jsonl"
        with writing(folder, "choose another with --out"):
            folder.mkdir(parents=True, exist_ok=True)
            self._path.touch()

    def locked(self) -> AbstractContextManager[None]:
        """Keep a second study from this folder; the lock goes with the process."""
        return locked(self.folder, "another study")

    def read(self, keys: Sequence[str]) -> dict[str, StudyRecord]:
        """The newest record of each of these keys that was tried; lines that were torn by a kill are no records."""
        wanted = set(keys)
        newest = {record.key: record for record in self._records()}
        return {key: record for key, record in newest.items() if key in wanted}

    def append(self, record: StudyRecord) -> None:
        """Write a record to disk; several processes may.

        Raises:
            ResultsError: no space left.
        """
        remedy = "free disk space, then start the study again"
        with writing(self._path, remedy), files.locked(self._path), self._path.open("r+b") as stream:
            stream.write(_torn(stream) + record.model_dump_json().encode() + b"\n")
            stream.flush()
            os.fsync(stream.fileno())

    def _records(self) -> Iterator[StudyRecord]:
        for line in self._path.read_bytes().splitlines():
            try:
                yield StudyRecord.model_validate_json(line)
            except ValidationError:
                continue


def _torn(stream: BinaryIO) -> bytes:
    """Goes to the file's end; what is missing there for a new line to begin."""
    if not stream.seek(0, os.SEEK_END):
        return b""
    stream.seek(-1, os.SEEK_END)
    return b"" if stream.read(1) == b"\n" else b"\n"
