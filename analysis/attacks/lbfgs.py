"""L-BFGS for many independent problems at once: one evaluation advances them all, each at its own pace."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from analysis.metrics import exact

PAIRS = 20
# A step is taken where it lowers the loss by this share of what the slope promised (Armijo), else shortened.
_SUFFICIENT = 1e-4
_SHORTER = 0.3
# After so many shortened steps in a row the curvature is forgotten.
_PATIENCE = 6


class Lbfgs:
    """Minimises N losses, each over a vector of its own (Nocedal and Wright, 2006, algorithm 7.4).

    What is known of the curvature is a product of few vectors, so only their dot products are computed (Chen, Wang and
    Zhou, NIPS 2014, section 3): two passes over the memory an evaluation, where the usual two loops take five.

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
        self.loss, gradient = function(start)
        count = len(start)
        # Steps, changes of the gradient that they made, and the gradient: N x (PAIRS + PAIRS + 1) x D. Each problem
        # fills its own ring: a step that one of them takes pushes out nothing of the others.
        self._basis = start.new_zeros(count, 2 * PAIRS + 1, start.shape[1])
        self._basis[:, -1] = gradient
        self._products = exact(start.new_zeros(count, 2 * PAIRS + 1, 2 * PAIRS + 1))
        self._inverse = exact(start.new_zeros(count, PAIRS))
        self._next = torch.zeros(count, dtype=torch.int64, device=start.device)
        self._each = torch.arange(count, device=start.device)
        self._length = _unit(gradient)
        self._direction = -gradient
        self._refused = torch.zeros_like(self._next)

    @property
    def _gradient(self) -> Tensor:
        return self._basis[:, -1]

    def evaluate(self) -> None:
        """Evaluate once: every problem takes its next step, or shortens it."""
        step = self._length[:, None] * self._direction
        loss, gradient = self._function(self.best + step)
        promised = (self._gradient * step).sum(1)
        taken = (loss <= self.loss + _SUFFICIENT * promised) & torch.isfinite(loss)
        self._remember(taken, step, gradient)
        self.best = torch.where(taken[:, None], self.best + step, self.best)
        self.loss = torch.where(taken, loss, self.loss)
        self._refused = torch.where(taken, 0, self._refused + 1)
        stuck = self._refused > _PATIENCE
        if stuck.any():
            self._inverse[stuck.to(self._inverse.device)] = 0
            self._refused[stuck] = 0
        direction = -self._multiplied_gradient()
        uphill = (direction * self._gradient).sum(1) >= 0
        longer = torch.where(uphill | stuck, _unit(self._gradient), 1.0)
        self._direction = torch.where(uphill[:, None], -self._gradient, direction)
        self._length = torch.where(taken | stuck, longer, self._length * _SHORTER)

    def _remember(self, taken: Tensor, step: Tensor, gradient: Tensor) -> None:
        """Keep the steps taken and what they did to the gradients, and the products of these with all that is kept."""
        change = gradient - self._gradient
        curvature = (step * change).sum(1)
        useful = taken & (curvature > 1e-10 * change.square().sum(1))
        mine, slot = self._each[useful], self._next[useful]
        self._basis[mine, slot], self._basis[mine, PAIRS + slot] = step[useful], change[useful]
        self._basis[taken, -1] = gradient[taken]
        there = self._products.device  # the CPU, where theirs knows no float64
        self._inverse[mine.to(there), slot.to(there)] = 1 / exact(curvature[useful])
        renewed = torch.stack([self._next, PAIRS + self._next, torch.full_like(self._next, 2 * PAIRS)], 1)
        products = exact(torch.bmm(self._basis[self._each[:, None], renewed], self._basis.mT))
        each, renewed = self._each[:, None].to(there), renewed.to(there)
        self._products[each, renewed] = products
        self._products.mT[each, renewed] = products
        self._next[useful] = (slot + 1) % PAIRS

    def _multiplied_gradient(self) -> Tensor:
        """The inverse Hessian's estimate times the gradients; pairs that a problem does not have count for nothing."""
        there = self._products.device
        age = ((self._next[:, None] - 1 - torch.arange(PAIRS, device=self._next.device)) % PAIRS).to(there)
        older = age[:, None, :] > age[:, :, None]
        steps, changes = slice(None, PAIRS), slice(PAIRS, -1)
        inverse = self._inverse[..., None]
        crossed, among = self._products[:, steps, changes], self._products[:, changes, changes]
        along_steps, along_changes = self._products[:, steps, -1:], self._products[:, changes, -1:]
        scale = self._scale()[:, None, None]
        # Both loops of algorithm 7.4, each solved for the shares that it computes one after the other.
        identity = torch.eye(PAIRS, dtype=torch.float64, device=there)
        newest_first = identity + inverse * crossed * older.mT
        shares = torch.linalg.solve(newest_first, inverse * along_steps)
        oldest_first = identity + inverse * crossed.mT * older
        scaled = scale * (along_changes - among @ shares)
        kept = torch.linalg.solve(oldest_first, shares - inverse * scaled)
        weights = torch.cat([kept, -scale * shares, scale], 1)
        multiplied: Tensor = torch.bmm(weights.mT.to(self._basis), self._basis)[:, 0]
        return multiplied

    def _scale(self) -> Tensor:
        """Each problem's newest curvature; where it has none, steps of unit length."""
        there = self._products.device
        each, newest = self._each.to(there), ((self._next - 1) % PAIRS).to(there)
        inverse = self._inverse[each, newest]
        squares = self._products[each, PAIRS + newest, PAIRS + newest]
        return torch.where(inverse > 0, 1 / (inverse * squares).clamp(min=1e-20), exact(_unit(self._gradient)))


def _unit(gradient: Tensor) -> Tensor:
    """The factors that make N gradients (N x D) steps of length 1."""
    factors: Tensor = 1 / gradient.norm(dim=1).clamp(min=1e-12)
    return factors
