"""Where photographs come from, and which of them are held out."""

from __future__ import annotations

import inspect
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from itertools import islice
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
from harness.pictures.likeness import Copies, by_scene, neighbours, refuse_leaks, without_copies
from harness.pictures.photographs import Photograph, open_photograph
from harness.pictures.readers import read_files

HELD_OUT_SHARE = 0.25
# More photographs than this teach an attack of 600 crops little and cost memory and time.
MOST_TRAINING_PHOTOGRAPHS = 240
# Photographs are kept at no more than this many times the pictures' longer side.
KEPT_DETAIL = 2
# So many photographs of a sequence are compared with the next file, read at this detail (shorter side, in pixels).
PROBES, PROBE_DETAIL = 8, 64
FIRST_NOTE_S = 2.0
# Is told what the user should know while a large folder is read.
Note = Callable[[str], None]

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


def silent(text: str) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Collection:
    """Photographs, split by source.

    Raises:
        PictureError: a photograph is in both `train` and `held_out`.
    """

    title: str
    train: Sequence[Photograph]
    held_out: Sequence[Photograph]
    left_out: tuple[LeftOut, ...] = ()

    def __post_init__(self) -> None:
        refuse_leaks(self.train, self.held_out)


def builtin() -> Collection:
    """The photographs that scikit-image, scikit-learn and matplotlib carry: thirteen to train on, four held out."""
    train = [Photograph(source, open_photograph(_installed(file))) for source, file in _TRAINING.items()]
    held_out = [
        Photograph(source, open_photograph(_installed(file)), foci) for file, (source, foci) in _HELD_OUT.items()
    ]
    return Collection("built-in photographs", train, held_out)


def folder(path: Path, size: tuple[int, int], seed: int, held_out_count: int, note: Note = silent) -> Collection:
    """The pictures under a folder, known by content; about a quarter of the scenes, drawn by `seed`, are held out.

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
    order = np.random.default_rng(seed).permutation(len(files.paths))
    drawn = _Drawn(KEPT_DETAIL * max(size), MOST_TRAINING_PHOTOGRAPHS + held_out_count)
    taken = drawn.take(path, [files.paths[index] for index in order], _told(note, title, len(order)))
    together = films(files.paths, taken)
    photographs = by_scene([photograph for _, photograph in taken], together)
    scenes = len({photograph.source for photograph in photographs})
    if scenes < len(photographs):
        title += f" ({scenes} scenes in {len(photographs)} photographs)"
    return _split(title, photographs, held_out_count, (*files.left_out, *drawn.left_out))


class _Drawn:
    """Photographs as they are drawn, until there are enough: of copies one is taken."""

    def __init__(self, detail: int, most: int) -> None:
        self._detail = detail
        self._most = most
        self._copies = Copies()
        self.left_out: list[LeftOut] = []

    def take(self, folder: Path, paths: Sequence[Path], told: Callable[[int], None]) -> list[tuple[Path, Photograph]]:
        """The files that were taken; the others are in `left_out` afterwards."""
        taken: list[tuple[Path, Photograph]] = []
        with closing(read_files(paths, self._detail)) as reading:
            for opened, (path, result) in enumerate(reading, 1):
                told(opened)
                if isinstance(result, Unusable):
                    self.left_out.append(LeftOut.because(path, folder, result))
                    continue
                photograph = Photograph(shown(path.relative_to(folder)), result)
                original = self._copies.like(photograph)
                if original is not None:
                    self.left_out.append(LeftOut(photograph.source, LeftOutKind.COPY, f"like {original}"))
                    continue
                self._copies.add(photograph)
                taken.append((path, photograph))
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
                alike = bool(neighbours([photograph, Photograph("the next", pixels)])[0, 1])
                followed.setdefault(number, []).append(alike)
    return [
        [known[path].source for path in sparse[number] if path in known]
        for number, alike in followed.items()
        if len(alike) > 1 and sum(alike) >= len(alike) - 1
    ]


def dataset(name: str, root: Path, size: tuple[int, int], seed: int, held_out_count: int) -> Collection:
    """Pictures of a torchvision dataset that is on disk; about a quarter of those used, drawn by `seed`, are held out.

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

    def photographs() -> Iterator[Photograph]:
        for index in np.random.default_rng(seed).permutation(count):
            source = f"{name}-{index}"
            try:
                pixels = as_rgb(items[int(index)][0], KEPT_DETAIL * max(size))
                check_sides(pixels.shape[1], pixels.shape[0])
            except Unusable as exc:
                left_out.append(LeftOut(source, exc.kind, exc.detail))
            except Exception as exc:  # likewise; an item that cannot be read is left out alone
                left_out.append(LeftOut(source, LeftOutKind.DAMAGED, first_line(exc)))
            else:
                yield Photograph(source, pixels)

    most = MOST_TRAINING_PHOTOGRAPHS + held_out_count
    kept = list(islice(without_copies(photographs()), most))
    return _split(f"torchvision {name}", kept, held_out_count, left_out)


def _split(
    title: str, photographs: Sequence[Photograph], held_out_count: int, left_out: Sequence[LeftOut]
) -> Collection:
    """The first quarter of the sources, in the order in which they were drawn, is held out."""
    sources = list(dict.fromkeys(photograph.source for photograph in photographs))
    if len(sources) < 2:
        usable = f"{len(photographs)} usable photographs"
        if len(photographs) > 1:
            usable += f" of one scene (like {sources[0]})"
        reasons = "; ".join(f"left out: {line}" for line in summary(left_out))
        raise PictureError(
            f"{title}: {usable}{f'; {reasons}' if reasons else ''}",
            remedy="give at least two different photographs: some to train on, others to judge by",
        )
    judged = set(sources[: min(held_out_count, max(1, round(HELD_OUT_SHARE * len(sources))))])
    return Collection(
        title,
        [photograph for photograph in photographs if photograph.source not in judged],
        [photograph for photograph in photographs if photograph.source in judged],
        tuple(left_out),
    )


def _told(note: Note, title: str, count: int) -> Callable[[int], None]:
    """Notes how many files were opened, after two seconds and then ever more rarely."""
    began = time.monotonic()
    due = FIRST_NOTE_S

    def told(opened: int) -> None:
        nonlocal due
        if opened < count and time.monotonic() - began >= due:
            due *= 2
            note(f"{title}: {opened} of {count} files opened so far")

    return told


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
