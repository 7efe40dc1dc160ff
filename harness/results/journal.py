"""What is finished of a run: one file a record, read once and then kept in memory by the only one who writes it.

journal/rounds/WORK-R.json     one file a finished round of a program
journal/leakage/CELL-A.json    one file a finished (cell, attack)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from device_runner.files import safe_name
from harness.errors import ResultsError
from harness.results.files import Content, read_model, write_whole
from harness.results.migrations import migrate_round
from harness.results.schema import SCHEMA_VERSION, LeakageRecord, RoundRecord, RunFile

Record = RoundRecord | LeakageRecord
Kept = TypeVar("Kept", RoundRecord, LeakageRecord)


class Journal:
    """The records of one run.

    Args:
        folder: the run's.
        written: version of the schema that it was written in; older records are brought up to date as they are read.
    """

    FOLDERS = ("journal/rounds", "journal/leakage")

    def __init__(self, folder: Path, file: RunFile, written: int = SCHEMA_VERSION) -> None:
        self._folder, self._pictures, self._written = folder, range(len(file.held_out)), written

    @cached_property
    def _rounds(self) -> dict[tuple[str, int], RoundRecord]:
        kinds = ("rounds",) if self._written == SCHEMA_VERSION else ("rounds", "surveys")
        update = None if self._written == SCHEMA_VERSION else migrate_round
        paths = [path for kind in kinds for path in self._paths(kind)]
        records = (self._read(path, RoundRecord, update) for path in paths)
        return {record.key: record for record in records}

    @cached_property
    def _leakage(self) -> dict[tuple[str, str], LeakageRecord]:
        records = (self._read(path, LeakageRecord) for path in self._paths("leakage"))
        return {record.key: record for record in records}

    def rounds(self) -> dict[tuple[str, int], RoundRecord]:
        """Every finished (work, round).

        Raises:
            ResultsError: by this and `leakage`: a file of the journal is damaged, or not of this run.
        """
        return dict(self._rounds)

    def leakage(self) -> dict[tuple[str, str], LeakageRecord]:
        """Every finished (cell, attack)."""
        return dict(self._leakage)

    def keep_round(self, record: RoundRecord) -> None:
        """Write one finished round, before the next begins."""
        rounds = self._rounds  # read before there is more to read
        write_whole(self._path(record), record.model_dump_json().encode())
        rounds[record.key] = record

    def keep_leakage(self, record: LeakageRecord) -> None:
        """Write one finished (cell, attack)."""
        leakage = self._leakage
        write_whole(self._path(record), record.model_dump_json().encode())
        leakage[record.key] = record

    def forget_failures(self) -> None:
        """Failed rounds and attacks are tried again when a run goes on."""
        records: list[Record] = [*self._rounds.values(), *self._leakage.values()]
        for record in records:
            if record.status == "failed":
                self._path(record).unlink()
        self._rounds = {key: record for key, record in self._rounds.items() if record.status != "failed"}
        self._leakage = {key: record for key, record in self._leakage.items() if record.status != "failed"}

    def _paths(self, kind: str) -> Iterable[Path]:
        return sorted((self._folder / "journal" / kind).glob("*.json"))

    def _path(self, record: Record) -> Path:
        kind = "rounds" if isinstance(record, RoundRecord) else "leakage"
        return self._folder / "journal" / kind / f"{_name(record)}.json"

    def _read(self, path: Path, kind: type[Kept], update: Callable[[Content], Content] | None = None) -> Kept:
        """Raises ResultsError where a record is not what its file's name says, or not of this run's pictures."""
        record = read_model(path, kind, update)
        if path.stem == _name(record) and self._is_of_its_pictures(record):
            return record
        raise ResultsError(f"{path} does not belong to this run", remedy="delete that file, then --resume")

    def _is_of_its_pictures(self, record: Record) -> bool:
        if isinstance(record, LeakageRecord):
            return len(record.psnr_db) in (0, len(self._pictures))
        outputs = record.report.outputs if record.report else ()
        return all(shipment.picture in self._pictures for output in outputs for shipment in output.shipments)


def _name(record: Record) -> str:
    return "-".join(safe_name(str(part)) for part in record.key)
