"""Damaged picture files of twenty formats, through the product's own reader: every one is a photograph or left out.

`python -m tests.fuzz.pictures --count 100000 --seed 0` prints what became of them. Equal seeds make equal files.
"""

from __future__ import annotations

import argparse
import io
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness.pictures.decode import LeftOutKind, Unusable
from harness.pictures.readers import read_files

# As (Pillow's format, mode, suffix, options): what is opened, and what only looks like it.
FORMATS: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "avif": ("AVIF", "RGB", ".avif", {"speed": 10}),
    "bmp": ("BMP", "RGB", ".bmp", {}),
    "dds": ("DDS", "RGB", ".dds", {}),
    "dib": ("DIB", "P", ".dib", {}),
    "eps": ("EPS", "RGB", ".eps", {}),
    "gif": ("GIF", "P", ".gif", {}),
    "ico": ("ICO", "RGBA", ".ico", {}),
    "jpeg": ("JPEG", "RGB", ".jpg", {"quality": 80}),
    "jpeg2000": ("JPEG2000", "RGB", ".jp2", {}),
    "jpeg-cmyk": ("JPEG", "CMYK", ".jpeg", {"progressive": True}),
    "mpo": ("MPO", "RGB", ".mpo", {"save_all": True}),
    "pcx": ("PCX", "L", ".pcx", {}),
    "pdf": ("PDF", "RGB", ".pdf", {}),
    "png": ("PNG", "RGBA", ".png", {}),
    "png-16": ("PNG", "I;16", ".png", {}),
    "ppm": ("PPM", "RGB", ".ppm", {}),
    "qoi": ("QOI", "RGB", ".qoi", {}),
    "sgi": ("SGI", "RGB", ".sgi", {}),
    "tga": ("TGA", "RGB", ".tga", {"compression": "tga_rle"}),
    "tiff": ("TIFF", "RGB", ".tif", {}),
    "tiff-jpeg": ("TIFF", "RGB", ".tif", {"compression": "jpeg"}),
    "tiff-lzw": ("TIFF", "L", ".tiff", {"compression": "tiff_lzw"}),
    "webp": ("WEBP", "RGB", ".webp", {}),
    "xbm": ("XBM", "1", ".xbm", {}),
}
_BATCH = 2000
_DETAIL = 64


@dataclass
class Outcome:
    """What became of the files.

    Attributes:
        opened: how many gave pixels of the promised form, by format.
        left_out: how many did not, by kind and first word of the reader's own reason.
        wrong: anything else; must stay empty.
        slowest: the most seconds until the next file was there, and that file.
    """

    opened: Counter[str] = field(default_factory=Counter)
    left_out: Counter[tuple[LeftOutKind, str]] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest: tuple[float, str] = (0.0, "")

    def add(self, name: str, result: np.ndarray | Unusable) -> None:
        """Count one file."""
        if isinstance(result, Unusable):
            self.left_out[result.kind, _words(result)] += 1
            if "\n" in result.detail or not result.detail.isprintable():
                self.wrong.append(f"{name}: {result.detail!r}")
        elif result.dtype == np.uint8 and result.ndim == 3 and result.shape[2] == 3 and min(result.shape[:2]) >= 8:
            self.opened[name.split("-", 1)[1].rsplit("-", 1)[0]] += 1
        else:
            self.wrong.append(f"{name}: {result.dtype} {result.shape}")


def originals() -> dict[str, bytes]:
    """One whole file of each format."""
    coarse = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    picture = Image.fromarray(coarse).resize((96, 72), Image.Resampling.BICUBIC)
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "maker", 72.0
    found = {}
    for name, (kind, mode, _, options) in FORMATS.items():
        changed = Image.fromarray(np.asarray(picture.convert("L")).astype(np.uint16) * 257) if mode == "I;16" else None
        stream = io.BytesIO()
        with_exif = {"exif": exif} if kind in ("AVIF", "JPEG", "MPO", "PNG", "TIFF", "WEBP") else {}
        more = {"append_images": [picture.rotate(5)]} if kind == "MPO" else {}
        (changed or picture.convert(mode)).save(stream, kind, **options, **with_exif, **more)
        found[name] = stream.getvalue()
    return found


