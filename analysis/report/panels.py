"""A chart as data, for two painters (chart.py, interactive.py): panels with their marks, scales and legends."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeVar

from analysis.report.rows import Chart, Curve, Row

Marker = Literal["circle", "square", "triangle", "diamond", "star"]
Pattern = Literal["", "/", "x", "."]
Dash = Literal["solid", "dashed", "dotted", "dash-dotted"]
Values = Sequence[float | None]
"""One for each split (or point); None where nothing was measured."""
T = TypeVar("T")

# Precisions differ in colour, marker and pattern, attacks in line; one that only some splits had has no line.
COLOURS = ("first", "second", "third", "fourth")
MARKERS: tuple[Marker, ...] = ("circle", "square", "triangle", "diamond")
PATTERNS: tuple[Pattern, ...] = ("", "/", "x", ".")
TRIED_SOMEWHERE: Marker = "star"
DASHES: tuple[Dash, ...] = ("solid", "dashed", "dotted", "dash-dotted")
PARTS = {part: f"{part}_p50_ms" for part in ("head", "encode", "transfer", "decode", "tail")}
PROFILED_HEAD = "head (profiled, 95 % interval)"
THIN = 1.0
_STAR_SIZE = 11.0
_HEAD_INTERVAL = ("head_ci95_low_ms", "head_ci95_high_ms")
_PSNR_INTERVAL = ("psnr_ci95_low_db", "psnr_ci95_high_db")
_PSNR_LEVELS: tuple[tuple[str, str, Dash], ...] = (
    ("floor_psnr_db", "floor: mean picture", "dashed"),
    ("oracle_mean_colour_psnr_db", "oracle: mean colour", "dotted"),
)


@dataclass(frozen=True)
class Look:
    """How a curve looks; `colour` is the name of one, which each painter has a table of."""

    colour: str
    marker: Marker | None = None
    dash: Dash = "solid"
    pattern: Pattern = ""


@dataclass(frozen=True)
class Bars:
    """One part of stacked bars, one for each split.

    Attributes:
        group: bars of one group are stacked; groups stand side by side.
        hollow: bars that are drawn as outlines, each with its interval from `lows` to `highs`.
    """

    group: int
    values: Values
    look: Look
    hollow: Sequence[bool]
    lows: Values
    highs: Values


@dataclass(frozen=True)
class Line:
    """A line, broken where nothing was measured; or, where it is not joined, points.

    Attributes:
        x: None: the splits.
        width, size: of line and markers, in the page's pixels.
        hollow: markers that are drawn as outlines.
        lows, highs: intervals of the points; empty where they have none.
        texts: of the points, for who points at them; empty where they have none.
    """

    y: Values
    look: Look
    x: Sequence[float] | None = None
    width: float = 2.0
    size: float = 6.0
    joined: bool = True
    hollow: Sequence[bool] = ()
    lows: Values = ()
    highs: Values = ()
    texts: Sequence[str] = ()


@dataclass(frozen=True)
class Band:
    """An interval around a line."""

    lows: Values
    highs: Values
    look: Look


@dataclass(frozen=True)
class Level:
    """A value that holds for all splits."""

    value: float
    look: Look


class Swatch(NamedTuple):
    """One entry of a legend."""

    label: str
    kind: Literal["bar", "hollow bar", "line", "thin line", "band", "point", "hollow point"]
    look: Look


@dataclass(frozen=True)
class Scale:
    """An axis: its ends (None: what the values need) and ticks (none: as the painter likes)."""

    low: float | None = None
    high: float | None = None
    log: bool = False
    ticks: Sequence[float] = ()


@dataclass(frozen=True)
class Panel:
    """One of the panels above each other.

    Attributes:
        share: of the chart's height, relative to the other panels'.
        note: said inside of it.
    """

    heading: str
    share: float
    marks: Sequence[Bars | Line | Band | Level]
    legend: Sequence[Swatch]
    scale: Scale
    note: str = ""


def panels_of(chart: Chart) -> list[Panel]:
    """Latency, bytes on the wire and, where an attack was run, PSNR and SSIM."""
    looks = _Looks(chart)
    panels = [_latency(chart, looks), _wire(chart, looks)]
    if any(row.split != 0 and row.number("psnr_db") is not None for row in chart.rows):
        panels += [_recovered(chart, looks), _similarity(chart, looks)]
    return panels


def nth(choices: Sequence[T], place: int) -> T:
    """Begin anew where there are fewer choices than places."""
    return choices[place % len(choices)]


def log_ticks(low: float, high: float, steps: Sequence[float]) -> list[float]:
    """Those multiples of powers of ten, from the power below `low` to the one above `high`."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    return [step * 10.0**power for power in powers for step in steps]


class _Looks:
    """Which look belongs to a curve."""

    def __init__(self, chart: Chart) -> None:
        self.variants = list(dict.fromkeys(curve.variant for curve in chart.curves))
        self.attacks = list(dict.fromkeys(curve.attack for curve in chart.curves if chart.is_everywhere(curve)))
        self.chart = chart
        self.first_of_variant = [
            next(curve for curve in chart.curves if curve.variant == variant) for variant in self.variants
        ]

    def __getitem__(self, curve: Curve) -> Look:
        place = self.variants.index(curve.variant)
        if not self.chart.is_everywhere(curve):
            return Look(nth(COLOURS, place), TRIED_SOMEWHERE, pattern=nth(PATTERNS, place))
        dash = nth(DASHES, self.attacks.index(curve.attack))
        return Look(nth(COLOURS, place), nth(MARKERS, place), dash, nth(PATTERNS, place))


