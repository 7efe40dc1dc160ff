"""Which photographs are copies of one another, and which show the same scene: judged by thumbnails."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from harness.errors import PictureError
from harness.pictures.photographs import Photograph

# 16x16 thumbnails of copies (another format, size, quality) differ by no more than this on average, in grey levels:
# saving a photograph again changes them by 0.1 to 1.9, and no two of the built-in ones are closer than 6 ...
_COPY_TOLERANCE = 2.5
# ... nor by more than this share of their contrast: pictures taken at night differ by little.
_COPY_SHARE, _LEAST_COPY_TOLERANCE = 0.06, 0.3
_COPY_SIDE = 16
# Buckets are twice as wide as the largest tolerance, in sums over a thumbnail: two of a kind hold all that is near.
_BUCKET = int(2 * _COPY_TOLERANCE * _COPY_SIDE**2 * 3)

# Neighbours are found on thumbnails of this side whose local mean (of so many pixels to each side) is taken out, so
# that light, margins and a bright sky count for nothing; one may be shifted against the other by so many pixels.
_SIDE, _LOCAL, _SHIFT = 32, 4, 4
# The correlation from which two photographs show one scene. Frames 8 pixels apart: 0.94 to 1; bursts from a hand: 0.80
# to 1; the built-in stereo pair: 0.80. Different photographs: up to 0.55; pages of text: 0.61; night skies: 0.47.
_NEIGHBOURS = 0.75
# So many are compared with at once, and with photographs so far away in the order of their names.
_AT_ONCE, _IN_ORDER = 1024, 8
# A thumbnail that varies less than this (grey levels, root mean square) shows nothing to recognise.
_LEAST_CONTRAST = 0.2


class Copies:
    """Knows photographs again that were saved again, at another size, mirrored, or turned by a right angle.

    Thumbnails lie in buckets, by weighted sums over their values that a mirror or a turn leaves as they are. With no
    weight beyond 1, such sums of two thumbnails differ by no more than the thumbnails do: only what lies in the
    buckets around can be a copy, and is compared value by value. 768 bytes and some hundred more a photograph.
    """

    def __init__(self) -> None:
        self._sources: list[str] = []
        self._thumbnails: list[np.ndarray] = []
        self._sums: list[np.ndarray] = []
        self._buckets: dict[tuple[int, ...], list[int]] = {}

    def add(self, photograph: Photograph) -> None:
        """Remember a photograph."""
        sums = _sums(photograph.small)
        self._buckets.setdefault(tuple((sums // _BUCKET).tolist()), []).append(len(self._sources))
        self._sources.append(photograph.source)
        self._thumbnails.append(photograph.small)
        self._sums.append(sums)

    def like(self, photograph: Photograph) -> str | None:
        """The source of the photograph among those remembered that this one is a copy of, or None."""
        thumbnail = photograph.small
        tolerance = min(_COPY_TOLERANCE, max(_LEAST_COPY_TOLERANCE, _COPY_SHARE * _contrast(thumbnail)))
        near = self._near(_sums(thumbnail), tolerance * thumbnail.size)
        if not near:
            return None
        kept = np.stack([self._thumbnails[index] for index in near]).astype(np.int16)
        for view in _views(thumbnail.astype(np.int16)):
            close = np.abs(kept - view).mean(axis=(1, 2, 3)) <= tolerance
            if close.any():
                return self._sources[near[int(close.argmax())]]
        return None

    def _near(self, sums: np.ndarray, reach: float) -> list[int]:
        """Those whose sums are all within reach, in the order in which they were added."""
        lowest, highest = (sums - reach) // _BUCKET, (sums + reach) // _BUCKET
        around = product(*(range(int(low), int(high) + 1) for low, high in zip(lowest, highest, strict=True)))
        found = sorted(index for bucket in around for index in self._buckets.get(bucket, ()))
        if not found:
            return []
        near = (np.abs(np.stack([self._sums[index] for index in found]) - sums) <= reach).all(axis=1)
        return [index for index, is_near in zip(found, near.tolist(), strict=True) if is_near]


def without_copies(photographs: Iterable[Photograph]) -> Iterator[Photograph]:
    """The first of all that are copies of one another."""
    kept = Copies()
    for photograph in photographs:
        if kept.like(photograph) is None:
            kept.add(photograph)
            yield photograph


def refuse_leaks(train: Iterable[Photograph], *held_out: Sequence[Photograph]) -> None:
    """An attack must not be judged by photographs that it learned from.

    Args:
        train: learned from in any case.
        held_out: of each fold; what is judged by in one is learned from in the others.

    Raises:
        PictureError: a held-out photograph is a training one, too: the same source, the same pixels, or a copy that
            was saved again, at another size, mirrored or turned.
    """
    known = Copies()
    sources = set()

    def learn(photographs: Iterable[Photograph]) -> None:
        for photograph in photographs:
            known.add(photograph)
            sources.add(photograph.source)

    learn(train)
    for fold in held_out:
        for photograph in fold:
            learned = known.like(photograph)
            if learned is not None or photograph.source in sources:
                raise PictureError(
                    f"the held-out photograph {photograph.source} is also learned from, "
                    f"as {learned or photograph.source}",
                    remedy="remove one of them",
                )
        learn(fold)


def neighbours(photographs: Sequence[Photograph], others: Sequence[Photograph] | None = None) -> np.ndarray:
    """Whether two photographs show one scene, as a matrix of bool: each with each of the others.

    Frames of a film, shots of a burst, exposures of one view: brightness, contrast, a shift by an eighth of the
    picture and a mirror make no difference.

    Args:
        photographs: the rows.
        others: the columns; the same photographs by default.
    """
    rows = _structures(photographs)
    if others is None:
        likeness = _likeness(rows, rows)
        near: np.ndarray = np.maximum(likeness, likeness.T) >= _NEIGHBOURS
        return near
    parts = []
    for start in range(0, len(others), _AT_ONCE):
        columns = _structures(others[start : start + _AT_ONCE])
        parts.append(np.maximum(_likeness(rows, columns), _likeness(columns, rows).T) >= _NEIGHBOURS)
    return np.concatenate(parts, axis=1)


def _likeness(middles: np.ndarray, thumbnails: np.ndarray) -> np.ndarray:
    """The highest correlation of one's middle, mirrored or not, with a window of another: rows x columns."""
    count, side = len(middles), _SIDE - 2 * _SHIFT
    of_middles = np.tile(_lengths(middles, side)[:, _SHIFT, _SHIFT], 2)[:, np.newaxis]
    middles = middles[:, _SHIFT : _SHIFT + side, _SHIFT : _SHIFT + side]
    middles = np.concatenate([middles, middles[:, :, ::-1]])
    middles = (middles - middles.mean(axis=(1, 2), keepdims=True)).reshape(2 * count, -1)
    lengths = _lengths(thumbnails, side)
    best = np.zeros((2 * count, len(thumbnails)), np.float32)
    for top in range(_SHIFT, 2 * _SHIFT + 1):  # the shifts upwards are those of the other photograph downwards
        for left in range(2 * _SHIFT + 1):
            windows = thumbnails[:, top : top + side, left : left + side].reshape(len(thumbnails), -1)
            # The middles' mean colour is 0, so that of the windows makes no difference to the product.
            np.maximum(best, middles @ windows.T / (of_middles * lengths[:, top, left]), out=best)
    upright: np.ndarray = np.maximum(best[:count], best[count:])
    return upright


