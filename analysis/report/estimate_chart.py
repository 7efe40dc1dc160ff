"""How good a survey's estimates were: profiled against measured head time, as a PNG and for plotly."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, NullFormatter

from analysis.estimate import Accuracy
from analysis.report import chart, interactive
from analysis.report.rows import EMULATED, printable, shortened

TITLE = "Head times: profiled against measured"
AXES = {"measured_ms": "measured head time, ms (log scale)", "profiled_ms": "profiled head time, ms (log scale)"}
IDENTITY, INTERVAL, ANCHOR = "profiled = measured", "95 % interval", "hollow: anchor, estimated from the others"
INTERVAL_COLUMNS = ("profiled_ms", "low_ms", "high_ms")
TICKS = (1.0, 2.0, 5.0)
NAME_WIDTH = 70
LINE_INCHES = 0.24
_MARGIN = 1.15


@dataclass(frozen=True)
class _Series:
    """The heads of one network in one precision on one device."""

    name: str
    place: int
    heads: pd.DataFrame

    @property
    def label(self) -> str:
        accuracy = Accuracy.of(self.heads)
        return f"{self.name}: {accuracy.figures if accuracy else 'anchors only'}"

    def choose(self, colours: tuple[str, ...], markers: tuple[str, ...]) -> tuple[str, str]:
        """A colour and a marker; series that share a colour differ in marker."""
        count = len(colours)
        return colours[self.place % count], markers[(self.place + self.place // count) % len(markers)]


def write_estimate_chart(estimates: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw estimate.png into an existing folder, 1200 pixels wide, over that of an earlier report.

    Args:
        estimates: one row per head that was surveyed and measured (columns: harness.results.columns.ESTIMATES).

    Returns:
        The file written; none where nothing but anchors was.

    Raises:
        ResultsError: no space, or not allowed.
    """
    if Accuracy.of(estimates) is None:
        return []
    path = folder / "estimate.png"
    chart.write(draw(estimates), path)
    return [path]


def draw(estimates: pd.DataFrame) -> Figure:
    """Draw each head as a point with its interval: on the line, the estimate was exact."""
    found = _series(estimates)
    height = 7.35 + LINE_INCHES * (len(found) + 3)
    figure = Figure(figsize=(chart.WIDTH_INCHES, height), facecolor="white")
    FigureCanvasAgg(figure)
    panel = figure.add_axes((0.07, 0.75 / height, 0.915, 6.1 / height))
    figure.text(0.012, 1 - 0.16 / height, TITLE, size=16, weight="bold", color=chart.INK, va="top")
    if estimates["emulated"].any():
        figure.text(0.985, 1 - 0.2 / height, EMULATED, size=12, weight="bold", color=chart.ALARM, va="top", ha="right")
    handles = []
    for series in found:
        colour, marker = series.choose(chart.PRECISION_COLOURS, chart.PRECISION_MARKERS)
        heads = series.heads
        panel.vlines(heads["measured_ms"], heads["low_ms"], heads["high_ms"], colour, chart.DASHED, linewidth=1.1)
        style: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 6, "linestyle": "none"}
        for is_anchor, face in ((False, colour), (True, "white")):
            points = heads[heads["anchor"] == is_anchor]
            panel.plot(points["measured_ms"], points["profiled_ms"], **style, markerfacecolor=face, zorder=3)
        handles.append(Line2D([], [], **style, label=chart.drawable(series.label)))
    ends = _ends(estimates)
    handles += panel.plot(ends, ends, color=chart.FAINT, linewidth=1.3, zorder=1, label=IDENTITY)
    handles.append(Line2D([], [], color=chart.INK, linestyle=chart.DASHED, linewidth=1.1, label=INTERVAL))
    handles.append(Line2D([], [], color=chart.INK, marker="o", markerfacecolor="white", linestyle="none", label=ANCHOR))
    panel.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    for axis, label in zip((panel.xaxis, panel.yaxis), AXES.values(), strict=True):
        axis.set_major_locator(LogLocator(subs=TICKS))
        axis.set_major_formatter(lambda value, _: f"{value:,g}")
        axis.set_minor_formatter(NullFormatter())
        axis.set_label_text(label, size=11.5, color=chart.INK)
    chart.calm(panel)
    panel.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.008, 1.0), frameon=False, fontsize=10)
    return figure


