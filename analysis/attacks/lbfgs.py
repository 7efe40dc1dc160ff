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
        # Each problem fills its own ring: a step that one of them takes pushes out nothing of the others.
        self._steps = start.new_zeros(PAIRS, *start.shape)
        self._changes = torch.zeros_like(self._steps)
        self._inverse = start.new_zeros(PAIRS, count)
        self._next = torch.zeros(count, dtype=torch.int64)
        self._each = torch.arange(count)
        self._length = 1 / self._gradient.norm(dim=1).clamp(min=1e-12)
        self._direction = -self._gradient
        self._refused = torch.zeros(count, dtype=torch.int64)

    def evaluate(self) -> None:
        """Evaluate once: every problem takes its next step, or shortens it."""
        step = self._length[:, None] * self._direction
        loss, gradient = self._function(self.best + step)
        promised = (self._gradient * step).sum(1)
        taken = (loss <= self.loss + _SUFFICIENT * promised) & torch.isfinite(loss)
        self._remember(taken, step, gradient - self._gradient)
        self.best = torch.where(taken[:, None], self.best + step, self.best)
        self._gradient = torch.where(taken[:, None], gradient, self._gradient)
        self.loss = torch.where(taken, loss, self.loss)
        self._refused = torch.where(taken, 0, self._refused + 1)
        stuck = self._refused > _PATIENCE
        if stuck.any():
            self._inverse[:, stuck] = 0
            self._refused[stuck] = 0
        direction = -self._multiply(self._gradient)
        uphill = (direction * self._gradient).sum(1) >= 0
        fresh = uphill | stuck
        unit = 1 / self._gradient.norm(dim=1).clamp(min=1e-12)
        self._direction = torch.where(uphill[:, None], -self._gradient, direction)
        longer = torch.where(fresh, unit, 1.0)
        self._length = torch.where(taken | stuck, longer, self._length * _SHORTER)

    def _remember(self, taken: Tensor, step: Tensor, change: Tensor) -> None:
        curvature = (step * change).sum(1)
        useful = taken & (curvature > 1e-10 * change.square().sum(1))
        mine, slot = self._each[useful], self._next[useful]
        self._steps[slot, mine], self._changes[slot, mine] = step[useful], change[useful]
        self._inverse[slot, mine] = 1 / curvature[useful]
        self._next[useful] = (slot + 1) % PAIRS

    def _multiply(self, gradient: Tensor) -> Tensor:
        """The inverse Hessian's estimate times the gradients; pairs that a problem does not have count for nothing."""
        result = gradient.clone()
        newest_first = [(self._next - age) % PAIRS for age in range(1, PAIRS + 1)]
        shares = []
        for slot in newest_first:
            step, change, inverse = self._pair(slot)
            share = inverse * (step * result).sum(1)
            result -= share[:, None] * change
            shares.append(share)
        result *= self._scale(newest_first[0])[:, None]
        for slot, share in zip(newest_first[::-1], shares[::-1], strict=True):
            step, change, inverse = self._pair(slot)
            result += (share - inverse * (change * result).sum(1))[:, None] * step
        return result

    def _pair(self, slot: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Each problem's step, change of gradient and inverse curvature in its own slot."""
        first = int(slot[0])
        if bool((slot == first).all()):  # a view, where all problems are equally far
            return self._steps[first], self._changes[first], self._inverse[first]
        return self._steps[slot, self._each], self._changes[slot, self._each], self._inverse[slot, self._each]

    def _scale(self, newest: Tensor) -> Tensor:
        """Each problem's newest curvature; where it has none, steps of unit length."""
        _, change, inverse = self._pair(newest)
        known = 1 / (inverse * change.square().sum(1)).clamp(min=1e-20)
        unit = 1 / self._gradient.norm(dim=1).clamp(min=1e-12)
        return torch.where(inverse > 0, known, unit)
