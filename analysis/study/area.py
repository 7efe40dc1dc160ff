"""Leakage in one number per network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A picture that is rebuilt this well is known; what lies above would only reward the first splits.
AREA_CAP_DB = 50.0


def leakage_area(mac_share: Sequence[float], values: Sequence[float], floor: float, cap: float) -> float:
    """Area of a leakage curve above its floor, over the share of MACs that the device has done.

    The mean height of the curve, in the unit of `values` (dB, or SSIM with floor 0 and cap 1), from 0 to `cap - floor`.
    Trapezoids between the points; before the first and behind the last one the curve is taken as level.

    Args:
        mac_share: of each split, from 0 (the picture itself) to 1; in any order, at least one.
        values: what was recovered there, clipped to `floor` and `cap`.
        floor: what can be had without any activation.
    """
    order = np.argsort(mac_share, kind="stable")
    share = np.asarray(mac_share, dtype=float)[order]
    height = np.clip(np.asarray(values, dtype=float)[order], floor, max(floor, cap)) - floor
    share = np.concatenate([[0.0], share, [1.0]])
    return float(np.trapezoid(np.concatenate([height[:1], height, height[-1:]]), share))