def near_in_order(photographs: Sequence[Photograph]) -> Iterator[tuple[str, str]]:
    """The sources of neighbours that are also near in this order: up to `_IN_ORDER` photographs apart."""
    for start in range(0, len(photographs), 3 * _IN_ORDER):
        some = photographs[start : start + 4 * _IN_ORDER]
        yield from neighbouring_sources(some, neighbours(some))


def neighbouring_sources(
    photographs: Sequence[Photograph], near: np.ndarray, others: Sequence[Photograph] | None = None
) -> Iterator[tuple[str, str]]:
    """What `neighbours` found, as pairs of sources."""
    columns = photographs if others is None else others
    for row, column in np.argwhere(near):
        yield photographs[row].source, columns[column].source


def with_sources_joined(photographs: Sequence[Photograph], together: Iterable[Sequence[str]]) -> list[Photograph]:
    """The same photographs; sources that are together, or linked by others that are, become one.

    Args:
        photographs: with sources as they are known so far.
        together: sources that show one scene.
    """
    leader = {photograph.source: photograph.source for photograph in photographs}

    def find(source: str) -> str:
        while leader[source] != source:
            leader[source] = source = leader[leader[source]]
        return source

    for sources in together:
        for source in sources[1:]:
            first, second = sorted((find(sources[0]), find(source)))
            leader[second] = first
    return [replace(photograph, source=find(photograph.source)) for photograph in photographs]


