"""The panels of panels.py drawn: a PNG, 1200 pixels wide, for each chart."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, NullFormatter
from matplotlib.typing import LineStyleType

from analysis.report.panels import THIN, Band, Bars, Level, Line, Look, Panel, Scale, Swatch, Values, panels_of
from analysis.report.rows import (
    NO_ATTACK,
    THREAT_MODEL,
    Chart,
    shortened,
)
from harness.results.files import write_whole

DPI = 100
WIDTH_INCHES = 12.0
MOST_TICKS = 36
FEWEST_PLACES = 8  # fewer splits than this would make bars like walls
NAME_WIDTH = 20
LEGEND_SIZE, LEGEND_LINE, LEGEND_LETTERS, LEGEND_LABEL = 10, "\n", 150, 110

INK, FAINT, ALARM = "#1F2933", "#7B8794", "#C1121F"
# The first four are Okabe and Ito's, for colour-blind readers, too.
COLOURS = {"first": "#0072B2", "second": "#D55E00", "third": "#009E73", "fourth": "#CC79A7", "ink": INK, "faint": FAINT}
# What the device does is blue, what the workstation does grey.
COLOURS |= {"head": "#56B4E9", "encode": "#2A6F97", "transfer": "#E69F00", "decode": "#6B7682", "tail": "#B8BDC4"}
MARKERS = {None: "", "circle": "o", "square": "s", "triangle": "^", "diamond": "D", "star": "*"}
HATCHES = {"": "", "/": "/////", "x": "xxxxx", ".": "....."}
DASHES: dict[str, LineStyleType] = {
    "solid": "-",
    "dashed": (0, (5, 2)),
    "dotted": (0, (1, 1.2)),
    "dash-dotted": (0, (5, 1.5, 1, 1.5)),
}
INTERVAL: dict[str, Any] = {"linestyle": (0, (2.5, 1.5)), "linewidth": 1.3}
_HOLLOW: dict[str, Any] = {"facecolor": "white", "edgecolor": COLOURS["head"], "linewidth": 0.8}


def write_charts(charts: Sequence[Chart], folder: Path) -> list[Path]:
    """Draw one PNG, 1200 pixels wide, per chart in which anything was measured; returns the files.

    One is called chart.png, several chart-<n>-<model>-<device>.png; files of these names are replaced.
    """
    measured = [chart for chart in charts if chart.measured]
    written = []
    for place, chart in enumerate(measured):
        path = folder / _file_name(chart, place, alone=len(measured) == 1)
        write(draw(chart), path)
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


def _file_name(chart: Chart, place: int, *, alone: bool) -> str:
    if alone:
        return "chart.png"
    words = f"{chart.settings['model']} {chart.settings['device']}"
    return f"chart-{place + 1}-{re.sub(r'[^A-Za-z0-9_]+', '-', words).strip('-').lower()[:60]}.png"


def draw(chart: Chart) -> Figure:
    """Draw a chart."""
    panels = panels_of(chart)
    heights = [panel.share for panel in panels]
    figure = Figure(figsize=(WIDTH_INCHES, 3.6 + sum(heights)), facecolor="white")
    FigureCanvasAgg(figure)
    below_title = 1 - _title(figure, chart)
    figure.set_layout_engine(ConstrainedLayoutEngine(hspace=0.04, rect=(0.0, 0.0, 0.995, below_title)))
    every = -(-len(chart.splits) // MOST_TICKS)
    axes = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for one, panel in zip(axes, panels, strict=True):
        paint(one, panel, every=every)
        legend(one, panel)
    _name_splits(axes[-1], chart, every)
    return figure


def _title(figure: Figure, chart: Chart) -> float:
    """Write title and subtitle, and return the share of the figure's height that they take."""
    height = figure.get_figheight()
    threat = NO_ATTACK if chart.once("psnr_db") is None else THREAT_MODEL
    lines = [
        (shortened(chart.title, 88), 16, "bold", INK),
        (shortened(chart.conditions, 120), 12, "normal", INK),
    ]
    lines += [(threat, 12, "normal", INK), *((warning, 12, "bold", ALARM) for warning in chart.warnings)]
    top = 0.16
    for text, size, weight, colour in lines:
        said = drawable(text)
        figure.text(0.012, 1 - top / height, said, size=size, weight=weight, color=colour, va="top", parse_math=False)
        top += size * 1.75 / 72
    return (top + 0.08) / height


