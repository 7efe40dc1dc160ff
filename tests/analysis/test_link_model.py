"""A modelled link is arithmetic on bytes; a fitted one finds rate and round-trip time, and says how far off it is."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from analysis.link_model import fit_link, modelled_transfer_ms, with_modelled_link
from device_runner.link import LinkShape

WIFI = LinkShape(rate_bytes_per_s=5e6, rtt_s=0.005)


def test_a_megabyte_takes_a_round_trip_and_its_bytes() -> None:
    assert modelled_transfer_ms(np.array([0.0, 1e6]), WIFI) == pytest.approx([5.0, 205.0])


def test_modelled_columns_leave_the_measured_ones_alone() -> None:
    table = pd.DataFrame(
        {"wire_bytes": [1e6, np.nan], "transfer_p50_ms": [2.0, np.nan], "end_to_end_p50_ms": [12.0, np.nan]}
    )
    modelled = with_modelled_link(table, WIFI)
    assert modelled[list(table.columns)].equals(table)
    assert modelled["modelled_end_to_end_ms"].iloc[0] == pytest.approx(215.0)
    assert modelled.iloc[1][["modelled_link", "modelled_transfer_ms", "modelled_end_to_end_ms"]].isna().all()


def test_a_fit_finds_the_link_behind_noisy_transfers() -> None:
    sizes = np.array([4e3, 3e4, 9e4, 3e5, 8e5, 1.6e6, 4.8e6])
    times = modelled_transfer_ms(sizes, WIFI) * np.array([1.01, 0.99, 1.02, 1.0, 0.98, 1.01, 1.0])
    fit = fit_link(sizes, times)
    assert fit is not None
    assert fit.link.rate_bytes_per_s == pytest.approx(5e6, rel=0.05)
    assert fit.link.rtt_s == pytest.approx(0.005, rel=0.05)
    assert fit.median_error <= 0.02
    assert fit.cells == len(sizes)


def test_one_outlier_does_not_move_the_line() -> None:
    sizes = np.linspace(1e4, 1e6, 20)
    times = modelled_transfer_ms(sizes, WIFI)
    times[7] *= 10
    fit = fit_link(sizes, times)
    assert fit is not None
    assert fit.link.rate_bytes_per_s == pytest.approx(5e6, rel=0.02)
    assert fit.worst_error == pytest.approx(9.0, rel=0.05)


@pytest.mark.parametrize(
    ("sizes", "times"),
    [([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), ([5.0] * 9, [1.0] * 9), ([1.0, 2.0, 3.0, 4.0], [4.0, 3.0, 2.0, 1.0])],
    ids=["too few", "one size", "falling"],
)
def test_what_no_line_explains_has_no_fit(sizes: list[float], times: list[float]) -> None:
    assert fit_link(np.array(sizes), np.array(times)) is None
