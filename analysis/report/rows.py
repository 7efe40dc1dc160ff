"""The tidy table as the report reads it: rows, the settings they share, and how their values are written."""

from __future__ import annotations

import math
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.link_model import LinkFit, fit_link
from harness.results import axes
from harness.results.columns import Column

RANDOM_WEIGHTS = "Random weights: the leakage of random weights is not that of trained ones."
THREAT_MODEL = "What this attacker recovered: a lower bound on the leakage. Low does not mean private."
NO_ATTACK = "No attack gave a figure: nothing is known about the leakage."
NO_REASON = "no reason was recorded"
EMULATED = "Emulated device: its times mean nothing."
DELEGATED_ENOUGH = 0.9
HEAD_TIMES = ("head_p50_ms", "end_to_end_p50_ms", "modelled_end_to_end_ms")
PROFILED = "≈"  # before a time that was estimated, wherever it is written


@dataclass(frozen=True)
class Row:
    """One row of the tidy table; an absent, empty or NaN value reads as None, or as an empty text."""

    values: dict[str, Any]

    def number(self, column: str) -> float | None:
        """Return the value as a finite float, or None where there is none."""
        value = self.values.get(column)
        if value is None or isinstance(value, str) or pd.isna(value):
            return None
        return float(value) if math.isfinite(value) else None

    def text(self, column: str) -> str:
        """Return the value as printable text on one line, lists (shapes) as 32x112x112; empty where there is none."""
        value = self.values.get(column)
        if isinstance(value, (list, tuple, np.ndarray)):
            return "x".join(str(part) for part in value)
        if value is None or pd.isna(value):
            return ""
        if isinstance(value, float) and value.is_integer():
            value = int(value)  # a column of integers with a gap arrives as floats
        return printable(str(value))

    def flag(self, column: str) -> bool | None:
        """Return the value as a truth value, or None where it is not known."""
        value = self.values.get(column)
        return None if value is None or pd.isna(value) else bool(value)

    @property
    def split(self) -> int | None:
        """The split's number; None for a row that failed before its network was split."""
        value = self.number("split_index")
        return None if value is None else int(value)

    @property
    def ok(self) -> bool:
        """Whether all that was planned of this row was done."""
        return self.text("status") == "ok"

    @property
    def timed(self) -> bool:
        """Whether its activation was shipped, be it attacked or not."""
        return self.number("wire_bytes") is not None

    @property
    def profiled(self) -> bool:
        """Whether its head time is an estimate from a survey's profile, and its end to end the sum of its parts."""
        return self.text("head_source") == "profiled"


@dataclass(frozen=True)
class Curve:
    """One curve: at most one row per split, in the order of splits.

    Attributes:
        values: on the axes that tell the curves of a chart apart (harness.results.axes).
    """

    values: dict[str, str]
    rows: tuple[Row, ...]

    @property
    def name(self) -> str:
        """For instance "fp32, linear"; a chart without attacks has the precision only."""
        return ", ".join(filter(None, self.values.values())) or "as it is"

    @property
    def variant(self) -> str:
        """What was timed, whatever attacked it: "fp32"."""
        return ", ".join(filter(None, (self.values.get(axis.name) for axis in axes.AXES if axis.of_cells)))

    @property
    def attack(self) -> str:
        """The attack; empty where none was asked for."""
        return self.values["attack"]


@dataclass(frozen=True)
class Chart:
    """What one chart, wall and section of the page shows: rows that differ in their curve and their split alone."""

    settings: dict[str, str]
    curves: tuple[Curve, ...]

    @property
    def rows(self) -> list[Row]:
        """All rows, curve after curve."""
        return [row for curve in self.curves for row in curve.rows]

    @property
    def measured(self) -> list[Row]:
        """The rows with figures to show: those of an interrupted run have times before they have been attacked."""
        return [row for row in self.rows if row.timed]

    @property
    def cells(self) -> list[Row]:
        """The first row of each cell: its times and bytes are the same in all, however many attacks it had."""
        return list(
            {row.text("cell") or (row.split, row.text("precision")): row for row in reversed(self.rows)}.values()
        )

    def is_everywhere(self, curve: Curve) -> bool:
        """Whether every split was to have a curve's attack; else it was tried where that decides."""
        return set(self.splits) - {0} <= {row.split for row in curve.rows}

    @property
    def splits(self) -> dict[int, str]:
        """Number -> module path, of every split that has a row, in order."""
        named = {row.split: row.text("split") for row in self.rows if row.split is not None}
        return dict(sorted(named.items()))

    @property
    def title(self) -> str:
        """For instance "efficientnet_lite0, 224x224, local"."""
        parts = (self.settings["model"] or "unknown model", self.settings["input_size"], self.device)
        return ", ".join(part for part in parts if part)

    @property
    def conditions(self) -> str:
        """For instance "weights: random, seed 0; 2 threads; link loopback; tails on executorch, 2 threads"."""
        weights, threads, link = (self.settings[name] for name in ("weights", "threads", "link"))
        parts = [f"weights: {weights}"] if weights else []
        parts += [_threads(threads)] if threads else []
        parts += [f"link {link}"] if link else []
        parts += [f"tails on {self.tails}"] if self.tails else []
        return "; ".join(parts)

    @property
    def tails(self) -> str:
        """What finished the network for most rows: "executorch, 2 threads"; empty where no run told."""
        told = [(row.text("tail_engine"), row.text("tail_threads")) for row in self.rows if row.text("tail_engine")]
        if not told:
            return ""
        engine, threads = Counter(told).most_common(1)[0][0]
        return f"{engine}, {_threads(threads)}"

    @property
    def device(self) -> str:
        """The device's name; an emulated one is called so."""
        return self.settings["device"]

    @property
    def emulated(self) -> bool:
        """Whether times come from an emulated device and mean nothing."""
        return any(row.flag("emulated") for row in self.rows)

    @property
    def link_fit(self) -> LinkFit | None:
        """How well one rate and one round-trip time explain this chart's measured transfers."""
        sizes, times = ([row.number(c) for row in self.cells if row.timed] for c in ("wire_bytes", "transfer_p50_ms"))
        return fit_link(np.array(sizes, dtype=np.float64), np.array(times, dtype=np.float64))

    @property
    def random_weights(self) -> bool:
        """Whether the network was never trained."""
        return any(row.flag("trained") is False for row in self.rows)

    @property
    def warnings(self) -> list[str]:
        """What must be said wherever its figures are shown."""
        return [RANDOM_WEIGHTS] * self.random_weights + [EMULATED] * self.emulated

    @property
    def picture_bytes(self) -> float | None:
        """What travels at split 0, the picture itself, in bytes."""
        return next((row.number("wire_bytes") for row in self.measured if row.split == 0), None)

    @property
    def judge(self) -> str:
        """The independent judge's name; empty where there was none."""
        return next((name for row in self.rows if (name := row.text("judge"))), "")

    def once(self, column: str) -> float | None:
        """Return a value that all rows share (the floor), from the first row that has it."""
        return next((value for row in self.rows if (value := row.number(column)) is not None), None)