def paint(axes: Axes, panel: Panel, *, every: int = 1) -> None:
    """Draw a panel without its heading and legend; of joined lines every n-th point is marked."""
    groups = 1 + max((mark.group for mark in panel.marks if isinstance(mark, Bars)), default=0)
    bottoms: dict[int, np.ndarray[Any, Any]] = {}
    for mark in panel.marks:
        match mark:
            case Bars():
                bottoms[mark.group] = _bars(axes, mark, bottoms.get(mark.group, 0.0), groups)
            case Line():
                _line(axes, mark, every)
            case Band():
                lows, highs = _floats(mark.lows), _floats(mark.highs)
                colour = COLOURS[mark.look.colour]
                axes.fill_between(range(len(lows)), lows, highs, color=colour, alpha=0.15, linewidth=0)
            case Level():
                colour, dash = COLOURS[mark.look.colour], DASHES[mark.look.dash]
                axes.axhline(mark.value, color=colour, linestyle=dash, linewidth=1.4)
    scale_axis(axes, "y", panel.scale)
    if panel.note:
        axes.text(0.005, 0.965, panel.note, transform=axes.transAxes, va="top", size=LEGEND_SIZE, color=FAINT)
    calm(axes)


def scale_axis(axes: Axes, name: str, scale: Scale) -> None:
    """Give an axis ("x" or "y") its scale, ends and ticks."""
    axis = getattr(axes, f"{name}axis")
    if scale.log:
        getattr(axes, f"set_{name}scale")("log")
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.set_minor_formatter(NullFormatter())
    if scale.ticks:
        axis.set_major_locator(FixedLocator(list(scale.ticks)))
    getattr(axes, f"set_{name}lim")(scale.low, scale.high)


def _bars(axes: Axes, mark: Bars, bottom: Any, groups: int) -> np.ndarray[Any, Any]:
    """Draw bars upon others, and return where they end."""
    heights = np.nan_to_num(_floats(mark.values))
    width = 0.84 / groups
    middles = np.arange(len(heights)) - 0.42 + width * (mark.group + 0.5)
    gap = 0.94 if len(heights) <= 2 * MOST_TICKS else 1.0
    bars = axes.bar(middles, heights, width * gap, bottom, **_bar_style(mark.look), zorder=2)
    ends = zip(bars, mark.hollow, middles, mark.lows, mark.highs, strict=True)
    for bar, hollow, middle, low, high in ends:
        if hollow and low is not None and high is not None:
            bar.set(**_HOLLOW)
            axes.plot([middle, middle], [low, high], color=INK, **INTERVAL, zorder=4)
    return np.asarray(bottom + heights)


def _bar_style(look: Look) -> dict[str, Any]:
    return {"facecolor": COLOURS[look.colour], "hatch": HATCHES[look.pattern], "edgecolor": "white", "linewidth": 0}


def _line(axes: Axes, mark: Line, every: int) -> None:
    y = _floats(mark.y)
    x = np.arange(len(y)) if mark.x is None else np.asarray(mark.x)
    hollow = np.zeros(len(y), bool) if not mark.hollow else np.asarray(mark.hollow)
    style = _line_style(mark.look) | {"markersize": 0.75 * mark.size}
    if mark.lows:
        axes.vlines(x, _floats(mark.lows), _floats(mark.highs), style["color"], **INTERVAL)
    if mark.joined:
        alpha = 0.75 if mark.width <= THIN else 1.0
        edge: dict[str, Any] = {"markeredgecolor": "white", "markeredgewidth": 0.5, "markevery": every}
        axes.plot(x, y, **style, **edge, linewidth=0.9 * mark.width, alpha=alpha, zorder=3)
        hollow &= np.arange(len(y)) % every == 0
    else:
        axes.plot(x[~hollow], y[~hollow], **style | {"linestyle": "none"}, zorder=3)
    if hollow.any():
        axes.plot(x[hollow], y[hollow], **style | {"linestyle": "none"}, markerfacecolor="white", zorder=4)


