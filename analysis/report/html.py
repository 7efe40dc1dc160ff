"""One HTML file that works offline: chart, table, and a wall of original and reconstructed pictures."""

from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import pandas as pd
import plotly.offline
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.report import estimate_chart, interactive
from analysis.report.effort import Effort
from analysis.report.findings import Findings
from analysis.report.panels import Panel, panels_of
from analysis.report.remarks import remarks
from analysis.report.rows import (
    NO_ATTACK,
    NO_REASON,
    PROFILED,
    THREAT_MODEL,
    Chart,
    Curve,
    Row,
    head_time,
    printable,
    ranges,
    shown,
    written,
)
from analysis.report.timer import Timer
from analysis.report.wall import Wall, build_wall
from harness.results.columns import SUMMARY, Column, named

MOST_NAMES = 3


class Fact(NamedTuple):
    """A figure that sums a chart up, and what to hold beside it."""

    name: str
    value: str
    beside: str


class TableRow(NamedTuple):
    """One row of the page's table; the first of each split can be linked to, and links to the split's pictures."""

    id: str
    link: str
    row: Row
    remarks: tuple[str, ...]


class Section(NamedTuple):
    """All that the page shows of one chart."""

    id: str
    chart: Chart
    notices: list[str]
    facts: tuple[Fact, ...]
    panels: list[Panel]
    figure: dict[str, Any] | None
    columns: list[Column]
    rows: tuple[TableRow, ...]
    wall: Wall
    efforts: list[Effort]


class Trouble(NamedTuple):
    """Rows that were not measured for the same reason."""

    status: str
    reason: str
    title: str
    curve: str
    splits: str


# In the page's order; those without a value are left out.
_COLUMNS = named(
    SUMMARY,
    *("split_index", "split", "precision", "attack", "op", "activation_shape"),
    *("head_p50_ms", "head_ci95_low_ms", "head_ci95_high_ms", "head_p90_ms"),
    *("wire_bytes", "encode_p50_ms", "transfer_p50_ms", "decode_p50_ms", "tail_p50_ms", "end_to_end_p50_ms"),
    *("psnr_db", "psnr_ci95_low_db", "psnr_ci95_high_db", "psnr_worst_db", "ssim"),
    *("search_residual", "agreement_top1", "judge_top1", "judge_similarity", "delegated_share", "status"),
)


