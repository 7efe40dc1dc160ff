"""The textbook white-box attack: change pixels until the activation is the received one."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.attacks.base import Attack, HeadFunction, Pairs, Progress
from analysis.attacks.matching import distance, out_of_range, total_variation
from analysis.metrics import psnr_db

STEPS = 150
RESTARTS = 2
LEARNING_RATE = 0.05
VARIATIONS = (1e-4, 1e-3, 1e-2, 1e-1)
CHOSEN_ON = 4
# How often a descent is validated.
_STEPS_BETWEEN_CHECKPOINTS = 10
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
    splits_at_once = True

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        self._head, self._input_size = head, own.input_size
        self._seconds = math.inf if budget_s is None else budget_s / _SEARCHES
        known = own.round_robin(CHOSEN_ON)
        tried = len(VARIATIONS)
        activations = known.activations.repeat(tried, *[1] * (known.activations.dim() - 1))
        course = _Course(known.pictures.repeat(tried, 1, 1, 1))
        rebuilt = self._search(activations, torch.tensor(VARIATIONS).repeat_interleave(len(known)), course)
        chosen = int(psnr_db(course.pictures, rebuilt).view(tried, -1).mean(1).argmax())
        self._variation = VARIATIONS[chosen]
        of_chosen = slice(chosen * len(known), (chosen + 1) * len(known))
        self._progress += [Progress(seconds, float(reached[of_chosen].mean())) for seconds, reached in course.steps()]

    def _rebuild(self, activations: Tensor) -> Tensor:
        self._found = self._search(activations, torch.full((len(activations),), self._variation))
        return self._found.clamp(0, 1)

    def _search(self, activations: Tensor, variation: Tensor, course: _Course | None = None) -> Tensor:
        generator = torch.Generator("cpu").manual_seed(0)  # anywhere the same numbers
        deadline = time.monotonic() + self._seconds
        best = torch.full((len(activations), 3, *self._input_size), 0.5)
        lowest = torch.full((len(activations),), math.inf)
        for restart in range(RESTARTS):
            start = torch.full_like(best, 0.5)
            if restart:
                start += _NOISE * torch.randn(best.shape, generator=generator, device="cpu").to(best)
            until = deadline - (RESTARTS - 1 - restart) * self._seconds / RESTARTS
            if course:
                course.begin()
            rebuilt, loss = self._descend(start, activations, variation, until, course)
            better = loss < lowest
            best[better], lowest[better] = rebuilt[better], loss[better]
        return best

    @torch.enable_grad()
    def _descend(
        self, start: Tensor, activations: Tensor, variation: Tensor, deadline: float, course: _Course | None
    ) -> tuple[Tensor, Tensor]:
        """Pictures and their losses after Adam's steps; the first step is taken whatever the time."""
        pictures = start.requires_grad_()
        optimizer = torch.optim.Adam([pictures], lr=LEARNING_RATE)
        losses = torch.full((len(start),), math.inf)
        for step in range(1, STEPS + 1):
            losses = (
                distance(self._head(pictures), activations)
                + variation * total_variation(pictures)
                + out_of_range(pictures)
            )
            (pictures.grad,) = torch.autograd.grad(losses.sum(), pictures)
            optimizer.step()
            late = time.monotonic() >= deadline
            if course and (step % _STEPS_BETWEEN_CHECKPOINTS == 1 or step == STEPS or late):
                course.add(pictures.detach(), losses.detach())
            if late:
                self._cut_short |= step < STEPS
                break
        return pictures.detach(), losses.detach()


class _Course:
    """How good the search for some pictures, N x 3 x H x W, was after some time."""

    def __init__(self, pictures: Tensor) -> None:
        self.pictures = pictures
        self._descents: list[list[_Checkpoint]] = []

    def begin(self) -> None:
        """Another descent begins."""
        self._began = time.monotonic()
        self._descents.append([])

    def add(self, rebuilt: Tensor, losses: Tensor) -> None:
        """What the descent has come to by now."""
        reached = psnr_db(self.pictures, rebuilt.nan_to_num(0.5))
        seconds = time.monotonic() - self._began
        losses = losses.nan_to_num(math.inf, math.inf).to(reached.device)
        self._descents[-1].append(_Checkpoint(seconds, losses, reached))

    def steps(self) -> Iterator[tuple[float, Tensor]]:
        """Seconds, and each picture's PSNR in dB (N) that so much time would have given, shared by all descents."""
        for checkpoints in zip(*self._descents, strict=False):
            closest = torch.stack([one.losses for one in checkpoints]).argmin(0, keepdim=True)
            reached = torch.stack([one.psnr_db for one in checkpoints]).gather(0, closest)[0]
            yield sum(one.seconds for one in checkpoints), reached


@dataclass(frozen=True)
class _Checkpoint:
    """A descent `seconds` after it began: each picture's loss and PSNR in dB."""

    seconds: float
    losses: Tensor
    psnr_db: Tensor
