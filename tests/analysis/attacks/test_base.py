"""Pairs refuse what does not belong together."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from analysis.attacks import ATTACKS, Attack, HeadFunction, Pairs, Progress
from analysis.errors import AttackError
from device_runner.errors import UsageError
from harness.pictures.fresh import OwnPhotographs
from harness.pictures.photographs import Photograph

PICTURES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
ACTIVATIONS = torch.zeros(4, 5)
SOURCES = ("a", "a", "b", "c")


def test_pairs_know_their_sizes() -> None:
    pairs = Pairs(PICTURES, ACTIVATIONS, SOURCES)
    assert (len(pairs), pairs.input_size, pairs.activation_shape) == (4, (8, 8), (5,))


def test_some_of_the_pairs_stay_paired() -> None:
    chosen = Pairs(PICTURES, torch.arange(20.0).reshape(4, 5), SOURCES).where(torch.tensor([3, 1]))
    assert chosen.sources == ("c", "a")
    assert torch.equal(chosen.pictures, PICTURES[[3, 1]])
    assert chosen.activations[:, 0].tolist() == [15, 5]


@pytest.mark.parametrize(
    ("pictures", "activations", "sources", "message"),
    [
        (PICTURES[:3], ACTIVATIONS, SOURCES, "3 pictures, 4 activations and 4 sources"),
        (PICTURES, ACTIVATIONS, SOURCES[:2], "4 pictures, 4 activations and 2 sources"),
        (PICTURES[:, :1], ACTIVATIONS, SOURCES, "not float32 x 4 x 1 x 8 x 8"),
        (PICTURES.double(), ACTIVATIONS, SOURCES, "not float64"),
        (PICTURES, ACTIVATIONS.to(torch.int8), SOURCES, "not int8"),
        (PICTURES, torch.zeros(4), SOURCES, "activations must be float32 N x ..."),
        (PICTURES, ACTIVATIONS / 0, SOURCES, "20 of 20 values of the activations are NaN or infinite"),
        (PICTURES * math.inf, ACTIVATIONS, SOURCES, "of the pictures are NaN or infinite"),
        (PICTURES * 255, ACTIVATIONS, SOURCES, "divide 8-bit pixels by 255"),
    ],
)
def test_pairs_that_do_not_agree_are_refused_in_one_line(
    pictures: torch.Tensor, activations: torch.Tensor, sources: tuple[str, ...], message: str
) -> None:
    with pytest.raises(AttackError, match=message) as error:
        Pairs(pictures, activations, sources)
    assert "\n" not in str(error.value)


def unasked(seen: torch.Tensor) -> torch.Tensor:
    """Nobody asks it."""
    return seen


class Unwilling(Attack):
    """An attack that skips everything and breaks its promises where it does not."""

    name, access = "unwilling", "black-box"
    knows, cost = "nothing", "nothing"

    def skip(self, activation_shape: tuple[int, ...], input_size: tuple[int, int]) -> str | None:  # noqa: ARG002
        return "vectors are not for it" if len(activation_shape) == 1 else None

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        """Nothing to learn."""

    def _rebuild(self, activations: torch.Tensor) -> torch.Tensor:
        return torch.full((len(activations), 3, 8, 8), math.nan)


def test_a_split_that_an_attack_skips_is_refused_with_its_reason() -> None:
    with pytest.raises(AttackError, match="cannot be tried here: vectors are not for it"):
        Unwilling().fit(Pairs(PICTURES, ACTIVATIONS, SOURCES), head=unasked)


def test_an_attack_that_answers_with_nan_is_caught() -> None:
    attack = Unwilling()
    attack.fit(Pairs(PICTURES, ACTIVATIONS[:, :, None], SOURCES), head=unasked)
    with pytest.raises(AttackError, match="rebuilt by attack unwilling are NaN"):
        attack.rebuild(torch.zeros(1, 5, 1))


def test_an_unknown_attack_gets_the_nearest_names() -> None:
    with pytest.raises(UsageError, match="did you mean linear"):
        ATTACKS.load("liner")


class Scripted(Attack):
    """Learns as it was told: seconds and decibels, step by step."""

    name, access = "scripted", "black-box"
    knows, cost = "its script", "nothing"

    def __init__(self, *steps: tuple[float, float]) -> None:
        super().__init__()
        self.steps = steps

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        del own, head, budget_s
        self._progress += [Progress(seconds, psnr_db) for seconds, psnr_db in self.steps]

    def _rebuild(self, activations: torch.Tensor) -> torch.Tensor:
        return torch.zeros(len(activations), 3, 8, 8)


def converged(*steps: tuple[float, float]) -> bool | None:
    attack = Scripted(*steps)
    attack.fit(Pairs(PICTURES, ACTIVATIONS, SOURCES), head=unasked)
    return attack.converged


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (((0, 10), (50, 20), (75, 20.95), (100, 21)), True),
        (((0, 10), (50, 20), (75, 20.8), (100, 21)), False),
        (((0, 10), (76, 20.95), (100, 21)), False),
        (((0, 10), (10, 21), (20, 20.5), (100, 21.05)), True),
        (((3, 20), (10, 20)), True),
        (((8, 20), (10, 20)), False),
        (((7, 20),), False),
    ],
    ids=["last quarter", "still rising", "little of it known", "best before", "flat", "only its end known", "one step"],
)
def test_an_attack_that_gains_little_in_the_last_quarter_of_its_time_has_converged(
    steps: tuple[tuple[float, float], ...], expected: bool
) -> None:
    assert converged(*steps) is expected


def test_an_attack_without_progress_says_nothing_of_whether_it_has_converged() -> None:
    assert converged() is None


def test_an_attack_that_had_no_time_to_learn_has_not_converged() -> None:
    assert converged((0, 20)) is False


def test_each_fit_reports_progress_of_its_own() -> None:
    attack = Scripted((1, 10), (2, 11))
    for _ in range(2):
        attack.fit(Pairs(PICTURES, ACTIVATIONS, SOURCES), head=unasked)
        assert attack.progress == (Progress(1, 10), Progress(2, 11))


def test_what_is_left_out_of_pairs_is_left_out_of_their_photographs() -> None:
    pixels = np.zeros((8, 8, 3), np.uint8)
    photographs = OwnPhotographs.of([Photograph.of(source, pixels) for source in "abcx"], (8, 8))
    own = Pairs(PICTURES, ACTIVATIONS, tuple("abca"), photographs)

    def left(pairs: Pairs) -> str:
        assert pairs.photographs is not None
        return "".join(one.source for one in pairs.photographs.photographs)

    assert left(own.where(torch.tensor([0, 2]))) == "acx", "of x there is no picture, so none was left out"
    assert left(own.where(torch.tensor([False, True, True, True]))) == "abcx"
    assert left(own.first(1)) == "ax"
    assert left(own.round_robin(2)) == "abx"
    assert Pairs(PICTURES, ACTIVATIONS, tuple("abca")).first(1).photographs is None


def test_photographs_are_for_pictures_of_one_size() -> None:
    with pytest.raises(AttackError, match="another size"):
        Pairs(PICTURES, ACTIVATIONS, SOURCES, OwnPhotographs((), (5, 5)))
