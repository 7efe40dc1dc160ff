"""The plain decoder that most papers on split inference attack with."""

from __future__ import annotations

import torch
from torch import nn

from analysis.attacks import Pairs
from analysis.attacks.maps import Layout
from tests.benchmarks.attacks.pixel_decoder import LEARNING_RATE, PixelDecoder, doublings

# Channels at the picture's size, twice as many at half of it, up to a limit.
WIDTH, MOST_CHANNELS = 32, 256


class TransposedDecoder(PixelDecoder):
    """Transposed convolution, batch norm and ReLU until the size is the picture's, then a sigmoid. No one paper's."""

    name = "transposed_decoder"

    def _build(self, layout: Layout, own: Pairs) -> nn.Module:
        channels, layers = layout.channels, list[nn.Module]()
        for remaining in reversed(range(doublings(layout, own.input_size))):
            width = min(MOST_CHANNELS, WIDTH * 2**remaining)
            larger = nn.ConvTranspose2d(channels, width, 4, stride=2, padding=1, bias=False)
            layers += [larger, nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        return nn.Sequential(*layers, nn.Conv2d(channels, 3, 3, padding=1), nn.Sigmoid())

    def _optimizer(self) -> torch.optim.Adam:
        return torch.optim.Adam(self._network.parameters(), lr=LEARNING_RATE)
