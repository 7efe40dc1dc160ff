"""The chart of chart.py again, for plotly: the same panels, with all of a split's rows on hover.

Colours are CSS variables ("var(--head)"): the page defines them for light and dark surroundings, its script
puts them in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from textwrap import wrap
from typing import Any, NamedTuple

from analysis.report.chart import PROFILED_HEAD
from analysis.report.remarks import remarks
from analysis.report.rows import (
    Experiment,
    Row,
    Series,
    decibel,
    half_width,
    head_time,
    kilobytes,
    milliseconds,
    shortened,
    similarity,
)

NAME_WIDTH = 22
HOVER_WIDTH = 90
MOST_MARKERS = 40

PART_COLUMNS = {"head": "head_p50_ms", "transfer": "transfer_p50_ms", "tail": "tail_p50_ms"}
HEAD_INTERVAL = ("head_ci95_low_ms", "head_ci95_high_ms")
PRECISION_COLOURS = ("first", "second", "third", "fourth")
PRECISION_MARKERS = ("circle", "square", "triangle-up", "diamond")
PRECISION_PATTERNS = ("", "/", "x", ".")
ATTACK_DASHES = ("solid", "5px 3px", "1px 2px", "5px 2px 1px 2px")

Trace = dict[str, Any]


class Swatch(NamedTuple):
    """One entry of a legend.

    Attributes:
        kind: "bar", "hollow bar", "line", "thin" (line), "band", "point" or "hollow point".
        colour: name of a CSS variable.
        marker: plotly's name, or empty.
        dash: lengths as in SVG, or "solid".
        pattern: plotly's name of a bar's pattern, or empty.
    """

    label: str
    kind: str
    colour: str
    marker: str = ""
    dash: str = "solid"
    pattern: str = ""


class Panel(NamedTuple):
    """One of the panels above each other: its axis, heading, traces and legend."""

    axis: str
    heading: str
    share: float
    traces: list[Trace]
    legend: list[Swatch]
    scale: dict[str, Any]


def figure(experiment: Experiment) -> dict[str, Any]:
    """Make plotly's figure: {"data": ..., "layout": ...}, and "headings", one per panel with its legend."""
    drawing = _Drawing(experiment)
    panels = [drawing.latency(), drawing.wire()]
    if any(row.split != 0 and row.number("psnr_db") is not None for row in experiment.rows):
        panels += [drawing.recovered(), drawing.similarity()]
    return {"data": [trace for panel in panels for trace in panel.traces], "layout": drawing.layout(panels)}


def legends(experiment: Experiment) -> list[tuple[str, list[Swatch]]]:
    """List each panel's heading with what its lines and bars mean."""
    drawing = _Drawing(experiment)
    return [(panel.heading, panel.legend) for panel in (drawing.latency(), drawing.wire(), drawing.recovered())]


def split_labels(experiment: Experiment) -> dict[int, str]:
    """Say what the axis shows for each split; plotly reads a little HTML in labels, so that names are escaped."""
    return {
        number: escape(f"{number} {shortened(name or 'the picture itself', NAME_WIDTH)}")
        for number, name in experiment.splits.items()
    }


