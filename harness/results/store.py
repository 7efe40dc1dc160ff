"""A run's folder: run.json, a journal of what is finished, and tables made from it. Nothing measured is ever lost.

run.json                     what was asked, where, every planned cell
journal/                     one file for whatever is finished (harness.results.journal)
activations/CELL/N.safetensors   what the device shipped, as it came
pictures/                    originals and reconstructions
samples.parquet, rounds.parquet, leakage.parquet   the journal compacted, when the run ends
run.log                      every call to a device, its duration and status
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel

from device_runner import files
from device_runner.files import safe_name
from harness.errors import ResultsError
from harness.results.files import locked, read_model, write_whole, writing
from harness.results.journal import Journal
from harness.results.migrations import migrate
from harness.results.schema import SCHEMA_VERSION, Cell, ChosenEngine, RunFile
from harness.results.tables import TABLES, TableName, make_table


class _Written(BaseModel):
    """The one field of run.json that all versions have."""

    schema_version: int


class RunStore:
    """One run's folder, open for writing or reading.

    Args:
        folder: the run's folder, made by `create` or found by `find_run`.

    Raises:
        ResultsError: the folder holds no run, or one of a newer version.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Alone first: a newer file has other fields.
        self._written = read_model(folder / "run.json", _Written).schema_version
        if self._written > SCHEMA_VERSION:
            raise ResultsError(
                f"{folder} was written by a newer splitbench (schema {self._written})",
                remedy="upgrade: pip install -U splitbench",
            )
        self.file = read_model(folder / "run.json", RunFile, migrate)
        self.journal = Journal(folder, self.file, self._written)

    @staticmethod
    def create(folder: Path, file: RunFile) -> RunStore:
        """A new run's folder; it appears with all that was planned."""
        if os.path.exists(folder / "run.json"):  # noqa: PTH110 - Path.exists raises where a name is too long
            raise ResultsError(
                f"{folder} holds a run already", remedy="name another folder, or finish it with --resume"
            )
        with writing(folder, "name another folder with --out"):
            for part in (*Journal.FOLDERS, "activations", "pictures/held_out"):
                (folder / part).mkdir(parents=True, exist_ok=True)
        write_whole(folder / "run.json", file.model_dump_json(indent=1).encode())
        return RunStore(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second harness from this run; the lock goes with the process. What a killed one left is deleted.

        Raises:
            ResultsError: another process writes it, or an older splitbench began it.
        """
        if self._written < SCHEMA_VERSION:
            raise ResultsError(
                f"{self.folder} was begun by an older splitbench (schema {self._written}) and cannot go on",
                remedy="start a new run; bench report still shows this one",
            )
        with locked(self.folder, "another process"):
            files.remove_left_over(self.folder)
            yield

    def keep_cells(self, cells: Sequence[Cell]) -> None:
        """Write what has become known of the planned cells; they stay the same cells."""
        self._keep(cells=tuple(cells))

    def keep_engine(self, model: str, engine: ChosenEngine) -> None:
        """Write which engine finishes a network on the workstation; it stays so when the run is resumed."""
        self._keep(engines=self.file.engines | {model: engine})

    def _keep(self, **known: object) -> None:
        self.file = self.file.model_copy(update=known)
        write_whole(self.folder / "run.json", self.file.model_dump_json(indent=1).encode())

    def activation_path(self, cell: str, picture: int) -> Path:
        """Where the activation of one held-out picture lies."""
        return self.folder / "activations" / cell / f"{picture}.safetensors"

    def keep_activation(self, cell: str, picture: int, payload: bytes) -> None:
        """Store what the device shipped, as it came; a later round's takes the place of an earlier one's.

        Raises:
            ResultsError: no space.
        """
        path = self.activation_path(cell, picture)
        if path.is_file() and path.read_bytes() == payload:
            return
        with writing(path.parent, "free disk space, then --resume"):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, payload)

    def reconstruction_folder(self, cell: str, attack: str) -> Path:
        """Where an attack's reconstructions of a cell's activations lie, a PNG for each held-out picture."""
        return self.folder / "pictures" / cell / safe_name(attack)

    def compact(self) -> None:
        """The journal as three Parquet tables."""
        for name in TABLES:
            sink = pa.BufferOutputStream()
            pq.write_table(self.table(name), sink, compression="zstd")
            write_whole(self.folder / f"{name}.parquet", sink.getvalue().to_pybytes())

    def table(self, name: TableName) -> pa.Table:
        """One of the tables, from the journal as it stands; nothing is written."""
        return make_table(name, self.file, self.journal)


def find_run(name: str | Path | None, runs: Path) -> Path:
    """The folder of a run: a path, a run's name, or the newest one.

    Raises:
        ResultsError: there is no such run.
    """
    known = sorted((path.parent for path in runs.glob("*/run.json")), key=lambda path: path.name)
    if name is None:
        if not known:
            raise ResultsError(f"no run in {runs}", remedy="make one: bench run --split all")
        return max(known, key=lambda path: (path / "run.json").stat().st_mtime)
    for folder in (Path(name), runs / str(name)):
        if os.path.isfile(folder / "run.json"):  # noqa: PTH113 - Path.is_file raises where a name is too long
            return folder
    from device_runner.registry import suggest

    raise ResultsError(f"no run '{name}'", remedy=suggest(str(name), [path.name for path in known]))
