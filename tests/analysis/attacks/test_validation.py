"""Validation pictures: whole source photographs are kept back, and they take turns."""

from __future__ import annotations

import pytest
import torch

from analysis.attacks import Pairs
from analysis.attacks.validation import kept_back, spread


def pairs(*sources: str) -> Pairs:
    """Each pair's activation is its number."""
    pictures = torch.rand(len(sources), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Pairs(pictures, torch.arange(float(len(sources)))[:, None], sources)


def numbers(own: Pairs) -> list[int]:
    return [int(number) for number in own.activations.flatten()]


def test_sources_take_turns() -> None:
    assert spread(pairs("b", "b", "b", "a", "a", "c"), 10).sources == ("a", "b", "c", "a", "b", "b")


def test_pictures_of_one_source_keep_their_order() -> None:
    assert numbers(spread(pairs("b", "a", "b", "a", "b"), 10)) == [1, 0, 3, 2, 4]


@pytest.mark.parametrize(("most", "expected"), [(1, [3]), (3, [3, 0, 5]), (4, [3, 0, 5, 4]), (100, [3, 0, 5, 4, 1, 2])])
def test_a_few_are_of_as_many_sources_as_can_be(most: int, expected: list[int]) -> None:
    assert numbers(spread(pairs("b", "b", "b", "a", "a", "c"), most)) == expected


def test_fewer_are_the_first_of_more() -> None:
    own = pairs(*"abcabbcaabd")
    assert numbers(spread(own, 4)) == numbers(spread(own, 9))[:4] == numbers(spread(own, 9).first(4))


@pytest.mark.parametrize("sources", [1, 2, 3, 4, 5, 8, 9, 30])
def test_no_source_is_divided(sources: int) -> None:
    names = tuple(f"photograph-{index * 7 % sources}" for index in range(3 * sources))
    kept = kept_back(names)
    judged = {name for name, is_kept in zip(names, kept.tolist(), strict=True) if is_kept}
    learned = {name for name, is_kept in zip(names, kept.tolist(), strict=True) if not is_kept}
    assert not judged & learned
    assert len(judged) == -(-sources // 4)


@pytest.mark.parametrize("sources", [2, 3, 4, 13])
def test_there_are_pictures_to_learn_from_and_pictures_to_judge_by(sources: int) -> None:
    kept = kept_back(tuple(f"photograph-{index}" for index in range(sources)))
    assert kept.any()
    assert not kept.all()


def test_the_same_sources_are_kept_back_whatever_their_order_and_number_of_pictures() -> None:
    names = tuple("abcdefgh")
    turned = names[::-1] * 2
    kept = {name for name, is_kept in zip(names, kept_back(names).tolist(), strict=True) if is_kept}
    assert {name for name, is_kept in zip(turned, kept_back(turned).tolist(), strict=True) if is_kept} == kept
