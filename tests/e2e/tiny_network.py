"""Networks that lower in a second: the main job's tests run on them."""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def tiny() -> nn.Module:
    """Three convolutions with batch norm and a classifier; takes pictures of any size from 16 pixels on."""
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU6(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(16, 10),
    )


def deeper() -> nn.Module:
    """More places to split than a survey measures anyway; takes pictures of any size from 16 pixels on."""
    widths = (3, 8, 8, 16, 16, 24, 24)
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise(widths)):
        stride = 2 if i in (0, 2, 4) else 1
        layers += [nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 10))


def of_the_batch() -> nn.Module:
    """A network that cannot be measured: its answer to a picture depends on those beside it."""
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8, track_running_stats=False), nn.Flatten())


def unfinished() -> nn.Module:
    """A factory that raises."""
    return nn.Linear(1, {"stem": 8}["backbone"])
