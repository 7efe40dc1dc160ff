"""A network whose modules have names as nobody expects them."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

LONG = "a_name_that_is_longer_than_any_terminal_is_wide_" * 3
NAMES = ("[red]", "[/]", LONG)


def named() -> nn.Module:
    """A network of one convolution a name."""
    layers = OrderedDict((name, nn.Conv2d(3, 3, 3)) for name in NAMES)
    return nn.Sequential(layers | OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten()))
