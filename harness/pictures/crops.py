"""From photographs to pictures of one size: many crops for training, a few telling views for judging."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
import torch
from PIL import Image

from harness.pictures.photographs import Photograph, opened
from harness.pictures.progress import Note, silent, told

# The smallest crop as a share of the photograph's side; larger where it would have fewer pixels than the picture.
SMALLEST_SHARE = 0.2
# Training pictures are made as long as they would fit into this as float32, which attacks take them as; or this many.
PICTURES_BYTES, FEWEST_MADE = 128 * 2**20, 600


@dataclass(frozen=True)
class PictureSet:
    """Pictures of one size.

    Args:
        pixels: uint8, N x 3 x H x W, RGB.
        sources: the source photograph of each picture; pictures of one source are not independent.
        names: one name a picture, unique, fit for a file name.
    """

    pixels: torch.Tensor
    sources: tuple[str, ...]
    names: tuple[str, ...]

    def as_float(self) -> torch.Tensor:
        """The pictures as float32 on [0, 1], N x 3 x H x W: what heads take in and attacks aim at."""
        return self.pixels.float().div_(255)  # in place: there may be gigabytes

    def first(self, count: int) -> PictureSet:
        """The first `count` pictures, or all where there are fewer."""
        return PictureSet(self.pixels[:count], self.sources[:count], self.names[:count])

    def __len__(self) -> int:
        return len(self.sources)


@dataclass(frozen=True)
class Crop:
    """Where a picture lies in its photograph.

    Args:
        photograph: what it is cut from.
        share: of the largest crop's side.
        centre: x and y, from 0 to 1.
        mirrored: left and right are swapped.
    """

    photograph: Photograph
    share: float
    centre: tuple[float, float]
    mirrored: bool = False

    @classmethod
    def drawn(cls, photograph: Photograph, size: tuple[int, int], rng: np.random.Generator) -> Crop:
        """Of a random size, anywhere in the photograph, mirrored or not."""
        least = _smallest_share(photograph, size)
        share = float(least ** rng.random())
        middle, reach = share / 2, 1 - share  # crops lie anywhere inside, without piling up at the edges
        centre = (middle + reach * float(rng.random()), middle + reach * float(rng.random()))
        return cls(photograph, share, centre, bool(rng.random() < 0.5))

    def box(self, sides: tuple[int, ...], size: tuple[int, int]) -> tuple[float, float, float, float]:
        """Left, top, right and bottom in a photograph of these sides: of the wanted proportions, moved inside it."""
        height, width = sides[:2]
        unit = self.share * min(height / size[0], width / size[1])
        tall, wide = min(unit * size[0], height), min(unit * size[1], width)  # or a rounding error more
        left = min(max(self.centre[0] * width - wide / 2, 0.0), width - wide)
        top = min(max(self.centre[1] * height - tall / 2, 0.0), height - tall)
        return left, top, min(left + wide, width), min(top + tall, height)


def most_training_pictures(size: tuple[int, int]) -> int:
    """How many training pictures of this size are made at most; beyond that, photographs are there to draw from."""
    return max(FEWEST_MADE, PICTURES_BYTES // (3 * 4 * size[0] * size[1]))


def training_crops(
    photographs: Sequence[Photograph], size: tuple[int, int], count: int, seed: int, note: Note = silent
) -> PictureSet:
    """`count` random crops of many sizes, half of them mirrored; photographs take turns in an order drawn anew."""
    rng = np.random.default_rng(seed)
    by_source = _by_source(photographs)
    crops: list[Crop] = []
    while len(crops) < count:
        for source in rng.permutation(sorted(by_source))[: count - len(crops)]:
            photograph = by_source[source][rng.integers(len(by_source[source]))]
            crops.append(Crop.drawn(photograph, size, rng))
    return _picture_set(crops, size, note)


def held_out_crops(folds: Sequence[Sequence[Photograph]], size: tuple[int, int], count: int) -> PictureSet:
    """Of each fold's photographs `count` views, sources taking turns: first the largest of each, then closer ones."""
    return _picture_set([crop for photographs in folds for crop in _views(photographs, size, count)], size)


def _views(photographs: Sequence[Photograph], size: tuple[int, int], count: int) -> list[Crop]:
    by_source = list(_by_source(photographs).values())
    rounds = -(-count // len(by_source))
    crops: list[Crop] = []
    for index in range(rounds):
        for same_source in by_source[: count - len(crops)]:
            photograph = same_source[index % len(same_source)]
            least = _smallest_share(photograph, size)
            share = float(least ** (index / max(1, rounds - 1)))
            crops.append(Crop(photograph, share, photograph.foci[index % len(photograph.foci)]))
    return crops


def _by_source(photographs: Sequence[Photograph]) -> dict[str, list[Photograph]]:
    grouped: dict[str, list[Photograph]] = {}
    for photograph in photographs:
        grouped.setdefault(photograph.source, []).append(photograph)
    return grouped


def _smallest_share(photograph: Photograph, size: tuple[int, int]) -> float:
    """The smallest share, or more where such a crop would have to be enlarged."""
    height, width = photograph.sides
    return float(min(1.0, max(SMALLEST_SHARE, size[0] / height, size[1] / width)))


def _view(pixels: np.ndarray, size: tuple[int, int], crop: Crop) -> np.ndarray:
    """The crop, resized."""
    box = crop.box(pixels.shape, size)
    # Bilinear with smoothing, as torchvision's own preprocessing does it.
    picture = np.asarray(Image.fromarray(pixels).resize((size[1], size[0]), Image.Resampling.BILINEAR, box=box))
    return picture[:, ::-1] if crop.mirrored else picture


def _picture_set(crops: Sequence[Crop], size: tuple[int, int], note: Note = silent) -> PictureSet:
    """Each photograph is opened once, however many crops are made of it."""
    places: dict[int, list[int]] = {}
    for index, crop in enumerate(crops):
        places.setdefault(id(crop.photograph), []).append(index)
    pixels = np.empty((len(crops), 3, *size), np.uint8)
    tell = told(note, f"{len(crops)} pictures", len(places), "photographs cropped")
    with closing(opened([crops[indices[0]].photograph for indices in places.values()])) as opening:
        for done, (indices, whole) in enumerate(zip(places.values(), opening, strict=True), 1):
            tell(done)
            for index in indices:
                pixels[index] = _view(whole, size, crops[index]).transpose(2, 0, 1)
    sources = tuple(crop.photograph.source for crop in crops)
    names = tuple(f"{index:03d}-{_file_name(source)}" for index, source in enumerate(sources))
    return PictureSet(torch.from_numpy(pixels), sources, names)


def _file_name(source: str) -> str:
    """The source's last part without suffix, with only letters, digits, '-' and '_' kept: no more than 160 bytes."""
    stem = PurePosixPath(source).stem
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in stem)[:40]
