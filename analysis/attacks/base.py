"""What every attack is: fitted on the receiver's own pictures, asked to rebuild pictures from activations."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

import torch
from torch import Tensor

from analysis.attacks.validation import in_validation
from analysis.errors import AttackError
from analysis.metrics import require_finite
from harness.pictures.fresh import OwnPhotographs

# The head as PyTorch runs it, in float32: pictures (N x 3 x H x W on [0, 1]) -> activations (N x ...), with gradients.
HeadFunction = Callable[[Tensor], Tensor]
# An attack that gains less than this in the last quarter of its time has converged.
CONVERGED_DB = 0.1


@dataclass(frozen=True)
class Progress:
    """How good an attack was after some time.

    Args:
        seconds: since it began to learn.
        psnr_db: mean over validation pictures, which are the receiver's own and not learned from.
    """

    seconds: float
    psnr_db: float


@dataclass(frozen=True)
class Pairs:
    """Pictures and what the head made of them.

    Args:
        pictures: float32, N x 3 x H x W, on [0, 1].
        activations: float32, N x ..., on the pictures' device: what the receiver would get for each.
        sources: the source photograph of each picture; an attack validates itself across sources, never within one.
        photographs: what the pictures are crops of, where there is that: more of them may be drawn, of the same size.

    Raises:
        AttackError: counts, types or shapes that do not agree, values out of range, NaN or infinity.
    """

    pictures: Tensor
    activations: Tensor
    sources: tuple[str, ...]
    photographs: OwnPhotographs | None = None

    def __post_init__(self) -> None:
        counts = (len(self.pictures), len(self.activations), len(self.sources))
        if len(set(counts)) != 1:
            raise AttackError("{} pictures, {} activations and {} sources do not pair up".format(*counts))
        if self.pictures.dim() != 4 or self.pictures.shape[1] != 3 or self.pictures.dtype != torch.float32:
            raise AttackError(f"pictures must be float32 N x 3 x H x W, not {_describe(self.pictures)}")
        if self.activations.dim() < 2 or self.activations.dtype != torch.float32:
            raise AttackError(f"activations must be float32 N x ..., not {_describe(self.activations)}")
        require_finite(self.pictures, "the pictures")
        require_finite(self.activations, "the activations")
        if len(self.pictures) and not 0 <= self.pictures.min() <= self.pictures.max() <= 1:
            raise AttackError("the pictures leave the range from 0 to 1", remedy="divide 8-bit pixels by 255")
        if self.photographs is not None and self.photographs.size != self.input_size:
            raise AttackError("its photographs are for pictures of another size", remedy="leave them out")

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the pictures, in pixels."""
        return self.pictures.shape[2], self.pictures.shape[3]

    @property
    def activation_shape(self) -> tuple[int, ...]:
        """Shape of one picture's activation, without the batch."""
        return tuple(self.activations.shape[1:])

    def where(self, chosen: Tensor) -> Pairs:
        """The pairs at these indices (int64), or where a mask (bool) is true.

        Photographs that this leaves no pair of are left out, too: they are not drawn from either.
        """
        chosen = torch.nonzero(chosen).flatten() if chosen.dtype == torch.bool else chosen
        chosen = chosen.to(self.pictures.device)
        sources = tuple(self.sources[index] for index in chosen.tolist())
        photographs = self.photographs and self.photographs.without(set(self.sources).difference(sources))
        return Pairs(self.pictures[chosen], self.activations[chosen], sources, photographs)

    def to(self, device: torch.device) -> Pairs:
        """The same pairs on a device; no copy where they are there already."""
        return Pairs(self.pictures.to(device), self.activations.to(device), self.sources, self.photographs)

    def first(self, count: int) -> Pairs:
        """The first `count` pairs, or all where there are fewer."""
        return self.where(torch.arange(min(count, len(self))))

    def round_robin(self, most: int) -> Pairs:
        """Up to `most` of the pairs, source photographs taking turns."""
        turns: dict[str, int] = {}
        order = []
        for index, source in enumerate(self.sources):
            turns[source] = turns.get(source, 0) + 1
            order.append((turns[source], source, index))
        return self.where(torch.tensor([index for *_, index in sorted(order)[:most]]))


