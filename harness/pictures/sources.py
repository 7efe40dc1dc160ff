"""Where photographs come from, and which of them are held out."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path

import numpy as np
from PIL import EpsImagePlugin

from device_runner.errors import UsageError
from device_runner.registry import suggest
from device_runner.shown import shown
from harness.errors import PictureError
from harness.pictures.decode import LeftOutKind, Unusable, as_rgb, check_sides, first_line
from harness.pictures.files import Files, sequences
from harness.pictures.left_out import LeftOut, summary
from harness.pictures.likeness import (
    Copies,
    near_in_order,
    neighbouring_sources,
    neighbours,
    refuse_leaks,
    with_sources_joined,
    without_copies,
)
from harness.pictures.photographs import FilePixels, Photograph, Room, open_photograph
from harness.pictures.progress import Note, silent, told
from harness.pictures.readers import read_files

HELD_OUT_SHARE = 0.25
# A photograph for every picture is enough; but of few, frames of a film are too far apart to be known as one.
FEWEST_ENOUGH = 240
# Up to so many photographs are compared all with all; of more, those whose names are near one another, and each that
# is judged by with all.
MOST_COMPARED = 1000
# Photographs are kept at no more than this many times the pictures' longer side.
KEPT_DETAIL = 2
# So many photographs of a sequence are compared with the next file, read at this detail (shorter side, in pixels).
PROBES, PROBE_DETAIL = 8, 64

_SKIMAGE, _SKLEARN, _MATPLOTLIB = "skimage/data", "sklearn/datasets/images", "matplotlib/mpl-data/sample_data"
_TRAINING = {
    "astronaut": f"{_SKIMAGE}/astronaut.png",
    "brick": f"{_SKIMAGE}/brick.png",
    "camera": f"{_SKIMAGE}/camera.png",
    "china": f"{_SKLEARN}/china.jpg",
    "coins": f"{_SKIMAGE}/coins.png",
    "flower": f"{_SKLEARN}/flower.jpg",
    "grass": f"{_SKIMAGE}/grass.png",
    "gravel": f"{_SKIMAGE}/gravel.png",
    "hubble": f"{_SKIMAGE}/hubble_deep_field.jpg",
    "ihc": f"{_SKIMAGE}/ihc.png",
    "moon": f"{_SKIMAGE}/moon.png",
    "retina": f"{_SKIMAGE}/retina.jpg",
    "rocket": f"{_SKIMAGE}/rocket.jpg",
}
# File -> source and the points to look at. The motorcycle is a stereo pair: two files, one scene.
_HELD_OUT = {
    f"{_SKIMAGE}/chelsea.png": ("chelsea", ((0.5, 0.5), (0.48, 0.42), (0.45, 0.4), (0.32, 0.38))),
    f"{_SKIMAGE}/coffee.png": ("coffee", ((0.5, 0.5), (0.5, 0.45), (0.5, 0.45), (0.58, 0.66))),
    f"{_MATPLOTLIB}/grace_hopper.jpg": ("grace_hopper", ((0.5, 0.4), (0.5, 0.32), (0.5, 0.26), (0.5, 0.3))),
    f"{_SKIMAGE}/motorcycle_left.png": ("motorcycle", ((0.5, 0.5), (0.5, 0.5), (0.5, 0.55), (0.5, 0.5))),
    f"{_SKIMAGE}/motorcycle_right.png": ("motorcycle", ((0.5, 0.5), (0.45, 0.5), (0.5, 0.5), (0.78, 0.3))),
}


@dataclass(frozen=True)
class Collection:
    """Photographs, split by source.

    Args:
        title: where they come from.
        train: all that is not held out where there is one fold.
        held_out: what is held out in the first fold.
        left_out: files that were not used.

    Raises:
        PictureError: a photograph is in both `train` and `held_out`.
    """

    title: str
    train: Sequence[Photograph]
    held_out: Sequence[Photograph]
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        refuse_leaks(self.train, self.held_out)

    def folds(self, count: int) -> list[Sequence[Photograph]]:
        """What each fold holds out: the first what is held out anyway, the others as many sources of `train`, or fewer.

        Raises:
            PictureError: too few photographs, or one in two folds.
        """
        if count == 1:
            return [self.held_out]
        sources, first = _sources(self.train), len(_sources(self.held_out))
        further = dealt(sources, count, first)
        if not all(further):
            raise PictureError(
                f"{self.title}: {count} folds need {count - 1} or more photographs beside the {first} of the "
                f"first, not {len(sources)}",
                remedy=f"give more photographs, or --folds {len(sources) + 1}",
            )
        parts = [[one for one in self.train if one.source in fold] for fold in map(set, further)]
        held_out = set(chain.from_iterable(further))
        rest = [one for one in self.train if one.source not in held_out]
        refuse_leaks(rest, self.held_out, *parts)
        return [self.held_out, *parts]


def builtin() -> Collection:
    """The photographs that scikit-image, scikit-learn and matplotlib carry: thirteen to train on, four held out."""
    train = [Photograph.of(source, open_photograph(_installed(file))) for source, file in _TRAINING.items()]
    held_out = [
        Photograph.of(source, open_photograph(_installed(file)), foci) for file, (source, foci) in _HELD_OUT.items()
    ]
    return Collection("built-in photographs", train, held_out)


@dataclass(frozen=True)
class Wanted:
    """What is to be made of photographs.

    Args:
        size: height and width of pictures, in pixels.
        seed: chooses the crops and which photographs are held out.
        train, held_out: how many pictures; of the latter in each fold.
        folds: how often other photographs are held out.
    """

    size: tuple[int, int]
    seed: int
    train: int
    held_out: int
    folds: int = 1

    @property
    def detail(self) -> int:
        """What the shorter side of photographs is shrunk to, in pixels."""
        return KEPT_DETAIL * max(self.size)

    @property
    def most(self) -> int:
        """How many photographs are enough."""
        return max(FEWEST_ENOUGH, self.train) + self.folds * self.held_out


def folder(path: Path, wanted: Wanted, note: Note = silent) -> Collection:
    """The pictures under a folder, known by content; about a quarter of the scenes, drawn by the seed, are held out.

    Raises:
        PictureError: no such folder, or fewer than two usable photographs in it.
    """
    try:
        path = path.expanduser()
        os.scandir(path).close()
    except (OSError, RuntimeError) as exc:  # RuntimeError: nobody's home
        why = f" ({exc.strerror})" if isinstance(exc, OSError) else ""
        raise PictureError(
            f"no folder of pictures at {shown(path)}{why}",
            remedy="give a folder, 'builtin' or torchvision:DATASET:ROOT",
        ) from exc
    files = Files.under(path)
    title = f"folder {shown(path.resolve().name)}"
    order = np.random.default_rng(wanted.seed).permutation(len(files.paths))
    drawn = _Drawn(wanted)
    taken = drawn.take(path, [files.paths[index] for index in order], told(note, title, len(order), "files opened"))
    if len(taken) > MOST_COMPARED:
        note(f"{title}: {len(taken)} photographs taken; looking for those that show one scene")
    photographs = by_scene(taken, films(files.paths, taken), wanted)
    scenes = len({photograph.source for photograph in photographs})
    if scenes < len(photographs):
        title += f" ({scenes} scenes in {len(photographs)} photographs)"
    return _split(title, photographs, wanted.held_out, (*files.left_out, *drawn.left_out))


class _Drawn:
    """Photographs as they are drawn, until there are enough: of copies one is taken."""

    def __init__(self, wanted: Wanted) -> None:
        self._detail, self._most = wanted.detail, wanted.most
        self._copies, self._room = Copies(), Room()
        self.left_out: list[LeftOut] = []

    def take(self, folder: Path, paths: Sequence[Path], tell: Callable[[int], None]) -> list[tuple[Path, Photograph]]:
        """The files that were taken; the others are in `left_out` afterwards."""
        taken: list[tuple[Path, Photograph]] = []
        with closing(read_files(paths, self._detail)) as reading:
            for opened, (path, result) in enumerate(reading, 1):
                tell(opened)
                if isinstance(result, Unusable):
                    self.left_out.append(LeftOut.because(path, folder, result))
                    continue
                photograph = Photograph.of(shown(path.relative_to(folder)), result)
                original = self._copies.like(photograph)
                if original is not None:
                    self.left_out.append(LeftOut(photograph.source, LeftOutKind.COPY, f"like {original}"))
                    continue
                self._copies.add(photograph)
                taken.append((path, self._room.keep(photograph, FilePixels(path, self._detail))))
                if len(taken) == self._most:
                    rest = paths[opened:]
                    self.left_out += [LeftOut.because(path, folder, Unusable(LeftOutKind.MORE)) for path in rest]
                    break
        return taken


def films(paths: Sequence[Path], taken: Sequence[tuple[Path, Photograph]]) -> list[list[str]]:
    """Sources that are frames of one film though too far apart in it to look alike.

    Of a large folder only some files are read. Where others lie between them, up to `PROBES` photographs of a sequence
    are compared with the files that follow them: where all, or all but one, show what the next one shows, it is a film.
    """
    known = dict(taken)
    probes: list[tuple[int, Photograph, Path]] = []
    sparse = [one for one in sequences(paths) if 1 < sum(path in known for path in one) < len(one)]
    for number, one in enumerate(sparse):
        places = [place for place, path in enumerate(one[:-1]) if path in known]
        chosen = np.linspace(0, len(places) - 1, min(PROBES, len(places))).astype(int)
        probes += [(number, known[one[places[index]]], one[places[index] + 1]) for index in chosen]
    followed: dict[int, list[bool]] = {}
    with closing(read_files([path for _, _, path in probes], PROBE_DETAIL)) as following:
        for (number, photograph, _), (_, pixels) in zip(probes, following, strict=True):
            if not isinstance(pixels, Unusable):
                alike = bool(neighbours([photograph, Photograph.of("the next", pixels)])[0, 1])
                followed.setdefault(number, []).append(alike)
    return [
        [known[path].source for path in sparse[number] if path in known]
        for number, alike in followed.items()
        if len(alike) > 1 and sum(alike) >= len(alike) - 1
    ]


def by_scene(
    taken: Sequence[tuple[Path, Photograph]], together: Iterable[Sequence[str]], wanted: Wanted
) -> list[Photograph]:
    """The photographs in their order; those that show one scene, or are linked by others that do, have one source.

    Of more than `MOST_COMPARED` only those whose names are near one another are compared, and every one that is judged
    by with all: whatever shows what it shows is never learned from.

    Args:
        taken: each with its path.
        together: sources that are one for another reason.
        wanted: how many pictures are judged by, in how many folds.
    """
    photographs = [photograph for _, photograph in taken]
    if len(taken) <= MOST_COMPARED:
        pairs = neighbouring_sources(photographs, neighbours(photographs)) if taken else ()
        return with_sources_joined(photographs, chain(pairs, together))
    in_order = [photograph for _, photograph in sorted(taken, key=lambda one: one[0])]
    photographs = with_sources_joined(photographs, chain(near_in_order(in_order), together))
    compared: set[int] = set()
    while new := [index for index in _judged(photographs, wanted) if index not in compared]:
        judged = [photographs[index] for index in new]
        pairs = neighbouring_sources(judged, neighbours(judged, photographs), photographs)
        photographs = with_sources_joined(photographs, pairs)
        compared.update(new)
    return photographs


def _judged(photographs: Sequence[Photograph], wanted: Wanted) -> list[int]:
    """The places of the photographs that held-out pictures are cut from: the first ones of each held-out source."""
    first = _held_out_sources(photographs, wanted.held_out)
    further = dealt([s for s in _sources(photographs) if s not in set(first)], wanted.folds, len(first))
    judged: list[int] = []
    for fold in (first, *further):
        members: dict[str, list[int]] = {source: [] for source in fold}
        for index, photograph in enumerate(photographs):
            members.get(photograph.source, []).append(index)
        turns = -(-wanted.held_out // max(1, len(members)))
        judged += [index for some in members.values() for index in some[:turns]]
    return judged


def dealt(sources: Sequence[str], folds: int, most: int) -> list[Sequence[str]]:
    """What each fold but the first holds out of these sources, each as many: at most so many."""
    each = min(most, len(sources) // max(1, folds - 1))
    return [sources[first :: folds - 1][:each] for first in range(folds - 1)]


def _sources(photographs: Iterable[Photograph]) -> list[str]:
    return list(dict.fromkeys(photograph.source for photograph in photographs))


def _held_out_sources(photographs: Sequence[Photograph], held_out_count: int) -> list[str]:
    """The first quarter of the sources, in the order in which they were drawn."""
    sources = _sources(photographs)
    return sources[: min(held_out_count, max(1, round(HELD_OUT_SHARE * len(sources))))]


def dataset(name: str, root: Path, wanted: Wanted, note: Note = silent) -> Collection:
    """Pictures of a torchvision dataset that is on disk; about a quarter of those used, by the seed, are held out.

    Its items are taken as photographs of their own; only copies are left out.

    Raises:
        UsageError: torchvision has no such dataset.
        PictureError: the dataset is not at `root`, or holds fewer than two usable photographs.
    """
    datasets = import_module("torchvision.datasets")  # seconds to import, and only this kind of source needs it
    if name not in datasets.__all__:
        raise UsageError(f"torchvision has no dataset '{shown(name)}'", remedy=suggest(name, list(datasets.__all__)))
    kind = getattr(datasets, name)
    options = {"download": False} if "download" in inspect.signature(kind).parameters else {}
    EpsImagePlugin.gs_binary = False  # torchvision opens files by content, and Pillow would start Ghostscript
    try:
        items = kind(root.expanduser(), **options)
        count = len(items)
    except Exception as exc:  # torchvision documents no base of what its datasets raise
        raise PictureError(
            f"{name} cannot be read from {shown(root)}: {first_line(exc)}", remedy="put the dataset there first"
        ) from exc
    left_out: list[LeftOut] = []

    def pixels_of(index: int) -> np.ndarray:
        try:
            pixels = as_rgb(items[index][0], wanted.detail)
        except Unusable:
            raise
        except Exception as exc:  # likewise; an item that cannot be read is left out alone
            raise Unusable(LeftOutKind.DAMAGED, first_line(exc)) from exc
        check_sides(pixels.shape[1], pixels.shape[0])
        return pixels

    title, room = f"torchvision {name}", Room()
    tell = told(note, title, count, "items read")

    def photographs() -> Iterator[Photograph]:
        for opened, index in enumerate(np.random.default_rng(wanted.seed).permutation(count).tolist(), 1):
            tell(opened)
            source = f"{name}-{index}"
            try:
                photograph = Photograph.of(source, pixels_of(index))
            except Unusable as exc:
                left_out.append(LeftOut(source, exc.kind, exc.detail))
            else:
                yield room.keep(photograph, partial(pixels_of, index))

    kept = list(islice(without_copies(photographs()), wanted.most))
    return _split(title, kept, wanted.held_out, left_out)


def _split(
    title: str, photographs: Sequence[Photograph], held_out_count: int, left_out: Sequence[LeftOut]
) -> Collection:
    sources = _sources(photographs)
    if len(sources) < 2:
        usable = f"{len(photographs)} usable photographs"
        if len(photographs) > 1:
            usable += f" of one scene (like {sources[0]})"
        reasons = "; ".join(f"left out: {line}" for line in summary(left_out))
        raise PictureError(
            f"{title}: {usable}{f'; {reasons}' if reasons else ''}",
            remedy="give at least two different photographs: some to train on, others to judge by",
        )
    judged = set(_held_out_sources(photographs, held_out_count))
    return Collection(
        title,
        [photograph for photograph in photographs if photograph.source not in judged],
        [photograph for photograph in photographs if photograph.source in judged],
        tuple(left_out),
    )


def _installed(file: str) -> Path:
    """A file inside an installed package, found without importing the package.

    Raises:
        PictureError: the package or the file is missing.
    """
    package, _, inside = file.partition("/")
    spec = find_spec(package)
    if spec is not None and spec.origin is not None:
        path = Path(spec.origin).parent / inside
        if path.is_file():
            return path
    raise PictureError(f"the built-in photograph {file} is missing", remedy=f"reinstall {package}")
