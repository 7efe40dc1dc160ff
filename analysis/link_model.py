"""What a link would cost, from bytes, bandwidth and round-trip time; and how well that explains what was measured.

A modelled time is never shown as a measured one: it has columns of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from device_runner.link import LinkShape
from harness.stats import Array

_MS_PER_S = 1e3
_REWEIGHTINGS = 8
_FEWEST = 4  # sizes that a line with two unknowns is judged on


def modelled_transfer_ms(wire_bytes: Array, link: LinkShape) -> Array:
    """Time until the receiver's `received` is back: one round trip, and the bytes at the link's rate.

    Encoding and decoding are the device's and the workstation's: no link changes them.
    """
    return np.asarray(_MS_PER_S * (link.rtt_s + wire_bytes / link.rate_bytes_per_s), dtype=np.float64)


def with_modelled_link(summary: pd.DataFrame, link: LinkShape) -> pd.DataFrame:
    """The tidy table with the three `modelled_*` columns filled for a link; what was measured stays as it is.

    The modelled end to end is the measured one with its transfer replaced; in runs that did not tell encoding apart,
    that goes with it.
    """
    table = summary.copy()
    bytes_there = np.asarray(table["wire_bytes"].astype("float64"), dtype=np.float64)
    transfer = modelled_transfer_ms(bytes_there, link)
    table["modelled_link"] = pd.Series(str(link), index=table.index, dtype="string").where(~np.isnan(bytes_there))
    table["modelled_transfer_ms"] = transfer
    table["modelled_end_to_end_ms"] = table["end_to_end_p50_ms"] - table["transfer_p50_ms"] + transfer
    return table


@dataclass(frozen=True)
class LinkFit:
    """A link's rate and round-trip time as the measured transfers suggest, and how far these lie from it.

    Attributes:
        median_error, worst_error: of the relative deviations of measured from modelled transfer times.
        cells: that it was fitted on.
    """

    link: LinkShape
    median_error: float
    worst_error: float
    cells: int

    def __str__(self) -> str:
        rate = self.link.rate_bytes_per_s * 8 / 1e6
        return (
            f"Link model: {self.link.rtt_s * _MS_PER_S:.2f} ms + bytes at {rate:,.0f} Mbit/s explains the measured"
            f" transfers to {self.median_error:.0%} (median; worst {self.worst_error:.0%})"
        )


def fit_link(wire_bytes: Array, transfer_ms: Array) -> LinkFit | None:
    """Fit round-trip time and rate to measured transfers of one link, each weighted by its own size.

    Iteratively reweighted least squares on relative errors (an L1 fit), so that one outlier does not move the line.

    Returns:
        None for fewer than four different sizes, or where more bytes do not take longer.
    """
    known = ~(np.isnan(wire_bytes) | np.isnan(transfer_ms)) & (transfer_ms > 0)
    sizes, times = wire_bytes[known], transfer_ms[known]
    if len(np.unique(sizes)) < _FEWEST:
        return None
    design = np.stack([np.ones_like(sizes), sizes], axis=1) / times[:, None]
    weights = np.ones_like(times)
    for _ in range(_REWEIGHTINGS):
        root = np.sqrt(weights)[:, None]
        solution = np.linalg.lstsq(design * root, root[:, 0], rcond=None)[0]
        weights = 1 / np.maximum(np.abs(design @ solution - 1), 1e-3)
    rtt_ms, ms_per_byte = float(max(solution[0], 0.0)), float(solution[1])
    if ms_per_byte <= 0:
        return None
    errors = np.abs(times / (rtt_ms + sizes * ms_per_byte) - 1)
    link = LinkShape(rate_bytes_per_s=_MS_PER_S / ms_per_byte, rtt_s=rtt_ms / _MS_PER_S)
    return LinkFit(link, float(np.median(errors)), float(errors.max()), len(times))
