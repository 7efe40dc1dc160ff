"""The panels of panels.py for plotly, with all of a split's rows where one points at it.

Colours are CSS variables ("var(--head)"): the page defines them for light and dark surroundings, its script
puts them in.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from textwrap import wrap
from typing import Any

from analysis.report.panels import PARTS, THIN, Band, Bars, Level, Line, Panel, Scale, Values
from analysis.report.remarks import remarks
from analysis.report.rows import (
    Chart,
    Curve,
    Row,
    half_width,
    head_time,
    shortened,
    written,
)

NAME_WIDTH = 22
HOVER_WIDTH = 90
MOST_MARKERS = 40
MARKERS = {"circle": "circle", "square": "square", "triangle": "triangle-up", "diamond": "diamond", "star": "star"}
DASHES = {"solid": "solid", "dashed": "5px,3px", "dotted": "1px,2px", "dash-dotted": "5px,2px,1px,2px"}
_PSNR_PARTS = ("ci95_low_", "ci95_high_", "worst_")
_BELOW, _BETWEEN, _ABOVE = 184, 0.055, 0.03  # pixels; shares of the height

Trace = dict[str, Any]


def figure(chart: Chart, panels: Sequence[Panel]) -> dict[str, Any]:
    """Make plotly's figure: {"data": ..., "layout": ...}."""
    labels = list(split_labels(chart).values())
    texts = [_hover_text(chart, number) for number in chart.splits]
    data: list[Trace] = []
    for place, panel in enumerate(panels, 1):
        axis = {"yaxis": f"y{place}"}
        data += [trace | axis for trace in (*traces(panel, labels), _hover(panel, labels, texts))]
    return {"data": data, "layout": _layout(panels, labels)}


def split_labels(chart: Chart) -> dict[int, str]:
    """Say what the axis shows for each split; plotly reads a little HTML in labels, so that names are escaped."""
    return {
        number: escape(f"{number} {shortened(name or 'the picture itself', NAME_WIDTH)}")
        for number, name in chart.splits.items()
    }


def traces(panel: Panel, labels: Sequence[str] = ()) -> Iterator[Trace]:
    """Yield what plotly draws of a panel.

    Args:
        labels: of the splits; of no use where every line has an x of its own.
    """
    for mark in panel.marks:
        match mark:
            case Bars():
                yield _bars(mark, labels, hollow=False)
                if any(mark.hollow):
                    yield _bars(mark, labels, hollow=True)
            case Line():
                yield _line(mark, labels)
            case Band():
                yield _band(mark, labels)
            case Level():
                yield _line(Line([mark.value] * len(labels), mark.look, width=1.5), labels)


def axis(scale: Scale) -> dict[str, Any]:
    """Make plotly's axis; on a logarithmic one its range is that of the logarithms."""
    axis: dict[str, Any] = {"type": "log"} if scale.log else {}
    if scale.ticks:
        axis |= {"tickvals": list(scale.ticks), "tickformat": ",~g"}
    if scale.low is not None and scale.high is not None:
        ends = (scale.low, scale.high)
        axis["range"] = [math.log10(end) for end in ends] if scale.log else list(ends)
    elif scale.low == 0:
        axis["rangemode"] = "tozero"
    return axis


def hover_template(lines: Sequence[str]) -> str:
    """Text that is shown as it is: plotly reads HTML and placeholders in it."""
    return "<br>".join(map(escape, lines)).replace("%{", "%&#123;") + "<extra></extra>"


def _layout(panels: Sequence[Panel], labels: Sequence[str]) -> dict[str, Any]:
    heights = sum(panel.share for panel in panels)
    top, unit = 1 - _ABOVE, (1 - _ABOVE - _BETWEEN * (len(panels) - 1)) / heights
    layout: dict[str, Any] = {
        "height": round(170 + 92 * heights),
        "barmode": "stack",
        "bargap": 0.14,
        "hovermode": "x unified",
        "showlegend": False,
        "margin": {"l": 52, "r": 8, "t": 6, "b": _BELOW},
        "hoverlabel": {"align": "left"},
        "xaxis": {
            "type": "category",
            "categoryorder": "array",
            "categoryarray": list(labels),
            "range": [-0.6, max(len(labels), 8) - 0.4],
            "anchor": f"y{len(panels)}",
            "tickangle": -90,
            "tickfont": {"size": 11},
            "showspikes": True,
            "spikemode": "across",
            "spikethickness": 1,
            "spikedash": "solid",
        },
        "annotations": [],
    }
    for place, panel in enumerate(panels, 1):
        bottom = max(0.0, top - unit * panel.share)
        fixed = {"anchor": "x", "zeroline": False, "fixedrange": True, "showspikes": False}
        layout[f"yaxis{place}"] = {"domain": [bottom, top], **fixed, **axis(panel.scale)}
        layout["annotations"].append(_said(f"<b>{escape(panel.heading)}</b>", top))
        if panel.note:
            layout["annotations"].append(_said(escape(panel.note), top) | {"x": 0.005, "yanchor": "top"})
        top = bottom - _BETWEEN
    return layout


def _said(text: str, top: float) -> dict[str, Any]:
    place = {"xref": "paper", "yref": "paper", "x": 0, "y": top, "xanchor": "left", "yanchor": "bottom"}
    return {"text": text, "showarrow": False, **place}


def _hover(panel: Panel, labels: Sequence[str], texts: Sequence[str]) -> Trace:
    """What is pointed at: an invisible point for each split, also for those where nothing was measured."""
    known = [y for mark in panel.marks if isinstance(mark, Line) for y in mark.y if y is not None]
    base = max(known, default=1.0) if panel.scale.low is None else panel.scale.low
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(labels),
        "y": [base] * len(labels),
        "marker": {"opacity": 0, "size": 1},
        "hovertemplate": list(texts),
        "cliponaxis": False,
    }


