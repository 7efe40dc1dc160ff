"""Pictures whose activation is the received one: the search that white-box attacks share."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.attacks.base import HeadFunction
from analysis.attacks.fourier import Filter
from analysis.attacks.lbfgs import Lbfgs

# Total variation is smoothed below this difference of neighbours, or it would have no slope at flat places.
_SMOOTH = 1e-3
_OUT_OF_RANGE = 10.0
# How much total variation counts against the distance of activations, not squared.
_VARIATION = 0.1
# Squared distances below this are rounding: their root has a slope there, too.
_LEAST_DISTANCE = 1e-12
# Memory for steps and gradients grows with pictures x pixels; so many pixels are searched at once on a CPU, on a GPU
# as many as its free memory holds at so many bytes each: 41 vectors of L-BFGS, and the head's values with gradients.
_PIXELS_AT_ONCE = 16 * 256 * 256
_BYTES_OF_PIXEL = 8192
# As many are searched at once in a run of the usual size.
_PICTURES = 18
_LOG = logging.getLogger("splitbench.attacks")


@dataclass(frozen=True)
class Search:
    """Looks for the pictures behind activations among those that `start + filter(noise)` can be.

    Minimises the distance of activations relative to the received one's size, plus total variation (Mahendran and
    Vedaldi, CVPR 2015, sections 3 and 4), by L-BFGS over the noise. The distance is not squared (as in the square-root
    lasso of Belloni, Chernozhukov and Wang, Biometrika 2011), so that total variation counts the less, the closer an
    activation can be matched: one weight suits stems, deep splits and rounded activations.

    Args:
        head: what made the activations.
        filter: whose output varies as the starts' errors do.
        evaluations: of the head with its gradients, for each picture.
        deadline: a monotonic time in seconds after which no further evaluation begins.
    """

    head: HeadFunction
    filter: Filter
    evaluations: int
    deadline: float

    def pictures(self, activations: Tensor, start: Tensor) -> Tensor:
        """The pictures found.

        Args:
            activations: N x ..., received.
            start: N x 3 x H x W.
        """
        at_once = max(1, _pixels_at_once(start.device) // start[0, 0].numel())
        pictures: list[Tensor] = []
        while (done := sum(map(len, pictures))) < len(start):
            part = [values[done : done + at_once] for values in (activations, start)]
            try:
                *_, state = self._states(*part)
                pictures.append(self._picture(part[1], state))
            except torch.OutOfMemoryError:
                if at_once == 1:
                    raise
                at_once = max(1, min(at_once, len(part[0])) // 2)
                _LOG.warning("memory of %s is short: %d pictures are searched at once", start.device, at_once)
        return torch.cat(pictures)

    def checkpoints(self, activations: Tensor, start: Tensor, *, every: int = 1) -> Iterator[Tensor]:
        """As `pictures`, with what was found whenever `every` more evaluations were made; first the start itself."""
        for evaluations, state in enumerate(self._states(activations, start), start=1):
            if evaluations == 1 or evaluations % every == 0:
                yield self._picture(start, state)

    def _picture(self, start: Tensor, state: Lbfgs) -> Tensor:
        return start + self.filter(state.best.view_as(start))

    def _states(self, activations: Tensor, start: Tensor) -> Iterator[Lbfgs]:
        """The search, always the same object, after each evaluation."""

        @torch.enable_grad()
        def loss(noise: Tensor) -> tuple[Tensor, Tensor]:
            noise = noise.detach().requires_grad_()
            pictures = start + self.filter(noise.view_as(start))
            unlike = distance(self.head(pictures), activations) + _OUT_OF_RANGE * out_of_range(pictures)
            losses = (unlike + _LEAST_DISTANCE).sqrt() + _VARIATION * total_variation(pictures)
            (gradient,) = torch.autograd.grad(losses.sum(), noise)
            return losses.detach(), gradient

        lbfgs = Lbfgs(torch.zeros_like(start).flatten(1), loss)
        yield lbfgs
        for _ in range(self.evaluations - 1):
            if time.monotonic() >= self.deadline:
                return
            lbfgs.evaluate()
            yield lbfgs


def search_bytes(input_size: tuple[int, int]) -> int:
    """What a search for a run's pictures takes of main memory, about, and at most."""
    return _BYTES_OF_PIXEL * min(_PIXELS_AT_ONCE, _PICTURES * math.prod(input_size))


def _pixels_at_once(device: torch.device) -> int:
    if device.type != "cuda":
        return _PIXELS_AT_ONCE
    free, _ = torch.cuda.mem_get_info(device)
    return max(_PIXELS_AT_ONCE, free // _BYTES_OF_PIXEL)


def total_variation(pictures: Tensor) -> Tensor:
    """Mean length of each picture's colour gradient, over N x 3 x H x W: N values."""
    down = pictures[..., 1:, :-1] - pictures[..., :-1, :-1]
    across = pictures[..., :-1, 1:] - pictures[..., :-1, :-1]
    lengths: Tensor = (down.square() + across.square()).sum(1).add(_SMOOTH**2).sqrt()
    return lengths.mean((1, 2))


def distance(activations: Tensor, received: Tensor) -> Tensor:
    """Squared distance of activations (N x ...) from the received ones, relative to their squares: N values."""
    squared = (activations - received).flatten(1).square().sum(1)
    relative: Tensor = squared / received.flatten(1).square().sum(1).clamp(min=1e-12)
    return relative


@torch.no_grad()
def feature_residual(head: HeadFunction, pictures: Tensor, received: Tensor) -> Tensor:
    """How far the activations of N pictures are from the received ones, relative to their norms: N values."""
    return distance(head(pictures), received).sqrt()


def out_of_range(pictures: Tensor) -> Tensor:
    """Mean square of what leaves [0, 1], of each of N x 3 x H x W pictures: N values."""
    return (pictures - pictures.clamp(0, 1)).square().mean((1, 2, 3))
