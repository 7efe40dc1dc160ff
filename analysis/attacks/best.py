"""Whichever attack is best at a split, by pictures that are not the judged ones."""

from __future__ import annotations

from torch import Tensor

from analysis.attacks.base import Attack, HeadFunction, Pairs
from analysis.attacks.spectral import BLENDED_ON, Refine, Spectral
from analysis.attacks.validation import in_validation
from analysis.metrics import psnr_db

# What of a budget the search from the linear answer gets; the rest is for the one from the decoder's.
SPECTRAL_SHARE = 0.2


class Best(Attack):
    """The best of `linear`, `spectral`, `decoder` and `refine`, chosen on validation pictures, never on held-out ones.

    `whitebox` is left out: it is `spectral`'s search from a worse start and in worse coordinates.
    """

    name, access = "best", "white-box"
    knows, cost = "the head's weights, pictures with their activations", "that of spectral and refine"
    fewest_sources = 3

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        self._fit_all(own, head, budget_s, None)

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Best) -> None:
        self._fit_all(own, head, budget_s, start_from._refine)

    def _fit_all(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Refine | None) -> None:
        spectral, self._refine = Spectral(), Refine()
        share = SPECTRAL_SHARE
        spectral.fit(own, head=head, budget_s=None if budget_s is None else share * budget_s)
        refine_budget_s = None if budget_s is None else (1 - share) * budget_s
        self._refine.fit(own, head=head, budget_s=refine_budget_s, start_from=start_from)
        known = own.where(in_validation(own.sources)).round_robin(BLENDED_ON)
        candidates = (spectral.start, spectral, self._refine.start, self._refine)
        reached = [float(psnr_db(known.pictures, attack.out_of_fold(known)).mean()) for attack in candidates]
        self._attack = candidates[reached.index(max(reached))]
        self._progress = list(self._attack.progress)

    @property
    def chosen(self) -> str:
        """The name of the attack that was best."""
        return self._attack.name

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._attack.rebuild(activations)
