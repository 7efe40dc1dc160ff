"""The textbook white-box attack: change pixels until the activation is the received one."""

from __future__ import annotations

import math
import time

import torch
from torch import Tensor

from analysis.attacks.base import Attack, HeadFunction, Pairs
from analysis.attacks.matching import distance, out_of_range, total_variation
from analysis.metrics import psnr_db

STEPS = 150
RESTARTS = 2
LEARNING_RATE = 0.05
VARIATIONS = (1e-4, 1e-3, 1e-2, 1e-1)
CHOSEN_ON = 4
# How far the restarts are from grey.
_NOISE = 0.1
# A budget for one split reckons with so many pictures' searches: these weights' and the received ones'.
_SEARCHES = 2


class WhiteBox(Attack):
    """Optimises pixels, from grey, until the activation matches. The literature's yardstick; fails past a few layers.

    Mahendran and Vedaldi (CVPR 2015, sections 3 and 4), as He et al. (ACSAC 2019, section 4) use it against split
    networks and Oh and Lee (EMDL 2019) in their study: squared distance of activations, total variation, pixels kept
    in range; Adam, from grey and again from grey with noise, of which the closer match is the answer.
    """

    name, access = "whitebox", "white-box"
    knows, cost = "the head's weights, a few pictures", "seconds a picture"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        self._head, self._input_size = head, own.input_size
        self._seconds = math.inf if budget_s is None else budget_s / _SEARCHES
        known = own.round_robin(CHOSEN_ON)
        tried = len(VARIATIONS)
        activations = known.activations.repeat(tried, *[1] * (known.activations.dim() - 1))
        rebuilt = self._search(activations, torch.tensor(VARIATIONS).repeat_interleave(len(known)))
        reached = psnr_db(known.pictures.repeat(tried, 1, 1, 1), rebuilt).view(tried, -1).mean(1)
        self._variation = VARIATIONS[int(reached.argmax())]

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._search(activations, torch.full((len(activations),), self._variation))

    def _search(self, activations: Tensor, variation: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(0)
        deadline = time.monotonic() + self._seconds
        best = torch.full((len(activations), 3, *self._input_size), 0.5)
        lowest = torch.full((len(activations),), math.inf)
        for restart in range(RESTARTS):
            start = 0.5 + (_NOISE * torch.randn(best.shape, generator=generator) if restart else torch.zeros_like(best))
            until = deadline - (RESTARTS - 1 - restart) * self._seconds / RESTARTS
            rebuilt, loss = self._descend(start, activations, variation, until)
            better = loss < lowest
            best[better], lowest[better] = rebuilt[better], loss[better]
        return best.clamp(0, 1)

    @torch.enable_grad()
    def _descend(self, start: Tensor, activations: Tensor, variation: Tensor, deadline: float) -> tuple[Tensor, Tensor]:
        """Pictures and their losses after Adam's steps; the first step is taken whatever the time."""
        pictures = start.requires_grad_()
        optimizer = torch.optim.Adam([pictures], lr=LEARNING_RATE)
        losses = torch.full((len(start),), math.inf)
        for _ in range(STEPS):
            losses = (
                distance(self._head(pictures), activations)
                + variation * total_variation(pictures)
                + out_of_range(pictures)
            )
            (pictures.grad,) = torch.autograd.grad(losses.sum(), pictures)
            optimizer.step()
            if time.monotonic() >= deadline:
                break
        return pictures.detach(), losses.detach()