def _views(thumbnail: np.ndarray) -> Iterator[np.ndarray]:
    """The thumbnail in the eight ways in which it can lie."""
    for turns in range(4):
        turned = np.rot90(thumbnail, turns)
        yield from (turned, turned[:, ::-1])


def _symmetric_weights() -> np.ndarray:
    """Sums x (side * side * 3): weights from -1 to 1 that a mirror or a turn by a right angle leaves as they are."""
    down, across = np.abs(np.indices((_COPY_SIDE, _COPY_SIDE)) - (_COPY_SIDE - 1) / 2)
    nearer, farther = np.minimum(down, across), np.maximum(down, across)
    inside = np.where(farther < 6, 1, -1)  # of its 256 places, 144
    diagonal = np.where(2 * nearer > farther, 1, -1)
    weights = [
        *(np.ones_like(inside)[..., np.newaxis] * channels for channels in ((1, 1, 1), (1, 0, -1), (1, -1, 1))),
        *(sign[..., np.newaxis] * (1, 1, 1) for sign in (inside, diagonal)),
    ]
    return np.stack(weights).reshape(len(weights), -1).astype(np.int64)


_WEIGHTS = _symmetric_weights()


def _sums(thumbnail: np.ndarray) -> np.ndarray:
    sums: np.ndarray = _WEIGHTS @ thumbnail.reshape(-1).astype(np.int64)
    return sums


def _contrast(thumbnail: np.ndarray) -> float:
    """The root mean square around the mean colour, in grey levels."""
    values = thumbnail.astype(np.float32)
    return float(np.sqrt(((values - values.mean(axis=(0, 1))) ** 2).mean()))


def _structures(photographs: Sequence[Photograph]) -> np.ndarray:
    """Thumbnails without their local mean: N x S x S x 3."""
    thumbnails = np.stack([photograph.large for photograph in photographs]).astype(np.int32)
    padded = np.pad(thumbnails, ((0, 0), (_LOCAL, _LOCAL), (_LOCAL, _LOCAL), (0, 0)), mode="edge")
    around = _window_sums(padded, 2 * _LOCAL + 1) / np.float32((2 * _LOCAL + 1) ** 2)
    structures: np.ndarray = (thumbnails - around).astype(np.float32)
    return structures


def _window_sums(values: np.ndarray, side: int) -> np.ndarray:
    """Of N x S x S x 3: over each window of this side."""
    table = np.pad(values.cumsum(1, values.dtype).cumsum(2, values.dtype), ((0, 0), (1, 0), (1, 0), (0, 0)))
    table = table[:, side:] - table[:, :-side]
    sums: np.ndarray = table[:, :, side:] - table[:, :, :-side]
    return sums


def _lengths(thumbnails: np.ndarray, side: int) -> np.ndarray:
    """Of N x S x S x 3: the norm of each window of this side around its mean colour; infinite where it is flat."""
    exact = thumbnails.astype(np.float64)
    power = (_window_sums(exact**2, side) - _window_sums(exact, side) ** 2 / side**2).sum(axis=3)
    flat = power <= (_LEAST_CONTRAST * side) ** 2 * 3
    return np.where(flat, np.inf, np.sqrt(np.where(flat, 1, power))).astype(np.float32)
