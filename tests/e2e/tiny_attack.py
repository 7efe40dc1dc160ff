"""An attack that takes no time, for tests that are about something else; a user's own class is named like this."""

from __future__ import annotations

from torch import Tensor

from analysis.attacks import Attack, HeadFunction, Pairs


class MeanPicture(Attack):
    """The mean of the receiver's own pictures, whatever arrives."""

    name, access = "mean_picture", "black-box"
    knows, cost = "nothing", "nothing"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        del head, budget_s
        self._mean = own.pictures.mean(0, keepdim=True)

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._mean.expand(len(activations), -1, -1, -1).clone()
