"""A new axis is one line: hash, grouping, front and report follow it."""

from __future__ import annotations

import pandas as pd
import pytest

from analysis.campaign.plan import hashed
from analysis.decision.front import on_front
from analysis.report.rows import charts
from harness.results import axes
from harness.results.axes import AXES, Axis, cell_key, curve_key
from harness.results.columns import SUMMARY
from harness.results.schema import Cell
from tests.parts.cells import tiny_cell


class NoisyCell(Cell):
    """A cell with an axis that no run has."""

    noise: str


@pytest.fixture
def noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(axes, "AXES", (*AXES[:-1], Axis("noise", "curve"), AXES[-1]))


def cell(noise: str, index: int = 1) -> NoisyCell:
    return NoisyCell.model_validate(tiny_cell(index).model_dump() | {"noise": noise})


def table() -> pd.DataFrame:
    """Two curves that nothing but the made-up axis tells apart; the first is faster and leaks less."""
    rows = [
        {**cell(noise, index).model_dump(), "attack": "linear", "status": "ok", "wire_bytes": 8.0,
         "end_to_end_p50_ms": worse + index, "psnr_db": 20.0 + worse - index}
        for noise, worse in (("low", 0.0), ("high", 5.0))
        for index in (1, 2)
    ]  # fmt: skip
    return pd.DataFrame(rows)


def test_every_axis_of_cells_is_a_field_and_every_axis_a_column() -> None:
    assert {axis.name for axis in AXES if axis.of_cells} <= set(Cell.model_fields)
    assert {axis.name for axis in AXES} <= {column.name for column in SUMMARY}


def test_cells_that_differ_in_an_axis_have_different_hashes() -> None:
    assert hashed(cell("low")).hash != hashed(cell("high")).hash
    assert hashed(cell("low")).hash == hashed(cell("low")).hash != hashed(cell("low"), "other pictures").hash


@pytest.mark.usefixtures("noise")
def test_a_new_axis_parts_groups_and_sorts_cells() -> None:
    assert curve_key(cell("low")) != curve_key(cell("high"))
    assert curve_key(cell("low", 1)) == curve_key(cell("low", 2))
    assert sorted([cell("low", 1), cell("high", 2), cell("high", 1)], key=cell_key) == [
        cell("high", 1), cell("high", 2), cell("low", 1),
    ]  # fmt: skip


def test_a_new_axis_has_fronts_and_curves_of_its_own(request: pytest.FixtureRequest) -> None:
    assert on_front(table()).tolist() == [True, True, False, False]
    (chart,) = charts(table())
    assert [curve.name for curve in chart.curves] == ["fp32, linear"]
    request.getfixturevalue("noise")
    assert on_front(table()).all()
    (chart,) = charts(table())
    assert [curve.name for curve in chart.curves] == ["fp32, linear, low", "fp32, linear, high"]
    assert [curve.variant for curve in chart.curves] == ["fp32, low", "fp32, high"]
    assert all(len(curve.rows) == 2 for curve in chart.curves)
