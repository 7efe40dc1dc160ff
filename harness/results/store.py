"""A run's folder: run.json, a journal of what is finished, and tables made from it. Nothing measured is ever lost.

run.json                     what was asked, where, every planned cell
journal/rounds/CELL-R.json   one file a finished (cell, round), whole or not there
journal/surveys/SURVEY-R.json  one file a finished round of a survey program
journal/leakage/CELL-A.json  one file a finished (cell, attack)
activations/CELL/N.safetensors   what the device shipped, as it came
pictures/                    originals and reconstructions
samples.parquet, rounds.parquet, leakage.parquet   the journal compacted, when the run ends
run.log                      every call to a device, its duration and status
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import BaseModel, ValidationError

from device_runner import files
from device_runner.files import safe_name
from device_runner.runner import Shipment
from device_runner.survey import SurveyShipment
from harness.errors import ResultsError
from harness.results.columns import LEAKAGE, ROUNDS, SAMPLES, arrow_schema
from harness.results.lock import locked
from harness.results.migrations import migrate
from harness.results.profiled import profiled_times
from harness.results.schema import SCHEMA_VERSION, Cell, LeakageRecord, RoundRecord, RunFile, SurveyRecord

Record = TypeVar("Record", bound=BaseModel)
_TABLES = {"samples": SAMPLES, "rounds": ROUNDS, "leakage": LEAKAGE}


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
        written = _read(folder / "run.json", _Written).schema_version  # alone first: a newer file has other fields
        if written > SCHEMA_VERSION:
            raise ResultsError(
                f"{folder} was written by a newer splitbench (schema {written})",
                remedy="upgrade: pip install -U splitbench",
            )
        self.file = _read(folder / "run.json", RunFile, migrate)

    @staticmethod
    def create(folder: Path, file: RunFile) -> RunStore:
        """A new run's folder; it appears with all that was planned."""
        if os.path.exists(folder / "run.json"):  # noqa: PTH110 - Path.exists raises where a name is too long
            raise ResultsError(
                f"{folder} holds a run already", remedy="name another folder, or finish it with --resume"
            )
        try:
            for part in ("journal/rounds", "journal/surveys", "journal/leakage", "activations", "pictures/held_out"):
                (folder / part).mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ResultsError(
                f"cannot write to {folder}: {exc.strerror}", remedy="name another folder with --out"
            ) from exc
        write_whole(folder / "run.json", file.model_dump_json(indent=1).encode())
        return RunStore(folder)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep a second harness from this run; the lock goes with the process. What a killed one left is deleted."""
        with locked(self.folder, "another process"):
            files.remove_left_over(self.folder)
            yield

    def rounds(self) -> dict[tuple[str, int], RoundRecord]:
        """Every finished (cell, round).

        Raises:
            ResultsError: by this, `surveys` and `leakage`: a file of the journal is damaged, or not of this run.
        """
        return {
            (one.cell, one.round): one
            for path in sorted((self.folder / "journal/rounds").glob("*.json"))
            for one in [_read(path, RoundRecord)]
            if self._fits(path, f"{one.cell}-{one.round}", one.report.shipments if one.report else ())
        }

    def surveys(self) -> dict[tuple[str, int], SurveyRecord]:
        """Every finished (survey, round); none in a run that began without."""
        return {
            (one.survey, one.round): one
            for path in sorted((self.folder / "journal/surveys").glob("*.json"))
            for one in [_read(path, SurveyRecord)]
            if self._fits(
                path,
                f"{one.survey}-{one.round}",
                [shipment for output in (one.report.outputs if one.report else ()) for shipment in output.shipments],
            )
        }

    def leakage(self) -> dict[tuple[str, str], LeakageRecord]:
        """Every finished (cell, attack)."""
        return {
            (one.cell, one.attack): one
            for path in sorted((self.folder / "journal/leakage").glob("*.json"))
            for one in [_read(path, LeakageRecord)]
            if self._fits(path, f"{one.cell}-{safe_name(one.attack)}", judged=len(one.psnr_db))
        }

    def _fits(
        self, path: Path, name: str, shipments: Iterable[Shipment | SurveyShipment] = (), *, judged: int = 0
    ) -> Literal[True]:
        """Raises ResultsError where a record is not what its file's name says, or not of this run's pictures."""
        pictures = range(len(self.file.held_out))
        if path.stem != name or judged not in (0, len(pictures)) or any(s.picture not in pictures for s in shipments):
            raise ResultsError(f"{path} does not belong to this run", remedy="delete that file, then --resume")
        return True

    def keep_round(self, record: RoundRecord) -> None:
        """Write one finished (cell, round), before the next begins."""
        path = self.folder / "journal/rounds" / f"{record.cell}-{record.round}.json"
        write_whole(path, record.model_dump_json().encode())

    def keep_survey(self, record: SurveyRecord) -> None:
        """Write one finished (survey, round)."""
        path = self.folder / "journal/surveys" / f"{record.survey}-{record.round}.json"
        write_whole(path, record.model_dump_json().encode())

    def keep_cells(self, cells: Sequence[Cell]) -> None:
        """Write what has become known of the planned cells; they stay the same cells."""
        self.file = self.file.model_copy(update={"cells": tuple(cells)})
        write_whole(self.folder / "run.json", self.file.model_dump_json(indent=1).encode())

    def keep_leakage(self, record: LeakageRecord) -> None:
        """Write one finished (cell, attack)."""
        path = self.folder / "journal/leakage" / f"{record.cell}-{safe_name(record.attack)}.json"
        write_whole(path, record.model_dump_json().encode())

    def forget_failures(self) -> None:
        """Failed rounds, surveys and attacks are tried again when a run goes on."""
        for (cell, round_), record in self.rounds().items():
            if record.status == "failed":
                (self.folder / "journal/rounds" / f"{cell}-{round_}.json").unlink()
        for (survey, round_), surveyed in self.surveys().items():
            if surveyed.status == "failed":
                (self.folder / "journal/surveys" / f"{survey}-{round_}.json").unlink()
        for (cell, attack), judged in self.leakage().items():
            if judged.status == "failed":
                (self.folder / "journal/leakage" / f"{cell}-{safe_name(attack)}.json").unlink()

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
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise ResultsError(
                f"cannot write {path.parent}: {exc.strerror}", remedy="free disk space, then --resume"
            ) from exc
        write_whole(path, payload)

    def reconstruction_folder(self, cell: str, attack: str) -> Path:
        """Where an attack's reconstructions of a cell's activations lie, a PNG for each held-out picture."""
        return self.folder / "pictures" / cell / safe_name(attack)

    def compact(self) -> None:
        """The journal as three Parquet tables."""
        for name in _TABLES:
            sink = pa.BufferOutputStream()
            pq.write_table(self.table(name), sink, compression="zstd")
            write_whole(self.folder / f"{name}.parquet", sink.getvalue().to_pybytes())

    def table(self, name: str) -> pa.Table:
        """One of "samples", "rounds", "leakage", from the journal as it stands; nothing is written."""
        try:
            return pa.Table.from_pylist(list(self._rows(name)), schema=arrow_schema(_TABLES[name]))
        except OverflowError as exc:
            what = f"the journal of {self.folder} has a number that no table can hold"
            raise ResultsError(what, remedy="delete the file that was edited, then --resume") from exc

    def _rows(self, name: str) -> Iterator[dict[str, object]]:
        names, sources = self.file.held_out, self.file.held_out_sources
        if name == "leakage":
            for judged in self.leakage().values():
                yield from leakage_rows(judged, names, sources)
        elif name == "rounds":
            yield from map(_round_row, self.rounds().values())
        else:
            for record in self.rounds().values():
                yield from _sample_rows(record, names)
            for survey in self.surveys().values():
                yield from _survey_rows(survey, names)


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


def write_whole(path: Path, content: bytes) -> None:
    """Write a file of a run: it is either whole or not there, also after a crash.

    Raises:
        ResultsError: no space, or not allowed.
    """
    try:
        files.write_whole(path, content)
    except OSError as exc:
        raise ResultsError(f"cannot write {path}: {exc.strerror}", remedy=_remedy(exc)) from exc


def _remedy(exc: OSError) -> str:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free disk space, then --resume"
    return "see that its folder is there and can be written, then --resume"


def _read(path: Path, kind: type[Record], update: Callable[[dict[str, Any]], dict[str, Any]] | None = None) -> Record:
    try:
        content = path.read_bytes()
        return (
            kind.model_validate(update(json.loads(content)), strict=False)
            if update
            else kind.model_validate_json(content)
        )
    except FileNotFoundError as exc:
        raise ResultsError(f"{path} is missing", remedy="name the folder of a run") from exc
    except OSError as exc:
        raise ResultsError(f"{path} cannot be read: {exc.strerror}", remedy="make it a readable file") from exc
    except ValidationError as exc:
        first = exc.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its whole"
        raise ResultsError(f"{path} is damaged at {where}: {first['msg']}", remedy=_mend(path)) from exc
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
        raise ResultsError(f"{path} is damaged: {exc}", remedy=_mend(path)) from exc


def _mend(path: Path) -> str:
    """Without run.json there is no run; a file of the journal is measured again."""
    return "put back a copy of it" if path.name == "run.json" else "delete that file, then --resume"


def _sample_rows(record: RoundRecord, names: tuple[str, ...]) -> Iterator[dict[str, object]]:
    report = record.report
    if report is None:
        return
    for loop, times in (("warmup", report.warmup_ns), ("head", report.head_ns)):
        for i, head_ns in enumerate(times):
            yield {"cell": record.cell, "round": record.round, "loop": loop, "iteration": i, "head_ns": head_ns}
    for i, shipment in enumerate(report.shipments):
        row = shipment.model_dump() | {"picture": names[shipment.picture]}
        yield row | {"cell": record.cell, "round": record.round, "loop": "shipping", "iteration": i}


def _survey_rows(record: SurveyRecord, names: tuple[str, ...]) -> Iterator[dict[str, object]]:
    report = record.report
    if report is None:
        return
    for cell, output in zip(record.cells, report.outputs, strict=True):
        for i, shipment in enumerate(output.shipments):
            row = shipment.model_dump() | {"picture": names[shipment.picture]}
            yield row | {"cell": cell, "round": record.round, "loop": "survey", "iteration": i}
    times = profiled_times(report.profile, record.before, record.planar)
    if times is None:
        return
    for place, cell in enumerate(record.cells):
        for i, head_ns in enumerate(times.head_ns(place)):
            row = {"cell": cell, "round": record.round, "loop": "profile", "iteration": i}
            yield row | {"head_ns": int(head_ns)}


def _round_row(record: RoundRecord) -> dict[str, object]:
    row: dict[str, object] = {
        "cell": record.cell,
        "round": record.round,
        "status": record.status,
        "reason": record.reason,
    }
    if record.report is not None:
        row |= {
            "peak_rss_bytes": record.report.peak_rss_bytes,
            "timer_resolution_ns": record.report.timer_resolution_ns,
            "overhead_ns": record.report.overhead_ns,
            "energy_mj": record.report.energy_mj,
        }
        if checked := record.report.verification:
            row |= {"max_abs_err": checked.max_abs_err, "cosine": checked.cosine, "verified": checked.passed}
            row["load_ns"] = record.report.load_ns
    for when, state in (("before", record.before), ("after", record.after)):
        row |= {f"{key}_{when}": value for key, value in state.model_dump().items()} if state else {}
    return row


def leakage_rows(
    record: LeakageRecord, names: tuple[str, ...], sources: tuple[str, ...]
) -> Iterator[dict[str, object]]:
    """One row for each held-out picture."""
    for i in range(len(record.psnr_db)):
        yield {
            "cell": record.cell,
            "attack": record.attack,
            "picture": names[i],
            "source": sources[i],
            "psnr_db": record.psnr_db[i],
            "ssim": record.ssim[i],
            "floor_psnr_db": record.floor_psnr_db[i],
            "oracle_mean_colour_psnr_db": record.oracle_psnr_db[i],
            "agreement_top1": record.agreement[i],
        }
