"""Pictures as a starting point plus filtered noise: the coordinates in which matching an activation is well-posed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# The error's spectrum is averaged over rings of this many frequencies (cycles per picture): own pictures are few.
_RING = 1.0
# No frequency is frozen altogether: its amplitude is at least this share of the strongest.
_LEAST = 1e-3


@dataclass(frozen=True)
class Filter:
    """Turns white noise into pictures whose colours and spectrum are those of given errors.

    Args:
        amplitude: 3 x H x (W // 2 + 1), of each principal colour at each frequency.
        colours: 3 x 3, the principal colours as rows.
    """

    amplitude: Tensor
    colours: Tensor

    @classmethod
    def of(cls, errors: Tensor) -> Filter:
        """The filter whose output has the covariance of `errors` (N x 3 x H x W), taken to be stationary."""
        height, width = errors.shape[2:]
        flat = errors.transpose(0, 1).flatten(1)
        covariance = flat @ flat.T / flat.shape[1]
        colours = torch.linalg.eigh(covariance.cpu()).eigenvectors.flip(1).T.to(errors.device)
        spectrum = torch.fft.rfft2(torch.einsum("kc,nchw->nkhw", colours, errors), norm="ortho").abs().square().mean(0)
        ring = (frequencies(height, width) / _RING).round().long()
        sums = torch.zeros(3, int(ring.max()) + 1).index_add_(1, ring.flatten(), spectrum.flatten(1))
        mean = sums / torch.bincount(ring.flatten()).clamp(min=1)
        amplitude = mean[:, ring].sqrt()
        return cls(amplitude.clamp(min=_LEAST * float(amplitude.max()) + 1e-8), colours)

    def __call__(self, noise: Tensor) -> Tensor:
        """N x 3 x H x W -> N x 3 x H x W."""
        height, width = noise.shape[2:]
        filtered = torch.fft.irfft2(
            self.amplitude * torch.fft.rfft2(noise, norm="ortho"), s=(height, width), norm="ortho"
        )
        return torch.einsum("kc,nkhw->nchw", self.colours, filtered)


def frequencies(height: int, width: int) -> Tensor:
    """How fine each value of a picture's `rfft2` is, in cycles per picture: H x (W // 2 + 1)."""
    down, across = torch.fft.fftfreq(height, 1 / height), torch.fft.rfftfreq(width, 1 / width)
    return torch.hypot(down[:, None], across[None])
