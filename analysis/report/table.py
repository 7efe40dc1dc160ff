"""The tidy table for a terminal of 100 columns, and as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from textwrap import wrap
from typing import IO

import pandas as pd
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from analysis.report.findings import Findings
from analysis.report.remarks import footnotes, remarks
from analysis.report.rows import (
    NO_ATTACK,
    THREAT_MODEL,
    Chart,
    Curve,
    Row,
    half_width,
    printable,
    ranges,
    shortened,
    shown,
    written,
)
from harness.results.columns import SUMMARY, Column, named

WIDTH = 100
MOST_NAME = 25
LEAST_HEADING = 6


_COLUMNS = named(
    SUMMARY,
    *("head_p50_ms", "wire_bytes", "transfer_p50_ms", "end_to_end_p50_ms", "modelled_end_to_end_ms"),
    *("psnr_db", "psnr_worst_db", "ssim"),
)


def summary_tables(findings: Findings) -> RenderableType:
    """One table per chart, precision and attack, for rich; no line is wider than 100 columns."""
    parts: list[RenderableType] = [Text(f"! {printable(notice)}", style="bold red") for notice in findings.notices]
    for chart in findings.charts:
        for curve in chart.curves:
            parts += [
                Text(f"\n{chart.title}: {curve.name}", style="bold"),
                Text(chart.conditions, style="dim"),
                _table(curve),
                *_caption(chart, curve),
                *_footnotes(curve),
            ]
    if not findings.charts:
        parts.append(Text("Nothing was planned: this run has no rows."))
    lines = (*findings.efforts, findings.accuracy, *findings.timers)
    parts += [Text(f"{line}.", style="italic") for line in lines if line is not None]
    parts += [Text(f"\n{printable(sentence)}") for sentence in findings.advice]
    return Group(*parts)


def to_csv(summary: pd.DataFrame, target: Path | IO[str]) -> None:
    """Write the tidy table as CSV with a heading; what was not measured stays empty, floats keep every digit.

    Args:
        summary: the tidy table.
        target: a file to replace, or an open one ("-" of the command line is standard output).
    """
    summary.to_csv(target, index=False, lineterminator="\n")


def _table(curve: Curve) -> Table:
    columns = [column for column in _COLUMNS if any(row.number(column.name) is not None for row in curve.rows)]
    marks = footnotes(curve.rows)
    cells = [
        ["" if row.split is None else str(row.split)]
        + [_shown(row, column) for column in columns]
        + [" ".join(marks[sentence] for sentence in remarks(row))]
        for row in curve.rows
    ]
    widest = [max(map(len, values)) for values in zip(*cells, strict=True)]
    titles = ["#", *(column.title for column in columns), ""]
    headings = [_wrapped(title, width) for title, width in zip(titles, widest, strict=True)]
    widths = [max(width, *map(len, lines or [""])) for width, lines in zip(widest, headings, strict=True)]
    names = [_name(row) for row in curve.rows]
    left = WIDTH - sum(widths) - 2 * (len(widths) + 1)  # a gap of two after each column
    name_width = min(MOST_NAME, left, max(map(len, names)))
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for place, lines in enumerate(headings):
        table.add_column("\n".join(lines), justify="right", no_wrap=True)
        if place == 0:
            table.add_column("split", no_wrap=True)
    for row, name, (number, *values) in zip(curve.rows, names, cells, strict=True):
        table.add_row(number, Text(shortened(name, name_width)), *values, style=None if row.ok else "dim")
    return table


def _wrapped(title: str, width: int) -> list[str]:
    """A heading in lines that are no wider than what stands under it, where its words allow that."""
    return wrap(title, max(width, LEAST_HEADING), break_long_words=False)


def _shown(row: Row, column: Column) -> str:
    text, spread = shown(row, column), half_width(row)
    has_spread = column.name == "head_p50_ms" and spread is not None and row.split != 0
    return f"{text} ±{written(spread, 'ms')}" if has_spread else text


def _name(row: Row) -> str:
    name = row.text("split") or ("the picture itself" if row.split == 0 else "")
    return name if row.ok else f"{row.text('status')}: {name}" if name else row.text("status")


def _caption(chart: Chart, curve: Curve) -> Iterable[Text]:
    yield from (Text(warning, style="bold red") for warning in chart.warnings)
    modelled = next((text for row in curve.rows if (text := row.text("modelled_link"))), "")
    if modelled:
        yield Text(
            f"modelled: measured end to end, its transfer replaced by that of a link of {modelled}.", style="italic"
        )
    if (fit := chart.link_fit) is not None:
        yield Text(f"{fit}.", style="italic")
    floor = next((value for row in curve.rows if (value := row.number("floor_psnr_db")) is not None), None)
    if any(row.number("psnr_db") is not None for row in curve.rows):
        known = (
            f"Floor (training mean picture, no activation needed): {written(floor, 'dB')} dB. "
            if floor is not None
            else ""
        )
        yield Text(f"{known}worst: the best-rebuilt picture. {THREAT_MODEL}", style="italic")
    elif any(row.timed for row in curve.rows):
        yield Text(NO_ATTACK, style="italic")


def _footnotes(curve: Curve) -> Iterable[Text]:
    for sentence, mark in footnotes(curve.rows).items():
        numbered = {row.split: row for row in curve.rows if row.split is not None}
        where = ranges((number for number, row in numbered.items() if sentence in remarks(row)), numbered)
        yield Text(f"{mark}  {sentence}{f' (split {where})' if where else ''}")
