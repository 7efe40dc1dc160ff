"""One photograph, as the harness holds it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from device_runner.shown import shown
from harness.errors import PictureError
from harness.pictures.decode import Unusable, decode

# Where to look, as (x, y) from 0 to 1, for photographs that nobody has looked at: the middle, then around it.
AROUND_THE_MIDDLE = ((0.5, 0.5), (0.35, 0.4), (0.65, 0.6), (0.65, 0.4), (0.35, 0.6))


@dataclass(frozen=True)
class Photograph:
    """A photograph in memory.

    Args:
        source: names what was photographed; views, copies, frames of a film and stereo partners of one scene share it.
        pixels: uint8, height x width x 3, RGB.
        foci: points worth looking at, as (x, y) from 0 to 1 of width and height.
    """

    source: str
    pixels: np.ndarray
    foci: tuple[tuple[float, float], ...] = AROUND_THE_MIDDLE


def open_photograph(path: Path) -> np.ndarray:
    """The pixels of a picture file that is trusted, such as a package's: it is decoded in this process.

    Returns:
        uint8, height x width x 3, RGB, upright.

    Raises:
        PictureError: the file is no picture, is damaged, too large or too small.
    """
    try:
        return decode(path)
    except Unusable as exc:
        why = f"{exc.kind}, {exc.detail}" if exc.detail else f"{exc.kind}"
        raise PictureError(f"{shown(path)}: {why}", remedy="replace or remove the file") from exc
