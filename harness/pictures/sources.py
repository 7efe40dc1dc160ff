"""Where photographs come from, and which of them are held out."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from PIL import Image

from device_runner.errors import UsageError
from device_runner.registry import suggest
from harness.errors import PictureError
from harness.pictures.photographs import Photograph, as_rgb, merge_copies, open_photograph, refuse_leaks

HELD_OUT_SHARE = 0.25
# More photographs than this teach an attack of 600 crops little and cost memory and time.
MOST_TRAINING_PHOTOGRAPHS = 240
# Photographs are kept at no more than this many times the pictures' longer side.
KEPT_DETAIL = 2
_SUFFIXES = frozenset(Image.registered_extensions())

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

    Raises:
        PictureError: a photograph is in both `train` and `held_out`.
    """

    title: str
    train: Sequence[Photograph]
    held_out: Sequence[Photograph]
    left_out: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        refuse_leaks(self.train, self.held_out)


def builtin() -> Collection:
    """The photographs that scikit-image, scikit-learn and matplotlib carry: thirteen to train on, four held out."""
    train = [Photograph(source, open_photograph(_installed(file))) for source, file in _TRAINING.items()]
    held_out = [
        Photograph(source, open_photograph(_installed(file)), foci) for file, (source, foci) in _HELD_OUT.items()
    ]
    return Collection("built-in photographs", train, held_out)


def folder(path: Path, size: tuple[int, int], seed: int, held_out_count: int) -> Collection:
    """The picture files under a folder; about a quarter of the photographs, drawn by `seed`, are held out.

    Raises:
        PictureError: no such folder, or fewer than two usable photographs in it.
    """
    if not path.is_dir():
        raise PictureError(
            f"no folder of pictures at {path}", remedy="give a folder, 'builtin' or torchvision:DATASET:ROOT"
        )
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file())
    left_out: list[str] = []

    def photographs() -> Iterator[Photograph]:
        for index in np.random.default_rng(seed).permutation(len(files)):
            try:
                pixels = open_photograph(files[index], smallest_side=KEPT_DETAIL * max(size))
            except PictureError as exc:
                left_out.append(exc.message)
                continue
            yield Photograph(files[index].relative_to(path).as_posix(), pixels)

    return _split(f"folder {path.name}", photographs(), held_out_count, left_out)


def dataset(name: str, root: Path, size: tuple[int, int], seed: int, held_out_count: int) -> Collection:
    """Pictures of a torchvision dataset that is on disk; about a quarter of those used, drawn by `seed`, are held out.

    Raises:
        UsageError: torchvision has no such dataset.
        PictureError: the dataset is not at `root`, or holds fewer than two usable photographs.
    """
    datasets = import_module("torchvision.datasets")  # seconds to import, and only this kind of source needs it
    if name not in datasets.__all__:
        raise UsageError(f"torchvision has no dataset '{name}'", remedy=suggest(name, list(datasets.__all__)))
    kind = getattr(datasets, name)
    options = {"download": False} if "download" in inspect.signature(kind).parameters else {}
    try:
        items = kind(root, **options)
    except (RuntimeError, OSError, TypeError) as exc:
        raise PictureError(
            f"{name} cannot be read from {root}: {str(exc).splitlines()[0]}", remedy="put the dataset there first"
        ) from exc

    def photographs() -> Iterator[Photograph]:
        for index in np.random.default_rng(seed).permutation(len(items)):
            picture = items[int(index)][0]
            yield Photograph(f"{name}-{index}", as_rgb(picture, KEPT_DETAIL * max(size)))

    return _split(f"torchvision {name}", photographs(), held_out_count, [])


def _split(title: str, drawn: Iterator[Photograph], held_out_count: int, left_out: list[str]) -> Collection:
    """Takes photographs as they are drawn until there are enough; the first quarter of those kept is held out."""
    photographs = merge_copies(drawn, most=MOST_TRAINING_PHOTOGRAPHS + held_out_count)
    if len(photographs) < 2:
        raise PictureError(
            f"{title}: {len(photographs)} usable photographs, and {len(left_out)} left out",
            remedy="give at least two different photographs: some to train on, others to judge by",
        )
    held_out = min(held_out_count, max(1, round(HELD_OUT_SHARE * len(photographs))))
    return Collection(title, photographs[held_out:], photographs[:held_out], tuple(sorted(left_out)))


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
