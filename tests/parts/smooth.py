"""Pictures for attacks on toy heads."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


def smooth_pictures(count: int, seed: int) -> Tensor:
    """Smooth coloured pictures of 16x16 pixels on [0, 1]: float32, count x 3 x 16 x 16."""
    coarse = torch.rand(count, 3, 5, 5, generator=torch.Generator().manual_seed(seed))
    return F.interpolate(coarse, size=(16, 16), mode="bicubic", align_corners=False).clamp(0, 1)


def mixing_head(seen: Tensor) -> Tensor:
    """Space to depth, channels mixed by a fixed rotation: every pixel can be had back."""
    mixing = torch.linalg.qr(torch.randn(12, 12, generator=torch.Generator().manual_seed(7))).Q
    return F.conv2d(F.pixel_unshuffle(seen, 2), mixing[:, :, None, None])
