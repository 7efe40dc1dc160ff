"""Decodes one picture file after the other, in a process of its own: files of users can hang, crash or fill the memory.

It is run as a script (by readers.py) and imports no other module of ours, so that such a process starts in a moment.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import stat
import sys
import warnings
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

# What photographs come in, and only formats whose readers do nothing but decode: EPS would start Ghostscript, WMF needs
# Windows, and BUFR, GRIB or HDF5 hand the file to whatever is registered. MPO opens as JPEG.
FORMATS = (
    *("AVIF", "BMP", "DIB", "GIF", "ICO", "JPEG", "JPEG2000", "PCX"),
    *("PNG", "PPM", "PSD", "QOI", "SGI", "SUN", "TIFF", "WEBP"),
)
# TGA has no magic number, and other files look like it: its reader is asked only where the name says so.
TGA_SUFFIXES = (".tga", ".icb", ".vda", ".vst")
SMALLEST_SIDE = 8
# A strip of 8 pixels keeps its length however far it is shrunk.
MOST_ELONGATED = 32
# 268 megapixels: telephones have up to 200. Decoded, Pillow holds 4 bytes a pixel.
MOST_PIXELS = 2**28
# The most memory a decoding process may take, in bytes.
MOST_MEMORY = 4 * 2**30

# Modes whose pixels can be averaged before they are converted.
_AVERAGED = ("L", "LA", "RGB", "RGBA", "CMYK", "YCbCr")
_ORIENTATION = 0x0112
_SUBFILE, _DNG_VERSION = 254, 50706  # a subfile of type 1 is a reduced image of another one
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_HEIC_BRANDS = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
_POSTSCRIPT = (b"%!PS", b"\xc5\xd0\xd3\xc6")


class LeftOutKind(StrEnum):
    """Why a file is left out, in a word; left_out.py has the sentences."""

    HEIC = "HEIC"
    POSTSCRIPT = "PostScript"
    RAW = "raw"
    DAMAGED = "damaged"
    TOO_LARGE = "too large"
    TOO_SMALL = "too small"
    FLOAT = "floating-point"
    TOO_SLOW = "too slow"
    UNREADABLE = "unreadable"
    NO_FILE = "no file"
    NO_PICTURE = "no picture"
    COPY = "copy"
    LINK = "link"
    MORE = "more"


class Unusable(Exception):  # noqa: N818 - it never leaves this file
    """A file that gives no photograph.

    Args:
        kind: why.
        detail: one line more about this very file, or an empty string.
    """

    def __init__(self, kind: LeftOutKind, detail: str = "") -> None:
        super().__init__(kind, detail)
        self.kind = kind
        self.detail = detail


def decode(path: Path, smallest_side: int | None = None) -> np.ndarray:
    """The pixels of a picture file as uint8, height x width x 3, RGB, upright; of several frames the first.

    Args:
        path: grey, palette, 16 bit, CMYK and transparent files (laid on white) are all turned into RGB.
        smallest_side: shrink the photograph until its shorter side has this many pixels; None keeps it as it is.

    Raises:
        Unusable: the file is no picture, or cannot be used.
    """
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise Unusable(LeftOutKind.NO_FILE)
        stream = path.open("rb")
    except OSError as exc:
        raise Unusable(LeftOutKind.UNREADABLE, exc.strerror or "") from exc
    try:
        with stream, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return _decode(stream, path.suffix.lower(), smallest_side)
    except Unusable:
        raise
    except (MemoryError, Image.DecompressionBombError) as exc:
        raise Unusable(LeftOutKind.TOO_LARGE) from exc
    except Exception as exc:  # Pillow documents no base of what its readers raise: nearly every class was seen
        raise Unusable(LeftOutKind.DAMAGED, first_line(exc)) from exc


def as_rgb(picture: Image.Image, smallest_side: int | None = None) -> np.ndarray:
    """Pixels of a Pillow picture of any mode as uint8, height x width x 3; see `decode`."""
    if picture.mode.startswith("I"):  # 16 bit grey: Pillow's own conversion would clip at 255
        picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8))
    elif picture.mode == "F":
        raise Unusable(LeftOutKind.FLOAT)
    if picture.mode in _AVERAGED and "transparency" not in picture.info:
        picture = _shrunk(picture, smallest_side)  # early: what follows copies all pixels
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(_shrunk(picture.convert("RGB"), smallest_side))


def check_sides(width: int, height: int) -> None:
    """Raises Unusable where a picture of these sides, in pixels, is too large, too small, or a mere strip."""
    if width * height > MOST_PIXELS:
        raise Unusable(LeftOutKind.TOO_LARGE, f"{width}x{height} pixels")
    if min(width, height) < SMALLEST_SIDE or max(width, height) > MOST_ELONGATED * min(width, height):
        raise Unusable(LeftOutKind.TOO_SMALL, f"{width}x{height} pixels")


def first_line(exc: BaseException) -> str:
    """What an exception says, in one line that may be printed; its class where that is no usual one for files."""
    line = (str(exc).splitlines() or [""])[0][:200].encode("unicode_escape").decode()
    if line and isinstance(exc, OSError | SyntaxError | ValueError):
        return line
    return f"{type(exc).__name__}: {line}" if line else type(exc).__name__


def _decode(stream: BinaryIO, suffix: str, smallest_side: int | None) -> np.ndarray:
    try:
        file = Image.open(stream, formats=(*FORMATS, "TGA") if suffix in TGA_SUFFIXES else FORMATS)
    except UnidentifiedImageError as exc:
        stream.seek(0)
        raise _unidentified(stream.read(64), suffix) from exc
    with file:
        if isinstance(file, TiffImageFile) and (file.tag_v2.get(_SUBFILE, 0) == 1 or _DNG_VERSION in file.tag_v2):
            raise Unusable(LeftOutKind.RAW)  # what Pillow would read of it is a preview
        check_sides(*file.size)
        if smallest_side is not None and file.format in ("JPEG", "MPO"):  # decode no more than is kept
            scale = smallest_side / min(file.size)
            file.draft(None, (math.ceil(scale * file.width), math.ceil(scale * file.height)))
        file.load()
        pixels = as_rgb(_upright(file), smallest_side)
        check_sides(pixels.shape[1], pixels.shape[0])
        return pixels


def _upright(file: Image.Image) -> Image.Image:
    """Orientation is all that is read of EXIF: other tags may be broken, and say nothing about the pixels."""
    try:
        method = _UPRIGHT.get(file.getexif().get(_ORIENTATION, 1))
    except Exception:  # any, as above: a good picture is not lost for a broken tag
        return file
    return file if method is None else file.transpose(method)


def _shrunk(picture: Image.Image, smallest_side: int | None) -> Image.Image:
    if smallest_side is None or min(picture.size) <= smallest_side:
        return picture
    scale = smallest_side / min(picture.size)
    return picture.resize(
        (round(picture.width * scale), round(picture.height * scale)), Image.Resampling.BICUBIC, reducing_gap=3.0
    )


def _unidentified(head: bytes, suffix: str) -> Unusable:
    if head[4:8] == b"ftyp" and head[8:12] in _HEIC_BRANDS:
        return Unusable(LeftOutKind.HEIC)
    if head.startswith(_POSTSCRIPT):
        return Unusable(LeftOutKind.POSTSCRIPT)
    ours = {name for name, kind in Image.registered_extensions().items() if kind in FORMATS}
    if suffix in ours or suffix in TGA_SUFFIXES:
        return Unusable(LeftOutKind.DAMAGED, "no picture inside" if head else "empty")
    return Unusable(LeftOutKind.NO_PICTURE)


def main() -> None:
    """Serves requests on standard input: a line of JSON each, answered by a line of JSON and the pixels."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's; this process ends with its input
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a library prints is no answer
    with contextlib.suppress(ValueError, OSError):  # a lower limit is set already, or the system knows none
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # Pillow warns from here, and refuses from twice as many on
    answers.write(b"ready\n")
    answers.flush()
    for line in sys.stdin.buffer:
        request = json.loads(line)
        try:
            pixels = np.ascontiguousarray(decode(Path(request["path"]), request["smallest_side"]))
        except Unusable as exc:
            answers.write(json.dumps({"kind": exc.kind, "detail": exc.detail}).encode() + b"\n")
        else:
            answers.write(json.dumps({"shape": pixels.shape}).encode() + b"\n" + pixels.tobytes())
        answers.flush()


if __name__ == "__main__":
    main()
