"""The likelihood maximisation of recent papers: the search of a deep image prior."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.attacks import Attack, HeadFunction, Pairs
from analysis.attacks.matching import distance
from tests.benchmarks.attacks.budget import CpuBudget

DEFAULT_BUDGET_S = 60.0
MOST_STEPS = 5000
# As in the paper: what goes in (channels, size), how it is jittered at each step, and Adam's step size.
NOISE_CHANNELS, NOISE, JITTER, LEARNING_RATE = 32, 0.1, 1 / 30, 0.01
# The paper's hourglass has 5 scales of 128 channels and skips of 4, for pictures of 512 pixels a side; these are small
# and the seconds few: a fourth of the channels take sixteen times as many steps.
SCALES, WIDTH, SKIP = 5, 32, 4


class Dip(Attack):
    """Fits an untrained network to each picture, for such networks make natural pictures first. Ulyanov et al.

    Deep Image Prior (CVPR 2018): an hourglass of convolutions turns fixed noise into the picture, and its weights are
    what is changed, by Adam, until the activation matches. It learns from no pictures.
    """

    name, access = "dip", "white-box"
    knows, cost = "the head's weights", "60 s, or its budget"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:
        self._head, self._budget_s, self._size = head, budget_s or DEFAULT_BUDGET_S, own.input_size

    def _rebuild(self, activations: Tensor) -> Tensor:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            share_s = self._budget_s / len(activations)
            return torch.cat([self._search(one[None], CpuBudget(share_s)) for one in activations])

    @torch.enable_grad()
    def _search(self, activation: Tensor, budget: CpuBudget) -> Tensor:
        """The picture (1 x 3 x H x W) behind one activation, after so much time."""
        network, noise = _Hourglass(self._size), NOISE * torch.rand(1, NOISE_CHANNELS, *self._size)
        optimizer = torch.optim.Adam(network.parameters(), lr=LEARNING_RATE)
        picture = torch.empty(0)
        for _ in range(MOST_STEPS):
            picture = network(noise + JITTER * torch.randn(noise.shape))
            optimizer.zero_grad()
            torch.autograd.backward(distance(self._head(picture), activation).sum())
            optimizer.step()
            if budget.spent >= 1:
                break
        return picture.detach()


class _Hourglass(nn.Module):
    """Noise at a picture's size -> a picture on [0, 1]: to the coarsest scale and back, with a thin skip at each."""

    def __init__(self, size: tuple[int, int]) -> None:
        super().__init__()
        self._skips, self._downs, self._ups = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        seen, side = NOISE_CHANNELS, min(size)
        while len(self._downs) < SCALES and side >= 4:
            self._skips.append(_layer(seen, SKIP, 1))
            self._downs.append(nn.Sequential(_layer(seen, WIDTH, 3, stride=2), _layer(WIDTH, WIDTH, 3)))
            both = SKIP + WIDTH
            self._ups.append(nn.Sequential(nn.BatchNorm2d(both), _layer(both, WIDTH, 3), _layer(WIDTH, WIDTH, 1)))
            seen, side = WIDTH, -(-side // 2)
        self._leave = nn.Conv2d(WIDTH, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        skipped = []
        for skip, down in zip(self._skips, self._downs, strict=True):
            skipped.append(skip(x))
            x = down(x)
        for beside, up in zip(reversed(skipped), reversed(self._ups), strict=True):
            larger = F.interpolate(x, size=beside.shape[2:], mode="bilinear", align_corners=False)
            x = up(torch.cat([beside, larger], dim=1))
        picture: Tensor = torch.sigmoid(self._leave(x))
        return picture


def _layer(seen: int, width: int, side: int, *, stride: int = 1) -> nn.Module:
    convolution = nn.Conv2d(seen, width, side, stride, side // 2, padding_mode="reflect")
    return nn.Sequential(convolution, nn.BatchNorm2d(width), nn.LeakyReLU(0.2))