class Attack(ABC):
    """Rebuilds pictures from activations. Subclass it in a file of its own and name it in `ATTACKS`.

    You write `_fit` and `_rebuild`; what goes in and out of both is checked here, once. The first line of your
    class's docstring is what documentation and report show. `fit` is called once for each split and is timed
    (`train_seconds`); `rebuild` is then called with what the device shipped. Instances are made without arguments.
    Write `_warm_fit`, too, if what it learned at one split is a start at the next; subclass `CrossFitted` in the place
    of `Attack` if `best` shall consider it.

    Attributes:
        name: what `--attack` calls it.
        access: what the attacker needs: "black-box" (may query the head) or "white-box" (has its weights).
        knows: what else it is given, in a few words.
        cost: what it takes a split, in a few words.
        fewest_sources: how many source photographs it cannot do without; at least one is needed to validate it.
        splits_at_once: whether several splits may be attacked at once, in processes of their own with a core each: it
            takes nothing over from one split to the next, and takes long.
    """

    name: ClassVar[str]
    access: ClassVar[Literal["black-box", "white-box"]]
    knows: ClassVar[str]
    cost: ClassVar[str]
    fewest_sources: ClassVar[int] = 2
    splits_at_once: ClassVar[bool] = False

    # Values of the class, so that an `__init__` of yours need not call this one's.
    _activation_shape: tuple[int, ...] | None = None
    _input_size = (0, 0)
    _progress: list[Progress] = []  # noqa: RUF012 - never appended to: `fit` gives each instance its own
    _cut_short = False
    _found: Tensor | None = None

    @property
    def progress(self) -> tuple[Progress, ...]:
        """How the attack improved while it learned; empty where it does not learn step by step."""
        return tuple(self._progress)

    @property
    def converged(self) -> bool | None:
        """Whether more time would hardly have helped; None where the attack reports no progress."""
        if not self._progress:
            return None
        end = self._progress[-1]
        before = [step.psnr_db for step in self._progress if step.seconds <= 0.75 * end.seconds]
        return end.seconds > 0 and bool(before) and end.psnr_db - max(before) < CONVERGED_DB

    @property
    def cut_short(self) -> bool:
        """Whether its budget ended it before it would have ended itself. Set `_cut_short` where yours did."""
        return self._cut_short

    @property
    def found(self) -> Tensor | None:
        """What its search found for the activations that were rebuilt last, float32 N x 3 x H x W.

        Before that was mixed with anything or cut to [0, 1]; None where it did not search. Set `_found` in `_rebuild`.
        """
        return self._found

    @property
    def chosen(self) -> str | None:
        """The name of the attack that it took, for one that chooses among others."""
        return None

    def skip(self, activation_shape: tuple[int, ...], input_size: tuple[int, int]) -> str | None:  # noqa: ARG002
        """Why this attack cannot be tried at a split, or None where it can.

        Args:
            activation_shape: of one picture, without the batch.
            input_size: height and width of the pictures, in pixels.
        """
        return None

    @classmethod
    def among(cls, attacks: Sequence[str]) -> Self:  # noqa: ARG003
        """A new one, for a run that tries these attacks (as `--attack` has them); only `best` asks which they are."""
        return cls()

    def fit(
        self, own: Pairs, *, head: HeadFunction, budget_s: float | None = None, start_from: Attack | None = None
    ) -> None:
        """Learns from the receiver's own pictures.

        Args:
            own: pictures of at least `fewest_sources` source photographs, with their activations.
            head: what made the activations; a black-box attack may ask it, but gets no gradients.
            budget_s: about how long this may take, in seconds; None leaves it to the attack.
            start_from: an attack fitted at another split of the network (warm start); one of another kind is no start.

        Raises:
            AttackError: too few source photographs, a budget that is not positive, or a split that `skip` refuses.
        """
        if budget_s is not None and not (budget_s > 0 and math.isfinite(budget_s)):
            raise AttackError(f"a budget of {budget_s} s leaves no time", remedy="give a positive number of seconds")
        sources = len(set(own.sources))
        if sources < self.fewest_sources:
            raise AttackError(
                f"attack {self.name} needs pictures of at least {self.fewest_sources} photographs, not {sources}",
                remedy="add pictures",
            )
        reason = self.skip(own.activation_shape, own.input_size)
        if reason is not None:
            raise AttackError(f"attack {self.name} cannot be tried here: {reason}")
        self._activation_shape, self._progress, self._cut_short = None, [], False
        head = torch.no_grad()(head) if self.access == "black-box" else head
        with on_device_of(own.pictures):
            if isinstance(start_from, type(self)):
                self._warm_fit(own, head, budget_s, start_from)
            else:
                self._fit(own, head, budget_s)
        self._activation_shape, self._input_size = own.activation_shape, own.input_size

    @torch.no_grad()
    def rebuild(self, activations: Tensor) -> Tensor:
        """The pictures behind activations.

        Args:
            activations: float32, N x ...; never changed.

        Returns:
            float32, N x 3 x H x W, on [0, 1].

        Raises:
            AttackError: called before `fit`, another shape or type than fitted on, answers that are no pictures, NaN or
                infinity.
        """
        return self.unclipped(activations).clamp(0, 1)

    @torch.no_grad()
    def unclipped(self, activations: Tensor) -> Tensor:
        """As `rebuild`, but with values outside [0, 1] as the attack gave them."""
        self._require_activations(activations)
        if not len(activations):
            return activations.new_zeros(0, 3, *self._input_size)
        self._found = None
        with on_device_of(activations):
            rebuilt = self._rebuild(activations)
        self._require_pictures(rebuilt, activations)
        if self.found is not None:
            self._require_pictures(self.found, activations)
        return rebuilt

    def _require_activations(self, activations: Tensor) -> None:
        """Raises AttackError where these are not what it was fitted on, or it was not fitted."""
        if self._activation_shape is None:
            raise AttackError(f"attack {self.name} was asked to rebuild before it was fitted", remedy="call fit first")
        if tuple(activations.shape[1:]) != self._activation_shape or activations.dtype != torch.float32:
            expected = " x ".join(str(side) for side in ("float32 N", *self._activation_shape))
            raise AttackError(f"attack {self.name} was fitted on {expected}, not {_describe(activations)}")
        require_finite(activations, "the activations")

    def _require_pictures(self, rebuilt: object, activations: Tensor) -> None:
        """Raises AttackError where what the attack gave is no plain, finite float32 tensor of as many pictures."""
        count = len(activations)
        expected = " x ".join(map(str, ("float32", count, 3, *self._input_size)))
        if not isinstance(rebuilt, Tensor):
            given = f"a {type(rebuilt).__name__}" if rebuilt is not None else "nothing (None)"
            raise AttackError(f"attack {self.name} gave {given}, not a tensor, {expected}")
        if rebuilt.layout != torch.strided or rebuilt.device != activations.device:
            kind = str(rebuilt.layout).removeprefix("torch.")
            where = activations.device
            raise AttackError(
                f"attack {self.name} gave a {kind} tensor on {rebuilt.device}, not a dense one on {where}"
            )
        if rebuilt.dtype != torch.float32 or tuple(rebuilt.shape) != (count, 3, *self._input_size):
            remedy = "divide bytes by 255" if rebuilt.dtype == torch.uint8 else ""
            remedy = (
                "answer with .float()" if rebuilt.dtype in (torch.float64, torch.float16, torch.bfloat16) else remedy
            )
            raise AttackError(f"attack {self.name} gave {_describe(rebuilt)}, not {expected}", remedy=remedy)
        if rebuilt.requires_grad:
            raise AttackError(f"attack {self.name} gave a tensor that requires gradients", remedy="detach() it")
        require_finite(rebuilt, f"the pictures rebuilt by attack {self.name}")

    @abstractmethod
    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        """Learn from `own`, which is checked. Split it by `own.sources` to validate; change none of its tensors."""

    def _warm_fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Self) -> None:  # noqa: ARG002
        """As `_fit`, going on from the same attack fitted at another split; by default nothing is taken over."""
        self._fit(own, head, budget_s)

    @abstractmethod
    def _rebuild(self, activations: Tensor) -> Tensor:
        """N x ... (checked, N >= 1; do not change it) -> float32 N x 3 x H x W on [0, 1]."""


