"""Pictures for training attacks and for judging them; the two never share a source photograph.

`load_pictures` reads the photographs that installed packages carry (`builtin`), a folder, or a torchvision dataset that
is on disk already (`torchvision:CIFAR10:/data`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from device_runner.errors import UsageError
from device_runner.files import digest
from device_runner.shown import shown
from harness.errors import PictureError
from harness.pictures.crops import PictureSet, held_out_crops, most_training_pictures, training_crops
from harness.pictures.fresh import OwnPhotographs
from harness.pictures.left_out import LeftOut, summary
from harness.pictures.photographs import Photograph
from harness.pictures.progress import Note, silent
from harness.pictures.sources import Collection, Wanted, builtin, dataset, folder

__all__ = ["LeftOut", "PictureSet", "Pictures", "load_pictures", "summary"]


@dataclass(frozen=True)
class Fold:
    """What is held out together.

    Args:
        sources: its source photographs; what is judged by its pictures learns from none of them.
        pictures: the places of its pictures among the held-out ones.
    """

    sources: frozenset[str] = frozenset()
    pictures: slice = field(default_factory=lambda: slice(None))


@dataclass(frozen=True)
class Pictures:
    """The receiver's own pictures, and those that it never sees.

    Args:
        train: what attacks are trained on, networks calibrated with.
        held_out: what attacks are judged on; no source photograph of theirs is among the training pictures' of
            their fold.
        sha256: of all pixels, sizes and source names: equal pictures, equal hash.
        description: one line for the report.
        left_out: files that were not used, each with its reason; `summary` tells them in a few lines.
        photographs: those that the training pictures are crops of, to draw more from; None where that is not wanted.
        folds: of the held-out pictures. Of several, each holds back other photographs of the training ones; with one,
            these have none that is held out.
    """

    train: PictureSet
    held_out: PictureSet
    sha256: str
    description: str
    left_out: tuple[LeftOut, ...]
    photographs: OwnPhotographs | None = None
    folds: tuple[Fold, ...] = (Fold(),)


def load_pictures(
    spec: str,
    *,
    size: tuple[int, int],
    seed: int = 0,
    train_count: int = 600,
    held_out_count: int = 16,
    folds: int = 1,
    note: Note = silent,
) -> Pictures:
    """Crops of photographs, split by source photograph; the same arguments give the same pixels.

    Args:
        spec: `builtin`, a folder, or `torchvision:DATASET:ROOT` (nothing is downloaded).
        size: height and width of every picture, in pixels.
        seed: chooses the training crops and, for folders and datasets, which photographs are held out.
        train_count: how many training pictures, and of how many photographs at most; any first K pictures cover the
            photographs evenly. No more are made than memory has room for (`most_training_pictures`). With several
            folds there are more, so that about as many are left without those of any fold.
        held_out_count: how many held-out pictures in each fold; the photographs take turns, the largest view of each
            comes first.
        folds: how often other photographs are held out; the first fold's pictures are those of a single one.
        note: is told, every now and then, how far the reading of a large folder is, and later of photographs that can
            be read no more.

    Raises:
        UsageError: a size or count below 1, or a spec of another form.
        PictureError: no such folder or dataset, a spec that is not UTF-8, or too few usable photographs in it.
    """
    if min(*size, train_count, held_out_count, folds) < 1:
        raise UsageError(
            f"{train_count} training and {held_out_count} held-out pictures of {size[0]}x{size[1]} cannot be made "
            f"in {folds} folds",
            remedy="give sizes and counts of at least 1",
        )
    collection = collect(spec, Wanted(size, seed, train_count, held_out_count, folds), note)
    judged = collection.folds(folds)
    own = [*collection.train, *(collection.held_out if folds > 1 else ())]
    sources = [frozenset(photograph.source for photograph in fold) for fold in judged]
    if folds > 1:
        all_sources = len({photograph.source for photograph in own})
        train_count = -(-train_count * all_sources // (all_sources - max(map(len, sources))))
    train = training_crops(own, size, min(train_count, most_training_pictures(size)), seed, note)
    held_out = held_out_crops(judged, size, held_out_count)
    places = (slice(start, start + held_out_count) for start in range(0, len(held_out), held_out_count))
    return Pictures(
        train,
        held_out,
        sha256_of(train, held_out),
        f"{collection.title}: {_numbers(own, train, held_out, folds)}, {size[0]}x{size[1]} pixels",
        collection.left_out,
        OwnPhotographs.of(own, size, note),
        tuple(map(Fold, sources, places)),
    )


def _numbers(own: Sequence[Photograph], train: PictureSet, held_out: PictureSet, folds: int) -> str:
    """How many pictures of how many photographs, in words."""
    sources = len({photograph.source for photograph in own})
    learned, judged = f"{len(set(train.sources))}", len(set(held_out.sources))
    if learned != f"{sources}":
        learned += f" of {sources}"
    if folds == 1:
        return (
            f"{len(train)} training crops of {learned} photographs, {len(held_out)} held-out crops of {judged} others"
        )
    return (
        f"{len(train)} training crops of {learned} photographs, {len(held_out)} held-out crops of {judged} photographs "
        f"in {folds} folds (none is learned from where it is judged by)"
    )


def collect(spec: str, wanted: Wanted, note: Note = silent) -> Collection:
    """The photographs that a spec names, as `load_pictures` takes it."""
    if spec == "builtin":
        return builtin()
    try:
        spec.encode()
    except UnicodeEncodeError as exc:
        raise PictureError(
            f"{shown(spec)} is not UTF-8, and a run's file could not name it", remedy="rename it, or give a link to it"
        ) from exc
    if spec.startswith("torchvision:"):
        _, name, root = [*spec.split(":", 2), "", ""][:3]
        if not (name and root):
            raise UsageError(f"'{shown(spec)}' names no dataset", remedy="write torchvision:DATASET:ROOT")
        return dataset(name, Path(root), wanted, note)
    return folder(Path(spec), wanted, note)


def sha256_of(*sets: PictureSet) -> str:
    """Over pixels, shapes and source names."""
    return digest(*(part for s in sets for part in (tuple(s.pixels.shape), s.sources, s.pixels.numpy().data)))
