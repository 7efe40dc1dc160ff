"""The tidy table for a terminal of 100 columns, and as CSV."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.estimate import Accuracy
from analysis.report.remarks import footnotes, remarks
from analysis.report.rows import (
    EMULATED,
    NO_ATTACK,
    RANDOM_WEIGHTS,
    THREAT_MODEL,
    Experiment,
    Row,
    Series,
    decibel,
    experiments,
    half_width,
    head_time,
    kilobytes,
    milliseconds,
    printable,
    ranges,
    shortened,
    similarity,
)
from analysis.report.timer import Timer

WIDTH = 100
MOST_NAME = 25


class _Column(NamedTuple):
    heading: str
    cell: Callable[[Row], str]
    shown_if: str  # the column of the tidy table without which this one would be empty


_COLUMNS = (
    _Column("head ms", lambda row: _head(row), "head_p50_ms"),
    _Column("kB", lambda row: kilobytes(row.number("wire_bytes")), "wire_bytes"),
    _Column("transfer\nms", lambda row: milliseconds(row.number("transfer_p50_ms")), "transfer_p50_ms"),
    _Column("end to\nend ms", lambda row: head_time(row, "end_to_end_p50_ms"), "end_to_end_p50_ms"),
    _Column("modelled\nend ms", lambda row: head_time(row, "modelled_end_to_end_ms"), "modelled_end_to_end_ms"),
    _Column("PSNR\ndB", lambda row: decibel(row.number("psnr_db")), "psnr_db"),
    _Column("worst\ndB", lambda row: decibel(row.number("psnr_worst_db")), "psnr_worst_db"),
    _Column("SSIM", lambda row: similarity(row.number("ssim")), "ssim"),
)


def summary_tables(
    summary: pd.DataFrame,
    *,
    notices: Sequence[str] = (),
    accuracy: Accuracy | None = None,
    timers: Sequence[Timer] = (),
) -> RenderableType:
    """One table per experiment, precision and attack, for rich; no line is wider than 100 columns.

    Args:
        summary: the tidy table, one row per cell x attack.
        notices: what must be said about the whole run, shown first.
        accuracy: of a survey's estimates, shown under the tables.
        timers: of its devices, shown last.
    """
    parts: list[RenderableType] = [Text(f"! {printable(notice)}", style="bold red") for notice in notices]
    for experiment in experiments(summary):
        for series in experiment.series:
            title = Text(f"\n{experiment.title}: {series.name}", style="bold")
            parts += [
                title,
                Text(experiment.conditions, style="dim"),
                _table(series),
                *_caption(experiment, series),
                *_footnotes(series),
            ]
    if len(parts) == len(notices):
        parts.append(Text("Nothing was planned: this run has no rows."))
    parts += [Text(f"{line}.", style="italic") for line in (accuracy, *timers) if line is not None]
    return Group(*parts)


def to_csv(summary: pd.DataFrame, target: Path | IO[str]) -> None:
    """Write the tidy table as CSV with a heading; what was not measured stays empty, floats keep every digit.

    Args:
        summary: the tidy table.
        target: a file to replace, or an open one ("-" of the command line is standard output).
    """
    summary.to_csv(target, index=False, lineterminator="\n")


def _table(series: Series) -> Table:
    columns = [column for column in _COLUMNS if any(row.number(column.shown_if) is not None for row in series.rows)]
    marks = footnotes(series.rows)
    cells = [
        ["" if row.split is None else str(row.split)]
        + [column.cell(row) for column in columns]
        + [" ".join(marks[sentence] for sentence in remarks(row))]
        for row in series.rows
    ]
    headings = ["#", *(column.heading for column in columns), ""]
    widths = [max(map(len, [*heading.split("\n"), *row])) for heading, *row in zip(headings, *cells, strict=True)]
    names = [_name(row) for row in series.rows]
    left = WIDTH - sum(widths) - 2 * (len(widths) + 1)  # a gap of two after each column
    name_width = min(MOST_NAME, left, max(map(len, names)))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for place, heading in enumerate(headings):
        table.add_column(heading, justify="right", no_wrap=True)
        if place == 0:
            table.add_column("split", no_wrap=True)
    for row, name, (number, *values) in zip(series.rows, names, cells, strict=True):
        table.add_row(number, Text(shortened(name, name_width)), *values, style=None if row.ok else "dim")
    return table


def _name(row: Row) -> str:
    name = row.text("split") or ("the picture itself" if row.split == 0 else "")
    return name if row.ok else f"{row.text('status')}: {name}" if name else row.text("status")


def _head(row: Row) -> str:
    spread = half_width(row)
    head = head_time(row)
    return f"{head} ±{milliseconds(spread)}" if spread is not None and row.split != 0 else head


def _caption(experiment: Experiment, series: Series) -> Iterable[Text]:
    if experiment.random_weights:
        yield Text(RANDOM_WEIGHTS, style="bold red")
    if experiment.emulated:
        yield Text(EMULATED, style="bold red")
    modelled = next((text for row in series.rows if (text := row.text("modelled_link"))), "")
    if modelled:
        yield Text(
            f"modelled: measured end to end, its transfer replaced by that of a link of {modelled}.", style="italic"
        )
    if (fit := experiment.link_fit) is not None:
        yield Text(f"{fit}.", style="italic")
    floor = next((value for row in series.rows if (value := row.number("floor_psnr_db")) is not None), None)
    if any(row.number("psnr_db") is not None for row in series.rows):
        known = (
            f"Floor (training mean picture, no activation needed): {decibel(floor)} dB. " if floor is not None else ""
        )
        yield Text(f"{known}worst: the best-rebuilt picture. {THREAT_MODEL}", style="italic")
    elif any(row.timed for row in series.rows):
        yield Text(NO_ATTACK, style="italic")


def _footnotes(series: Series) -> Iterable[Text]:
    for sentence, mark in footnotes(series.rows).items():
        numbered = {row.split: row for row in series.rows if row.split is not None}
        where = ranges((number for number, row in numbered.items() if sentence in remarks(row)), numbered)
        yield Text(f"{mark}  {sentence}{f' (split {where})' if where else ''}")
