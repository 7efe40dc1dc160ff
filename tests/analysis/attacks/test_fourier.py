"""The filter turns white noise into errors like those that it was made from."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from analysis.attacks.fourier import Filter, frequencies

SIZE = (16, 20)
COLOURS = torch.tensor([[0.6, 0.1, 0.0], [0.5, -0.2, 0.1], [0.4, 0.1, -0.1]])


def errors(count: int, size: tuple[int, int] = SIZE) -> Tensor:
    """Coloured noise whose amplitude falls with its frequency, without a preferred direction."""
    noise = torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(0))
    falling = 1 / (1 + frequencies(*size))
    smooth = torch.fft.irfft2(falling * torch.fft.rfft2(noise), s=size)
    return torch.einsum("ck,nkhw->nchw", COLOURS, smooth)


def filtered(filter_: Filter, count: int, size: tuple[int, int] = SIZE) -> Tensor:
    return filter_(torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1)))


def covariance(values: Tensor, down: int, across: int) -> Tensor:
    """Of colours with colours so many pixels away, around the edges: 3 x 3."""
    moved = values.roll((down, across), (2, 3))
    return torch.einsum("nchw,nkhw->ck", values, moved) / values[:, 0].numel()


@pytest.mark.parametrize("shift", [(0, 0), (0, 1), (1, 0), (2, 2), (5, 0)])
@pytest.mark.parametrize("size", [SIZE, (15, 17)])
def test_its_output_has_the_covariance_of_the_errors_it_was_made_from(
    size: tuple[int, int], shift: tuple[int, int]
) -> None:
    known = errors(800, size)
    output = filtered(Filter.of(known), 800, size)
    expected = covariance(known, *shift)
    tolerance = 0.06 * float(covariance(known, 0, 0).abs().max())
    torch.testing.assert_close(covariance(output, *shift), expected, atol=tolerance, rtol=0)


def test_a_few_errors_are_enough_to_know_their_spectrum() -> None:
    few, many = Filter.of(errors(4)).amplitude[0], Filter.of(errors(400)).amplitude[0]
    assert ((few / many).log().abs() < math.log(1.5)).float().mean() > 0.9


def test_no_frequency_and_no_colour_is_frozen() -> None:
    grey = torch.ones(2, 3, *SIZE)
    amplitude = Filter.of(grey).amplitude
    assert (amplitude > 0).all()
    assert amplitude.min() < 0.01 * amplitude.max()
    assert (Filter.of(torch.zeros(2, 3, *SIZE)).amplitude > 0).all()


def test_gradients_reach_the_noise() -> None:
    noise = torch.zeros(1, 3, *SIZE, requires_grad=True)
    (gradient,) = torch.autograd.grad(Filter.of(errors(4))(noise)[0, 0, 3, 4], noise)
    assert gradient.abs().max() > 0


def test_frequencies_count_cycles_per_picture() -> None:
    root2, root5 = math.sqrt(2), math.sqrt(5)
    expected = torch.tensor([[0, 1, 2], [1, root2, root5], [2, root5, math.sqrt(8)], [1, root2, root5]])
    torch.testing.assert_close(frequencies(4, 4), expected)
    assert frequencies(8, 6).shape == (8, 4)
    assert float(frequencies(8, 6)[4, 3]) == 5
