"""Attacks as users write them, each wrong in one way; named on the command line as `tests.parts.attacks:Name`."""

from __future__ import annotations

import math
import os
import random
import sys
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from analysis.attacks import Attack, CrossFitted, HeadFunction, Pairs, Progress


class Mean(Attack):
    """Answers the mean picture, and nothing is wrong with it."""

    name, access, knows, cost = "mean", "black-box", "public pictures", "nothing"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        del head, budget_s
        self.mean = own.pictures.mean(0, keepdim=True)

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self.mean.repeat(len(activations), 1, 1, 1)


class Forgetful(Mean):
    """Its __init__ does not call its parent's."""

    name = "forgetful"

    def __init__(self) -> None:
        self.shade = 0.5


class Poisonous(Mean):
    """Learns, and leaves nothing as it found it."""

    name = "poisonous"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        super()._fit(own, head, budget_s)
        own.pictures.numpy()[:] = 0
        own.activations.zero_()
        torch.set_default_dtype(torch.float64)
        torch.set_grad_enabled(False)
        torch.set_num_threads(torch.get_num_threads() + 1)
        torch.use_deterministic_algorithms(True)
        torch.manual_seed(7)
        np.random.seed(7)
        random.seed(7)
        os.chdir("/")

    def _rebuild(self, activations: Tensor) -> Tensor:
        answers = super()._rebuild(activations)
        activations.zero_()
        torch.set_default_dtype(torch.float16)
        return answers


class Changed(Mean):
    """Answers with what `change` makes of the mean picture."""

    name = "changed"

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self.change(super()._rebuild(activations))

    @staticmethod
    def change(pictures: Tensor) -> Tensor:
        """Nothing, here."""
        return pictures


class Searching(Mean):
    """Tells what its search found."""

    name = "searching"

    def _rebuild(self, activations: Tensor) -> Tensor:
        answers = super()._rebuild(activations)
        self._found = self.find(answers)
        return answers

    @staticmethod
    def find(answers: Tensor) -> Tensor:
        """Twice its answers."""
        return 2 * answers


class Bytes(Changed):
    """Answers from 0 to 255."""

    name = "bytes"

    @staticmethod
    def change(pictures: Tensor) -> Tensor:
        """As bytes, but for their type."""
        return pictures * 255


class Broken(BaseException):
    """No Exception, as asyncio's CancelledError is none."""


class SpeechlessError(Exception):
    """Cannot say what happened."""

    def __str__(self) -> str:
        raise RuntimeError("nor this")


class Raising(Mean):
    """Fails as it is told, in the method that it is told."""

    name = "raising"
    error: ClassVar[BaseException]
    method: ClassVar[str] = "_rebuild"

    def __init__(self) -> None:
        self._stumble("__init__")

    def _stumble(self, method: str) -> None:
        if method == self.method:
            raise self.error

    def skip(self, activation_shape: tuple[int, ...], input_size: tuple[int, int]) -> str | None:
        self._stumble("skip")
        return super().skip(activation_shape, input_size)

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        self._stumble("_fit")
        super()._fit(own, head, budget_s)

    def _rebuild(self, activations: Tensor) -> Tensor:
        self._stumble("_rebuild")
        return super()._rebuild(activations)

    @property
    def progress(self) -> tuple[Progress, ...]:
        self._stumble("progress")
        return super().progress

    @property
    def converged(self) -> bool | None:
        self._stumble("converged")
        return super().converged

    @property
    def cut_short(self) -> bool:
        self._stumble("cut_short")
        return super().cut_short

    @property
    def found(self) -> Tensor | None:
        self._stumble("found")
        return super().found

    @property
    def chosen(self) -> str | None:
        self._stumble("chosen")
        return super().chosen


class Exits(Mean):
    """Leaves."""

    name = "exits"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        del own, head, budget_s
        sys.exit("no licence")


class Endless(Mean):
    """Calls itself."""

    name = "endless"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        self._fit(own, head, budget_s)


class Uncountable(Mean):
    """Its progress is no number."""

    name = "uncountable"

    @property
    def progress(self) -> tuple[Progress, ...]:
        return (Progress(1.0, math.nan),)


class Vague(Mean):
    """Says of itself what cannot be kept."""

    name = "vague"

    @property
    def chosen(self) -> str:
        return 7  # type: ignore[return-value]


class Undecided(Mean):
    """Its skip gives no reason."""

    name = "undecided"

    def skip(self, activation_shape: tuple[int, ...], input_size: tuple[int, int]) -> str | None:
        del activation_shape, input_size
        return True  # type: ignore[return-value]


class NeedsWords(Mean):
    """Cannot be made without arguments."""

    name = "needs_words"

    def __init__(self, words: str) -> None:
        self.words = words


class Half(Attack):
    """Lacks a method."""

    name, access, knows, cost = "half", "black-box", "nothing", "nothing"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        """Nothing to learn."""


class Nameless(Attack):
    """Lacks a name."""

    access, knows, cost = "black-box", "nothing", "nothing"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        """Nothing to learn."""

    def _rebuild(self, activations: Tensor) -> Tensor:
        return activations


class Numbered(Mean):
    """Its name is no text."""

    name = 7  # type: ignore[assignment]


class Coloured(Mean):
    """Its name would colour a terminal."""

    name = "\x1b[31mred"


class Anything(Mean):
    """Its access is neither."""

    name, access = "anything", "grey-box"  # type: ignore[assignment]


class Linear(Mean):
    """Has the name of a built-in one."""

    name = "linear"


class Twin(Mean):
    """Has the name of another one."""


class Rival(CrossFitted):
    """Answers the receiver's own pictures with an error of its choice, and received ones in black."""

    name, access, knows, cost = "rival", "white-box", "public pictures", "nothing"
    error: ClassVar[float] = 0.0
    given: ClassVar[list[tuple[float | None, Attack | None]]] = []

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        del head
        self._learn(own, budget_s, None)

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Rival) -> None:
        del head
        self._learn(own, budget_s, start_from)

    def _learn(self, own: Pairs, budget_s: float | None, start_from: Rival | None) -> None:
        self.given.append((budget_s, start_from))
        self._progress = [Progress(1.0, 50.0)]
        self.size = own.input_size

    def _out_of_fold(self, own: Pairs) -> Tensor:
        return own.pictures + self.error

    def _rebuild(self, activations: Tensor) -> Tensor:
        return torch.zeros(len(activations), 3, *self.size)


class Unfit(Rival):
    """Cannot learn."""

    name = "unfit"

    def _learn(self, own: Pairs, budget_s: float | None, start_from: Rival | None) -> None:
        del own, budget_s, start_from
        raise KeyError("no photographs")


class Evasive(Rival):
    """Has no answer out of fold."""

    name = "evasive"

    def _out_of_fold(self, own: Pairs) -> Tensor:
        raise KeyError(own.sources[0])


class Vandal(Rival):
    """Changes the pairs that it is given."""

    name = "vandal"
    error = 0.5

    def _learn(self, own: Pairs, budget_s: float | None, start_from: Rival | None) -> None:
        super()._learn(own, budget_s, start_from)
        own.pictures.zero_()

    def _out_of_fold(self, own: Pairs) -> Tensor:
        answers = super()._out_of_fold(own)
        own.pictures.zero_()
        return answers
