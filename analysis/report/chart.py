"""Latency, transfer size and what was recovered, against the split: one PNG per experiment, 1200 pixels wide."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import LogLocator, NullFormatter
from matplotlib.typing import LineStyleType

from analysis.report.rows import (
    EMULATED,
    NO_ATTACK,
    RANDOM_WEIGHTS,
    THREAT_MODEL,
    Experiment,
    Row,
    Series,
    experiments,
    shortened,
)
from harness.results.files import write_whole

DPI = 100
WIDTH_INCHES = 12.0
MOST_TICKS = 36
FEWEST_PLACES = 8  # fewer splits than this would make bars like walls
NAME_WIDTH = 20
LEGEND_SIZE, LEGEND_LINE, LEGEND_LETTERS = 10, "\n", 150

# Okabe and Ito's palette, for colour-blind readers, too; precisions also differ in marker and hatch, attacks in line.
PRECISION_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7")
PRECISION_MARKERS = ("o", "s", "^", "D")
PRECISION_HATCHES = ("", "/////", "xxxxx", ".....")
ATTACK_LINES: tuple[LineStyleType, ...] = ("-", (0, (5, 2)), (0, (1, 1.2)), (0, (5, 1.5, 1, 1.5)))
PART_COLOURS = {"head": "#56B4E9", "transfer": "#E69F00", "tail": "#B8BDC4"}
PART_COLUMNS = {"head": "head_p50_ms", "transfer": "transfer_p50_ms", "tail": "tail_p50_ms"}
PROFILED_HEAD = "head (profiled, 95 % interval)"
DASHED: LineStyleType = (0, (2.5, 1.5))
HOLLOW: dict[str, Any] = {"facecolor": "white", "edgecolor": PART_COLOURS["head"], "linewidth": 0.8}
_INTERVAL = ("psnr_ci95_low_db", "psnr_ci95_high_db")
INK, FAINT, ALARM = "#1F2933", "#7B8794", "#C1121F"


def write_charts(summary: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw one PNG per experiment in which anything was measured.

    Args:
        summary: the tidy table, one row per cell x attack.
        folder: an existing folder. One chart is called chart.png there, several chart-<n>-<model>-<device>.png; files
            of these names are replaced.

    Returns:
        The files written, 1200 pixels wide each, in the order of the table.

    Raises:
        ResultsError: no space, or not allowed.
    """
    measured = [experiment for experiment in experiments(summary) if experiment.measured]
    written = []
    for place, experiment in enumerate(measured):
        path = folder / _file_name(experiment, place, alone=len(measured) == 1)
        write(draw(experiment), path)
        written.append(path)
    return written


