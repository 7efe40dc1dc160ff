"""The blend of answers takes the best of each, band by band."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.attacks.blend import BANDS, Blend, _bands
from analysis.attacks.fourier import frequencies
from analysis.metrics import psnr_db

SIZE = (16, 20)


def smooth(count: int, seed: int) -> Tensor:
    """Smooth coloured pictures on [0, 1]."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=SIZE, mode="bicubic", align_corners=False).clamp(0, 1)


PICTURES = smooth(24, seed=0)
MEAN = PICTURES.mean(0, keepdim=True)
SOURCES = tuple(f"photograph-{index // 2}" for index in range(len(PICTURES)))


def noise(strength: float, seed: int) -> Tensor:
    return strength * torch.randn(PICTURES.shape, generator=torch.Generator().manual_seed(seed))


def only(values: Tensor, *, coarse: bool) -> Tensor:
    """What of pictures is coarse, or is not."""
    kept = (frequencies(*SIZE) < 2.5) == coarse
    found: Tensor = torch.fft.irfft2(kept * torch.fft.rfft2(values), s=SIZE)
    return found


def squared(answer: Tensor) -> float:
    return float((answer - PICTURES).square().sum())


def blended(*answers: Tensor) -> Tensor:
    return Blend.fit(list(answers), PICTURES, MEAN, SOURCES)(list(answers))


@pytest.mark.parametrize(
    "answers",
    [
        (PICTURES + noise(0.1, 1), PICTURES + noise(0.3, 2)),
        (PICTURES + noise(0.1, 1), noise(1, 2)),
        (PICTURES + noise(0.2, 1), PICTURES + noise(0.2, 1)),
        (PICTURES + only(noise(0.5, 1), coarse=True), PICTURES + only(noise(0.5, 2), coarse=False)),
        (MEAN.expand_as(PICTURES), PICTURES + noise(0.2, 1)),
    ],
    ids=["better and worse", "one is noise", "twice the same", "each has its bands", "one says nothing"],
)
def test_it_is_never_worse_on_its_pictures_than_either_answer(answers: tuple[Tensor, Tensor]) -> None:
    assert squared(blended(*answers)) <= min(map(squared, answers))


def test_it_joins_what_one_knows_of_shapes_and_the_other_of_detail() -> None:
    shapes = PICTURES + only(noise(0.3, 1), coarse=False)
    detail = PICTURES + only(noise(0.3, 2), coarse=True)
    assert squared(blended(shapes, detail)) < 0.05 * min(squared(shapes), squared(detail))


def test_it_averages_answers_whose_errors_have_nothing_in_common() -> None:
    one, other = PICTURES + noise(0.02, 1), PICTURES + noise(0.02, 2)
    assert squared(blended(one, other)) < 0.6 * squared(one)


@pytest.mark.parametrize("other", [PICTURES, noise(0.1, 2), PICTURES + noise(0.1, 2), MEAN.expand_as(PICTURES)])
def test_an_exact_answer_is_reproduced(other: Tensor) -> None:
    assert psnr_db(PICTURES, blended(PICTURES, other)).mean() > 50
    assert psnr_db(PICTURES, blended(other, PICTURES)).mean() > 50


def test_detail_that_has_nothing_to_do_with_the_pictures_gives_way_to_the_mean_pictures() -> None:
    colours = PICTURES.mean((2, 3), keepdim=True)
    detail = [noise(1, seed) for seed in (1, 2)]
    found = blended(*(colours + one - one.mean((2, 3), keepdim=True) for one in detail))
    expected = colours + MEAN - MEAN.mean((2, 3), keepdim=True)
    assert squared(found) == pytest.approx(squared(expected), rel=0.05)


def test_a_mean_colour_is_not_drawn_to_that_of_other_photographs() -> None:
    blend = Blend.fit([PICTURES + noise(1, 1), PICTURES + noise(1, 2)], PICTURES, MEAN, SOURCES)
    brighter = PICTURES + 0.5
    found = blend([brighter, brighter])
    torch.testing.assert_close(found.mean((2, 3)), brighter.mean((2, 3)), atol=1e-3, rtol=0)


def test_what_helps_its_own_photographs_alone_is_left_out() -> None:
    first = PICTURES + noise(0.3, 1)
    few = slice(0, 4)  # of two photographs
    blend = Blend.fit([first[few], noise(1, 2)[few]], PICTURES[few], MEAN, SOURCES[few])
    held_out = slice(4, None)
    found = blend([first[held_out], noise(1, 2)[held_out]])
    assert psnr_db(PICTURES[held_out], found).mean() > psnr_db(PICTURES[held_out], first[held_out]).mean()


def test_answers_that_are_the_mean_picture_give_the_mean_picture() -> None:
    grey = torch.full_like(MEAN, 0.5)
    answers = [grey.expand_as(PICTURES)] * 2
    torch.testing.assert_close(Blend.fit(answers, PICTURES, grey, SOURCES)(answers), answers[0])


def test_what_it_learned_serves_other_pictures() -> None:
    blend = Blend.fit([PICTURES + noise(0.2, 1), PICTURES + noise(0.2, 2)], PICTURES, MEAN, SOURCES)
    held_out = smooth(24, seed=1)
    answers = [held_out + noise(0.2, 3), held_out + noise(0.2, 4)]
    assert psnr_db(held_out, blend(answers)).mean() > psnr_db(held_out, answers[0]).mean() + 3


@pytest.mark.parametrize("size", [(16, 16), (15, 17), (64, 160), (2, 2), (224, 224)])
def test_the_mean_is_a_band_of_its_own_and_bands_grow_with_the_frequency(size: tuple[int, int]) -> None:
    bands, fine = _bands(*size), frequencies(*size)
    assert (bands == 0).nonzero().tolist() == [[0, 0]]
    assert bands.max() < BANDS
    assert bands.flatten()[fine.flatten().argsort()].diff().min() >= 0