def _bars(mark: Bars, labels: Sequence[str], *, hollow: bool) -> Trace:
    """Draw the bars that are filled, or those that are outlines, these with their intervals."""
    values = [value if flag == hollow else None for value, flag in zip(mark.values, mark.hollow, strict=True)]
    colour = f"var(--{mark.look.colour})"
    fill, ink = ("var(--surface)", colour) if hollow else (colour, "var(--surface)")
    pattern = {"shape": mark.look.pattern, "fgcolor": ink, "size": 5, "solidity": 0.35, "fillmode": "overlay"}
    trace: Trace = {
        "type": "bar",
        "x": list(labels),
        "y": values,
        "hoverinfo": "skip",
        "offsetgroup": str(mark.group),
        "marker": {"color": fill, "line": {"width": 1.2 if hollow else 0, "color": colour}, "pattern": pattern},
    }
    if hollow:
        trace |= {"error_y": _interval(values, mark.lows, mark.highs, "ink"), "zorder": 1}  # before what lies upon it
    return trace


def _line(mark: Line, labels: Sequence[str]) -> Trace:
    colour = f"var(--{mark.look.colour})"
    hollow = mark.hollow or [False] * len(mark.y)
    modes = (["lines"] if mark.joined else []) + (["markers"] if mark.look.marker else [])
    trace: Trace = {
        "type": "scatter",
        "mode": "+".join(modes),
        "x": list(labels if mark.x is None else mark.x),
        "y": list(mark.y),
        "opacity": 0.75 if mark.width <= THIN else 1,
        "line": {"color": colour, "width": mark.width, "dash": DASHES[mark.look.dash]},
        "zorder": 2 if any(hollow) else 0,
    }
    trace |= {"hovertemplate": list(mark.texts)} if mark.texts else {"hoverinfo": "skip"}
    if mark.look.marker:
        trace["marker"] = {
            "symbol": MARKERS[mark.look.marker],
            "size": mark.size,
            "color": ["var(--surface)" if one else colour for one in hollow],
            "line": {"color": colour, "width": [1.2 if one else 0 for one in hollow]},
        } | ({"maxdisplayed": MOST_MARKERS} if mark.joined else {})
    if mark.lows:
        trace["error_y"] = _interval(mark.y, mark.lows, mark.highs, mark.look.colour)
    return trace


def _interval(values: Values, lows: Values, highs: Values, colour: str) -> dict[str, Any]:
    """Make plotly's error bars, none where a value or an end is not known; the style sheet dashes them."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [_less(high, value) for high, value in zip(highs, values, strict=True)],
        "arrayminus": [_less(value, low) for value, low in zip(values, lows, strict=True)],
        "width": 0,
        "thickness": 1.4,
        "color": f"var(--{colour})",
    }


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _band(mark: Band, labels: Sequence[str]) -> Trace:
    """Fill an interval, one polygon for each stretch of splits that have one."""
    x: list[str | None] = []
    y: list[float | None] = []
    points = list(zip(labels, mark.lows, mark.highs, strict=True))
    for known, stretch in groupby(points, key=lambda point: None not in point):
        if known:
            members = list(stretch)
            x += [label for label, _, _ in members] + [label for label, _, _ in reversed(members)] + [None]
            y += [high for _, _, high in members] + [low for _, low, _ in reversed(members)] + [None]
    filled = {"fill": "toself", "fillcolor": f"var(--{mark.look.colour})", "opacity": 0.15, "line": {"width": 0}}
    return {"type": "scatter", "mode": "lines", "x": x, "y": y, "hoverinfo": "skip", **filled}


def _hover_text(chart: Chart, number: int) -> str:
    rows = [(row, curve) for curve in chart.curves for row in curve.rows if row.split == number]
    lines = dict.fromkeys(line for row, curve in rows for line in _in_words(row, curve))
    return hover_template([part for line in lines for part in wrap(line, HOVER_WIDTH, max_lines=3)])


def _in_words(row: Row, curve: Curve) -> Iterator[str]:
    """Yield all of a row that people ask for, a line for each subject."""
    if made := " ".join(part for part in (row.text("op"), row.text("activation_shape")) if part):
        yield made
    spread = half_width(row)
    times = {
        "head": head_time(row) + (f" ±{written(spread, 'ms')}" if spread else ""),
        **{part: written(row.number(column), "ms") for part, column in PARTS.items() if part != "head"},
        "end to end": head_time(row, "end_to_end_p50_ms"),
    }
    measured = [f"{name} {value}" for name, value in times.items() if value]
    if measured:
        yield f"{curve.variant}: {', '.join(measured)} ms; {written(row.number('wire_bytes'), 'kB')} kB"
    mean, low, high, worst = (written(row.number(f"psnr_{name}db"), "dB") for name in ("", *_PSNR_PARTS))
    if mean:
        interval = f" ({low} to {high})" if low and high else ""
        ssim = written(row.number("ssim"))
        yield f"{curve.name}: PSNR {mean} dB{interval}, best-rebuilt {worst}; SSIM {ssim}"
    recognised, alike = row.number("judge_top1"), row.number("judge_similarity")
    if recognised is not None and alike is not None:
        yield f"{curve.name}: {row.text('judge')} recognises {recognised:.0%}, features alike {written(alike)}"
    for sentence in remarks(row):
        yield f"{curve.name}: {sentence}"
