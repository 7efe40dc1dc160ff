"""The PNG and the page draw the same panels, and these hold all that they show."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.container import BarContainer

from analysis.report import interactive
from analysis.report.chart import COLOURS, DASHES, HATCHES, MARKERS, draw
from analysis.report.panels import Bars, Line, panels_of
from analysis.report.rows import Chart, charts

Rows = list[dict[str, Any]]
MakeRows = Callable[..., Rows]
MakeTable = Callable[[Rows], pd.DataFrame]
Profiled = Callable[..., dict[str, Any]]


@pytest.fixture
def chart(make_rows: MakeRows, make_table: MakeTable, profiled: Profiled) -> Chart:
    rows = make_rows(splits=6) + make_rows(splits=6, precision="int8", attack="decoder")
    rows[3] = profiled(rows[3])
    (found,) = charts(make_table(rows))
    return found


def test_both_painters_draw_the_same_numbers(chart: Chart) -> None:
    panels = panels_of(chart)
    page = interactive.figure(chart, panels)["data"]
    for place, (panel, axes) in enumerate(zip(panels, draw(chart).axes, strict=True), 1):
        drawn = [np.asarray(line.get_ydata(), dtype=float) for line in axes.get_lines()]
        heights = [np.asarray(bars.datavalues) for bars in axes.containers if isinstance(bars, BarContainer)]
        traces = [trace for trace in page if trace["yaxis"] == f"y{place}"]
        for mark in panel.marks:
            if isinstance(mark, Line):
                values = np.array(mark.y, dtype=float)
                assert any(np.array_equal(values, line, equal_nan=True) for line in drawn)
                assert list(mark.y) in [trace["y"] for trace in traces]
            if isinstance(mark, Bars):
                values = np.array(mark.values, dtype=float)
                assert any(np.allclose(values, bars) for bars in heights)
                shown = [trace["y"] for trace in traces if trace["type"] == "bar"]
                assert set(mark.values) <= {value for values in shown for value in values}


def test_the_psnr_axis_holds_intervals_and_levels(make_rows: MakeRows, make_table: MakeTable) -> None:
    rows = [row | {"oracle_mean_colour_psnr_db": 55.0, "psnr_ci95_high_db": 52.0} for row in make_rows(splits=6)]
    (found,) = charts(make_table(rows))
    scale = panels_of(found)[2].scale
    assert scale.low is not None
    assert scale.high is not None
    assert scale.low < 8.5 < 55.0 < scale.high


def test_a_legend_names_nothing_that_is_not_drawn(make_rows: MakeRows, make_table: MakeTable) -> None:
    (unattacked,) = charts(make_table(make_rows(splits=4, attack=None)))
    assert [panel.heading.split(",")[0] for panel in panels_of(unattacked)] == ["Latency", "On the wire"]
    rows = [row | {"psnr_ci95_low_db": None, "psnr_worst_db": None} for row in make_rows(splits=4)]
    (once,) = charts(make_table(rows))
    labels = [swatch.label for swatch in panels_of(once)[2].legend]
    assert labels == ["fp32, linear", "floor: mean picture, 12.6 dB", "oracle: mean colour, 14.1 dB"]


def test_the_bars_of_a_split_are_stacked_to_its_end_to_end(chart: Chart) -> None:
    latency = panels_of(chart)[0]
    lines = [mark for mark in latency.marks if isinstance(mark, Line)]
    for group, line in enumerate(lines):
        bars = [mark.values for mark in latency.marks if isinstance(mark, Bars) and mark.group == group]
        assert len(bars) == 5
        assert np.array(bars, dtype=float).sum(axis=0) == pytest.approx(np.array(line.y, dtype=float))


def test_parts_that_no_row_tells_apart_are_neither_drawn_nor_named(make_rows: MakeRows, make_table: MakeTable) -> None:
    rows = [row | {"encode_p50_ms": None, "decode_p50_ms": None} for row in make_rows(splits=4)]
    (found,) = charts(make_table(rows))
    latency = panels_of(found)[0]
    assert [mark.look.colour for mark in latency.marks if isinstance(mark, Bars)] == ["head", "transfer", "tail"]
    assert [swatch.label for swatch in latency.legend][:3] == ["head", "transfer", "tail"]


def test_every_painter_has_every_look(chart: Chart) -> None:
    looks = [mark.look for panel in panels_of(chart) for mark in panel.marks]
    looks += [swatch.look for panel in panels_of(chart) for swatch in panel.legend]
    assert {look.colour for look in looks} <= set(COLOURS)
    assert {look.marker for look in looks} <= {None, *interactive.MARKERS}
    assert set(interactive.MARKERS) == set(MARKERS) - {None}
    assert set(interactive.DASHES) == set(DASHES)
    assert {look.pattern for look in looks} <= set(HATCHES)


def test_who_points_at_a_split_is_told_its_marks_and_what_the_independent_judge_says(
    make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows(splits=3)
    rows[1] |= {"judge": "efficientnet_lite1", "judge_top1": 0.25, "judge_similarity": 0.613, "cut_short": True}
    (chart,) = charts(make_table(rows))
    *_, points = interactive.figure(chart, panels_of(chart))["data"]
    _, marked, unmarked = points["hovertemplate"]
    assert "fp32, linear: efficientnet_lite1 recognises 25%, features alike 0.61" in marked
    assert "fp32, linear: the attack was cut short by its budget" in marked
    assert "recognises" not in unmarked
    assert "cut short" not in unmarked


def test_an_attack_that_only_some_splits_had_is_drawn_as_marks_and_the_legend_says_so(
    make_rows: MakeRows, make_table: MakeTable
) -> None:
    stronger = [row | {"psnr_ci95_high_db": 70.0} for row in make_rows(splits=6, attack="spectral")[3:5]]
    (found,) = charts(make_table([*make_rows(splits=6), *stronger]))
    recovered = panels_of(found)[2]
    (marks,) = (mark for mark in recovered.marks if isinstance(mark, Line) and not mark.joined)
    assert [value is not None for value in marks.y] == [False, False, False, True, True, False]
    assert marks.look.marker not in {mark.look.marker for mark in recovered.marks if mark is not marks}
    assert [swatch.kind for swatch in recovered.legend if "where it was tried" in swatch.label] == ["point"]
    assert recovered.scale.high is not None
    assert recovered.scale.high > 70
    assert [mark.joined for mark in panels_of(found)[3].marks if isinstance(mark, Line)] == [True, False]


def test_an_attack_that_every_cut_had_is_a_line_though_the_picture_itself_needs_none(
    make_rows: MakeRows, make_table: MakeTable
) -> None:
    (found,) = charts(make_table([*make_rows(splits=6), *make_rows(splits=6, attack="spectral")[1:]]))
    assert all(mark.joined for mark in panels_of(found)[2].marks if isinstance(mark, Line))


def test_what_only_some_splits_were_attacked_with_counts_no_head_twice(
    make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows(splits=6)
    (once,), (twice,) = (charts(make_table([*rows, *more])) for more in ([], make_rows(splits=6, attack="b")[2:4]))
    assert len(twice.cells) == len(once.cells) == 6
    assert str(twice.link_fit) == str(once.link_fit)
