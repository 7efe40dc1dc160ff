"""The best mix of two answers, frequency by frequency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from analysis.attacks.fourier import frequencies
from analysis.metrics import LEAST_ERROR, exact

# Bands grow with their frequency, as natural spectra fall with it.
BANDS = 10
# How strongly weights are drawn to answering as the first answer does, as shares of the answers' energy. The least only
# keeps them from growing where answers are alike; the most leaves nothing of the others.
_RIDGES = (1e-7, 1e-3, 1e-2, 0.1, 1.0, 1e4)


@dataclass(frozen=True)
class Blend:
    """A Wiener filter over several answers: in each band of frequencies the weights with the least squared error.

    Args:
        weights: bands x answers.
        mean: 1 x 3 x H x W, what answers are compared with: weights below 1 draw towards its detail.
        validation_db: mean PSNR over the pictures that it was fitted to, each mixed by weights that were fitted without
            its source photograph.
    """

    weights: Tensor
    mean: Tensor
    validation_db: float

    @classmethod
    def fit(cls, answers: list[Tensor], pictures: Tensor, mean: Tensor, sources: Sequence[str]) -> Blend:
        """Weights for answers (each N x 3 x H x W) to pictures of which the truth is known.

        Ridge regression towards the first answer; the ridge is the one that serves photographs best that the weights
        were not fitted to, so that where nothing is found (deep splits) nothing is lost.

        Args:
            sources: each picture's source photograph.
        """
        moments = _Moments.of(answers, pictures, mean)
        names = list(dict.fromkeys(sources))
        group = torch.tensor([names.index(source) for source in sources])
        if len(names) == 1:
            group = torch.arange(len(pictures))
        others = group != torch.arange(int(group.max()) + 1)[:, None]
        group, others = group.to(moments.gram.device), others.to(moments.gram.device)
        reached = [float(moments.psnr_db(moments.weights(others, ridge)[group]).mean()) for ridge in _RIDGES]
        ridge = _RIDGES[reached.index(max(reached))]
        (weights,) = moments.weights(torch.ones(1, len(pictures), dtype=torch.bool), ridge)
        return cls(weights.float().to(mean.device), mean, max(reached))

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


@dataclass(frozen=True)
class _Moments:
    """What squared errors of all mixes follow from.

    Args:
        gram: bands x pictures x answers x answers.
        towards: bands x pictures x answers, products with the truth.
        square: bands x pictures, of the truth.
        values: of a picture.
    """

    gram: Tensor
    towards: Tensor
    square: Tensor
    values: int

    @classmethod
    def of(cls, answers: list[Tensor], pictures: Tensor, mean: Tensor) -> _Moments:
        band = _bands(*pictures.shape[2:])
        twice = _twice(pictures.shape[3])
        truth = torch.fft.rfft2(pictures - mean, norm="ortho") * twice
        mixed = torch.stack([torch.fft.rfft2(answer - mean, norm="ortho") * twice for answer in answers])
        grams, towards, squares = [], [], []
        for index in range(BANDS):
            rows = exact(torch.view_as_real(mixed[..., band == index]).flatten(2))
            target = exact(torch.view_as_real(truth[..., band == index]).flatten(1))
            grams.append(torch.einsum("apv,bpv->pab", rows, rows))
            towards.append(torch.einsum("apv,pv->pa", rows, target))
            squares.append(target.square().sum(1))
        return cls(torch.stack(grams), torch.stack(towards), torch.stack(squares), pictures[0].numel())

    def weights(self, chosen: Tensor, ridge: float) -> Tensor:
        """From each choice of pictures (bool, choices x N): choices x bands x answers."""
        chosen = chosen.to(self.gram)
        gram = torch.einsum("cp,kpab->ckab", chosen, self.gram)
        towards = torch.einsum("cp,kpa->cka", chosen, self.towards)
        strength = ridge * gram.diagonal(dim1=-2, dim2=-1).sum(-1) + 1e-12
        # In terms of the first answer and what the others have more than it.
        others = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
        others[1:, 0] = -1
        gram, towards = others @ gram @ others.T, towards @ others.T
        gram.diagonal(dim1=-2, dim2=-1).add_(strength[..., None])
        towards[..., 0] += strength
        weights = torch.linalg.solve(gram, towards)
        # The mean colour is mixed and not drawn towards that of other photographs: they say little about it.
        weights[:, 0, 0] = 1
        weights[:, 0, 1:] = torch.linalg.solve(gram[:, 0, 1:, 1:], towards[:, 0, 1:] - gram[:, 0, 1:, 0])
        mixed: Tensor = weights @ others
        return mixed

    def psnr_db(self, weights: Tensor) -> Tensor:
        """Of each picture, mixed with weights of its own (N x bands x answers): N values."""
        quadratic = torch.einsum("pka,kpab,pkb->p", weights, self.gram, weights)
        linear = torch.einsum("pka,kpa->p", weights, self.towards)
        error = (quadratic - 2 * linear + self.square.sum(0)) / self.values
        reached: Tensor = -10 * error.clamp(min=LEAST_ERROR).log10()
        return reached


def _twice(width: int) -> Tensor:
    """Roots of how often each column of `rfft2` stands in the whole spectrum of pictures so wide."""
    times = torch.full((width // 2 + 1,), 2.0)
    times[0] = 1
    if width % 2 == 0:
        times[-1] = 1
    return times.sqrt()


def _bands(height: int, width: int) -> Tensor:
    """The band of each value of a picture's `rfft2`: the picture's mean alone in the first, then octaves in thirds."""
    fine = frequencies(height, width)
    finest = float(fine.max())
    step = torch.log2(fine.clamp(min=1)) / torch.log2(torch.tensor(finest * 1.001))
    return torch.where(fine == 0, 0, 1 + (step * (BANDS - 1)).long())