class _Drawing:
    """One experiment's traces."""

    def __init__(self, experiment: Experiment) -> None:
        self.experiment = experiment
        self.labels = split_labels(experiment)
        self.precisions = list(dict.fromkeys(series.precision for series in experiment.series))
        self.attacks = list(dict.fromkeys(series.attack for series in experiment.series))
        self.first_of_precision = [
            next(series for series in experiment.series if series.precision == precision)
            for precision in self.precisions
        ]
        self.hover_texts = [self._hover_text(number) for number in self.labels]

    def latency(self) -> Panel:
        traces: list[Trace] = []
        legend = [Swatch(part, "bar", part) for part in PART_COLUMNS]
        if any(row.profiled for row in self.experiment.rows):
            legend.insert(1, Swatch(PROFILED_HEAD, "hollow bar", "head"))
        for series in self.first_of_precision:
            pattern = _nth(PRECISION_PATTERNS, self.precisions, series.precision)
            for part, column in PART_COLUMNS.items():
                values = self._values(series, column)
                profiled = [part == "head" and is_profiled for is_profiled in self._profiled(series)]
                traces.append(self._bars(series, f"var(--{part})", _where(values, profiled, False), pattern))
                if any(profiled):
                    traces.append(self._hollow_bars(series, _where(values, profiled, True), pattern))
            ends = self._line(series, "end_to_end_p50_ms", "y", width=1.5, size=5)
            ends["marker"] |= self._hollow(series, self._colour(series))
            ends["zorder"] = 2
            traces.append(ends)
            legend.append(self._swatch(series, f"end to end, {series.precision}"))
            if pattern:
                legend.append(Swatch(f"hatched: {series.precision}", "bar", "tail", pattern=pattern))
        heading = f"Latency, median, {'emulated ' if self.experiment.emulated else ''}ms"
        return self._panel("y", heading, 3.0, traces, legend, {"rangemode": "tozero"}, base=0.0)

    def wire(self) -> Panel:
        traces = [self._line(series, "wire_bytes", "y2", scale=1e-3) for series in self.first_of_precision]
        legend = [self._swatch(series, series.precision) for series in self.first_of_precision if series.precision]
        picture = self.experiment.picture_bytes
        if picture:
            traces.append(self._level(picture / 1000, "y2", "5px 3px"))
            label = f"the picture itself, {picture / 1000:,.0f} kB"
            legend.append(Swatch(label, "line", "faint", dash="5px 3px"))
        known = [value for row in self.experiment.rows if (value := row.number("wire_bytes"))]
        scale = {"type": "log", "dtick": 1, "exponentformat": "none"}
        return self._panel(
            "y2", "On the wire, kB (log scale)", 2.2, traces, legend, scale, base=max(known, default=1e3) / 1e3
        )

    def recovered(self) -> Panel:
        traces: list[Trace] = []
        legend: list[Swatch] = []
        for series in self.experiment.series:
            traces.append(self._band(series))
            traces.append(self._line(series, "psnr_worst_db", "y3", width=1, cuts_only=True))
            traces.append(self._line(series, "psnr_db", "y3", width=2, size=6, cuts_only=True))
            legend.append(self._swatch(series, series.name, dash=_nth(ATTACK_DASHES, self.attacks, series.attack)))
        legend += [Swatch("thin: best-rebuilt picture", "thin", "faint"), Swatch("95 % interval", "band", "faint")]
        for column, name, dash in (
            ("floor_psnr_db", "floor: mean picture", "5px 3px"),
            ("oracle_mean_colour_psnr_db", "oracle: mean colour", "1px 2px"),
        ):
            value = self.experiment.once(column)
            if value is not None:
                traces.append(self._level(value, "y3", dash))
                legend.append(Swatch(f"{name}, {value:.1f} dB", "line", "faint", dash=dash))
        low, high = self._psnr_range()
        return self._panel(
            "y3", "Recovered, PSNR dB: mean over pictures", 3.2, traces, legend, {"range": [low, high]}, base=low
        )

    def similarity(self) -> Panel:
        traces = [self._line(series, "ssim", "y4", width=1.5, size=4) for series in self.experiment.series]
        scale = {"range": [0, 1.05], "tickvals": [0, 0.5, 1]}
        return self._panel("y4", "Recovered, SSIM", 1.2, traces, [], scale, base=0.0)

    def layout(self, panels: Sequence[Panel]) -> dict[str, Any]:
        heights = sum(panel.share for panel in panels)
        gap = 0.055
        top, unit = 1 - 0.03, (1 - 0.03 - gap * (len(panels) - 1)) / heights
        layout: dict[str, Any] = {
            "height": round(170 + 92 * heights),
            "barmode": "stack",
            "bargap": 0.14,
            "hovermode": "x unified",
            "showlegend": False,
            "margin": {"l": 52, "r": 8, "t": 6, "b": 184},
            "hoverlabel": {"align": "left"},
            "xaxis": {
                "type": "category",
                "categoryorder": "array",
                "categoryarray": list(self.labels.values()),
                "range": [-0.6, max(len(self.labels), 8) - 0.4],
                "anchor": panels[-1].axis,
                "tickangle": -90,
                "tickfont": {"size": 11},
                "showspikes": True,
                "spikemode": "across",
                "spikethickness": 1,
                "spikedash": "solid",
            },
            "annotations": [],
        }
        for panel in panels:
            bottom = max(0.0, top - unit * panel.share)
            layout["yaxis" + panel.axis[1:]] = {
                "domain": [bottom, top],
                "anchor": "x",
                "zeroline": False,
                "fixedrange": True,
                "showspikes": False,
                **panel.scale,
            }
            layout["annotations"].append(_heading(panel.heading, top))
            if panel.axis == "y3" and 0 in self.labels:  # see _psnr_range
                left_out = {"x": 0.005, "y": top, "text": "split 0, the picture itself, is left out", "yanchor": "top"}
                layout["annotations"].append(_heading("", top) | left_out)
            top = bottom - gap
        return layout

    def _panel(
        self,
        axis: str,
        heading: str,
        share: float,
        traces: list[Trace],
        legend: list[Swatch],
        scale: dict[str, Any],
        *,
        base: float,
    ) -> Panel:
        """Add what is hovered over: an invisible point for each split, also for those where nothing was measured."""
        hover: Trace = {
            "type": "scatter",
            "mode": "markers",
            "x": list(self.labels.values()),
            "y": [base] * len(self.labels),
            "yaxis": axis,
            "marker": {"opacity": 0, "size": 1},
            "hovertemplate": self.hover_texts,
            "cliponaxis": False,
        }
        return Panel(axis, heading, share, [*traces, hover], legend, scale)

    def _bars(self, series: Series, colour: str, values: list[float | None], pattern: str) -> Trace:
        return {
            "type": "bar",
            "x": list(self.labels.values()),
            "y": values,
            "hoverinfo": "skip",
            "offsetgroup": series.precision,
            "marker": {
                "color": colour,
                "line": {"width": 0},
                "pattern": {
                    "shape": pattern,
                    "fgcolor": "var(--surface)",
                    "size": 5,
                    "solidity": 0.35,
                    "fillmode": "overlay",
                },
            },
        }

    def _hollow_bars(self, series: Series, values: list[float | None], pattern: str) -> Trace:
        """Draw the heads that were profiled as outlines, and how far their times may be off."""
        bars = self._bars(series, "var(--surface)", values, pattern)
        bars["marker"]["line"] = {"width": 1.2, "color": "var(--head)"}
        bars["marker"]["pattern"]["fgcolor"] = "var(--head)"
        lows, highs = (self._values(series, column) for column in HEAD_INTERVAL)
        return bars | {"error_y": interval(values, lows, highs), "zorder": 1}  # before what is stacked upon it

    def _hollow(self, series: Series, colour: str) -> dict[str, Any]:
        """A marker's colours: outlines where the head time was profiled."""
        profiled = self._profiled(series)
        return {
            "color": ["var(--surface)" if hollow else colour for hollow in profiled],
            "line": {"color": colour, "width": [1.2 if hollow else 0 for hollow in profiled]},
        }

    def _profiled(self, series: Series) -> list[bool]:
        found = {row.split for row in series.rows if row.profiled}
        return [number in found for number in self.labels]

    def _line(
        self,
        series: Series,
        column: str,
        axis: str,
        *,
        scale: float = 1.0,
        width: float = 2,
        size: float = 6,
        cuts_only: bool = False,
    ) -> Trace:
        values = self._values(series, column, cuts_only=cuts_only)
        thin = column == "psnr_worst_db"
        return {
            "type": "scatter",
            "mode": "lines" if thin else "lines+markers",
            "x": list(self.labels.values()),
            "y": [None if value is None else value * scale for value in values],
            "yaxis": axis,
            "hoverinfo": "skip",
            "opacity": 0.7 if thin else 1,
            "line": {
                "color": self._colour(series),
                "width": width,
                "dash": _plotly_dash(_nth(ATTACK_DASHES, self.attacks, series.attack)),
            },
            "marker": {"symbol": _nth(PRECISION_MARKERS, self.precisions, series.precision), "size": size}
            | {"maxdisplayed": MOST_MARKERS},
        }

    def _band(self, series: Series) -> Trace:
        """Fill the 95 % interval, one polygon for each stretch of splits that have one."""
        lows = self._values(series, "psnr_ci95_low_db", cuts_only=True)
        highs = self._values(series, "psnr_ci95_high_db", cuts_only=True)
        x: list[str | None] = []
        y: list[float | None] = []
        points = list(zip(self.labels.values(), lows, highs, strict=True))
        for known, stretch in groupby(points, key=lambda point: None not in point):
            if known:
                members = list(stretch)
                x += [label for label, _, _ in members] + [label for label, _, _ in reversed(members)] + [None]
                y += [high for _, _, high in members] + [low for _, low, _ in reversed(members)] + [None]
        return {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": y,
            "yaxis": "y3",
            "fill": "toself",
            "fillcolor": self._colour(series),
            "opacity": 0.16,
            "line": {"width": 0},
            "hoverinfo": "skip",
        }

    def _level(self, value: float, axis: str, dash: str) -> Trace:
        labels = list(self.labels.values())
        return {
            "type": "scatter",
            "mode": "lines",
            "x": labels,
            "y": [value] * len(labels),
            "yaxis": axis,
            "hoverinfo": "skip",
            "line": {"color": "var(--faint)", "width": 1.5, "dash": _plotly_dash(dash)},
        }

    def _values(self, series: Series, column: str, *, cuts_only: bool = False) -> list[float | None]:
        known = {row.split: row.number(column) for row in series.rows if row.split != 0 or not cuts_only}
        return [known.get(number) for number in self.labels]

    def _psnr_range(self) -> tuple[float, float]:
        """Return the axis's ends: 60 dB at split 0 would squeeze all else into the lower half."""
        columns = ("psnr_ci95_low_db", "psnr_db", "psnr_worst_db", "floor_psnr_db")
        rows = [row for row in self.experiment.rows if row.split != 0]
        values = [value for row in rows for column in columns if (value := row.number(column)) is not None]
        low, high = min(values, default=0.0), max(values, default=60.0)
        return low - 1.5, high + max(1.5, 0.12 * (high - low))

    def _colour(self, series: Series) -> str:
        return f"var(--{_nth(PRECISION_COLOURS, self.precisions, series.precision)})"

    def _swatch(self, series: Series, label: str, *, dash: str = "solid") -> Swatch:
        colour = _nth(PRECISION_COLOURS, self.precisions, series.precision)
        return Swatch(label, "line", colour, _nth(PRECISION_MARKERS, self.precisions, series.precision), dash)

    def _hover_text(self, number: int) -> str:
        lines: list[str] = []
        for series in self.experiment.series:
            for row in series.rows:
                if row.split == number:
                    lines += _in_words(row, series)
        wrapped = [part for line in dict.fromkeys(lines) for part in wrap(line, HOVER_WIDTH, max_lines=3)]
        text = "<br>".join(escape(part) for part in wrapped)
        return text.replace("%{", "%&#123;") + "<extra></extra>"