def write(figure: Figure, path: Path) -> None:
    """Write a chart as PNG; the file is whole or as it was.

    Raises:
        ResultsError: no space, or not allowed.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, dpi=DPI)
    write_whole(path, drawn.getvalue())


def _file_name(experiment: Experiment, place: int, *, alone: bool) -> str:
    if alone:
        return "chart.png"
    words = f"{experiment.settings['model']} {experiment.settings['device']}"
    return f"chart-{place + 1}-{re.sub(r'[^A-Za-z0-9_]+', '-', words).strip('-').lower()[:60]}.png"


def draw(experiment: Experiment) -> Figure:
    """Draw the chart of one experiment: latency, bytes on the wire, PSNR and, where an attack was run, SSIM."""
    attacked = any(_cut(row) and row.number("psnr_db") is not None for row in experiment.rows)
    heights = [3.0, 2.2, 3.2, 1.3] if attacked else [3.0, 2.2]
    figure = Figure(figsize=(WIDTH_INCHES, 3.6 + sum(heights)), facecolor="white")
    FigureCanvasAgg(figure)
    panels = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0])
    below_title = 1 - _title(figure, experiment, attacked=attacked)
    figure.set_layout_engine(ConstrainedLayoutEngine(hspace=0.04, rect=(0.0, 0.0, 0.995, below_title)))
    palette = _Palette(experiment)
    places = {split: place for place, split in enumerate(experiment.splits)}
    _latency(panels[0], experiment, palette, places)
    _wire(panels[1], experiment, palette, places)
    if attacked:
        _recovered(panels[2], experiment, palette, places)
        _similarity(panels[3], experiment, palette, places)
    for panel in panels:
        calm(panel)
    _name_splits(panels[-1], experiment)
    return figure


class _Palette:
    """Which colour, marker, hatch and line belong to a series."""

    def __init__(self, experiment: Experiment) -> None:
        self.precisions = list(dict.fromkeys(series.precision for series in experiment.series))
        self.attacks = list(dict.fromkeys(series.attack for series in experiment.series))
        self.first_of_precision = [
            next(series for series in experiment.series if series.precision == precision)
            for precision in self.precisions
        ]

    def colour(self, series: Series) -> str:
        return PRECISION_COLOURS[self.precisions.index(series.precision) % len(PRECISION_COLOURS)]

    def marker(self, series: Series) -> str:
        return PRECISION_MARKERS[self.precisions.index(series.precision) % len(PRECISION_MARKERS)]

    def hatch(self, series: Series) -> str:
        return PRECISION_HATCHES[self.precisions.index(series.precision) % len(PRECISION_HATCHES)]

    def line(self, series: Series) -> LineStyleType:
        return ATTACK_LINES[self.attacks.index(series.attack) % len(ATTACK_LINES)]


def _title(figure: Figure, experiment: Experiment, *, attacked: bool) -> float:
    """Write title and subtitle, and return the share of the figure's height that they take."""
    height = figure.get_figheight()
    lines = [
        (drawable(shortened(experiment.title, 88)), 16, "bold", INK),
        (drawable(shortened(experiment.conditions, 120)), 12, "normal", INK),
    ]
    lines.append((THREAT_MODEL if attacked else NO_ATTACK, 12, "normal", INK))
    if experiment.random_weights:
        lines.append((RANDOM_WEIGHTS, 12, "bold", ALARM))
    if experiment.emulated:
        lines.append((EMULATED, 12, "bold", ALARM))
    top = 0.16
    for text, size, weight, colour in lines:
        figure.text(0.012, 1 - top / height, text, size=size, weight=weight, color=colour, va="top", parse_math=False)
        top += size * 1.75 / 72
    return (top + 0.08) / height


def _latency(panel: Axes, experiment: Experiment, palette: _Palette, places: dict[int, int]) -> None:
    share = 0.84 / len(palette.first_of_precision)
    gap = 0.94 if len(places) <= 2 * MOST_TICKS else 1.0
    for place, series in enumerate(palette.first_of_precision):
        rows = _with(series, "end_to_end_p50_ms")
        at = [places[row.split] - 0.42 + share * (place + 0.5) for row in rows if row.split is not None]
        bottom = [0.0] * len(rows)
        for part, column in PART_COLUMNS.items():
            heights = [row.number(column) or 0.0 for row in rows]
            bars = panel.bar(
                at,
                heights,
                share * gap,
                bottom,
                color=PART_COLOURS[part],
                hatch=palette.hatch(series),
                edgecolor="white",
                linewidth=0,
                zorder=2,
            )
            bottom = [low + height for low, height in zip(bottom, heights, strict=True)]
            if part == "head":
                _hollow(panel, bars, rows)
        _line(panel, series, palette, places, "end_to_end_p50_ms", linewidth=1.4, markersize=4)
        _hollow_points(panel, series, palette, places)
    panel.set_ylim(bottom=0)
    parts = [Patch(facecolor=colour, label=part) for part, colour in PART_COLOURS.items()]
    if any(row.profiled for row in experiment.rows):
        parts.insert(1, Patch(**HOLLOW, label=PROFILED_HEAD))
    ends = [
        Line2D(
            [],
            [],
            color=palette.colour(series),
            marker=palette.marker(series),
            markersize=4,
            linewidth=1.4,
            label=f"end to end {series.precision}",
        )
        for series in palette.first_of_precision
    ]
    hatched = [
        Patch(
            facecolor="#B8BDC4",
            hatch=palette.hatch(series),
            edgecolor="white",
            linewidth=0,
            label=f"hatched: {series.precision}",
        )
        for series in palette.first_of_precision
        if palette.hatch(series)
    ]
    _legend(panel, f"Latency, median, {'emulated ' if experiment.emulated else ''}ms", [*parts, *ends, *hatched])


def _hollow(panel: Axes, bars: BarContainer, rows: Sequence[Row]) -> None:
    """Draw the heads that were profiled as outlines, and how far their times may be off."""
    for bar, row in zip(bars, rows, strict=True):
        low, high = row.number("head_ci95_low_ms"), row.number("head_ci95_high_ms")
        if row.profiled and low is not None and high is not None:
            bar.set(**HOLLOW)
            middle = bar.get_x() + bar.get_width() / 2
            panel.plot([middle, middle], [low, high], color=INK, linestyle=DASHED, linewidth=1.3, zorder=4)


