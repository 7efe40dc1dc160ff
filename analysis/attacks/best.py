"""Whichever attack is best at a split, by pictures that are not the judged ones."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from analysis.attacks import ATTACKS
from analysis.attacks.base import Attack, CrossFitted, HeadFunction, Pairs
from analysis.attacks.spectral import BLENDED_ON, Refine, Spectral
from analysis.attacks.trial import Trial
from analysis.attacks.validation import in_validation
from analysis.errors import AttackError
from analysis.metrics import psnr_db

# What of a budget the search from the linear answer gets; the rest is for the one from the decoder's.
SPECTRAL_SHARE = 0.2


class Best(Attack):
    """The best of `linear`, `spectral`, `decoder`, `refine` and your own: on validation pictures, never held-out ones.

    Your own are the run's users' attacks that are `CrossFitted`. The budget is shared: each of them gets as much as the
    built-in ones together. `whitebox` is left out: it is `spectral`'s search from a worse start and in worse
    coordinates.

    Args:
        brought: users' attacks, as `--attack` has them.
    """

    name, access = "best", "white-box"
    knows, cost = "the head's weights, pictures with their activations", "that of spectral and refine, and of your own"
    fewest_sources = 3

    def __init__(self, brought: Sequence[str] = ()) -> None:
        self._names = tuple(brought)

    @classmethod
    def among(cls, attacks: Sequence[str]) -> Best:
        """With those of a run's attacks that are users' own and `CrossFitted`."""
        return cls([one for one in attacks if one not in ATTACKS and issubclass(ATTACKS.load(one), CrossFitted)])

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Best | None = None) -> None:
        share_s = None if budget_s is None else budget_s / (1 + len(self._names))
        known = own.where(in_validation(own.sources)).round_robin(BLENDED_ON)
        reached: dict[Attack, float] = {
            attack: _psnr_db(known, attack.out_of_fold(known))
            for attack in self._fit_built_in(own, head, share_s, start_from)
        }
        self._brought = self._fit_brought(own, head, share_s, start_from)
        for name, trial in self._brought.items():
            try:
                reached[trial.attack] = _psnr_db(known, trial.out_of_fold(known))
            except AttackError as exc:  # told here, for its own row asks for no such answers
                raise AttackError(f"{name} gave no out-of-fold answers: {exc.message}", remedy=exc.remedy) from exc
        self._attack = max(reached, key=reached.__getitem__)
        self._progress = list(self._attack.progress)
        self._cut_short = any(attack.cut_short for attack in reached)

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Best) -> None:
        self._fit(own, head, budget_s, start_from)

    def _fit_built_in(
        self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Best | None
    ) -> Sequence[CrossFitted]:
        """The built-in candidates, fitted, the simplest first."""
        spectral, self._refine = Spectral(), Refine()
        spectral.fit(own, head=head, budget_s=None if budget_s is None else SPECTRAL_SHARE * budget_s)
        refine_s = None if budget_s is None else (1 - SPECTRAL_SHARE) * budget_s
        self._refine.fit(own, head=head, budget_s=refine_s, start_from=start_from._refine if start_from else None)
        return spectral.start, spectral, self._refine.start, self._refine

    def _fit_brought(
        self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Best | None
    ) -> dict[str, Trial]:
        """Users' attacks, fitted; those that fail or skip are left out, and their own rows say why."""
        fitted = {}
        for name in self._names:
            try:
                trial = Trial(name)
                if trial.skip(own) is None:
                    trial.fit(own, head, budget_s, start_from._brought.get(name) if start_from else None)
                    trial.learned()
                    fitted[name] = trial
            except AttackError:
                continue
        return fitted

    @property
    def chosen(self) -> str:
        """The name of the attack that was best."""
        return self._attack.name

    @property
    def found(self) -> Tensor | None:
        """What the search of the attack that was best found, if that searches."""
        return self._attack.found

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._attack.unclipped(activations)


def _psnr_db(known: Pairs, answers: Tensor) -> float:
    """Pictures count alike: the mean of their PSNRs."""
    return float(psnr_db(known.pictures, answers).mean())
