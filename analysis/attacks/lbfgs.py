"""L-BFGS for many independent problems at once: one evaluation advances them all, each at its own pace."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

PAIRS = 20
# A step is taken where it lowers the loss by this share of what the slope promised (Armijo), else shortened.
_SUFFICIENT = 1e-4
_SHORTER = 0.3
# After so many shortened steps in a row the curvature is forgotten.
_PATIENCE = 6


class Lbfgs:
    """Minimises N losses, each over a vector of its own (Nocedal and Wright, 2006, algorithm 7.4).

    Args:
        start: N x D, where each begins.
        function: N x D -> losses (N) and their gradients (N x D).

    Attributes:
        best: N x D, where each loss was lowest.
        loss: N, those losses.
    """

    def __init__(self, start: Tensor, function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self._function = function
        self.best = start.clone()
        self.loss, self._gradient = function(start)
        count = len(start)
        self._steps: list[Tensor] = []
        self._changes: list[Tensor] = []
        self._inverse: list[Tensor] = []
        self._kept = torch.zeros(count, dtype=torch.bool)
        self._length = 1 / self._gradient.norm(dim=1).clamp(min=1e-12)
        self._direction = -self._gradient
        self._refused = torch.zeros(count, dtype=torch.int64)

    def evaluate(self) -> None:
        """Evaluate once: every problem takes its next step, or shortens it."""
        step = self._length[:, None] * self._direction
        loss, gradient = self._function(self.best + step)
        promised = (self._gradient * step).sum(1)
        taken = (loss <= self.loss + _SUFFICIENT * promised) & torch.isfinite(loss)
        self._remember(torch.where(taken[:, None], step, 0), torch.where(taken[:, None], gradient - self._gradient, 0))
        self.best = torch.where(taken[:, None], self.best + step, self.best)
        self._gradient = torch.where(taken[:, None], gradient, self._gradient)
        self.loss = torch.where(taken, loss, self.loss)
        self._refused = torch.where(taken, 0, self._refused + 1)
        stuck = self._refused > _PATIENCE
        if stuck.any():
            self._inverse = [torch.where(stuck, 0, inverse) for inverse in self._inverse]
            self._refused[stuck] = 0
        direction = -self._multiply(self._gradient)
        uphill = (direction * self._gradient).sum(1) >= 0
        fresh = uphill | stuck
        unit = 1 / self._gradient.norm(dim=1).clamp(min=1e-12)
        self._direction = torch.where(uphill[:, None], -self._gradient, direction)
        longer = torch.where(fresh, unit, 1.0)
        self._length = torch.where(taken | stuck, longer, self._length * _SHORTER)

    def _remember(self, step: Tensor, change: Tensor) -> None:
        curvature = (step * change).sum(1)
        useful = curvature > 1e-10 * change.square().sum(1)
        if not useful.any():
            return
        self._steps.append(step)
        self._changes.append(change)
        self._inverse.append(torch.where(useful, 1 / torch.where(useful, curvature, 1), 0))
        for kept in (self._steps, self._changes, self._inverse):
            del kept[:-PAIRS]

    def _multiply(self, gradient: Tensor) -> Tensor:
        """The inverse Hessian's estimate times the gradients; pairs that a problem does not have count for nothing."""
        result = gradient.clone()
        shares = []
        for step, change, inverse in zip(self._steps[::-1], self._changes[::-1], self._inverse[::-1], strict=True):
            share = inverse * (step * result).sum(1)
            result -= share[:, None] * change
            shares.append(share)
        result *= self._scale()[:, None]
        for step, change, inverse, share in zip(self._steps, self._changes, self._inverse, shares[::-1], strict=True):
            result += (share - inverse * (change * result).sum(1))[:, None] * step
        return result

    def _scale(self) -> Tensor:
        """Each problem's newest curvature; where it has none, steps of unit length."""
        scale: Tensor = 1 / self._gradient.norm(dim=1).clamp(min=1e-12)
        for change, inverse in zip(self._changes, self._inverse, strict=True):
            known = inverse > 0
            scale = torch.where(known, 1 / (inverse * change.square().sum(1)).clamp(min=1e-20), scale)
        return scale