def _hollow_points(panel: Axes, series: Series, palette: _Palette, places: dict[int, int]) -> None:
    """Empty the markers of those ends to end that hold a profiled head time."""
    values = _values(series, places, "end_to_end_p50_ms", cuts_only=False)
    profiled = {places[row.split] for row in series.rows if row.split is not None and row.profiled}
    shown = [place for place in sorted(profiled) if place % _every(len(places)) == 0]
    panel.plot(
        shown,
        [values[place] for place in shown],
        color=palette.colour(series),
        marker=palette.marker(series),
        markersize=4,
        markerfacecolor="white",
        linestyle="none",
        zorder=4,
    )


def _wire(panel: Axes, experiment: Experiment, palette: _Palette, places: dict[int, int]) -> None:
    for series in palette.first_of_precision:
        _line(panel, series, palette, places, "wire_bytes", scale=1e-3, linewidth=1.6, markersize=4.5)
    handles = _precision_handles(palette)
    if experiment.picture_bytes:
        label = f"the picture itself: {experiment.picture_bytes / 1000:,.0f} kB"
        handles.append(
            panel.axhline(
                experiment.picture_bytes / 1000, color=FAINT, linestyle=(0, (6, 3)), linewidth=1.3, label=label
            )
        )
    panel.set_yscale("log")
    panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))
    panel.yaxis.set_minor_formatter(NullFormatter())
    panel.yaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    _legend(panel, "On the wire, kB (log scale)", handles)


def _recovered(panel: Axes, experiment: Experiment, palette: _Palette, places: dict[int, int]) -> None:
    handles = _series_handles(palette, experiment)
    for series in experiment.series:
        lows, highs = (_values(series, places, column, cuts_only=True) for column in _INTERVAL)
        panel.fill_between(range(len(places)), lows, highs, color=palette.colour(series), alpha=0.13, linewidth=0)
        _line(panel, series, palette, places, "psnr_worst_db", cuts_only=True, linewidth=0.9, markersize=0, alpha=0.75)
        _line(panel, series, palette, places, "psnr_db", cuts_only=True, linewidth=1.8, markersize=4.5)
    if any(_cut(row) and row.number("psnr_worst_db") is not None for row in experiment.rows):
        handles.append(Line2D([], [], color=INK, linewidth=0.9, alpha=0.75, label="best-rebuilt picture"))
    if any(row.number("psnr_ci95_low_db") is not None for row in experiment.rows):
        handles.append(Patch(facecolor=FAINT, alpha=0.25, label="95 % interval"))
    for column, name, style in (
        ("floor_psnr_db", "floor: mean picture", "--"),
        ("oracle_mean_colour_psnr_db", "oracle: mean colour", ":"),
    ):
        value = experiment.once(column)
        if value is not None:
            handles.append(
                panel.axhline(value, color=FAINT, linestyle=style, linewidth=1.4, label=f"{name}, {value:.1f} dB")
            )
    low, high = panel.get_ylim()
    panel.set_ylim(low, high + 0.12 * (high - low))
    if 0 in places:  # its 60 dB would squeeze all else into the lower half
        panel.text(
            places[0] - 0.15,
            0.965,
            "split 0, the picture itself, is left out",
            transform=panel.get_xaxis_transform(),
            va="top",
            size=LEGEND_SIZE,
            color=FAINT,
        )
    _legend(panel, "Recovered, PSNR dB: mean over pictures", handles)


def _similarity(panel: Axes, experiment: Experiment, palette: _Palette, places: dict[int, int]) -> None:
    for series in experiment.series:
        _line(panel, series, palette, places, "ssim", linewidth=1.4, markersize=3.5)
    panel.set_ylim(0, 1.04)
    _legend(panel, "Recovered, SSIM", [])


def _cut(row: Row) -> bool:
    """Whether the network was cut at all: at split 0 the picture itself travels."""
    return row.split != 0


