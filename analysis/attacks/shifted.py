"""The trained decoder of an attacker who has no photographs at all."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.attacks.base import HeadFunction, Pairs
from analysis.attacks.decoder import Decoder

# So many "photographs", each of which is seen as often as the receiver has pictures for it.
SOURCES = 48
LEAVES = 60
# Radii, relative to the shorter side; small ones are more frequent, as in natural pictures.
_SMALLEST, _LARGEST = 0.03, 0.5


class ShiftedDecoder(Decoder):
    """As `decoder`, trained on dead leaves alone: what a receiver without any photograph can do.

    Dead leaves (Lee, Mumford and Huang, IJCV 2001) are overlapping discs of random colours and sizes that follow a
    power law: synthetic pictures with natural statistics, which suffice to learn vision from (Baradad et al., NeurIPS
    2021). The receiver's own pictures are not used; the head is asked for the leaves' activations.
    """

    name, access = "decoder_shifted", "black-box"
    knows = "answers to queries; no photographs"
    fewest_sources = 2

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None, start_from: Decoder | None = None) -> None:
        with torch.device("cpu"):  # anywhere the same leaves
            leaves = dead_leaves(len(own), own.input_size).to(own.pictures.device)
        activations = torch.cat([head(part) for part in torch.split(leaves, 16)])
        sources = tuple(f"leaves-{index % SOURCES}" for index in range(len(own)))
        super()._fit(Pairs(leaves, activations, sources), head, budget_s, start_from)

    def validation_pairs(self, own: Pairs) -> Pairs:
        """All: it learned from none of them."""
        return own

    def _out_of_fold(self, own: Pairs) -> Tensor:
        return self._rebuild(own.activations)


def dead_leaves(count: int, size: tuple[int, int]) -> Tensor:
    """Always the same `count` pictures: float32, count x 3 x height x width, on [0, 1]."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    pictures = torch.rand(count, 3, 1, 1, generator=generator).repeat(1, 1, height, width)
    for _ in range(LEAVES):
        # Inverse of the cumulative distribution of radii whose density falls with their cube.
        share = torch.rand(count, 1, 1, generator=generator)
        radius = (_SMALLEST**-2 + share * (_LARGEST**-2 - _SMALLEST**-2)) ** -0.5 * min(size)
        centre = torch.rand(2, count, 1, 1, generator=generator)
        inside = (y - centre[0] * height).square() + (x - centre[1] * width).square() < radius.square()
        colour = torch.rand(count, 3, 1, 1, generator=generator)
        pictures = torch.where(inside[:, None], colour, pictures)
    return pictures
