"""The search's loss on cases made by hand, and that it searches as long as it may and no longer."""

from __future__ import annotations

import math
import time
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.attacks import matching
from analysis.attacks.fourier import Filter
from analysis.attacks.matching import Search, distance, out_of_range, total_variation
from analysis.metrics import psnr_db


def pictures(count: int, seed: int) -> Tensor:
    """Smooth coloured pictures of 16x16 pixels on [0, 1]."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(16, 16), mode="bicubic", align_corners=False).clamp(0, 1)


def head(seen: Tensor) -> Tensor:
    """Squares, and each place mixed with the one to its right: all of it can be had back."""
    return seen.square() + 0.3 * seen.roll(1, 3)


PICTURES = pictures(6, 0)
ACTIVATIONS = head(PICTURES)
START = PICTURES.mean(0, keepdim=True).expand(6, -1, -1, -1)
SEARCH = Search(head, Filter.of(pictures(40, 1) - START[0]), evaluations=40, deadline=math.inf)


def test_where_memory_is_short_fewer_pictures_are_searched_at_once(caplog: pytest.LogCaptureFixture) -> None:
    together: list[int] = []

    def hungry(seen: Tensor) -> Tensor:
        if len(seen) > 2:
            raise torch.OutOfMemoryError
        together.append(len(seen))
        return head(seen)

    expected = SEARCH.pictures(ACTIVATIONS, START)
    found = replace(SEARCH, head=hungry).pictures(ACTIVATIONS, START)
    assert set(together) == {1}
    assert "1 pictures are searched at once" in caplog.text
    assert torch.allclose(found, expected, atol=1e-4)


# what is minimised


@pytest.mark.parametrize(
    ("colours", "down", "across", "expected"),
    [
        ((1, 1, 1), 0.0, 0.0, 0.0),
        ((1, 1, 1), 0.0, 0.1, 0.1 * math.sqrt(3)),
        ((1, 0, 0), 0.1, 0.0, 0.1),
        ((1, 0, 0), 0.03, 0.04, 0.05),
        ((3, 4, 0), 0.01, 0.0, 0.05),
    ],
)
def test_total_variation_of_a_ramp_is_its_slope(
    colours: tuple[int, int, int], down: float, across: float, expected: float
) -> None:
    grey = down * torch.arange(6.0)[:, None] + across * torch.arange(8.0)
    ramp = torch.tensor(colours, dtype=torch.float32)[:, None, None] * grey
    assert float(total_variation(ramp[None])) == pytest.approx(expected, abs=1.1e-3)


def test_total_variation_of_an_edge_counts_its_length() -> None:
    edge = torch.zeros(1, 3, 9, 9)
    edge[..., 4:] = 1
    assert float(total_variation(edge)) == pytest.approx(math.sqrt(3) / 8, abs=1.1e-3)


def test_total_variation_has_a_slope_at_flat_places() -> None:
    flat = torch.full((2, 3, 4, 4), 0.5, requires_grad=True)
    (gradient,) = torch.autograd.grad(total_variation(flat).sum(), flat)
    assert torch.isfinite(gradient).all()


def test_distance_is_relative_to_what_was_received() -> None:
    received = torch.tensor([[3.0, 4.0], [3.0, 4.0], [30.0, 40.0]])
    found = torch.tensor([[3.0, 4.0], [0.0, 0.0], [30.0, 45.0]])
    torch.testing.assert_close(distance(found, received), torch.tensor([0.0, 1.0, 0.01]))


def test_distance_takes_activations_of_any_shape() -> None:
    assert distance(torch.ones(4, 2, 3, 5), 2 * torch.ones(4, 2, 3, 5)).tolist() == [0.25] * 4


def test_distance_from_an_activation_of_zeros_is_a_number() -> None:
    assert distance(torch.zeros(1, 5), torch.zeros(1, 5)).tolist() == [0]
    assert torch.isfinite(distance(torch.ones(1, 5), torch.zeros(1, 5))).all()


def test_out_of_range_is_the_mean_square_of_what_leaves_it() -> None:
    picture = torch.full((3, 3, 2, 2), 0.5)
    picture[1, 0, 0, 0], picture[1, 2, 1, 1] = 1.6, -1.2
    picture[2] = torch.tensor([0.0, 1.0]).repeat(3, 2, 1)
    torch.testing.assert_close(out_of_range(picture), torch.tensor([0.0, (0.36 + 1.44) / 12, 0.0]))


# the search


def test_it_finds_the_picture_whose_activation_was_received() -> None:
    found = SEARCH.pictures(ACTIVATIONS, START)
    assert psnr_db(PICTURES, found).min() > psnr_db(PICTURES, START).min() + 15


def test_checkpoints_begin_at_the_start_and_the_head_is_asked_once_for_each_step() -> None:
    asked = 0

    def counted(seen: Tensor) -> Tensor:
        nonlocal asked
        asked += 1
        return head(seen)

    checkpoints = replace(SEARCH, head=counted, evaluations=7).checkpoints(ACTIVATIONS, START)
    first, *others = checkpoints
    assert torch.equal(first, START)
    assert (len(others), asked) == (6, 7)


def test_a_longer_search_begins_as_a_shorter_one_and_comes_closer() -> None:
    short, long = (list(replace(SEARCH, evaluations=count).checkpoints(ACTIVATIONS, START)) for count in (5, 20))
    assert all(torch.equal(one, other) for one, other in zip(short, long, strict=False))
    left = torch.stack([distance(head(found), ACTIVATIONS) + 10 * out_of_range(found) for found in long])
    assert (left.diff(dim=0) <= 1e-6).all()
    assert (left[-1] < 0.1 * left[0]).all()


def test_after_the_deadline_the_answer_is_the_start() -> None:
    late = replace(SEARCH, deadline=time.monotonic() - 1)
    assert torch.equal(late.pictures(ACTIVATIONS, START), START)


def test_the_less_closely_an_activation_can_be_matched_the_more_total_variation_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def twofold(seen: Tensor) -> Tensor:
        return torch.cat([head(seen), 0.5 * seen.roll(1, 2) - head(seen)], 1)

    clean, search = twofold(PICTURES), replace(SEARCH, head=twofold)
    noisy = clean + 0.1 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    with_it = [search.pictures(activations, START) for activations in (clean, noisy)]
    monkeypatch.setattr(matching, "_VARIATION", 0.0)
    without = [search.pictures(activations, START) for activations in (clean, noisy)]
    smoother = [total_variation(one) / total_variation(other) for one, other in zip(with_it, without, strict=True)]
    assert (smoother[0] > 0.98).all(), "what can be matched is left as it is"
    assert (smoother[1] < 0.95).all()
    errors = [(found[1] - PICTURES).square().mean() for found in (with_it, without)]
    assert errors[0] < errors[1]


def test_pictures_that_are_searched_in_parts_come_back_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    search = replace(SEARCH, evaluations=10)
    whole = search.pictures(ACTIVATIONS, START)
    most = []

    def watched(seen: Tensor) -> Tensor:
        most.append(len(seen))
        return head(seen)

    monkeypatch.setattr(matching, "_PIXELS_AT_ONCE", 4 * 16 * 16)
    parts = replace(search, head=watched).pictures(ACTIVATIONS, START)
    assert set(most) == {4, 2}
    torch.testing.assert_close(parts, whole, atol=1e-4, rtol=0)


def test_it_searches_where_gradients_are_switched_off_and_leaves_what_it_is_given() -> None:
    before = ACTIVATIONS.clone(), START.clone()
    with torch.no_grad():
        found = SEARCH.pictures(ACTIVATIONS, START)
    assert not torch.allclose(found, START)
    assert not found.requires_grad
    assert torch.equal(ACTIVATIONS, before[0])
    assert torch.equal(START, before[1])