def _line_style(look: Look) -> dict[str, Any]:
    return {"color": COLOURS[look.colour], "marker": MARKERS[look.marker], "linestyle": DASHES[look.dash]}


def _floats(values: Values) -> np.ndarray[Any, Any]:
    return np.array(values, dtype=np.float64)


def handle(swatch: Swatch) -> Line2D | Patch:
    """Make matplotlib's entry of a legend."""
    look, label = swatch.look, drawable(shortened(swatch.label, LEGEND_LABEL))
    match swatch.kind:
        case "bar":
            return Patch(**_bar_style(look), label=label)
        case "hollow bar":
            return Patch(**_HOLLOW, label=label)
        case "band":
            return Patch(facecolor=COLOURS[look.colour], alpha=0.25, label=label)
    style = _line_style(look) | ({"linestyle": "none"} if swatch.kind.endswith("point") else {})
    face = "white" if swatch.kind == "hollow point" else style["color"]
    width = 0.9 if swatch.kind == "thin line" else 1.4
    return Line2D([], [], **style, markersize=5, markerfacecolor=face, linewidth=width, label=label)


def legend(axes: Axes, panel: Panel) -> None:
    """Write the panel's heading and beneath it its legend, in as many lines as its words need."""
    handles = [handle(swatch) for swatch in panel.legend]
    letters = [len(str(one.get_label())) + 7 for one in handles]
    columns = next((n for n in range(len(letters), 1, -1) if _width(letters, n) <= LEGEND_LETTERS), 1)
    lines = -(-len(handles) // columns)
    axes.set_title(panel.heading + LEGEND_LINE * lines, loc="left", size=12.5, weight="bold", color=INK)
    if handles:
        drawn = axes.legend(
            handles=handles,
            loc="lower left",
            bbox_to_anchor=(-0.008, 1.0),
            ncols=columns,
            frameon=False,
            fontsize=LEGEND_SIZE,
            handlelength=2.2,
            columnspacing=1.6,
            borderaxespad=0.1,
        )
        drawn.set_in_layout(False)  # its room is the heading's empty lines; a wide legend must not squeeze the panels


def _width(letters: Sequence[int], columns: int) -> int:
    """Add up the widest entries of a legend's columns, which matplotlib fills one after the other."""
    return sum(int(column.max()) for column in np.array_split(np.array(letters), columns))


def calm(axes: Axes) -> None:
    """Leave of a panel's frame and grid only what helps to read it."""
    axes.grid(axis="y", color="#E4E7EB", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color("#9AA5B1")
    axes.tick_params(labelcolor=INK, labelsize=10.5, color="#9AA5B1")


def _name_splits(axes: Axes, chart: Chart, every: int) -> None:
    splits = list(chart.splits.items())
    shown = list(range(0, len(splits), every))
    labels = [drawable(f"{shortened(splits[i][1] or 'picture', NAME_WIDTH)}  {splits[i][0]}") for i in shown]
    axes.set_xticks(shown, labels, rotation=90, size=9.5, parse_math=False)
    spare = max(0.0, (FEWEST_PLACES - len(splits)) / 2)
    axes.set_xlim(-0.7 - spare, len(splits) - 0.3 + spare)
    named = f" (one in {every} is named)" if every > 1 else ""
    axes.set_xlabel("split: where the network is cut" + named, size=11.5, color=INK)


def drawable(text: str) -> str:
    """Text with the letters that the chart's font has: Latin ones and a few signs."""
    return "".join(letter if ord(letter) < 0x250 or letter in "…x" else "?" for letter in text)
