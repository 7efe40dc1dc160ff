"""One photograph: read from whatever file it is in, and told apart from another copy of itself."""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from harness.errors import PictureError

# Where to look, as (x, y) from 0 to 1, for photographs that nobody has looked at: the middle, then around it.
AROUND_THE_MIDDLE = ((0.5, 0.5), (0.35, 0.4), (0.65, 0.6), (0.65, 0.4), (0.35, 0.6))
SMALLEST_SIDE = 8
# Photographs whose 16x16 thumbnails differ by no more than this on average are copies (another format, size, quality):
# saving a photograph again changes them by 0.1 to 1.9, and no two of the built-in ones are closer than 6.
COPY_TOLERANCE = 2.5
# Raised by Pillow's readers for damaged files, and for files that would unpack to a monstrous size.
_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Photograph:
    """A photograph in memory.

    Args:
        source: names what was photographed; views, copies and stereo partners of one scene share it.
        pixels: uint8, height x width x 3, RGB.
        foci: points worth looking at, as (x, y) from 0 to 1 of width and height.
    """

    source: str
    pixels: np.ndarray
    foci: tuple[tuple[float, float], ...] = AROUND_THE_MIDDLE


def open_photograph(path: Path, *, smallest_side: int | None = None) -> np.ndarray:
    """The pixels of a picture file as uint8, height x width x 3, RGB, upright.

    Args:
        path: grey, palette, 16 bit, CMYK and transparent files (laid on white) are all turned into RGB.
        smallest_side: shrink the photograph until its shorter side has this many pixels; None keeps it as it is.

    Raises:
        PictureError: the file is no picture, is damaged, unpacks to a monstrous size, or has a side under 8 pixels.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(path) as file:
                upright = ImageOps.exif_transpose(file)
                pixels = as_rgb(upright, smallest_side)
    except _UNREADABLE as exc:
        raise PictureError(f"{path}: {_first_line(exc)}", remedy="replace or remove the file") from exc
    if min(pixels.shape[:2]) < SMALLEST_SIDE:
        raise PictureError(f"{path}: {pixels.shape[1]}x{pixels.shape[0]} pixels are too few", remedy="remove the file")
    return pixels


def as_rgb(picture: Image.Image, smallest_side: int | None = None) -> np.ndarray:
    """Pixels of a Pillow picture of any mode as uint8, height x width x 3; see `open_photograph`."""
    if picture.mode.startswith("I"):  # 16 bit grey: Pillow's own conversion would clip at 255
        picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif picture.mode == "F":
        raise ValueError("pixels are floating-point numbers of unknown range")
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    picture = picture.convert("RGB")
    if smallest_side is not None and min(picture.size) > smallest_side:
        scale = smallest_side / min(picture.size)
        size = (round(picture.width * scale), round(picture.height * scale))
        picture = picture.resize(size, Image.Resampling.BICUBIC)
    return np.asarray(picture)


def refuse_leaks(train: Iterable[Photograph], held_out: Iterable[Photograph]) -> None:
    """An attack must not be judged by photographs that it learned from.

    Raises:
        PictureError: a held-out photograph is a training one, too: the same source, the same pixels, or a copy that
            was saved again, at another size or mirrored.
    """
    known = [(photograph, _thumbnail(photograph.pixels)) for photograph in train]
    for photograph in held_out:
        thumbnail = _thumbnail(photograph.pixels)
        for other, learned in known:
            likeness = min(np.abs(view - learned).mean() for view in (thumbnail, thumbnail[:, ::-1]))
            if other.source == photograph.source or likeness <= COPY_TOLERANCE:
                raise PictureError(
                    f"the held-out photograph {photograph.source} is also learned from, as {other.source}",
                    remedy="remove one of them",
                )


def merge_copies(photographs: Iterable[Photograph], *, most: int) -> list[Photograph]:
    """The first `most` different photographs: of copies (saved again, resized, mirrored) one is kept."""
    kept: list[Photograph] = []
    thumbnails: list[np.ndarray] = []
    for photograph in photographs:
        thumbnail = _thumbnail(photograph.pixels)
        views = (thumbnail, thumbnail[:, ::-1])
        if all(np.abs(view - other).mean() > COPY_TOLERANCE for other in thumbnails for view in views):
            thumbnails.append(thumbnail)
            kept.append(photograph)
        if len(kept) == most:
            break
    return kept


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    small = Image.fromarray(pixels).resize((16, 16), Image.Resampling.BOX)
    return np.asarray(small).astype(np.int16)


def _first_line(exc: BaseException) -> str:
    return (str(exc).splitlines() or [type(exc).__name__])[0]