def _in_words(row: Row, series: Series) -> Iterator[str]:
    """Yield all of a row that people ask for, a line for each subject."""
    if made := " ".join(part for part in (row.text("op"), row.text("activation_shape")) if part):
        yield made
    spread = half_width(row)
    times = {
        "head": head_time(row) + (f" ±{milliseconds(spread)}" if spread else ""),
        "transfer": milliseconds(row.number("transfer_p50_ms")),
        "tail": milliseconds(row.number("tail_p50_ms")),
        "end to end": head_time(row, "end_to_end_p50_ms"),
    }
    measured = [f"{name} {value}" for name, value in times.items() if value]
    if measured:
        yield f"{series.precision}: {', '.join(measured)} ms; {kilobytes(row.number('wire_bytes'))} kB"
    if row.number("psnr_db") is not None:
        low, high = decibel(row.number("psnr_ci95_low_db")), decibel(row.number("psnr_ci95_high_db"))
        interval = f" ({low} to {high})" if low and high else ""
        worst = decibel(row.number("psnr_worst_db"))
        ssim = similarity(row.number("ssim"))
        yield f"{series.name}: PSNR {decibel(row.number('psnr_db'))} dB{interval}, best-rebuilt {worst}; SSIM {ssim}"
    for sentence in remarks(row):
        yield f"{series.name}: {sentence}"