def figure(estimates: pd.DataFrame) -> dict[str, Any]:
    """Make plotly's figure of the same: {"data": ..., "layout": ...}."""
    ends = _ends(estimates)
    data: list[interactive.Trace] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": ends,
            "y": ends,
            "hoverinfo": "skip",
            "line": {"color": "var(--faint)", "width": 1.5},
        }
    ]
    for series in _series(estimates):
        colour, marker = series.choose(interactive.PRECISION_COLOURS, interactive.PRECISION_MARKERS)
        heads = series.heads
        data.append(
            {
                "type": "scatter",
                "mode": "markers",
                "x": heads["measured_ms"].tolist(),
                "y": heads["profiled_ms"].tolist(),
                "error_y": interactive.interval(*(heads[name].tolist() for name in INTERVAL_COLUMNS))
                | {"color": f"var(--{colour})"},
                "marker": {
                    "symbol": marker,
                    "size": 8,
                    "color": ["var(--surface)" if anchor else f"var(--{colour})" for anchor in heads["anchor"]],
                    "line": {"color": f"var(--{colour})", "width": 1.5},
                },
                "hovertemplate": [_hover_text(series, head) for head in heads.to_dict("records")],
            }
        )
    scale = {
        "type": "log",
        "range": np.log10(ends).tolist(),
        "tickvals": list(LogLocator(subs=TICKS).tick_values(*ends)),
    }
    layout = {
        "height": 620,
        "showlegend": False,
        "margin": {"l": 60, "r": 8, "t": 10, "b": 52},
        "hoverlabel": {"align": "left"},
        "xaxis": {**scale, "title": {"text": AXES["measured_ms"]}},
        "yaxis": {**scale, "title": {"text": AXES["profiled_ms"]}},
    }
    return {"data": data, "layout": layout, "anchors": {}}


def legend(estimates: pd.DataFrame) -> list[interactive.Swatch]:
    """List what the figure's points and lines mean."""
    swatches = []
    for series in _series(estimates):
        colour, marker = series.choose(interactive.PRECISION_COLOURS, interactive.PRECISION_MARKERS)
        swatches.append(interactive.Swatch(series.label, "point", colour, marker))
    return [
        *swatches,
        interactive.Swatch(IDENTITY, "line", "faint"),
        interactive.Swatch(INTERVAL, "line", "ink", dash="5px 3px"),
        interactive.Swatch(ANCHOR, "hollow point", "ink", "circle"),
    ]


def _series(estimates: pd.DataFrame) -> list[_Series]:
    groups = estimates.groupby(["model", "precision", "device", "threads"], sort=False)
    return [
        _Series(_name(*map(str, key)), place, heads)
        for place, (key, heads) in enumerate(groups)
        if isinstance(key, tuple)
    ]


def _name(model: str, precision: str, device: str, threads: str) -> str:
    words = ", ".join([model, precision, device, f"{threads} {'thread' if threads == '1' else 'threads'}"])
    return shortened(printable(words), NAME_WIDTH)


def _ends(estimates: pd.DataFrame) -> list[float]:
    """Both axes' ends; an interval that begins at 0 has none on a logarithmic axis."""
    times = estimates[["measured_ms", *INTERVAL_COLUMNS]].to_numpy()
    return [float(times[times > 0].min() / _MARGIN), float(times.max() * _MARGIN)]


def _hover_text(series: _Series, head: dict[Any, Any]) -> str:
    profiled, low, high, measured = (
        f"{head[name]:.3g}" for name in ("profiled_ms", "low_ms", "high_ms", "measured_ms")
    )
    lines = (
        series.name,
        f"{head['split_index']} {shortened(printable(str(head['split'])), interactive.NAME_WIDTH)}",
        f"profiled {profiled} ({low} to {high}), measured {measured} ms: {head['error']:+.1%}",
    )
    return "<br>".join(map(escape, lines)).replace("%{", "%&#123;") + "<extra></extra>"
