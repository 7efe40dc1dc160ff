"""He, Zhang and Lee's white-box attack: regularised maximum likelihood estimation."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.attacks import Attack, HeadFunction, Pairs
from analysis.attacks.matching import distance
from tests.benchmarks.attacks.budget import CpuBudget

DEFAULT_BUDGET_S = 60.0
MOST_STEPS = 5000
# The largest of the paper's step sizes, which are 1e-3 to 1e-1 by layer: fewer steps fit the budget than it took.
LEARNING_RATE = 0.1
# The paper sets the weight of total variation by hand for each layer, from 0 to 1e5 times mean squares of features
# of its own scale. Relative to the received activation, these span from what serves a stem to what serves logits.
VARIATIONS = (1e-3, 1e-1, 1.0, 10.0)
# Pictures that all weights are tried on at once, with as many steps as the answer to 16 pictures gets: the weight that
# is best after few steps is too large after many.
CHOSEN_ON = 4
CHOOSING_SHARE = 0.5


class Rmle(Attack):
    """Optimises pixels, from grey, until the activation matches: He et al. (ACSAC 2019, section 4).

    Squared distance of activations plus squared total variation, Adam (AMSGrad) on the standardised picture from zero:
    the mean colour. The weight of total variation is chosen on the attacker's own pictures.
    """

    name, access = "rmle", "white-box"
    knows, cost = "the head's weights, a few pictures", "60 s, or its budget"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        self._head, self._budget_s = head, budget_s or DEFAULT_BUDGET_S
        self._centre = own.pictures.mean((0, 2, 3), keepdim=True)
        self._scale = own.pictures.std((0, 2, 3), keepdim=True)
        self._size = own.input_size
        known = own.where(torch.arange(min(CHOSEN_ON, len(own))))  # any first pictures cover the photographs evenly
        tried = len(VARIATIONS)
        activations = known.activations.repeat(tried, *[1] * (known.activations.dim() - 1))
        found = self._search(activations, torch.tensor(VARIATIONS).repeat_interleave(len(known)), CHOOSING_SHARE)
        errors = (found.clamp(0, 1) - known.pictures.repeat(tried, 1, 1, 1)).square().view(tried, -1).mean(1)
        self._variation = VARIATIONS[int(errors.argmin())]  # of PSNRs, those of smooth pictures would decide

    def _rebuild(self, activations: Tensor) -> Tensor:
        variations = torch.full((len(activations),), self._variation)
        return self._search(activations, variations, 1 - CHOOSING_SHARE)

    @torch.enable_grad()
    def _search(self, activations: Tensor, variations: Tensor, share: float) -> Tensor:
        """N pictures after so much of the budget, not clipped; each has a weight of total variation of its own."""
        budget = CpuBudget(self._budget_s * share)
        standard = torch.zeros(len(activations), 3, *self._size, requires_grad=True)
        optimizer = torch.optim.Adam([standard], lr=LEARNING_RATE, amsgrad=True)
        for _ in range(MOST_STEPS):
            pictures = self._centre + self._scale * standard
            losses = distance(self._head(pictures), activations) + variations * squared_variation(standard)
            (standard.grad,) = torch.autograd.grad(losses.sum(), standard)
            optimizer.step()
            if budget.spent >= 1:
                break
        return (self._centre + self._scale * standard).detach()


def squared_variation(pictures: Tensor) -> Tensor:
    """Mean squared difference of vertical neighbours plus that of horizontal ones, of each picture: N values."""
    down, across = pictures.diff(dim=2), pictures.diff(dim=3)
    variation: Tensor = down.square().mean((1, 2, 3)) + across.square().mean((1, 2, 3))
    return variation
