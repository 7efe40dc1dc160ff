"""How good a survey's estimates were: profiled against measured head time, as a PNG and for plotly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.estimate import Accuracy
from analysis.report import chart, interactive
from analysis.report.panels import COLOURS, MARKERS, Line, Look, Panel, Scale, Swatch, log_ticks, nth
from analysis.report.rows import EMULATED, printable, shortened
from harness.results import axes

TITLE = "Head times: profiled against measured"
AXES = {"x": "measured head time, ms (log scale)", "y": "profiled head time, ms (log scale)"}
NAME_WIDTH = 70
SPLIT_WIDTH = 22
LINE_INCHES = 0.24
_MARGIN = 1.15


def write_estimate_chart(estimates: pd.DataFrame, folder: Path) -> list[Path]:
    """Draw estimate.png, 1200 pixels wide, over that of an earlier report; none where nothing but anchors was measured.

    Args:
        estimates: columns harness.results.columns.ESTIMATES.
    """
    if Accuracy.of(estimates) is None:
        return []
    path = folder / "estimate.png"
    chart.write(draw(estimates), path)
    return [path]


def panel_of(estimates: pd.DataFrame) -> Panel:
    """Each head as a point with its interval: on the line, the estimate was exact. Both axes have the same scale."""
    times = estimates[["measured_ms", "profiled_ms", "low_ms", "high_ms"]].to_numpy()
    # An interval that begins at 0 has no end on a logarithmic axis.
    low, high = float(times[times > 0].min() / _MARGIN), float(times.max() * _MARGIN)
    marks = [Line([low, high], Look("faint"), x=[low, high], width=1.5)]
    legend = []
    curve_axes = [axis for axis in axes.AXES if axis.role != "place" and axis.of_cells]
    told = [axis.name for axis in curve_axes if axis.always_told or estimates[axis.name].nunique() > 1]
    curves = estimates.groupby([axis.name for axis in curve_axes], sort=False, dropna=False)
    for place, (_, heads) in enumerate(curves):
        # Curves that share a colour differ in marker.
        look = Look(nth(COLOURS, place), nth(MARKERS, place + place // len(COLOURS)))
        name = _name(heads.iloc[0][told])
        marks.append(_points(heads, look, name))
        accuracy = Accuracy.of(heads)
        legend.append(Swatch(f"{name}: {accuracy.figures if accuracy else 'anchors only'}", "point", look))
    legend += [
        Swatch("profiled = measured", "line", Look("faint")),
        Swatch("95 % interval", "line", Look("ink", dash="dashed")),
        Swatch("hollow: anchor, estimated from the others", "hollow point", Look("ink", "circle")),
    ]
    scale = Scale(low, high, log=True, ticks=log_ticks(low, high, (1.0, 2.0, 5.0)))
    return Panel(TITLE, 1.0, marks, legend, scale)


def draw(estimates: pd.DataFrame) -> Figure:
    """Draw the PNG."""
    panel = panel_of(estimates)
    height = 7.35 + LINE_INCHES * len(panel.legend)
    figure = Figure(figsize=(chart.WIDTH_INCHES, height), facecolor="white")
    FigureCanvasAgg(figure)
    plane = figure.add_axes((0.07, 0.75 / height, 0.915, 6.1 / height))
    figure.text(0.012, 1 - 0.16 / height, panel.heading, size=16, weight="bold", color=chart.INK, va="top")
    if estimates["emulated"].any():
        figure.text(0.985, 1 - 0.2 / height, EMULATED, size=12, weight="bold", color=chart.ALARM, va="top", ha="right")
    chart.paint(plane, panel)
    for name, label in AXES.items():
        chart.scale_axis(plane, name, panel.scale)
        getattr(plane, f"{name}axis").set_label_text(label, size=11.5, color=chart.INK)
    handles = [chart.handle(swatch) for swatch in panel.legend]
    plane.legend(handles=handles, loc="lower left", bbox_to_anchor=(-0.008, 1.0), frameon=False, fontsize=10)
    return figure


def figure(panel: Panel) -> dict[str, Any]:
    """Make plotly's figure of the same: {"data": ..., "layout": ...}."""
    both = {f"{name}axis": interactive.axis(panel.scale) | {"title": {"text": label}} for name, label in AXES.items()}
    layout = {
        "height": 620,
        "showlegend": False,
        "margin": {"l": 60, "r": 8, "t": 10, "b": 52},
        "hoverlabel": {"align": "left"},
        **both,
    }
    return {"data": list(interactive.traces(panel)), "layout": layout, "row_ids": {}}


def _points(heads: pd.DataFrame, look: Look, name: str) -> Line:
    measured, profiled, lows, highs = (
        heads[column].tolist() for column in ("measured_ms", "profiled_ms", "low_ms", "high_ms")
    )
    texts = [_hover_text(name, head) for head in heads.to_dict("records")]
    hollow = heads["anchor"].tolist()
    return Line(profiled, look, measured, size=8, joined=False, hollow=hollow, lows=lows, highs=highs, texts=texts)


def _name(told: pd.Series[Any]) -> str:
    words = {str(name): str(value) for name, value in told.items()}
    words["threads"] += " thread" if words["threads"] == "1" else " threads"
    return shortened(printable(", ".join(words.values())), NAME_WIDTH)


def _hover_text(name: str, head: dict[Any, Any]) -> str:
    profiled, low, high, measured = (
        f"{head[column]:.3g}" for column in ("profiled_ms", "low_ms", "high_ms", "measured_ms")
    )
    return interactive.hover_template(
        [
            name,
            f"{head['split_index']} {shortened(printable(str(head['split'])), SPLIT_WIDTH)}",
            f"profiled {profiled} ({low} to {high}), measured {measured} ms: {head['error']:+.1%}",
        ]
    )
