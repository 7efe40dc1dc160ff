"""Validation pictures: whole source photographs are validated on, and they take turns."""

from __future__ import annotations

import pytest
import torch

from analysis.attacks import Pairs, in_validation


def pairs(*sources: str) -> Pairs:
    """Each pair's activation is its number."""
    pictures = torch.rand(len(sources), 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return Pairs(pictures, torch.arange(float(len(sources)))[:, None], sources)


def numbers(own: Pairs) -> list[int]:
    return [int(number) for number in own.activations.flatten()]


def test_sources_take_turns() -> None:
    assert pairs("b", "b", "b", "a", "a", "c").round_robin(10).sources == ("a", "b", "c", "a", "b", "b")


def test_pictures_of_one_source_keep_their_order() -> None:
    assert numbers(pairs("b", "a", "b", "a", "b").round_robin(10)) == [1, 0, 3, 2, 4]


@pytest.mark.parametrize(("most", "expected"), [(1, [3]), (3, [3, 0, 5]), (4, [3, 0, 5, 4]), (100, [3, 0, 5, 4, 1, 2])])
def test_a_few_are_of_as_many_sources_as_can_be(most: int, expected: list[int]) -> None:
    assert numbers(pairs("b", "b", "b", "a", "a", "c").round_robin(most)) == expected


def test_fewer_are_the_first_of_more() -> None:
    own = pairs(*"abcabbcaabd")
    assert numbers(own.round_robin(4)) == numbers(own.round_robin(9))[:4] == numbers(own.round_robin(9).first(4))


@pytest.mark.parametrize("sources", [1, 2, 3, 4, 5, 8, 9, 30])
def test_no_source_is_divided(sources: int) -> None:
    names = tuple(f"photograph-{index * 7 % sources}" for index in range(3 * sources))
    validated = in_validation(names)
    judged = {name for name, is_in in zip(names, validated.tolist(), strict=True) if is_in}
    learned = {name for name, is_in in zip(names, validated.tolist(), strict=True) if not is_in}
    assert not judged & learned
    assert len(judged) == -(-sources // 4)


@pytest.mark.parametrize("sources", [2, 3, 4, 13])
def test_there_are_pictures_to_learn_from_and_pictures_to_judge_by(sources: int) -> None:
    validated = in_validation(tuple(f"photograph-{index}" for index in range(sources)))
    assert validated.any()
    assert not validated.all()


def test_the_same_sources_are_validated_on_whatever_their_order_and_number_of_pictures() -> None:
    names = tuple("abcdefgh")
    turned = names[::-1] * 2
    validated = {name for name, is_in in zip(names, in_validation(names).tolist(), strict=True) if is_in}
    assert {name for name, is_in in zip(turned, in_validation(turned).tolist(), strict=True) if is_in} == validated