def render_html(findings: Findings) -> str:
    """Render the page: a whole document that fetches nothing, whatever the names in it are."""
    clocks = {printable(timer.device): timer for timer in findings.timers}
    sections = [
        _section(f"e{place}", findings, chart, clocks.get(chart.device))
        for place, chart in enumerate(findings.charts, 1)
    ]
    figures = [{"id": section.id, **section.figure} for section in sections if section.figure]
    estimate = estimate_chart.panel_of(findings.estimates) if findings.accuracy else None
    if estimate:
        figures.append({"id": "estimate", **estimate_chart.figure(estimate)})
    templates = Environment(
        loader=PackageLoader("analysis.report", "."),
        autoescape=True,  # names, reasons and notices come from elsewhere
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters["sha256"] = _sha256
    return templates.get_template("report.html.j2").render(
        headline=headline(findings.charts),
        lead=_lead(findings.summary, findings.charts),
        run_id=next((row.text("run_id") for one in findings.charts for row in one.rows), findings.folder.name),
        notices=[printable(notice) for notice in findings.notices],
        sections=sections,
        advice=[printable(sentence) for sentence in findings.advice],
        figures=figures,
        accuracy=findings.accuracy,
        estimate=estimate,
        troubles=list(_troubles(findings.charts)),
        not_measured=not_measured(findings.summary),
        environment=list(flattened(findings.environment)),
        threat_model=THREAT_MODEL,
        plotly=plotly.offline.get_plotlyjs(),
        shown=shown,
        dashes=interactive.DASHES,
    )


def headline(charts: Sequence[Chart]) -> str:
    """Say in plain words what was measured and where."""
    if not charts:
        return "A run without rows"
    models = _listed(chart.settings["model"] or "an unknown model" for chart in charts)
    devices = _listed(chart.device or "an unknown device" for chart in charts)
    cuts = sorted({sum(number != 0 for number in chart.splits) for chart in charts})
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


def _section(section_id: str, findings: Findings, chart: Chart, timer: Timer | None) -> Section:
    wall = build_wall(findings.folder, chart, findings.leakage)
    pictured = {number for number, _, _ in wall.splits}
    panels, figure = [], None
    if chart.measured:
        row_ids = {
            label: f"{section_id}-{'s' if number in pictured else 't'}{number}"
            for number, label in interactive.split_labels(chart).items()
        }
        panels = panels_of(chart)
        figure = {**interactive.figure(chart, panels), "row_ids": row_ids}
    return Section(
        id=section_id,
        chart=chart,
        notices=chart.warnings + [NO_ATTACK] * (bool(chart.measured) and chart.once("psnr_db") is None),
        facts=tuple(_facts(chart, timer)),
        panels=panels,
        figure=figure,
        columns=[column for column in _COLUMNS if any(shown(row, column) for row in chart.rows)],
        rows=tuple(_table_rows(section_id, chart, pictured)),
        wall=wall,
        efforts=[effort for effort in findings.efforts if printable(effort.model) == chart.settings["model"]],
    )


def _table_rows(section_id: str, chart: Chart, pictured: set[int]) -> Iterable[TableRow]:
    linked: set[int | None] = {None}
    for row in sorted(chart.rows, key=lambda row: -1 if row.split is None else row.split):
        own_id = "" if row.split in linked else f"{section_id}-t{row.split}"
        link = f"{section_id}-s{row.split}" if row.split in pictured else ""
        linked.add(row.split)
        yield TableRow(own_id, link, row, tuple(remarks(row)))


def _facts(chart: Chart, timer: Timer | None) -> Iterable[Fact]:
    """Sum a chart up; at split 0 the picture itself travels, so that it is the reference, not a result."""
    cuts = [row for row in chart.rows if row.split != 0]
    timed = [row for row in chart.cells if row.split != 0]
    reference = next((row for row in chart.rows if row.split == 0), Row({}))
    emulated = ", emulated" if chart.emulated else ""
    if heads := [row for row in timed if row.number("head_p50_ms") is not None]:
        heads.sort(key=lambda row: row.number("head_p50_ms") or 0.0)
        low, high = head_time(heads[0]), head_time(heads[-1])
        estimated = sum(row.profiled for row in heads)
        beside = f"; {estimated} of {len(heads)} profiled ({PROFILED})" if estimated else ""
        span = low if low == high else f"{low} to {high}"
        yield Fact("Head", f"{span} ms", f"median on {chart.device}{emulated}{beside}")
    if timer is not None:
        yield Fact("Clock", f"steps of {timer.step_ns:,.0f} ns", f"the harness adds {timer.added}{emulated}")
    if sizes := _known(timed, "wire_bytes"):
        less = sum(size < chart.picture_bytes for size in sizes) if chart.picture_bytes else None
        beside = f"the picture itself: {written(chart.picture_bytes, 'kB')} kB; {less} of {len(sizes)} cuts send less"
        yield Fact("On the wire", f"{_span(sizes, 'kB')} kB", beside if less is not None else "")
    if (fit := chart.link_fit) is not None:
        off = f"{fit.median_error:.0%} off in the median, {fit.worst_error:.0%} at worst"
        rate = f"{fit.link.rate_bytes_per_s * 8 / 1e6:,.0f} Mbit/s"
        yield Fact(
            "Link, as a model", f"{written(1000 * fit.link.rtt_s, 'ms')} ms + bytes at {rate}", f"{off}{emulated}"
        )
    fastest = min(cuts, key=lambda row: row.number("end_to_end_p50_ms") or float("inf"), default=Row({}))
    if fastest.number("end_to_end_p50_ms") is not None:
        sent = reference.number("end_to_end_p50_ms")
        beside = f"at split {fastest.split}, {fastest.text('precision')}" + (
            f"; sending the picture: {written(sent, 'ms')} ms" if sent is not None else ""
        )
        yield Fact("Fastest end to end", f"{head_time(fastest, 'end_to_end_p50_ms')} ms", beside + emulated)
    if recovered := _known(cuts, "psnr_db"):
        worst, floor = max(_known(cuts, "psnr_worst_db"), default=None), chart.once("floor_psnr_db")
        beside = "; ".join(
            [f"best-rebuilt picture: {written(worst, 'dB')} dB"] * (worst is not None)
            + [f"floor: {written(floor, 'dB')} dB"] * (floor is not None)
        )
        yield Fact("Recovered", f"{_span(recovered, 'dB')} dB", beside)


def _known(rows: Iterable[Row], column: str) -> list[float]:
    return [value for row in rows if (value := row.number(column)) is not None]


def _span(values: Sequence[float], unit: str) -> str:
    low, high = written(min(values), unit), written(max(values), unit)
    return low if low == high else f"{low} to {high}"


def _lead(summary: pd.DataFrame, charts: Sequence[Chart]) -> str:
    curves: list[Curve] = [curve for chart in charts for curve in chart.curves]
    precisions = _listed(part.variant for part in curves if part.variant)
    attacks = _listed(part.attack for part in curves if part.attack)
    pictures = next((value for chart in charts if (value := chart.once("pictures"))), None)
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


def _troubles(charts: Sequence[Chart]) -> Iterable[Trouble]:
    for chart in charts:
        for curve in chart.curves:
            grouped: dict[tuple[str, str], list[int | None]] = {}
            for row in curve.rows:
                if not row.ok:
                    key = (row.text("status") or "failed", row.text("reason") or NO_REASON)
                    grouped.setdefault(key, []).append(row.split)
            for (status, reason), numbers in grouped.items():
                where = ranges((number for number in numbers if number is not None), chart.splits)
                yield Trouble(status, reason, chart.title, curve.name, where)


def _listed(names: Iterable[str]) -> str:
    distinct = list(dict.fromkeys(names))
    if len(distinct) > MOST_NAMES:
        distinct = [*distinct[:MOST_NAMES], f"{len(distinct) - MOST_NAMES} more"]
    return distinct[0] if len(distinct) == 1 else f"{', '.join(distinct[:-1])} and {distinct[-1]}" if distinct else ""


def _sha256(script: str) -> str:
    """Hash a script as a content security policy wants it."""
    return base64.b64encode(hashlib.sha256(str(script).encode()).digest()).decode()