def flip(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    """Single bits, anywhere."""
    for place in rng.integers(0, len(data), rng.integers(1, 12)):
        data[place] ^= 1 << int(rng.integers(8))
    return data


def set_header(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    """Bytes near the beginning: sizes, types and counts lie."""
    for place in rng.integers(0, min(len(data), 200), rng.integers(1, 6)):
        data[place] = int(rng.choice([0, 1, 2, 127, 128, 255, int(rng.integers(256))]))
    return data


def lie(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    """A number of four bytes near the beginning, in either order, becomes an extreme one."""
    number = int(rng.choice([0, 1, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 30_000]))
    place = int(rng.integers(0, min(len(data), 200)))
    data[place : place + 4] = number.to_bytes(4, "big" if rng.random() < 0.5 else "little")
    return data


def cut(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    """The end is missing."""
    return data[: int(rng.integers(0, len(data)))]


def repeat(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    """A part stands there several times."""
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    return data[:last] + data[first : first + 500] * int(rng.integers(1, 6)) + data[last:]


def splice(data: bytearray, rng: np.random.Generator, other: bytes) -> bytearray:
    """It goes on as another file."""
    return data[: int(rng.integers(0, len(data)))] + other[int(rng.integers(0, len(other))) :]


def hollow(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    """A part is zeros or noise, as a bad disk leaves it."""
    first, last = sorted(rng.integers(0, len(data), 2).tolist())
    data[first:last] = bytes(last - first) if rng.random() < 0.5 else rng.bytes(last - first)
    return data


def break_exif(data: bytearray, rng: np.random.Generator, _: bytes) -> bytearray:
    """Bytes of the EXIF block, or of the directory that a TIFF begins with."""
    start = max(data.find(b"Exif"), data.find(b"II*\0"), data.find(b"MM\0*"), 0)
    for place in start + rng.integers(0, 90, rng.integers(1, 8)):
        if place < len(data):
            data[place] = int(rng.integers(256))
    return data


Damage = Callable[[bytearray, np.random.Generator, bytes], bytearray]
DAMAGES: tuple[Damage, ...] = (flip, set_header, lie, cut, repeat, splice, hollow, break_exif)


def damaged(number: int, seed: int, whole: dict[str, bytes]) -> tuple[str, bytes]:
    """The name and content of one damaged file; one in ten is called something else than it is."""
    rng = np.random.default_rng((seed, number))
    names = list(FORMATS)
    name = names[number % len(names)]
    suffix = FORMATS[names[int(rng.integers(len(names)))] if rng.random() < 0.1 else name][2]
    data = bytearray(whole[name])
    chosen = [DAMAGES[int(index)] for index in rng.integers(0, len(DAMAGES), rng.integers(1, 4))]
    for damage in chosen:
        if len(data) > 1:
            data = damage(data, rng, whole[names[int(rng.integers(len(names)))]])
    return f"{number:06d}-{name}-{chosen[-1].__name__}{suffix}", bytes(data)


def read_damaged(count: int, seed: int, first: int = 0) -> Outcome:
    """Makes the files and reads them, as a folder of a user's is read."""
    whole = originals()
    outcome = Outcome()
    for start in range(first, first + count, _BATCH):
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for number in range(start, min(start + _BATCH, first + count)):
                name, data = damaged(number, seed, whole)
                paths.append(Path(folder) / name)
                paths[-1].write_bytes(data)
            before = time.perf_counter()
            with closing(read_files(paths, _DETAIL)) as reading:
                for path, result in reading:
                    now = time.perf_counter()
                    outcome.slowest = max(outcome.slowest, (now - before, path.name))
                    before = now
                    outcome.add(path.stem, result)
    return outcome


def _words(reason: Unusable) -> str:
    """The reader's own words without the numbers in them, so that equal reasons count together."""
    return "".join(letter for letter in reason.detail if not letter.isdigit())[:60]


def main() -> None:
    """Reads the files and prints what became of them; the exit status is 1 where something was wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    began = time.perf_counter()
    outcome = read_damaged(asked.count, asked.seed)
    kinds = Counter[LeftOutKind]()
    for (kind, _), number in outcome.left_out.items():
        kinds[kind] += number
    lines = [
        f"{asked.count} files in {time.perf_counter() - began:.0f} s; opened {outcome.opened.total()}:",
        *(f"  {number:6} {name}" for name, number in outcome.opened.most_common()),
        f"left out {outcome.left_out.total()}:",
        *(f"  {number:6} {kind}" for kind, number in kinds.most_common()),
        "most frequent reasons:",
        *(f"  {number:6} {kind}: {words}" for (kind, words), number in outcome.left_out.most_common(60)),
        f"longest wait {outcome.slowest[0]:.2f} s, for {outcome.slowest[1]}",
        f"wrong: {len(outcome.wrong)}",
        *outcome.wrong[:20],
    ]
    sys.stdout.write("\n".join(lines) + "\n")
    raise SystemExit(bool(outcome.wrong))


if __name__ == "__main__":
    main()
