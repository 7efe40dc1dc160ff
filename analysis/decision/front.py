"""The front of time and leakage: what nothing beats in both."""

from __future__ import annotations

import numpy as np
import pandas as pd

from harness.results.axes import names


def on_front(summary: pd.DataFrame) -> pd.Series[bool]:
    """Which rows of the tidy table no other row of the same network, device and attack beats in both time and leakage.

    Faster is a shorter end to end, better protected a lower PSNR. A row without either is not dominated.
    """
    front = pd.Series(True, index=summary.index)
    known_axes = [name for name in names("chart", "curve") if name in summary]
    for _, rows in summary.groupby(known_axes, dropna=False):
        known = rows.dropna(subset=["end_to_end_p50_ms", "psnr_db"]).sort_values(["end_to_end_p50_ms", "psnr_db"])
        least = known["psnr_db"].cummin().shift(fill_value=np.inf)
        front[known.index] = known["psnr_db"] < least
    return front
