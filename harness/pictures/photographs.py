"""Photographs, as the harness holds them: their looks always, their pixels where memory has room."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from device_runner.shown import shown
from harness.errors import PictureError
from harness.pictures.decode import Unusable, decode
from harness.pictures.readers import read_files

# Where to look, as (x, y) from 0 to 1, for photographs that nobody has looked at: the middle, then around it.
AROUND_THE_MIDDLE = ((0.5, 0.5), (0.35, 0.4), (0.65, 0.6), (0.65, 0.4), (0.35, 0.6))
# The pixels of a collection's photographs that stay in memory; the others are read again when crops are made of them.
PIXEL_BYTES = 128 * 2**20
_NOTHING = np.empty((0, 0, 3), np.uint8)


@dataclass(frozen=True)
class FilePixels:
    """Pixels in a picture file, which only a process of its own may decode.

    Args:
        path: the file.
        detail: what its shorter side is shrunk to, in pixels.
    """

    path: Path
    detail: int


# Pixels (uint8, height x width x 3, RGB), or where they are; a function raises Unusable where there are none.
Pixels = np.ndarray | FilePixels | Callable[[], np.ndarray]


@dataclass(frozen=True)
class Photograph:
    """A photograph that was read.

    Args:
        source: names what was photographed; views, copies, frames of a film and stereo partners of one scene share it.
        pixels: its pixels, or where to read them again; `opened` does.
        sides: height and width, in pixels.
        small, large: thumbnails of 16x16 and 32x32, uint8, by which it is known again.
        foci: points worth looking at, as (x, y) from 0 to 1 of width and height.
    """

    source: str
    pixels: Pixels
    sides: tuple[int, int]
    small: np.ndarray
    large: np.ndarray
    foci: tuple[tuple[float, float], ...] = AROUND_THE_MIDDLE

    @classmethod
    def of(
        cls, source: str, pixels: np.ndarray, foci: tuple[tuple[float, float], ...] = AROUND_THE_MIDDLE
    ) -> Photograph:
        """A photograph in memory (uint8, height x width x 3, RGB)."""
        small, large = (_thumbnail(pixels, side) for side in (16, 32))
        return cls(source, pixels, (pixels.shape[0], pixels.shape[1]), small, large, foci)

    def without_thumbnails(self) -> Photograph:
        """The same without its thumbnails, which take 4 kB: to be cropped, not to be known again."""
        return replace(self, small=_NOTHING, large=_NOTHING)


class Room:
    """How much memory is left for pixels."""

    def __init__(self) -> None:
        self._left = PIXEL_BYTES

    def keep(self, photograph: Photograph, elsewhere: Pixels) -> Photograph:
        """The photograph, with its pixels while there is room for them, and without from then on."""
        if isinstance(photograph.pixels, np.ndarray):
            self._left -= photograph.pixels.nbytes
        return photograph if self._left >= 0 else replace(photograph, pixels=elsewhere)


def opened(photographs: Sequence[Photograph]) -> Generator[np.ndarray]:
    """The pixels of each (of one collection), in order; several files are decoded at once.

    Raises:
        PictureError: a file is not any more what it was when it was read first.
    """
    files = [photograph.pixels for photograph in photographs if isinstance(photograph.pixels, FilePixels)]
    detail = files[0].detail if files else None
    with closing(read_files([file.path for file in files], detail)) as reading:
        for photograph in photographs:
            pixels = photograph.pixels
            if isinstance(pixels, FilePixels):
                result = next(reading)[1]
            else:
                result = pixels if isinstance(pixels, np.ndarray) else called(pixels)
            if isinstance(result, Unusable) or result.shape[:2] != photograph.sides:
                raise PictureError(
                    f"{photograph.source} has changed since it was read first",
                    remedy="leave the pictures as they are while they are read, and start again",
                )
            yield result


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


def called(pixels: Callable[[], np.ndarray]) -> np.ndarray | Unusable:
    """What a function that reads pixels gives, or why it gives none."""
    try:
        return pixels()
    except Unusable as exc:
        return exc


def _thumbnail(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BOX))
