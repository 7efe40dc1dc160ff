"""What `--attack auto` tried beside the attack that every split had, and what it did not, with the reason."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from analysis.report.rows import NO_REASON, printable, ranges
from harness.results.schema import AUTO, Cell, LeakageRecord, RunFile

_NOT_YET = "not tried yet: bench run --resume"


@dataclass(frozen=True)
class Effort:
    """Of one network in one precision.

    Attributes:
        weak: the attack that every split had.
        tried: the splits that a stronger one was tried at, by its name.
        left_out: the others that were attacked, by the reason.
        spent_s: seconds of the total, which networks and precisions share.
    """

    model: str
    precision: str
    weak: str
    tried: Mapping[str, str]
    left_out: Mapping[str, str]
    spent_s: float
    total_s: float

    def __str__(self) -> str:
        said = [f"{name} was tried at split {splits}" for name, splits in self.tried.items()]
        said += [
            f"nothing stronger than {self.weak} at {splits} ({reason})" for reason, splits in self.left_out.items()
        ]
        said.append(f"{self.spent_s:.0f} s of the total of {self.total_s:g} s went into it")
        return printable(f"{self.model} {self.precision}: {'; '.join(said)}")


def efforts(file: RunFile, leakage: Mapping[tuple[str, str], LeakageRecord]) -> list[Effort]:
    """One for each network and precision that was attacked; none where attacks were chosen by name."""
    parts: dict[tuple[str, str], list[Cell]] = defaultdict(list)
    for cell in file.cells:
        if cell.split_index:
            parts[cell.model, cell.precision].append(cell)
    by_cell: dict[str, list[LeakageRecord]] = defaultdict(list)
    for record in leakage.values():
        by_cell[record.cell].append(record)
    if file.config.attack_total_s is None:
        return []
    return [
        effort
        for (model, precision), cells in parts.items()
        if (effort := _effort(file, model, precision, cells, by_cell)) is not None
    ]


def _effort(
    file: RunFile, model: str, precision: str, cells: Sequence[Cell], by_cell: Mapping[str, Sequence[LeakageRecord]]
) -> Effort | None:
    weak, total_s = file.config.attacks[0], file.config.attack_total_s
    assert total_s is not None  # noqa: S101 - `efforts` asked
    tried: dict[str, set[int]] = defaultdict(set)
    left_out: dict[str, set[int]] = defaultdict(set)
    for cell in cells:
        records = {record.attack: record for record in by_cell.get(cell.hash, ())}
        if weak not in records or records.pop(weak).status != "ok":
            continue  # its row says why
        for name, record in records.items():
            (left_out[record.reason or NO_REASON] if name == AUTO else tried[name]).add(cell.split_index)
        if not records:
            left_out[_NOT_YET].add(cell.split_index)
    if not tried and not left_out:
        return None
    among = {cell.split_index for cell in cells}
    spent_s = sum(record.spent_s or 0.0 for cell in cells for record in by_cell.get(cell.hash, ()))
    return Effort(model, precision, weak, _written(tried, among), _written(left_out, among), spent_s, total_s)


def _written(splits: Mapping[str, set[int]], among: Iterable[int]) -> dict[str, str]:
    return {name: ranges(numbers, among) for name, numbers in splits.items()}
