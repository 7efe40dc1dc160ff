"""White-box search from the linear decoder's answer, in the coordinates of that answer's own errors."""

from __future__ import annotations

import math
import time
from typing import ClassVar

from torch import Tensor

from analysis.attacks.base import CrossFitted, HeadFunction, Pairs, Progress
from analysis.attacks.blend import Blend
from analysis.attacks.decoder import Decoder
from analysis.attacks.fourier import Filter
from analysis.attacks.linear import Linear
from analysis.attacks.matching import Search

# Evaluations of the head and its gradients, for each picture, within a budget or without.
EVALUATIONS = 120
MOST_EVALUATIONS = 400
# Validation pictures: some to learn the blend from, more for the errors' spectrum.
BLENDED_ON = 12
FILTERED_ON = 64
# How often the search is validated.
_EVALUATIONS_BETWEEN_CHECKPOINTS = 10
# Without a budget, the search ends where so many checkpoints gained less than this.
_CHECKPOINTS_TO_GAIN_IN = 3
_WORTH_DB = 0.3
# Pictures that a budget for one split reckons with, beside the validation pictures.
_PICTURES_OF_A_BUDGET = 16


class Spectral(CrossFitted):
    """Searches for the picture whose activation was received. The strongest attack that takes seconds a picture.

    The search begins at the linear decoder's answer and moves along Fourier components as far as that decoder errs in
    each, on pictures that it was not fitted on: so fine detail and coarse shape are found together, where the textbook
    attack (`whitebox`) gets stuck. The answer is the mix of both, per band of frequencies, that was best on
    validation pictures.

    Attributes:
        begins_at: the kind of attack whose answer the search begins at.
        share_of_start: what of a budget that attack gets; 0 where it needs none.
        start: that attack, fitted.
    """

    name, access = "spectral", "white-box"
    knows, cost = "the head's weights, pictures with their activations", "seconds a picture"
    splits_at_once = True
    begins_at: ClassVar[type[CrossFitted]] = Linear
    share_of_start: ClassVar[float] = 0.0

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Spectral | None = None) -> None:
        began = time.monotonic()
        deadline = math.inf if budget_s is None else began + budget_s
        self.start = self.begins_at()
        start_budget_s = None if budget_s is None else budget_s * self.share_of_start or None
        self.start.fit(own, head=head, budget_s=start_budget_s, start_from=start_from.start if start_from else None)
        known = self.start.validation_pairs(own).round_robin(FILTERED_ON)
        answers = self.start.out_of_fold(known)
        self._head, self._filter = head, Filter.of(known.pictures - answers)
        self._mean = own.pictures.mean(0, keepdim=True)
        self._learn_blend(known.first(BLENDED_ON), answers[:BLENDED_ON], began, deadline)

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._from(self.start.rebuild(activations), activations).clamp(0, 1)

    def _out_of_fold(self, own: Pairs) -> Tensor:
        return self._from(self.start.out_of_fold(own), own.activations)

    def _from(self, start: Tensor, activations: Tensor) -> Tensor:
        self._found = self._search(self._evaluations).pictures(activations, start)
        return self._blend([start, self._found])

    def _search(self, evaluations: int, deadline: float = math.inf) -> Search:
        return Search(self._head, self._filter, evaluations, deadline)

    def _learn_blend(self, known: Pairs, start: Tensor, began: float, deadline: float) -> None:
        """Search for these pictures as long as pays or may be, and learn how to mix what is found with the start."""
        # The received pictures take as many evaluations as these, after the deadline of these.
        share = len(known) / (len(known) + _PICTURES_OF_A_BUDGET)
        now = time.monotonic()
        own_deadline = now + share * (deadline - now)
        search = self._search(EVALUATIONS if math.isinf(deadline) else MOST_EVALUATIONS, own_deadline)
        every, ended_itself = _EVALUATIONS_BETWEEN_CHECKPOINTS, False
        checkpoints = search.checkpoints(known.activations, start, every=every)
        for index, rebuilt in enumerate(checkpoints):
            self._evaluations = max(1, index * every)
            self._blend = Blend.fit([start, rebuilt], known.pictures, self._mean, known.sources)
            self._progress.append(Progress(time.monotonic() - began, self._blend.validation_db))
            ended_itself |= self._pays_no_more() or self._evaluations >= EVALUATIONS
            if math.isinf(deadline) and ended_itself:
                break
        self._cut_short = self.start.cut_short or not ended_itself

    def _pays_no_more(self) -> bool:
        gained = [step.psnr_db for step in self._progress[-1 - _CHECKPOINTS_TO_GAIN_IN :]]
        return len(gained) > _CHECKPOINTS_TO_GAIN_IN and gained[-1] - gained[0] < _WORTH_DB


class Refine(Spectral):
    """Searches from the trained decoder's answer, not the linear one's. The strongest attack, and the most expensive.

    As `spectral`, after the `decoder`, which takes three quarters of the budget.
    """

    name, cost = "refine", "60 s of training, then seconds a picture"
    fewest_sources = Decoder.fewest_sources
    splits_at_once = False
    begins_at = Decoder
    share_of_start = 0.75

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Refine) -> None:
        self._fit(own, head, budget_s, start_from)


def evaluations_for(pictures: int) -> int:
    """Of the head, for one picture each: what a whole search takes to learn and to rebuild so many pictures."""
    return EVALUATIONS * (BLENDED_ON + pictures)


def budget_for(seconds: float, pictures: int) -> float:
    """The budget in seconds with which learning and rebuilding so many pictures take `seconds`."""
    return seconds * evaluations_for(_PICTURES_OF_A_BUDGET) / evaluations_for(pictures)
