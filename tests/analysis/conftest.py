"""A small network, and pictures for it."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from analysis.judging import FEWEST_PICTURES
from harness.networks.models import Model, PictureModel
from harness.networks.splits import Network
from harness.pictures import Pictures, load_pictures

SIZE = (32, 32)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return load_pictures("builtin", size=SIZE, train_count=FEWEST_PICTURES + 3, held_out_count=2)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5))
    module = PictureModel(layers, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    return Network(Model("small", module, SIZE, "random", trained=False))
