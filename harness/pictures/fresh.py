"""Ever new crops of photographs, for attacks that learn step by step."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from harness.errors import PictureError
from harness.pictures.crops import Crop
from harness.pictures.decode import Unusable
from harness.pictures.left_out import LeftOut
from harness.pictures.photographs import FilePixels, Photograph, called
from harness.pictures.progress import Note, silent
from harness.pictures.readers import Readers, processes_for

# Of photographs whose pixels are not in memory one is read for every draw, so many draws before it is needed ...
_AHEAD = 8
# ... and the last ones are kept, up to so many bytes.
WINDOW_BYTES = 64 * 2**20


@dataclass(frozen=True)
class OwnPhotographs:
    """Photographs that training pictures are crops of, and that more of them may be drawn from.

    Args:
        photographs: of all sources.
        size: height and width of the pictures, in pixels.
        note: is told of photographs that can be read no more.
    """

    photographs: tuple[Photograph, ...]
    size: tuple[int, int]
    note: Note = silent

    @classmethod
    def of(cls, photographs: Iterable[Photograph], size: tuple[int, int], note: Note = silent) -> OwnPhotographs:
        """Nothing of their looks is kept."""
        return cls(tuple(photograph.without_thumbnails() for photograph in photographs), size, note)

    def __len__(self) -> int:
        return len(self.photographs)

    def without(self, sources: Collection[str]) -> OwnPhotographs:
        """Those of other sources."""
        return replace(self, photographs=tuple(one for one in self.photographs if one.source not in sources))

    def crops(self) -> FreshCrops:
        """Crops of them, drawn by a seed that comes from torch's global generator; close it in the end."""
        return FreshCrops(self, np.random.default_rng(int(torch.randint(2**63 - 1, (1,)))))


class FreshCrops:
    """Draws crops as training pictures are drawn: sources alike, then their photographs, then size and place.

    It draws from the photographs that are in memory. Of the others one is read ahead for every draw, in an order that
    the seed gives; it replaces the one that was read longest ago. So what is drawn depends on the seed alone and not
    on how fast files are read, and no draw has to wait for one unless they are slower than the training.

    Args:
        own: what to draw from.
        rng: what chooses.
    """

    def __init__(self, own: OwnPhotographs, rng: np.random.Generator) -> None:
        self._size, self._note, self._rng = own.size, own.note, rng
        self._here = _InMemory(own.size)
        away = [one for one in own.photographs if not isinstance(one.pixels, np.ndarray)]
        for photograph in own.photographs:
            if isinstance(photograph.pixels, np.ndarray):
                self._here.add(photograph, photograph.pixels)
        self._away = deque(away[index] for index in rng.permutation(len(away)))
        self._window: deque[tuple[Photograph, int]] = deque()
        self._reading: deque[tuple[Photograph, Future[np.ndarray | Unusable]]] = deque()
        self._reader = _Reader(len(away))

    def draw(self, count: int) -> Tensor:
        """float32, `count` x 3 x H x W, on [0, 1].

        Raises:
            PictureError: none of the photographs can be read any more.
        """
        self._read_on()
        return torch.stack([self._here.crop(self._rng) for _ in range(count)]).float().div_(255)

    def close(self) -> None:
        """Read no more ahead."""
        self._reader.close()

    def _read_on(self) -> None:
        self._begin_to_read()
        if len(self._reading) > _AHEAD or not self._away:
            self._take_what_was_read()
        while not self._here:
            self._begin_to_read()
            if not self._reading:
                raise PictureError(
                    "no photograph can be read any more", remedy="put the pictures back where they were, then --resume"
                )
            self._take_what_was_read()

    def _begin_to_read(self) -> None:
        if self._away:
            photograph = self._away.popleft()
            self._reading.append((photograph, self._reader.read(photograph)))

    def _take_what_was_read(self) -> None:
        if not self._reading:
            return
        photograph, reading = self._reading.popleft()
        pixels = reading.result()
        if isinstance(pixels, Unusable):
            self._note(f"no more crops of {LeftOut(photograph.source, pixels.kind, pixels.detail)}")
        elif pixels.shape[:2] != photograph.sides:
            self._note(f"no more crops of {photograph.source}: it has changed since it was read first")
        else:
            self._window.append((photograph, pixels.nbytes))
            self._here.add(photograph, pixels)
        while len(self._window) > 1 and sum(size for _, size in self._window) > WINDOW_BYTES:
            oldest, _ = self._window.popleft()
            self._here.remove(oldest)
            self._away.append(oldest)


class _Reader:
    """Reads photographs again while something else is done."""

    def __init__(self, count: int) -> None:
        self._files = Readers(processes_for(count))
        self._items = ThreadPoolExecutor(1, thread_name_prefix="items")  # of a dataset, whose code may know no threads

    def read(self, photograph: Photograph) -> Future[np.ndarray | Unusable]:
        """The pixels of one that is not in memory, as soon as they are there."""
        pixels = photograph.pixels
        if isinstance(pixels, FilePixels):
            return self._files.read(pixels.path, pixels.detail)
        assert not isinstance(pixels, np.ndarray)  # noqa: S101 - those need no reading
        return self._items.submit(called, pixels)

    def close(self) -> None:
        """What was not begun is cancelled."""
        self._items.shutdown(cancel_futures=True)
        self._files.close()


class _InMemory:
    """Photographs in memory, by source; large ones also at halves of their size, for crops that are shrunk."""

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size
        self._by_source: dict[str, list[tuple[Photograph, list[np.ndarray]]]] = {}
        self._sources: list[str] = []

    def __len__(self) -> int:
        return len(self._sources)

    def add(self, photograph: Photograph, pixels: np.ndarray) -> None:
        """From now on it is drawn from."""
        if photograph.source not in self._by_source:
            self._by_source[photograph.source] = []
            self._sources.append(photograph.source)
        self._by_source[photograph.source].append((photograph, _halves(pixels, self._size)))

    def remove(self, photograph: Photograph) -> None:
        """From now on it is not."""
        source = photograph.source
        self._by_source[source] = [one for one in self._by_source[source] if one[0] is not photograph]
        if not self._by_source[source]:
            del self._by_source[source]
            self._sources.remove(source)

    def crop(self, rng: np.random.Generator) -> Tensor:
        """A crop of any: uint8, 3 x H x W."""
        some = self._by_source[self._sources[rng.integers(len(self._sources))]]
        photograph, halves = some[rng.integers(len(some))]
        crop = Crop.drawn(photograph, self._size, rng)
        left, top, right, bottom = crop.box(photograph.sides, self._size)
        shrinks = min((bottom - top) / self._size[0], (right - left) / self._size[1])
        pixels = halves[min(len(halves) - 1, int(math.log2(max(1.0, shrinks))))]
        left, top, right, bottom = map(round, crop.box(pixels.shape, self._size))
        part = torch.from_numpy(pixels[top:bottom, left:right].copy()).permute(2, 0, 1)
        picture = F.interpolate(part[None], self._size, mode="bilinear", antialias=True)[0]  # faster than Pillow's
        return picture.flip(2) if crop.mirrored else picture


def _halves(pixels: np.ndarray, size: tuple[int, int]) -> list[np.ndarray]:
    """The pixels, at half their size, at a quarter ...: as long as pictures are smaller."""
    halves = [pixels]
    while halves[-1].shape[0] > 2 * size[0] and halves[-1].shape[1] > 2 * size[1]:
        halves.append(np.asarray(Image.fromarray(halves[-1]).reduce(2)))
    return halves
