"""Whichever attack is best at a split, by pictures that are not the judged ones."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from analysis.attacks.base import Attack, Head, Pairs
from analysis.attacks.spectral import BLENDED_ON, Refine, Spectral
from analysis.attacks.validation import validation_pairs
from analysis.metrics import psnr_db

# What of a budget the search from the linear answer gets; the rest is for the one from the decoder's.
SPECTRAL_SHARE = 0.2


class Best(Attack):
    """The best of `linear`, `spectral`, `decoder` and `refine`, chosen on validation pictures, never on held-out ones.

    `whitebox` is left out: it is `spectral`'s search from a worse start and in worse coordinates.

    Attributes:
        chosen: the name of the attack that was best.
    """

    name, access = "best", "white-box"
    knows, cost = "the head's weights, pictures with their activations", "that of spectral and refine"
    fewest_sources = 3

    def _fit(self, own: Pairs, head: Head, budget_s: float | None) -> None:
        spectral, refine = Spectral(), Refine()
        share = SPECTRAL_SHARE
        spectral.fit(own, head=head, budget_s=None if budget_s is None else share * budget_s)
        refine.fit(own, head=head, budget_s=None if budget_s is None else (1 - share) * budget_s)
        known = validation_pairs(own, BLENDED_ON)
        # The searches have just answered these pictures; the starts take no time.
        reached: dict[str, float] = {attack.name: attack.progress[-1].psnr_db for attack in (spectral, refine)}
        answers: dict[str, Callable[[Tensor], Tensor]] = {attack.name: attack.rebuild for attack in (spectral, refine)}
        for start in (spectral.start, refine.start):
            reached[start.name] = float(psnr_db(known.pictures, start.rehearse(known.activations)).mean())
            answers[start.name] = start.rebuild
        self.chosen = max(reached, key=lambda name: reached[name])
        self._answer = answers[self.chosen]
        self._progress = list(refine.progress if self.chosen == refine.name else spectral.progress)

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._answer(activations)