def _latency(chart: Chart, looks: _Looks) -> Panel:
    marks: list[Bars | Line] = []
    # An older splitbench did not tell encoding and decoding apart.
    parts = {part: c for part, c in PARTS.items() if any(row.number(c) is not None for row in chart.rows)}
    legend = [Swatch(part, "bar", Look(part)) for part in parts]
    if any(row.profiled for row in chart.rows):
        legend.insert(1, Swatch(PROFILED_HEAD, "hollow bar", Look("head")))
    for group, curve in enumerate(looks.first_of_variant):
        look = looks[curve]
        profiled = [row is not None and row.profiled for row in _rows(chart, curve)]
        lows, highs = (_values(chart, curve, column) for column in _HEAD_INTERVAL)
        for part, column in parts.items():
            hollow = [part == "head" and flag for flag in profiled]
            values = _values(chart, curve, column)
            marks.append(Bars(group, values, Look(part, pattern=look.pattern), hollow, lows, highs))
        ends = _values(chart, curve, "end_to_end_p50_ms")
        marks.append(Line(ends, look, width=1.5, size=5, hollow=profiled))
        legend.append(
            Swatch(", ".join(filter(None, ("end to end", curve.variant))), "line", replace(look, dash="solid"))
        )
        if look.pattern:
            legend.append(Swatch(f"hatched: {curve.variant}", "bar", Look("tail", pattern=look.pattern)))
    heading = f"Latency, median, {'emulated ' if chart.emulated else ''}ms"
    return Panel(heading, 3.0, marks, legend, Scale(low=0))


def _wire(chart: Chart, looks: _Looks) -> Panel:
    marks: list[Line | Level] = []
    legend = []
    for curve in looks.first_of_variant:
        sizes = _values(chart, curve, "wire_bytes")
        marks.append(Line([None if size is None else size / 1000 for size in sizes], looks[curve]))
        if curve.variant:
            legend.append(Swatch(curve.variant, "line", replace(looks[curve], dash="solid")))
    if picture := chart.picture_bytes:
        marks.append(level := Level(picture / 1000, Look("faint", dash="dashed")))
        legend.append(Swatch(f"the picture itself, {picture / 1000:,.0f} kB", "line", level.look))
    known = _known(marks)
    ticks = log_ticks(min(known), max(known), (1.0, 3.0)) if known else ()
    return Panel("On the wire, kB (log scale)", 2.2, marks, legend, Scale(log=True, ticks=ticks))


def _recovered(chart: Chart, looks: _Looks) -> Panel:
    marks: list[Line | Band | Level] = []
    legend = []
    for curve in chart.curves:
        look = looks[curve]
        lows, highs, worst, mean = (
            _values(chart, curve, column, cuts_only=True) for column in (*_PSNR_INTERVAL, "psnr_worst_db", "psnr_db")
        )
        if chart.is_everywhere(curve):
            marks += [Band(lows, highs, look), Line(worst, replace(look, marker=None), width=THIN), Line(mean, look)]
            legend.append(Swatch(curve.name, "line", look))
        else:
            marks.append(Line(mean, look, size=_STAR_SIZE, joined=False, lows=lows, highs=highs))
            legend.append(Swatch(f"{curve.name}: where it was tried", "point", look))
    if any(row.split != 0 and row.number("psnr_worst_db") is not None for row in chart.rows):
        legend.append(Swatch("thin: best-rebuilt picture", "thin line", Look("ink")))
    if chart.once(_PSNR_INTERVAL[0]) is not None:
        legend.append(Swatch("95 % interval", "band", Look("faint")))
    for column, name, dash in _PSNR_LEVELS:
        if (value := chart.once(column)) is not None:
            marks.append(level := Level(value, Look("faint", dash=dash)))
            legend.append(Swatch(f"{name}, {value:.1f} dB", "line", level.look))
    known = _known(marks)
    room = max(1.5, 0.12 * (max(known) - min(known)))
    # At split 0 the picture itself travels: its 60 dB would squeeze all else into the lower half.
    note = "split 0, the picture itself, is left out" if 0 in chart.splits else ""
    scale = Scale(min(known) - room / 2, max(known) + room)
    return Panel("Recovered, PSNR dB: mean over pictures", 3.2, marks, legend, scale, note)


def _similarity(chart: Chart, looks: _Looks) -> Panel:
    lines = [
        Line(_values(chart, one, "ssim"), looks[one], width=1.5, size=4)
        if chart.is_everywhere(one)
        else Line(_values(chart, one, "ssim"), looks[one], size=_STAR_SIZE, joined=False)
        for one in chart.curves
    ]
    return Panel("Recovered, SSIM", 1.3, lines, [], Scale(0, 1.05, ticks=(0, 0.5, 1)))


def _rows(chart: Chart, curve: Curve) -> list[Row | None]:
    """The curve's row of each split."""
    rows = {row.split: row for row in curve.rows}
    return [rows.get(number) for number in chart.splits]


def _values(chart: Chart, curve: Curve, column: str, *, cuts_only: bool = False) -> list[float | None]:
    return [
        None if row is None or (cuts_only and row.split == 0) else row.number(column) for row in _rows(chart, curve)
    ]


def _known(marks: Iterable[Line | Band | Level]) -> list[float]:
    """Every value that is shown."""
    values: list[float | None] = []
    for mark in marks:
        match mark:
            case Line():
                values += [*mark.y, *mark.lows, *mark.highs]
            case Band():
                values += [*mark.lows, *mark.highs]
            case Level():
                values.append(mark.value)
    return [value for value in values if value is not None]
