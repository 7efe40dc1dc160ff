"""PSNR and SSIM against the libraries that everybody knows, and what is refused."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchmetrics.functional.image as torchmetrics_image
from skimage.metrics import peak_signal_noise_ratio

from analysis.errors import AttackError
from analysis.metrics import PSNR_CAP_DB, floor_psnr_db, oracle_mean_colour_psnr_db, psnr_db, ssim

Metric = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(4, 3, 8, 8, generator=generator)
    original = torch.nn.functional.interpolate(coarse, size=(40, 48), mode="bilinear")
    noise = torch.randn(original.shape, generator=generator) * torch.tensor([0.01, 0.05, 0.1, 0.3]).view(4, 1, 1, 1)
    return original, (original + noise).clamp(0, 1)


def test_psnr_agrees_with_scikit_image_and_torchmetrics(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    original, rebuilt = pair
    ours = psnr_db(original, rebuilt)
    ratio: Callable[..., float] = peak_signal_noise_ratio
    theirs = [ratio(a.numpy(), b.numpy(), data_range=1) for a, b in zip(*pair, strict=True)]
    other = torchmetrics_image.peak_signal_noise_ratio(
        rebuilt, original, data_range=1.0, reduction="none", dim=(1, 2, 3)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(ours, other, atol=1e-4)


def test_ssim_agrees_with_torchmetrics(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    original, rebuilt = pair
    _, everywhere = torchmetrics_image.structural_similarity_index_measure(
        rebuilt, original, data_range=1.0, reduction="none", return_full_image=True
    )
    inside = everywhere[:, :, 5:-5, 5:-5]  # scikit-image leaves out where the window leaves the picture
    np.testing.assert_allclose(ssim(original, rebuilt), inside.mean((1, 2, 3)), atol=1e-4)


def test_psnr_of_equal_pictures_is_the_cap(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    assert psnr_db(pair[0], pair[0]).tolist() == [PSNR_CAP_DB] * 4
    assert ssim(pair[0], pair[0]).tolist() == pytest.approx([1.0] * 4)


def test_values_outside_the_range_are_clipped_first() -> None:
    white = torch.ones(1, 3, 8, 8)
    assert psnr_db(white, white + 5).item() == PSNR_CAP_DB
    assert psnr_db(white, -white).item() == 0.0


def test_pictures_are_never_changed_by_being_measured(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    before = [tensor.clone() for tensor in pair]
    psnr_db(*pair)
    ssim(*pair)
    assert all(torch.equal(tensor, copy) for tensor, copy in zip(pair, before, strict=True))


@pytest.mark.parametrize("metric", [psnr_db, ssim])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_no_number_is_an_error_of_one_line(metric: Metric, value: float) -> None:
    good = torch.rand(2, 3, 8, 8)
    bad = good.clone()
    bad[1, 2, 3, 4] = value
    with pytest.raises(AttackError, match=r"^1 of 384 values of the rebuilt pictures are NaN or infinite$"):
        metric(good, bad)


@pytest.mark.parametrize("shape", [(2, 3, 8, 9), (1, 3, 8, 8), (3, 8, 8)])
def test_pictures_of_other_shapes_are_not_compared(shape: tuple[int, ...]) -> None:
    with pytest.raises(AttackError, match="cannot be compared"):
        psnr_db(torch.rand(2, 3, 8, 8), torch.rand(shape))


def test_ssim_refuses_pictures_smaller_than_its_window() -> None:
    with pytest.raises(AttackError, match="11 pixels"):
        ssim(torch.rand(1, 3, 10, 32), torch.rand(1, 3, 10, 32))


def test_floor_and_oracle_are_what_their_names_say() -> None:
    own = torch.stack([torch.zeros(3, 8, 8), torch.ones(3, 8, 8)])
    grey, white = torch.full((1, 3, 8, 8), 0.5), torch.ones(1, 3, 8, 8)
    assert floor_psnr_db(own, torch.cat([grey, white])).tolist() == pytest.approx([PSNR_CAP_DB, 20 * math.log10(2)])
    half = torch.cat([torch.zeros(1, 3, 4, 8), torch.ones(1, 3, 4, 8)], dim=2)
    assert oracle_mean_colour_psnr_db(torch.cat([white, half])).tolist() == pytest.approx(
        [PSNR_CAP_DB, 20 * math.log10(2)]
    )