def charts(summary: pd.DataFrame) -> list[Chart]:
    """Part the tidy table into charts, in the order in which they first appear."""
    rows = [Row({str(key): value for key, value in record.items()}) for record in summary.to_dict("records")]
    parted = []
    for settings, members in _parted(rows, axes.names("chart")):
        curves = [Curve(values, _one_per_split(part)) for values, part in _parted(members, axes.names("curve"))]
        parted.append(Chart(settings, tuple(curves)))
    return parted


def _threads(count: str) -> str:
    return f"{count} {'thread' if count == '1' else 'threads'}"


def _parted(rows: Sequence[Row], columns: Sequence[str]) -> list[tuple[dict[str, str], list[Row]]]:
    """Put rows that agree on columns together.

    A row that leaves some of them empty (split 0 has no backend, a failed cell no attack) belongs to every part that
    it agrees with on the others, and makes a part of its own only where there is none.
    """
    keys = [{column: row.text(column) for column in columns} for row in rows]
    fullness = max((sum(map(bool, key.values())) for key in keys), default=0)
    parts: list[dict[str, str]] = []
    for level in range(fullness, -1, -1):
        for key in keys:
            if sum(map(bool, key.values())) == level and not any(_agree(key, part) for part in parts):
                parts.append(key)
    first_seen = sorted(parts, key=lambda part: next(i for i, key in enumerate(keys) if _agree(key, part)))
    return [(part, [row for row, key in zip(rows, keys, strict=True) if _agree(key, part)]) for part in first_seen]


def _agree(key: dict[str, str], part: dict[str, str]) -> bool:
    return all(value in ("", part[column]) for column, value in key.items())


def _one_per_split(rows: Iterable[Row]) -> tuple[Row, ...]:
    """Keep, in the order of splits, the row that says most: a measured one, then one with an attack."""
    best: dict[int | None, Row] = {}
    for row in rows:
        kept = best.get(row.split)
        if kept is None or (row.ok, bool(row.text("attack"))) > (kept.ok, bool(kept.text("attack"))):
            best[row.split] = row
    return tuple(sorted(best.values(), key=lambda row: -1 if row.split is None else row.split))


def printable(text: str) -> str:
    """Text on one line: names come from files and devices, so control characters must not reach a terminal."""
    return "".join("\N{REPLACEMENT CHARACTER}" if unicodedata.category(c) in ("Cc", "Cf", "Cs") else c for c in text)


def shortened(text: str, width: int) -> str:
    """Text of at most width characters: both ends stay, since both tell module paths apart."""
    if len(text) <= width:
        return text
    tail = width // 2
    return f"{text[: width - 1 - tail]}…{text[len(text) - tail :]}"


def written(value: float | None, unit: str = "") -> str:
    """A number as it stands in a column of that unit, bytes as kB (1000 bytes); empty where there is none."""
    if value is None:
        return ""
    if unit == "kB":
        return f"{value / 1000:,.1f}"
    if unit == "ms" and abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.1f}" if unit == "dB" else f"{value:.2f}"


def head_time(row: Row, column: str = "head_p50_ms") -> str:
    """A time in ms that a head's time is part of, marked where that was profiled, or empty."""
    text = written(row.number(column), "ms")
    return f"{PROFILED}{text}" if text and row.profiled else text


def shown(row: Row, column: Column) -> str:
    """A value as a table shows it, without its unit; empty where there is none."""
    if column.name in HEAD_TIMES:
        return head_time(row, column.name)
    if column.unit or column.type == pa.float64():
        return written(row.number(column.name), column.unit)
    return row.text(column.name) or ("the picture itself" if column.name == "split" and row.split == 0 else "")


def half_width(row: Row) -> float | None:
    """Half of the 95 % interval of the head time, in ms."""
    low, high = row.number("head_ci95_low_ms"), row.number("head_ci95_high_ms")
    return None if low is None or high is None else (high - low) / 2


def ranges(numbers: Iterable[int], among: Iterable[int]) -> str:
    """Write neighbours as a range: 3, 7, 9, 20 among 1, 3, 7, 9, 12, 20 are "3-9, 20"."""
    wanted = set(numbers)
    runs: list[list[int]] = [[]]
    for number in sorted(set(among)):
        if number in wanted:
            runs[-1].append(number)
        elif runs[-1]:
            runs.append([])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs if run)
