"""He, Zhang and Lee's black-box attack: the inverse network."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from analysis.attacks import Pairs
from analysis.attacks.maps import Layout
from tests.benchmarks.attacks.pixel_decoder import LEARNING_RATE, PixelDecoder, doublings

# The paper's inverse networks mirror its head: 64 channels at the picture's size, twice as many at half of it; the
# limit keeps what mirrors a deep head affordable.
WIDTH, MOST_CHANNELS = 64, 256
# The paper halves the step size after every 20 of 50 epochs.
HALVING_SHARE = 0.4


class InverseNetwork(PixelDecoder):
    """Mirrors the head: transposed convolutions and ReLU, one a halving. He et al. (ACSAC 2019, section 5).

    Adam (AMSGrad), as the authors use it.
    """

    name = "inverse_network"

    def _build(self, layout: Layout, own: Pairs) -> nn.Module:
        channels, layers = layout.channels, list[nn.Module]()
        for remaining in reversed(range(doublings(layout, own.input_size))):
            width = min(MOST_CHANNELS, WIDTH * 2**remaining)
            layers += [nn.ConvTranspose2d(channels, width, 3, stride=2, padding=1, output_padding=1), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers, nn.ConvTranspose2d(channels, 3, 3, padding=1), _FromStandard(own.pictures))

    def _optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self._network.parameters(), amsgrad=True)

    def _learning_rate(self, spent: float) -> float:
        return LEARNING_RATE * 0.5 ** int(spent / HALVING_SHARE)


class _FromStandard(nn.Module):
    """Standardised pictures -> pictures on about [0, 1]: the authors' networks answer with the former."""

    def __init__(self, pictures: Tensor) -> None:
        super().__init__()
        self._centre = pictures.mean((0, 2, 3), keepdim=True)
        self._scale = pictures.std((0, 2, 3), keepdim=True)

    def forward(self, standard: Tensor) -> Tensor:
        return self._centre + self._scale * standard