class CrossFitted(Attack):
    """An attack that can answer for the receiver's own pictures as if it did not know them.

    That is what `best` compares attacks by, and what searches that begin at another attack's answers learn from. You
    write `_out_of_fold`, too: either keep the validation split (`in_validation(own.sources)`) out of all that `_fit`
    learns from and answer as `_rebuild` does, or fit once for each fold and answer by what was fitted without it.
    """

    def validation_pairs(self, own: Pairs) -> Pairs:
        """The pairs that `out_of_fold` can answer for: those of the validation split, and no fewer."""
        return own.where(in_validation(own.sources))

    @torch.no_grad()
    def out_of_fold(self, own: Pairs) -> Tensor:
        """Answers to pictures of the receiver's own, by nothing that learned from their source photographs.

        Args:
            own: some of `validation_pairs`.

        Returns:
            float32, N x 3 x H x W, on [0, 1].

        Raises:
            AttackError: as `rebuild`.
        """
        self._require_activations(own.activations)
        with on_device_of(own.pictures):
            rebuilt = self._out_of_fold(own)
        self._require_pictures(rebuilt, own.activations)
        return rebuilt.clamp(0, 1)

    @abstractmethod
    def _out_of_fold(self, own: Pairs) -> Tensor:
        """Some of `validation_pairs` (checked) -> float32 N x 3 x H x W on [0, 1]."""


def on_device_of(values: Tensor) -> AbstractContextManager[object]:
    """Within this, tensors are made where `values` are: an attack need not say where it computes.

    On the CPU they are anyway, and the context would cost each call a little.
    """
    return nullcontext() if values.device.type == "cpu" else values.device


def _describe(values: Tensor) -> str:
    return " x ".join([str(values.dtype).removeprefix("torch."), *map(str, values.shape)])
