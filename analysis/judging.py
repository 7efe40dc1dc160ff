"""What every attack is given to learn from, and what its answers are judged by."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.attacks import Pairs
from analysis.metrics import floor_psnr_db, psnr_db, ssim
from device_runner.errors import SplitbenchError
from harness.networks.splits import CuttableGraph, Network, SplitPoint
from harness.networks.torch_head import BATCH, CPU
from harness.pictures import Fold, Pictures, PictureSet
from harness.pictures.crops import most_training_pictures
from harness.results.schema import TRAIN_PICTURES

# Activations of the receiver's own pictures that are kept per split, and at once.
SPLIT_BYTES = 100 * 2**20
GROUP_BYTES = 2500 * 2**20
# With more pictures than by default, whose pixels take memory, too.
GROUP_BYTES_OF_MANY = 512 * 2**20
FEWEST_PICTURES = 48
_AT_ONCE = 256
# Judging may fail inside torch or numpy, where memory is short: that row says so, the others go on.
FAILURES = (SplitbenchError, RuntimeError, ValueError, MemoryError)


def holds_pictures_apart(network: Network, point: SplitPoint) -> bool:
    """Whether the activation of many pictures is those of each, one after the other along the first dimension."""
    node = next(n for n in network.graph(BATCH).graph.nodes if n.name == point.node)
    return tuple(node.meta["val"].shape) == (BATCH, *point.activation_shape[1:])


def collect_pairs(
    graph: CuttableGraph, points: Sequence[SplitPoint], pictures: Pictures, device: torch.device = CPU
) -> dict[int, Pairs]:
    """Pair the receiver's own pictures with what its heads make of them, many splits in one pass; by split index.

    The heads compute on `device`; the pairs, which are many, are in main memory.
    """
    counts = {p.index: _own_pictures(p, learned_from(pictures)) for p in points}
    own = pictures.train.first(max(counts.values())).as_float()
    activations = {p.index: torch.empty(counts[p.index], *p.activation_shape[1:]) for p in points}
    for start in range(0, max(counts.values()), BATCH):
        wanted = [p for p in points if counts[p.index] > start]
        batch = own[start : start + BATCH]
        if len(batch) < BATCH <= len(own):  # keep one batch size: each has a graph of its own
            batch = torch.cat([batch, own[: BATCH - len(batch)]])
        for values in graph.activations(batch.to(device), wanted, batch=len(batch)):
            for index, value in values.items():
                kept = activations[index][start : start + BATCH]
                kept.copy_(value[: len(kept)])
    return {index: paired(pictures, values, own) for index, values in activations.items()}


def paired(pictures: Pictures, activations: Tensor, own: Tensor | None = None) -> Pairs:
    """The receiver's own pictures, the first ones, with their activations (N x ...).

    Args:
        own: as many of these pictures or more as float32, where they are at hand.
    """
    count = len(activations)
    first = pictures.train.first(count).as_float() if own is None else own[:count]
    return Pairs(first, activations, pictures.train.sources[:count], pictures.photographs)


def learned_from(pictures: Pictures) -> int:
    """How many of the receiver's own pictures attacks learn from at most: the first ones, in memory as float32."""
    height, width = pictures.train.pixels.shape[2:]
    return min(len(pictures.train), most_training_pictures((height, width)))


def groups(points: Sequence[SplitPoint], available: int) -> Iterator[list[SplitPoint]]:
    """The points, as many together as memory has room for the pairs of; `available` pictures at most have one each."""
    most = GROUP_BYTES if available <= TRAIN_PICTURES else GROUP_BYTES_OF_MANY
    group: list[SplitPoint] = []
    size = 0
    for point in points:
        own = _own_pictures(point, available) * point.activation_bytes
        if group and size + own > most:
            yield group
            group, size = [], 0
        group.append(point)
        size += own
    if group:
        yield group


def _own_pictures(point: SplitPoint, available: int) -> int:
    return min(available, max(FEWEST_PICTURES, SPLIT_BYTES // point.activation_bytes))


def received(graph: CuttableGraph, points: Sequence[SplitPoint], pictures: Pictures) -> dict[int, Tensor]:
    """What a receiver gets for the held-out pictures where no device is in between, by split index."""
    parts = list(graph.activations(pictures.held_out.as_float(), points))
    return {p.index: torch.cat([part[p.index] for part in parts]) for p in points}


@dataclass(frozen=True)
class Scores:
    """How good rebuilt pictures are: a value for each held-out picture."""

    psnr_db: tuple[float, ...]
    ssim: tuple[float, ...]
    floor_psnr_db: tuple[float, ...]


class Judge:
    """The held-out pictures, and the floor: what is reached without any activation.

    Args:
        own: the receiver's own pictures, N x 3 x H x W on [0, 1].
        original: the held-out ones.
    """

    def __init__(self, own: Tensor, original: Tensor) -> None:
        self.original = original
        self._floor = values(floor_psnr_db(own, original))

    @classmethod
    def of(cls, pictures: Pictures) -> Judge:
        """The floor of each fold's pictures is what is learned from its own training pictures."""
        own, original = pictures.train.first(learned_from(pictures)), pictures.held_out.as_float()
        judge = cls(torch.zeros_like(original[:1]), original)
        floors = [floor_psnr_db(_mean(own, fold), original[fold.pictures]) for fold in pictures.folds]
        judge._floor = values(torch.cat(floors))
        return judge

    def scores(self, rebuilt: Tensor) -> Scores:
        """Judge pictures (in the order of the held-out ones).

        Raises:
            AttackError: they cannot be compared.
        """
        return Scores(values(psnr_db(self.original, rebuilt)), values(ssim(self.original, rebuilt)), self._floor)


def _mean(own: PictureSet, fold: Fold) -> Tensor:
    """The mean of the pictures that the fold does not hold out, 1 x 3 x H x W: no float copy of all is made for it."""
    kept = [index for index, source in enumerate(own.sources) if source not in fold.sources]
    parts = (own.pixels[kept[start : start + _AT_ONCE]] for start in range(0, len(kept), _AT_ONCE))
    total = sum((part.sum(0, keepdim=True, dtype=torch.float64) for part in parts), torch.zeros(()))
    return (total / (255 * len(kept))).float()


def values(tensor: Tensor) -> tuple[float, ...]:
    """A vector's values, as records keep them."""
    return tuple(tensor.tolist())
