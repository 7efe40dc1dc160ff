"""An attack at one split where other photographs are held out in each of several folds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from analysis.attacks import HeadFunction, Pairs
from analysis.attacks.trial import Learned, Trial
from harness.pictures import Fold

Course = tuple[tuple[float, float], ...]


class FoldedTrial:
    """As `Trial`: one attack at one split; but fitted once for each fold, on pictures of photographs outside of it.

    Each of these answers for the fold's own pictures. What they say of themselves is put together with care: it
    converged where all did, and was cut short where any was.

    Args:
        name: as `--attack` has it.
        among: the run's attacks.
        folds: of the held-out pictures.

    Attributes:
        train_pictures: how many each learned from, at least.

    Raises:
        AttackError: as `Trial`.
    """

    def __init__(self, name: str, among: Sequence[str], folds: Sequence[Fold]) -> None:
        self._folds = folds
        self._trials = [Trial(name, among) for _ in folds]
        self.train_pictures = 0

    @property
    def is_white_box(self) -> bool:
        """Whether it tried to match activations."""
        return self._trials[0].is_white_box

    def skip(self, own: Pairs) -> str | None:
        """Why it cannot be tried here, or None."""
        return self._trials[0].skip(own)

    def fit(
        self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: FoldedTrial | None = None
    ) -> None:
        """Learn from `own`, in each fold without what it holds out, for `budget_s` each."""
        counts = []
        for index, (fold, trial) in enumerate(zip(self._folds, self._trials, strict=True)):
            learned = without(own, fold)
            trial.fit(learned, head, budget_s, start_from._trials[index] if start_from else None)
            counts.append(len(learned))
        self.train_pictures = min(counts)

    def rebuild(self, activations: Tensor) -> Tensor:
        """The pictures behind activations of all held-out ones, each by what was fitted without its photograph."""
        folds = zip(self._folds, self._trials, strict=True)
        return torch.cat([trial.rebuild(activations[fold.pictures]) for fold, trial in folds])

    @property
    def found(self) -> Tensor | None:
        """What the searches found for what was rebuilt last; None without any."""
        found = [one for trial in self._trials if (one := trial.found) is not None]
        return torch.cat(found) if len(found) == len(self._trials) else None

    def learned(self) -> Learned:
        """What it says of itself."""
        parts = [trial.learned() for trial in self._trials]
        converged = [part.converged for part in parts if part.converged is not None]
        chosen = [part.chosen for part in parts if part.chosen is not None]
        return Learned(
            all(converged) if len(converged) == len(parts) else None,
            any(part.cut_short for part in parts),
            " and ".join(dict.fromkeys(chosen)) or None,
            mean_course([part.progress for part in parts]),
        )


def without(own: Pairs, fold: Fold) -> Pairs:
    """The pairs whose photographs the fold does not hold out; nor are those drawn from of which there is no pair."""
    if own.photographs is not None:
        own = replace(own, photographs=own.photographs.without(fold.sources))
    if fold.sources.isdisjoint(own.sources):
        return own
    return own.where(torch.tensor([source not in fold.sources for source in own.sources]))


def mean_course(courses: Sequence[Course]) -> Course:
    """The mean of what several had reached, at every time at which one of them reached more; () where one has none."""
    if not all(courses):
        return ()
    times = sorted({seconds for course in courses for seconds, _ in course})
    begun = max(course[0][0] for course in courses)
    return tuple(
        (time, sum(course[bisect_right([s for s, _ in course], time) - 1][1] for course in courses) / len(courses))
        for time in times
        if time >= begun
    )