def interval(
    values: Sequence[float | None], lows: Sequence[float | None], highs: Sequence[float | None]
) -> dict[str, Any]:
    """Make plotly's error bars, none where a value or an end is not known; the style sheet dashes them."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [_less(high, value) for high, value in zip(highs, values, strict=True)],
        "arrayminus": [_less(value, low) for value, low in zip(values, lows, strict=True)],
        "width": 0,
        "thickness": 1.4,
        "color": "var(--ink)",
    }


def _where(values: Sequence[float | None], flags: Sequence[bool], wanted: bool) -> list[float | None]:
    return [value if flag == wanted else None for value, flag in zip(values, flags, strict=True)]


def _less(value: float | None, other: float | None) -> float | None:
    return None if value is None or other is None else value - other


def _heading(text: str, top: float) -> dict[str, Any]:
    return {
        "text": f"<b>{escape(text)}</b>",
        "xref": "paper",
        "yref": "paper",
        "x": 0,
        "y": top,
        "xanchor": "left",
        "yanchor": "bottom",
        "showarrow": False,
    }


def _nth(choices: Sequence[str], names: Sequence[str], name: str) -> str:
    return choices[names.index(name) % len(choices)]


def _plotly_dash(dash: str) -> str:
    return dash.replace(" ", ",")
