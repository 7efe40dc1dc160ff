"""Augmented pictures are like the receiver's own, with what the head really answers to them."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.attacks import Pairs
from analysis.attacks.augmentation import Augmentation, _crop, _recoloured
from harness.pictures.fresh import OwnPhotographs
from harness.pictures.photographs import Photograph

SIZE = (12, 20)


def head(seen: Tensor) -> Tensor:
    return F.avg_pool2d(seen, 2).square()


def pictures(count: int = 5) -> Tensor:
    return torch.rand(count, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def pairs(own: Tensor) -> Pairs:
    return Pairs(own, head(own), tuple(f"photograph-{index}" for index in range(len(own))))


@pytest.fixture(autouse=True)
def _same_numbers() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("count", [1, 16, 200])
def test_it_gives_as_many_pictures_as_asked_for_in_range_with_their_activations(count: int) -> None:
    drawn, activations = Augmentation(head, pairs(pictures())).draw(count)
    assert drawn.shape == (count, 3, *SIZE)
    assert 0 <= drawn.min() <= drawn.max() <= 1
    assert torch.equal(activations, head(drawn))


@pytest.mark.parametrize("own", [torch.zeros(2, 3, *SIZE), torch.ones(2, 3, *SIZE), pictures().round()])
def test_black_and_white_pictures_stay_in_range(own: Tensor) -> None:
    drawn, _ = Augmentation(head, pairs(own)).draw(100)
    assert torch.isfinite(drawn).all()
    assert 0 <= drawn.min() <= drawn.max() <= 1


def test_it_leaves_the_given_pictures_unchanged() -> None:
    own = pictures()
    Augmentation(head, pairs(own)).draw(100)
    assert torch.equal(own, pictures())


def test_no_two_pictures_are_the_same_and_none_is_a_given_picture() -> None:
    augmentation = Augmentation(head, pairs(pictures()))
    drawn = torch.cat([augmentation.draw(30)[0], augmentation.draw(30)[0]])
    assert len(torch.unique(drawn, dim=0)) == 60
    assert not any(torch.equal(one, own) for one in drawn for own in pictures())


def test_all_pictures_are_drawn_from() -> None:
    """Each has stripes of a width of its own, which no change of colours hides and no crop doubles."""
    widths = (1, 3, 10)
    own = torch.stack([(torch.arange(SIZE[1]) // width % 2).float().expand(3, *SIZE) for width in widths])
    drawn, _ = Augmentation(head, pairs(own)).draw(60)
    edges = (drawn[:, 0, 6].diff(dim=1).abs() > 0.2).sum(1)
    assert (edges <= 3).any()
    assert ((edges > 3) & (edges <= 12)).any()
    assert (edges > 12).any()


def test_the_same_numbers_give_the_same_pictures() -> None:
    first, _ = Augmentation(head, pairs(pictures())).draw(8)
    torch.manual_seed(0)
    again, _ = Augmentation(head, pairs(pictures())).draw(8)
    assert torch.equal(first, again)


def test_the_head_is_asked_without_gradients() -> None:
    weight = torch.ones(1, requires_grad=True)
    _, activations = Augmentation(lambda seen: seen * weight, pairs(pictures())).draw(2)
    assert not activations.requires_grad


def test_with_photographs_it_crops_them_anew_and_not_the_pictures() -> None:
    """The pictures are grey, the photograph is not."""
    stripes = np.zeros((60, 100, 3), np.uint8)
    stripes[:, ::10] = 255
    photographs = OwnPhotographs((Photograph.of("photograph-0", stripes),), SIZE)
    own = replace(pairs(torch.full((4, 3, *SIZE), 0.5)), photographs=photographs)
    with closing(Augmentation(head, own)) as augmentation:
        drawn, activations = augmentation.draw(20)
    assert drawn.shape == (20, 3, *SIZE)
    assert (drawn.amax((1, 2, 3)) - drawn.amin((1, 2, 3)) > 0.1).all()
    assert torch.equal(activations, head(drawn))


def test_a_crop_shows_a_part_as_it_was_or_mirrored() -> None:
    ramp = torch.linspace(0, 1, SIZE[1]).expand(1, 3, *SIZE).contiguous()
    crops = torch.cat([_crop(ramp) for _ in range(50)])[:, 0, 5]
    rises = crops[:, -1] - crops[:, 0]
    assert 0 < (rises > 0).sum() < 50
    assert (rises.abs() > 0.5).all(), "at least 0.6 of a side is kept"
    assert rises.abs().min() < 0.8, "and not always all of it"


def test_recolouring_changes_colours_and_no_shapes() -> None:
    grey = torch.linspace(0.2, 0.8, SIZE[1]).expand(50, 3, *SIZE).contiguous()
    recoloured = _recoloured(grey)
    torch.testing.assert_close(recoloured[:, :, 0], recoloured[:, :, -1])
    rises = recoloured[:, 0, 0].diff(dim=1)
    assert ((rises >= 0).all(1) | (rises <= 0).all(1)).all()
    assert (recoloured[:, 0, 0, -1] < recoloured[:, 0, 0, 0]).any(), "some are negatives"
    assert not torch.allclose(recoloured[:, 0], recoloured[:, 1])