def _line(
    panel: Axes,
    series: Series,
    palette: _Palette,
    places: dict[int, int],
    column: str,
    *,
    cuts_only: bool = False,
    scale: float = 1.0,
    linewidth: float,
    markersize: float,
    alpha: float = 1.0,
) -> None:
    """Draw a line over all splits, broken where one was not measured."""
    values = [value * scale for value in _values(series, places, column, cuts_only=cuts_only)]
    panel.plot(
        range(len(values)),
        values,
        color=palette.colour(series),
        marker=palette.marker(series) if markersize else "",
        markersize=markersize,
        markevery=_every(len(places)),
        linestyle=palette.line(series),
        linewidth=linewidth,
        alpha=alpha,
        markeredgecolor="white",
        markeredgewidth=0.5,
        zorder=3,
    )


def _values(series: Series, places: dict[int, int], column: str, *, cuts_only: bool) -> list[float]:
    """Return a column's value for each split, NaN where there is none."""
    values = [float("nan")] * len(places)
    for row in _with(series, column):
        value = row.number(column)
        if row.split is not None and value is not None and (_cut(row) or not cuts_only):
            values[places[row.split]] = value
    return values


def _with(series: Series, column: str) -> list[Row]:
    return [row for row in series.rows if row.split is not None and row.number(column) is not None]


def _precision_handles(palette: _Palette) -> list[Line2D]:
    return [
        Line2D(
            [], [], color=palette.colour(series), marker=palette.marker(series), markersize=5, label=series.precision
        )
        for series in palette.first_of_precision
        if series.precision
    ]


def _series_handles(palette: _Palette, experiment: Experiment) -> list[Line2D | Patch]:
    return [
        Line2D(
            [],
            [],
            color=palette.colour(series),
            marker=palette.marker(series),
            markersize=5,
            linestyle=palette.line(series),
            label=drawable(shortened(series.name, 40)),
        )
        for series in experiment.series
    ]


def _legend(panel: Axes, heading: str, handles: Sequence[Line2D | Patch]) -> None:
    """Write the panel's heading and beneath it its legend, in as many lines as its words need."""
    letters = [len(str(handle.get_label())) + 7 for handle in handles]
    columns = next((n for n in range(len(letters), 1, -1) if _width(letters, n) <= LEGEND_LETTERS), 1)
    lines = -(-len(handles) // columns)
    panel.set_title(heading + LEGEND_LINE * lines, loc="left", size=12.5, weight="bold", color=INK)
    if handles:
        legend = panel.legend(
            handles=list(handles),
            loc="lower left",
            bbox_to_anchor=(-0.008, 1.0),
            ncols=columns,
            frameon=False,
            fontsize=LEGEND_SIZE,
            handlelength=2.2,
            columnspacing=1.6,
            borderaxespad=0.1,
        )
        legend.set_in_layout(False)  # its room is the heading's empty lines; a wide legend must not squeeze the panels


def _width(letters: Sequence[int], columns: int) -> int:
    """Add up the widest entries of a legend's columns, which matplotlib fills one after the other."""
    return sum(int(column.max()) for column in np.array_split(np.array(letters), columns))


def calm(panel: Axes) -> None:
    """Leave of a panel's frame and grid only what helps to read it."""
    panel.grid(axis="y", color="#E4E7EB", linewidth=0.8, zorder=0)
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    panel.spines[["left", "bottom"]].set_color("#9AA5B1")
    panel.tick_params(labelcolor=INK, labelsize=10.5, color="#9AA5B1")


def _name_splits(panel: Axes, experiment: Experiment) -> None:
    splits = list(experiment.splits.items())
    every = _every(len(splits))
    shown = list(range(0, len(splits), every))
    labels = [drawable(f"{shortened(splits[i][1] or 'picture', NAME_WIDTH)}  {splits[i][0]}") for i in shown]
    panel.set_xticks(shown, labels, rotation=90, size=9.5, parse_math=False)
    spare = max(0.0, (FEWEST_PLACES - len(splits)) / 2)
    panel.set_xlim(-0.7 - spare, len(splits) - 0.3 + spare)
    panel.set_xlabel(
        "split: where the network is cut" + (f" (one in {every} is named)" if every > 1 else ""), size=11.5, color=INK
    )


def _every(count: int) -> int:
    """Of so many splits, name and mark every n-th."""
    return -(-count // MOST_TICKS)


def drawable(text: str) -> str:
    """Text with the letters that the chart's font has: Latin ones and a few signs."""
    return "".join(letter if ord(letter) < 0x250 or letter in "…x" else "?" for letter in text)
