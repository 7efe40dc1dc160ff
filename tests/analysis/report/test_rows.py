"""Rows find the chart they belong to, and their values are written as people do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from analysis.report.remarks import footnotes, remarks
from analysis.report.rows import Row, charts, head_time, printable, ranges, shortened

Rows = list[dict[str, Any]]
MakeRows = Callable[..., Rows]
MakeTable = Callable[[Rows], pd.DataFrame]


def test_models_and_devices_are_charts_precisions_and_attacks_are_curves(
    make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows() + make_rows(precision="int8") + make_rows(attack="decoder") + make_rows(device="ssh://pi")
    local, pi = charts(make_table([*rows, *make_rows(model="resnet18")]))[:2]
    assert [curve.name for curve in local.curves] == ["fp32, linear", "int8, linear", "fp32, decoder"]
    assert (pi.device, len(pi.curves)) == ("ssh://pi", 1)


def test_a_row_that_leaves_a_setting_empty_joins_every_curve_it_agrees_with(
    make_rows: MakeRows, make_table: MakeTable
) -> None:
    rows = make_rows(splits=4) + make_rows(splits=4, precision="int8")
    reference = rows[0] | {"precision": None, "attack": None, "threads": None}
    (chart,) = charts(make_table([reference, *rows[1:4], *rows[5:]]))
    assert [[row.split for row in curve.rows] for curve in chart.curves] == [[0, 1, 2, 3], [0, 1, 2, 3]]


def test_a_split_has_one_row_in_a_curve_and_it_is_the_measured_one(
    make_rows: MakeRows, make_table: MakeTable, failed: Callable[..., dict[str, Any]]
) -> None:
    rows = make_rows(splits=3)
    unattacked = failed(rows[1], "no time left", status="skipped") | {"attack": None}
    (chart,) = charts(make_table([unattacked, *rows]))
    (curve,) = chart.curves
    assert [(row.split, row.ok) for row in curve.rows] == [(0, True), (1, True), (2, True)]


def test_names_decide_nothing(make_rows: MakeRows, make_table: MakeTable) -> None:
    rows = [
        row | {"emulated": False, "trained": True} for row in make_rows(device="emulated", weights="random, seed 0")
    ]
    (chart,) = charts(make_table(rows))
    assert not chart.emulated
    assert not chart.random_weights
    (other,) = charts(make_table([row | {"emulated": True, "trained": False} for row in make_rows()]))
    assert other.emulated
    assert other.random_weights


@pytest.mark.parametrize("empty", [None, float("nan"), pd.NA, pd.NaT])
def test_whatever_is_empty_reads_as_nothing(empty: object) -> None:
    row = Row({"column": empty})
    assert (row.number("column"), row.text("column"), row.flag("column")) == (None, "", None)


def test_shapes_and_integers_with_gaps_are_written_as_people_do() -> None:
    row = Row({"shape": np.array([1, 32, 112, 112]), "threads": 2.0})
    assert (row.text("shape"), row.text("threads")) == ("1x32x112x112", "2")


def test_names_from_elsewhere_cannot_steer_the_terminal() -> None:
    assert printable("\x1b[2Jmodel\n") == "\ufffd[2Jmodel\ufffd"


def test_a_shortened_name_keeps_both_ends() -> None:
    assert shortened("features.12.block.0.0.conv", 12) == "featu….0.conv"[:6] + ".0.conv"[-6:]
    assert shortened("short", 12) == "short"


def test_neighbouring_splits_are_written_as_a_range() -> None:
    assert ranges([20, 9, 3, 7, 7], [1, 3, 7, 9, 12, 20]) == "3-9, 20"
    assert ranges([1, 2, 4], range(6)) == "1-2, 4"
    assert ranges([], range(6)) == ""


def test_rows_with_the_same_trouble_share_a_footnote(make_rows: MakeRows) -> None:
    rows = make_rows(splits=6)
    rows[2]["delegated_share"] = 0.5
    rows[3] |= {"delegated_share": 0.1, "unstable": True}
    rows[4] |= {"verified": False, "throttled": True, "converged": False, "head_source": "profiled"}
    marks = footnotes(Row(row) for row in rows)
    assert list(marks.values()) == list("abcdef")
    assert [sentence.split()[0] for sentence in marks] == ["xnnpack", "unstable:", "the", "head", "the", "the"]


@pytest.mark.parametrize("value", [None, False, True])
@pytest.mark.parametrize(
    ("mark", "begins"),
    [
        ("search_failed", "the attack failed: "),
        ("weakly_attacked", "weakly attacked: only linear "),
        ("cut_short", "the attack was cut short by its budget: "),
    ],
)
def test_how_weak_an_attacker_was_is_said_only_where_it_was(
    make_rows: MakeRows, mark: str, begins: str, value: bool | None
) -> None:
    row = Row(make_rows(splits=3)[1] | {mark: value, "feature_residual": 0.9})
    assert [sentence.startswith(begins) for sentence in remarks(row)] == [True] * bool(value)


def test_an_attack_that_was_cut_short_is_not_said_to_have_not_converged_as_well(make_rows: MakeRows) -> None:
    row = make_rows(splits=3)[1] | {"converged": False}
    (unconverged,), (cut_short,) = remarks(Row(row)), remarks(Row(row | {"cut_short": True}))
    assert unconverged == "the attack had not converged: it may recover more with a larger budget"
    assert "cut short by its budget" in cut_short


def test_a_profiled_head_time_is_remarked_upon_with_what_to_do_even_where_the_row_is_not_ok(
    make_rows: MakeRows, profiled: Callable[..., dict[str, Any]]
) -> None:
    row = profiled(make_rows(splits=3)[1])
    unattacked = row | {"status": "skipped", "reason": "not attacked yet: bench run --resume"}
    assert remarks(Row(row)) == ["head time profiled, not measured yet: bench run --resume"]
    assert remarks(Row(unattacked)) == [
        "skipped: not attacked yet: bench run --resume",
        "head time profiled, not measured",
    ]


def test_a_time_with_a_profiled_head_in_it_is_never_written_without_its_mark(
    make_rows: MakeRows, profiled: Callable[..., dict[str, Any]]
) -> None:
    measured = make_rows(splits=3)[1] | {"head_p50_ms": 0.456, "end_to_end_p50_ms": 7.0}
    row = Row(profiled(measured))
    assert (head_time(row), head_time(row, "end_to_end_p50_ms")) == ("≈0.46", "≈7.00")
    assert head_time(Row(measured)) == "0.46"
    assert head_time(Row(row.values | {"head_p50_ms": None})) == ""
