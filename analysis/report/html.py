"""One HTML file that works offline: chart, table, and a wall of original and reconstructed pictures."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.estimate import Accuracy
from analysis.report import estimate_chart, interactive
from analysis.report.remarks import remarks
from analysis.report.rows import (
    EMULATED,
    NO_ATTACK,
    NO_REASON,
    PROFILED,
    RANDOM_WEIGHTS,
    THREAT_MODEL,
    Experiment,
    Row,
    Series,
    decibel,
    experiments,
    head_time,
    kilobytes,
    milliseconds,
    printable,
    ranges,
    similarity,
)
from analysis.report.timer import Timer
from analysis.report.wall import Wall, build_wall
from harness.results.columns import SUMMARY

MOST_NAMES = 3


class Fact(NamedTuple):
    """A figure that sums an experiment up, and what to hold beside it."""

    name: str
    value: str
    beside: str


class Cell(NamedTuple):
    """One cell of the page's table: what is read, and what is sorted by (None last)."""

    text: str
    key: float | str | None


class TableRow(NamedTuple):
    """One row of the page's table; the first of each split can be linked to, and links to the split's pictures."""

    id: str
    link: str
    row: Row
    cells: tuple[Cell, ...]
    remarks: tuple[str, ...]


class Section(NamedTuple):
    """All that the page shows of one experiment."""

    id: str
    experiment: Experiment
    notices: tuple[str, ...]
    facts: tuple[Fact, ...]
    figure: dict[str, Any] | None
    legends: list[tuple[str, list[interactive.Swatch]]]
    headings: tuple[tuple[str, str, str], ...]
    rows: tuple[TableRow, ...]
    wall: Wall


class Trouble(NamedTuple):
    """Rows that were not measured for the same reason."""

    status: str
    reason: str
    title: str
    series: str
    splits: str


@dataclass(frozen=True)
class _Column:
    name: str
    heading: str
    text: Callable[[Row], str]


def _shown(name: str, heading: str, text: Callable[[float | None], str]) -> _Column:
    return _Column(name, heading, lambda row: text(row.number(name)))


_COLUMNS = (
    _Column("split_index", "#", lambda row: row.text("split_index")),
    _Column("split", "split", lambda row: row.text("split") or ("the picture itself" if row.split == 0 else "")),
    _Column("precision", "precision", lambda row: row.text("precision")),
    _Column("attack", "attack", lambda row: row.text("attack")),
    _Column("op", "op", lambda row: row.text("op")),
    _Column("activation_shape", "activation", lambda row: row.text("activation_shape")),
    _Column("head_p50_ms", "head ms", head_time),
    _shown("head_ci95_low_ms", "from", milliseconds),
    _shown("head_ci95_high_ms", "to", milliseconds),
    _shown("head_p90_ms", "p90", milliseconds),
    _shown("wire_bytes", "wire kB", kilobytes),
    _shown("transfer_p50_ms", "transfer ms", milliseconds),
    _shown("tail_p50_ms", "tail ms", milliseconds),
    _Column("end_to_end_p50_ms", "end to end ms", lambda row: head_time(row, "end_to_end_p50_ms")),
    _shown("psnr_db", "PSNR dB", decibel),
    _shown("psnr_ci95_low_db", "from", decibel),
    _shown("psnr_ci95_high_db", "to", decibel),
    _shown("psnr_worst_db", "best-rebuilt dB", decibel),
    _shown("ssim", "SSIM", similarity),
    _shown("agreement_top1", "same class", similarity),
    _shown("delegated_share", "delegated", similarity),
    _Column("status", "status", lambda row: row.text("status")),
)
_TEXT_COLUMNS = ("split", "precision", "attack", "op", "activation_shape", "status")


def render_html(
    run_folder: Path,
    summary: pd.DataFrame,
    *,
    leakage: pd.DataFrame,
    estimates: pd.DataFrame,
    environment: Mapping[str, object],
    notices: Sequence[str] = (),
    timers: Sequence[Timer] = (),
) -> str:
    """Render the page: a whole document that fetches nothing, whatever the names in it are.

    Args:
        run_folder: the run, for its pictures.
        summary: the tidy table, one row per cell x attack.
        leakage: PSNR per picture (columns of harness.results.columns.LEAKAGE); may be empty.
        estimates: profiled and measured head times (columns of harness.results.columns.ESTIMATES); may be empty.
        environment: what was asked and where, nested as it likes (run.json without its cells).
        notices: what must be said about the whole run.
        timers: of its devices, as far as they are known.
    """
    found, clocks = experiments(summary), {printable(timer.device): timer for timer in timers}
    sections = [
        _section(f"e{place}", run_folder, experiment, leakage, clocks.get(experiment.device))
        for place, experiment in enumerate(found, 1)
    ]
    figures = [{"id": section.id, **section.figure} for section in sections if section.figure]
    accuracy = Accuracy.of(estimates)
    if accuracy is not None:
        figures.append({"id": "estimate", **estimate_chart.figure(estimates)})
    templates = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,  # names, reasons and notices come from elsewhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["sha256"] = _sha256
    return templates.get_template("report.html.j2").render(
        headline=headline(found),
        lead=_lead(summary, found),
        run_id=next((row.text("run_id") for experiment in found for row in experiment.rows), run_folder.name),
        notices=[printable(notice) for notice in notices],
        sections=sections,
        figures=figures,
        accuracy=accuracy,
        estimate_legend=estimate_chart.legend(estimates),
        troubles=list(_troubles(found)),
        not_measured=not_measured(summary),
        environment=list(flattened(environment)),
        threat_model=THREAT_MODEL,
        text_columns=_TEXT_COLUMNS,
        plotly=plotly.offline.get_plotlyjs(),
    )


