"""The estimates are held against what was measured, curve by curve, and nothing is drawn of nothing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from PIL import Image

from analysis.report.estimate_chart import draw, figure, panel_of, write_estimate_chart

Estimates = Callable[..., pd.DataFrame]


def said(drawn: Figure) -> list[str]:
    found = drawn.axes[0].get_legend()
    assert found is not None
    return [text.get_text() for text in found.get_texts()]


def test_the_chart_is_1200_pixels_wide(estimates: Estimates, tmp_path: Path) -> None:
    assert write_estimate_chart(estimates(), tmp_path) == [tmp_path / "estimate.png"]
    with Image.open(tmp_path / "estimate.png") as picture:
        assert picture.width == 1200


def test_where_nothing_but_anchors_was_measured_there_is_no_chart(estimates: Estimates, tmp_path: Path) -> None:
    assert write_estimate_chart(estimates(0), tmp_path) == []
    assert write_estimate_chart(estimates(3, anchors=3), tmp_path) == []
    assert not list(tmp_path.iterdir())


def test_points_are_the_tables_numbers_and_anchors_are_hollow(estimates: Estimates) -> None:
    found = estimates(6, anchors=2)
    identity, heads, anchors = draw(found).axes[0].get_lines()
    for line, rows in ((heads, found[2:]), (anchors, found[:2])):
        np.testing.assert_allclose(np.asarray(line.get_xdata(), dtype=float), rows["measured_ms"])
        np.testing.assert_allclose(np.asarray(line.get_ydata(), dtype=float), rows["profiled_ms"])
    assert anchors.get_markerfacecolor() == "white" != heads.get_markerfacecolor()
    np.testing.assert_array_equal(identity.get_xdata(), identity.get_ydata())
    (intervals,) = draw(found).axes[0].collections
    assert isinstance(intervals, LineCollection)
    np.testing.assert_allclose([ends[:, 1] for ends in intervals.get_segments()], found[["low_ms", "high_ms"]])


def test_each_curve_has_its_own_look_and_says_how_good_its_estimates_were(estimates: Estimates) -> None:
    others = estimates(precision="int8", device="adb:1", error=0.2), estimates(2, device="ssh://pi", anchors=2)
    drawn = draw(pd.concat([estimates(), *others]))
    assert said(drawn)[:3] == [
        "efficientnet_lite0, local, 1 thread, fp32: 5.0 % (median; 95th percentile 5 %; 100 % inside their intervals)",
        "efficientnet_lite0, adb:1, 1 thread, int8: 20.0 % (median; 95th percentile 20 %; 0 % inside their intervals)",
        "efficientnet_lite0, ssh://pi, 1 thread, fp32: anchors only",
    ]
    looks = {(line.get_color(), line.get_marker()) for line in drawn.axes[0].get_lines()[1:]}
    assert len(looks) == 3


def test_more_curves_than_colours_still_differ_and_nothing_overlaps(estimates: Estimates) -> None:
    drawn = draw(pd.concat([estimates(3, device=f"ssh://pi{place}") for place in range(9)]))
    looks = {(line.get_color(), line.get_marker()) for line in drawn.axes[0].get_lines()[1:]}
    assert len(looks) == 9
    drawn.canvas.draw()
    (title,) = drawn.texts
    found = drawn.axes[0].get_legend()
    assert found is not None
    assert found.get_window_extent().y1 < title.get_window_extent().y0
    assert found.get_window_extent().x1 <= 1200


def test_an_interval_that_begins_at_nothing_is_drawn_without_a_warning(estimates: Estimates, tmp_path: Path) -> None:
    found = estimates()
    found.loc[0, "low_ms"] = 0.0
    assert write_estimate_chart(found, tmp_path)
    layout = figure(panel_of(found))["layout"]
    assert layout["xaxis"]["range"] == layout["yaxis"]["range"]
    assert np.isfinite(layout["yaxis"]["range"]).all()


def test_emulated_times_are_called_so(estimates: Estimates) -> None:
    texts = [text.get_text() for text in draw(estimates(device="emulated")).texts]
    assert "Emulated device: its times mean nothing." in texts


def test_the_page_s_figure_has_the_same_points_and_trusts_no_name(estimates: Estimates) -> None:
    found = estimates()
    found["split"] = "<b>%{x}"
    _, points = figure(panel_of(found))["data"]
    assert points["x"] == found["measured_ms"].tolist()
    assert points["y"] == found["profiled_ms"].tolist()
    assert points["error_y"]["array"] == (found["high_ms"] - found["profiled_ms"]).tolist()
    assert [colour == "var(--surface)" for colour in points["marker"]["color"]] == found["anchor"].tolist()
    assert "<b>" not in points["hovertemplate"][0]
    assert "%{" not in points["hovertemplate"][0]
    assert [entry.kind for entry in panel_of(found).legend] == ["point", "line", "line", "hollow point"]
