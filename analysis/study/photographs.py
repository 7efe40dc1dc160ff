"""All photographs of a study, dealt into folds: each is held out in one of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from device_runner.files import digest
from harness.errors import PictureError
from harness.pictures import Pictures, collect, sha256_of, summary
from harness.pictures.crops import held_out_crops, training_crops
from harness.pictures.likeness import without_copies
from harness.pictures.photographs import Photograph, opened
from harness.pictures.progress import Note, silent
from harness.pictures.sources import Wanted

FOLDS = 4
TRAIN_PICTURES, HELD_OUT_PICTURES = 600, 16
# Each fold needs some to judge by, and attacks learn from several photographs.
FEWEST_PHOTOGRAPHS = 2 * FOLDS
# Files are read at the detail that pictures of this size need.
_SIZE = (64, 64)


@dataclass(frozen=True)
class Photographs:
    """The photographs that a study has at hand.

    Args:
        photographs: of all sources.
        description: where they come from, for the document.
        sha256: over all pixels and source names.
    """

    photographs: tuple[Photograph, ...]
    description: str
    sha256: str

    @property
    def sources(self) -> tuple[str, ...]:
        """The source photographs, in the order in which they are dealt into folds."""
        known = sorted({photograph.source for photograph in self.photographs})
        return tuple(known[index] for index in np.random.default_rng(0).permutation(len(known)))

    def fold(self, index: int, size: tuple[int, int]) -> Pictures:
        """Training crops and held-out crops; every `FOLDS`-th source photograph, from `index` on, is held out."""
        held_out = set(self.sources[index::FOLDS])
        train = training_crops(
            [p for p in self.photographs if p.source not in held_out], size, TRAIN_PICTURES, seed=index
        )
        judged = held_out_crops([[p for p in self.photographs if p.source in held_out]], size, HELD_OUT_PICTURES)
        return Pictures(train, judged, sha256_of(train, judged), f"{self.description}, fold {index}", ())


def gather(specs: Sequence[str], note: Note = silent) -> Photographs:
    """The photographs of all specs (as `harness.pictures.load_pictures` takes them); of copies one is kept.

    Args:
        specs: each names photographs.
        note: is told what was left out, and how far the reading of a large folder is.

    Raises:
        UsageError: a spec of another form.
        PictureError: a spec without photographs, or too few in all.
    """
    collections = [
        collect(spec, Wanted(_SIZE, 0, TRAIN_PICTURES, HELD_OUT_PICTURES), note) for spec in dict.fromkeys(specs)
    ]
    for collection in collections:
        for line in summary(collection.left_out):
            note(f"{collection.title}: left out: {line}")
    usable = [
        replace(photograph, source=f"{collection.title}/{photograph.source}")
        for collection in collections
        for photograph in (*collection.train, *collection.held_out)
    ]
    kept = tuple(without_copies(usable))
    sources = len({photograph.source for photograph in kept})
    if sources < FEWEST_PHOTOGRAPHS:
        raise PictureError(
            f"{sources} photographs are too few for a study", remedy=f"give at least {FEWEST_PHOTOGRAPHS}"
        )
    pixels = zip(kept, opened(kept), strict=True)
    sha256 = digest(*(part for p, own in pixels for part in (p.source, own.shape, own.tobytes())))
    return Photographs(kept, " and ".join(collection.title for collection in collections), sha256)