def headline(found: Sequence[Experiment]) -> str:
    """Say in plain words what was measured and where."""
    if not found:
        return "A run without rows"
    models = _listed(experiment.settings["model"] or "an unknown model" for experiment in found)
    devices = _listed(experiment.device or "an unknown device" for experiment in found)
    cuts = sorted({sum(number != 0 for number in experiment.splits) for experiment in found})
    counted = f"{cuts[0]}" if len(cuts) == 1 else f"{cuts[0]} to {cuts[-1]}"
    return f"{models} on {devices}, cut at {counted} {'point' if cuts[-1] == 1 else 'points'}"


def not_measured(summary: pd.DataFrame) -> list[tuple[str, list[tuple[str, str]]]]:
    """List the columns that are empty in every row: (reason, [(column, meaning)]) for each reason."""
    reasons: dict[str, list[tuple[str, str]]] = {}
    for column in SUMMARY:
        if column.name in summary and column.name != "reason" and summary[column.name].isna().all():
            reasons.setdefault(column.empty_when or "no reason is known", []).append((column.name, column.meaning))
    return list(reasons.items())


def flattened(values: Mapping[str, object], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Yield nested values as (path, text); empty ones and lists of records are left out."""
    for name, value in values.items():
        path = f"{prefix}.{name}" if prefix else printable(str(name))
        if isinstance(value, Mapping):
            yield from flattened(value, path)
        elif isinstance(value, (list, tuple)):
            if value and not any(isinstance(part, Mapping) for part in value):
                yield path, printable(", ".join(map(str, value)))
        elif value not in (None, ""):
            yield path, printable(str(value))


def _section(
    section_id: str, run_folder: Path, experiment: Experiment, leakage: pd.DataFrame, timer: Timer | None
) -> Section:
    wall = build_wall(run_folder, experiment, leakage)
    columns = [column for column in _COLUMNS if any(column.text(row) for row in experiment.rows)]
    shown = {number for number, _, _ in wall.splits}
    figure = None
    if experiment.measured:
        anchors = {
            label: f"{section_id}-s{number}" if number in shown else f"{section_id}-t{number}"
            for number, label in interactive.split_labels(experiment).items()
        }
        figure = {**interactive.figure(experiment), "anchors": anchors}
    meanings = {column.name: column.meaning for column in SUMMARY}
    return Section(
        id=section_id,
        experiment=experiment,
        notices=tuple(_section_notices(experiment)),
        facts=tuple(_facts(experiment, timer)),
        figure=figure,
        legends=interactive.legends(experiment),
        headings=tuple((column.heading, column.name, meanings[column.name]) for column in columns),
        rows=tuple(_table_rows(section_id, experiment, columns, shown)),
        wall=wall,
    )


def _section_notices(experiment: Experiment) -> Iterable[str]:
    if experiment.random_weights:
        yield RANDOM_WEIGHTS
    if experiment.emulated:
        yield EMULATED
    if experiment.measured and experiment.once("psnr_db") is None:
        yield NO_ATTACK


def _table_rows(
    section_id: str, experiment: Experiment, columns: Sequence[_Column], shown: set[int]
) -> Iterable[TableRow]:
    linked: set[int | None] = {None}
    for row in sorted(experiment.rows, key=lambda row: -1 if row.split is None else row.split):
        keys = [row.text(c.name) if c.name in _TEXT_COLUMNS else row.number(c.name) for c in columns]
        cells = tuple(Cell(column.text(row), key) for column, key in zip(columns, keys, strict=True))
        own_id = "" if row.split in linked else f"{section_id}-t{row.split}"
        link = f"{section_id}-s{row.split}" if row.split in shown else ""
        linked.add(row.split)
        yield TableRow(own_id, link, row, cells, tuple(remarks(row)))


def _facts(experiment: Experiment, timer: Timer | None) -> Iterable[Fact]:
    """Sum an experiment up; at split 0 the picture itself travels, so that it is the reference, not a result."""
    cuts = [row for row in experiment.rows if row.split != 0]
    reference = next((row for row in experiment.rows if row.split == 0), Row({}))
    emulated = ", emulated" if experiment.emulated else ""
    if heads := sorted(_with(cuts, "head_p50_ms"), key=lambda row: row.number("head_p50_ms") or 0.0):
        low, high = head_time(heads[0]), head_time(heads[-1])
        estimated = sum(row.profiled for row in heads)
        beside = f"; {estimated} of {len(heads)} profiled ({PROFILED})" if estimated else ""
        span = low if low == high else f"{low} to {high}"
        yield Fact("Head", f"{span} ms", f"median on {experiment.device}{emulated}{beside}")
    if timer is not None:
        yield Fact("Clock", f"steps of {timer.step_ns:,.0f} ns", f"the harness adds {timer.added}{emulated}")
    if sizes := _known(cuts, "wire_bytes"):
        less = sum(size < experiment.picture_bytes for size in sizes) if experiment.picture_bytes else None
        beside = f"the picture itself: {kilobytes(experiment.picture_bytes)} kB; {less} of {len(sizes)} rows send less"
        yield Fact("On the wire", f"{_span(sizes, kilobytes)} kB", beside if less is not None else "")
    if (fit := experiment.link_fit) is not None:
        off = f"{fit.median_error:.0%} off in the median, {fit.worst_error:.0%} at worst"
        rate = f"{fit.link.rate_bytes_per_s * 8 / 1e6:,.0f} Mbit/s"
        yield Fact(
            "Link, as a model", f"{milliseconds(1000 * fit.link.rtt_s)} ms + bytes at {rate}", f"{off}{emulated}"
        )
    fastest = min(cuts, key=lambda row: row.number("end_to_end_p50_ms") or float("inf"), default=Row({}))
    if fastest.number("end_to_end_p50_ms") is not None:
        sent = reference.number("end_to_end_p50_ms")
        beside = f"at split {fastest.split}, {fastest.text('precision')}" + (
            f"; sending the picture: {milliseconds(sent)} ms" if sent is not None else ""
        )
        yield Fact("Fastest end to end", f"{head_time(fastest, 'end_to_end_p50_ms')} ms", beside + emulated)
    if recovered := _known(cuts, "psnr_db"):
        worst, floor = max(_known(cuts, "psnr_worst_db"), default=None), experiment.once("floor_psnr_db")
        beside = "; ".join(
            [f"best-rebuilt picture: {decibel(worst)} dB"] * (worst is not None)
            + [f"floor: {decibel(floor)} dB"] * (floor is not None)
        )
        yield Fact("Recovered", f"{_span(recovered, decibel)} dB", beside)


def _with(rows: Iterable[Row], column: str) -> list[Row]:
    return [row for row in rows if row.number(column) is not None]


def _known(rows: Iterable[Row], column: str) -> list[float]:
    return [value for row in rows if (value := row.number(column)) is not None]


def _span(values: Sequence[float], text: Callable[[float | None], str]) -> str:
    low, high = text(min(values)), text(max(values))
    return low if low == high else f"{low} to {high}"


def _lead(summary: pd.DataFrame, found: Sequence[Experiment]) -> str:
    series: list[Series] = [series for experiment in found for series in experiment.series]
    precisions = _listed(part.precision for part in series if part.precision)
    attacks = _listed(part.attack for part in series if part.attack)
    pictures = next((value for experiment in found if (value := experiment.once("pictures"))), None)
    counts = Counter(summary["status"].astype(str))
    said = [f"Heads in {precisions}."] if precisions else []
    if attacks:
        judged = f", judged on {pictures:.0f} pictures that the attacker never saw" if pictures else ""
        said.append(f"Attacked with {attacks}{judged}.")
    profiled = int((summary["head_source"] == "profiled").sum())
    measured = f"{counts['ok']} of {len(summary)} rows were measured"
    if profiled:
        measured += f", with {profiled} head {'time' if profiled == 1 else 'times'} profiled"
    troubled = [f"{counts[status]} {status}" for status in ("failed", "skipped") if counts[status]]
    said.append(f"{measured}{f'; {_listed(troubled)}' if troubled else ''}.")
    return " ".join(said)


def _troubles(found: Sequence[Experiment]) -> Iterable[Trouble]:
    for experiment in found:
        for series in experiment.series:
            grouped: dict[tuple[str, str], list[int | None]] = {}
            for row in series.rows:
                if not row.ok:
                    key = (row.text("status") or "failed", row.text("reason") or NO_REASON)
                    grouped.setdefault(key, []).append(row.split)
            for (status, reason), numbers in grouped.items():
                where = ranges((number for number in numbers if number is not None), experiment.splits)
                yield Trouble(status, reason, experiment.title, series.name, where)


def _listed(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    if len(distinct) > MOST_NAMES:
        distinct = [*distinct[:MOST_NAMES], f"{len(distinct) - MOST_NAMES} more"]
    return distinct[0] if len(distinct) == 1 else f"{', '.join(distinct[:-1])} and {distinct[-1]}" if distinct else ""


def _sha256(script: str) -> str:
    """Hash a script as a content security policy wants it."""
    return base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()
