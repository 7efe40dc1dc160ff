"""How close a rebuilt picture is to the original, and what can be had without any activation.

All pictures are float N x 3 x H x W; values are clipped to [0, 1] first, and the peak is 1.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from skimage.metrics import structural_similarity
from torch import Tensor

from analysis.errors import AttackError

# Rounding to 8 bits alone gives 58.9 dB; closer than the cap no eye tells pictures apart, and infinity has no average.
PSNR_CAP_DB = 60.0
# Mean squared errors below are not told apart.
LEAST_ERROR = 10 ** (-PSNR_CAP_DB / 10)
# Side of the Gaussian window of SSIM, in pixels: 3.5 standard deviations of 1.5 pixels to each side.
_SSIM_WINDOW = 11
_WITHOUT_FLOAT64 = {"mps"}


def psnr_db(original: Tensor, rebuilt: Tensor) -> Tensor:
    """Peak signal-to-noise ratio of each picture in dB, at most 60; higher is closer to the original.

    Raises:
        AttackError: shapes that differ or are not N x 3 x H x W, NaN or infinity.
    """
    original, rebuilt = _checked(original, rebuilt)
    mean_squared = (exact(original) - exact(rebuilt)).square().mean((1, 2, 3))
    return -10 * mean_squared.clamp(min=LEAST_ERROR).log10()


def ssim(original: Tensor, rebuilt: Tensor) -> Tensor:
    """Structural similarity of each picture as Wang et al. (2004) define it, at most 1; higher is closer.

    Raises:
        AttackError: shapes that differ or are not N x 3 x H x W, NaN or infinity, a side under 11 pixels.
    """
    original, rebuilt = _checked(original, rebuilt)
    if min(original.shape[2:]) < _SSIM_WINDOW:
        raise AttackError(f"SSIM needs pictures of at least {_SSIM_WINDOW} pixels a side, not {_size(original)}")
    similarity: Callable[..., float] = structural_similarity
    return torch.tensor(
        [
            similarity(
                a.numpy(),
                b.numpy(),
                data_range=1.0,
                channel_axis=0,
                gaussian_weights=True,
                sigma=1.5,
                use_sample_covariance=False,
            )
            for a, b in zip(original.cpu().double(), rebuilt.cpu().double(), strict=True)
        ],
        dtype=torch.float64,
    )


def exact(values: Tensor) -> Tensor:
    """Values in float64, where they are; on the CPU where their device (mps) knows no float64."""
    return (values.cpu() if values.device.type in _WITHOUT_FLOAT64 else values).double()


def mean_picture(pictures: Tensor) -> Tensor:
    """The floor: the mean of the receiver's own pictures, 1 x 3 x H x W, its best guess without any activation."""
    return pictures.mean(dim=0, keepdim=True)


def floor_psnr_db(own: Tensor, original: Tensor) -> Tensor:
    """PSNR in dB of answering every picture with the mean of `own`; an attack that learned anything lies above."""
    return psnr_db(original, mean_picture(own).expand_as(original))


def oracle_mean_colour_psnr_db(original: Tensor) -> Tensor:
    """PSNR in dB of an oracle who knows the mean colour of each picture, and nothing else of it."""
    return psnr_db(original, original.clamp(0, 1).mean((2, 3), keepdim=True).expand_as(original))


def _checked(original: Tensor, rebuilt: Tensor) -> tuple[Tensor, Tensor]:
    if original.shape != rebuilt.shape or original.dim() != 4 or original.shape[1] != 3:
        raise AttackError(f"pictures of {_size(original)} and {_size(rebuilt)} cannot be compared")
    require_finite(original, "the original pictures")
    require_finite(rebuilt, "the rebuilt pictures")
    return original.clamp(0, 1), rebuilt.clamp(0, 1)


def _size(pictures: Tensor) -> str:
    return " x ".join(map(str, pictures.shape))


def require_finite(values: Tensor, what: str) -> None:
    """Raises AttackError, naming `what`, where a value is NaN or infinite."""
    if not torch.isfinite(values.sum()) and not torch.isfinite(values).all():
        bad = int((~torch.isfinite(values)).sum())
        raise AttackError(f"{bad} of {values.numel()} values of {what} are NaN or infinite")
