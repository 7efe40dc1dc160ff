"""Fitted networks: weights that know the pictures at hand, for want of really trained ones.

The task is one that pictures bring along: telling which source photograph a crop comes from. The networks of a family
are fitted to equal accuracy, not for an equal time, so that none is compared half done. Fitted is not trained: what
tells a dozen photographs apart need not carry over to others.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.study.families import CLASSES
from harness.errors import PictureError
from harness.networks.models import PictureModel, calibrate_batch_norm

BATCH = 32
LEARNING_RATE = 1e-3
STEPS_BETWEEN_JUDGEMENTS = 10
# Of so many crops of a photograph, one judges.
CROPS_PER_JUDGE = 4
_CALIBRATION_PICTURES = 128


@dataclass(frozen=True)
class Fitted:
    """A network and how well it tells photographs apart.

    Attributes:
        network: in eval mode; batch norm is calibrated on crops that it was fitted to.
        accuracy: share of the judging crops, none of which it was fitted to, whose photograph it names.
        steps: how many batches it was fitted to.
        reached: whether the accuracy is at least the target; if not, others do not compare with it.
    """

    network: PictureModel
    accuracy: float
    steps: int
    reached: bool


@dataclass(frozen=True)
class _Crops:
    pictures: Tensor
    classes: Tensor


def fit(
    network: PictureModel, pictures: Tensor, sources: Sequence[str], *, seed: int, target: float, most_steps: int
) -> Fitted:
    """Fit a copy of a network to tell photographs apart, until it does so well enough on crops kept aside.

    A quarter of each photograph's crops is kept aside; they may overlap with others. The same arguments give the same
    weights (on as many threads).

    Args:
        network: N x 3 x H x W on [0, 1] -> N x CLASSES logits; stays as it is.
        pictures: float32, N x 3 x H x W on [0, 1]: the receiver's own, never held-out ones.
        sources: the source photograph of each; the first CLASSES by name take part, of those with four crops or more.
        seed: of the order in which crops are gone through.
        target: the accuracy at which it ends, judged every ten steps.
        most_steps: when it ends all the same.

    Raises:
        PictureError: not even two photographs have four crops.
    """
    to_fit, to_judge = _part(pictures, sources)
    fitted = copy.deepcopy(network)
    optimiser = torch.optim.Adam(fitted.parameters(), LEARNING_RATE)
    steps = 0
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        batches = _batches(len(to_fit.classes))
        while True:
            calibrate_batch_norm(fitted.eval(), to_fit.pictures[:_CALIBRATION_PICTURES])
            accuracy = _accuracy(fitted, to_judge)
            if accuracy >= target or steps >= most_steps:
                return Fitted(fitted, accuracy, steps, accuracy >= target)
            fitted.train()
            for _ in range(min(STEPS_BETWEEN_JUDGEMENTS, most_steps - steps)):
                chosen = next(batches)
                optimiser.zero_grad()
                loss = F.cross_entropy(fitted(to_fit.pictures[chosen]), to_fit.classes[chosen])
                torch.autograd.backward(loss)
                optimiser.step()
                steps += 1


def _part(pictures: Tensor, sources: Sequence[str]) -> tuple[_Crops, _Crops]:
    """Crops to fit to and crops to judge by, of the same photographs."""
    counts = Counter(sources)
    taking_part = sorted(source for source, count in counts.items() if count >= CROPS_PER_JUDGE)[:CLASSES]
    if len(taking_part) < 2:
        raise PictureError(
            f"only {len(taking_part)} of {len(counts)} photographs have {CROPS_PER_JUDGE} crops or more",
            remedy="at least two are needed: give more crops",
        )
    to_fit, to_judge = list[int](), list[int]()
    seen = Counter[str]()
    for index, source in enumerate(sources):
        if source in taking_part:
            seen[source] += 1
            (to_judge if seen[source] % CROPS_PER_JUDGE == 0 else to_fit).append(index)
    classes = torch.tensor([taking_part.index(source) if source in taking_part else -1 for source in sources])
    return _Crops(pictures[to_fit], classes[to_fit]), _Crops(pictures[to_judge], classes[to_judge])


def _batches(count: int) -> Iterator[Tensor]:
    """Indices of `BATCH` crops at a time, or of all where there are fewer, in a new order each round."""
    while True:
        for chosen in torch.split(torch.randperm(count), BATCH):
            if len(chosen) == min(BATCH, count):
                yield chosen


@torch.no_grad()
def _accuracy(network: PictureModel, crops: _Crops) -> float:
    named = torch.cat([network(part).argmax(1) for part in torch.split(crops.pictures, BATCH)])
    return float((named == crops.classes).float().mean())
