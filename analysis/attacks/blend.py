"""The best mix of two answers, frequency by frequency."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.attacks.fourier import frequencies

# Bands grow with their frequency, as natural spectra fall with it.
BANDS = 10
# Keeps weights of bands with few values small, as a share of the answers' energy.
_RIDGE = 1e-7


@dataclass(frozen=True)
class Blend:
    """A Wiener filter over several answers: in each band of frequencies the weights with the least squared error.

    Args:
        weights: bands x answers.
        mean: 1 x 3 x H x W, what answers are compared with: weights below 1 draw towards it.
    """

    weights: Tensor
    mean: Tensor

    @classmethod
    def fit(cls, answers: list[Tensor], pictures: Tensor, mean: Tensor) -> Blend:
        """Weights for answers (each N x 3 x H x W) to pictures of which the truth is known."""
        band = _bands(*pictures.shape[2:])
        truth = torch.fft.rfft2(pictures - mean, norm="ortho")
        seen = torch.stack([torch.fft.rfft2(answer - mean, norm="ortho") for answer in answers])
        weights = []
        for index in range(BANDS):
            rows = torch.view_as_real(seen[..., band == index]).flatten(1).double()
            target = torch.view_as_real(truth[..., band == index]).flatten().double()
            gram = rows @ rows.T
            gram.diagonal().add_(_RIDGE * gram.trace() + 1e-12)
            weights.append(torch.linalg.solve(gram, rows @ target) if rows.shape[1] else torch.zeros(len(answers)))
        return cls(torch.stack([weight.float() for weight in weights]), mean)

    def __call__(self, answers: list[Tensor]) -> Tensor:
        """Answers, each N x 3 x H x W -> their mix, not clipped."""
        height, width = self.mean.shape[2:]
        weights = self.weights[_bands(height, width)]
        mixed = sum(
            weights[..., index] * torch.fft.rfft2(answer - self.mean, norm="ortho")
            for index, answer in enumerate(answers)
        )
        pictures: Tensor = torch.fft.irfft2(mixed, s=(height, width), norm="ortho") + self.mean
        return pictures


def _bands(height: int, width: int) -> Tensor:
    """The band of each value of a picture's `rfft2`: the picture's mean alone in the first, then octaves in thirds."""
    fine = frequencies(height, width)
    finest = float(fine.max())
    step = torch.log2(fine.clamp(min=1)) / torch.log2(torch.tensor(finest * 1.001))
    return torch.where(fine == 0, 0, 1 + (step * (BANDS - 1)).long())
