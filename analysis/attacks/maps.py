"""Any activation as a map of channels over the picture, and pictures as blocks under the places of such a map.

Convnets ship N x C x h x w, Swin ships N x h x w x C, ViT ships N x tokens x C (a class token may lead them; until they
are transposed N x C x tokens), classifiers ship N x C. Attacks that look for the pixels beneath a place of the
activation want one form: N x C x h x w.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

# A map may miss its place on the regular grid by this many cells: convolutions without padding eat the borders.
_SLACK_CELLS = 2.0
# Tokens cut the picture evenly, with nothing lost at the borders.
_SLACK_CELLS_OF_TOKENS = 0.5
# Tokens ahead of those that stand for places: none, a class token, or a class and a distillation token.
_LEADING_TOKENS = (0, 1, 2)


@dataclass(frozen=True)
class Layout:
    """How to read an activation as a map.

    Args:
        order: the axes (0 is the batch) in the order batch, channels, then places; see `to_map`.
        skipped: how many leading tokens stand for no place; their values are repeated at every place.
        channels: of the map, the repeated ones included.
        height, width: places of the map; 1 x 1 where the activation has none.
    """

    order: tuple[int, ...]
    skipped: int
    channels: int
    height: int
    width: int

    @property
    def repeated(self) -> int:
        """How many of the channels, the last ones, are leading tokens' values: the same at every place."""
        return self.channels * self.skipped // (1 + self.skipped)

    @property
    def is_tokens(self) -> bool:
        """Whether places are tokens: transformers add to each what tells where it is."""
        return len(self.order) == 3

    def to_map(self, activations: Tensor) -> Tensor:
        """N x ... -> N x channels x height x width; a view of the input where possible."""
        ordered = activations.permute(self.order)
        if self.skipped:
            leading, places = ordered[:, :, : self.skipped], ordered[:, :, self.skipped :]
            everywhere = leading.flatten(1)[:, :, None].expand(-1, -1, places.shape[2])
            ordered = torch.cat([places, everywhere], dim=1)
        return ordered.reshape(len(activations), self.channels, self.height, self.width)


def layout_of(shape: tuple[int, ...], input_size: tuple[int, int]) -> Layout:
    """Finds where the picture's height and width are in an activation.

    Args:
        shape: of one picture's activation, without the batch.
        input_size: height and width of the picture in pixels.

    Returns:
        A map whose places lie on a regular grid over the picture; failing that (vectors, windows of attention), a map
        of a single place with all values as its channels.
    """
    if len(shape) == 3:
        channels_first = _misfit(shape[1], shape[2], input_size)
        channels_last = _misfit(shape[0], shape[1], input_size)
        if channels_first <= min(channels_last, _SLACK_CELLS):
            return Layout((0, 1, 2, 3), 0, *shape)
        if channels_last <= _SLACK_CELLS:
            return Layout((0, 3, 1, 2), 0, shape[2], shape[0], shape[1])
    if len(shape) == 2:
        for skipped in _LEADING_TOKENS:
            grid = _grid(shape[0] - skipped, input_size)
            if grid is not None:
                return Layout((0, 2, 1), skipped, shape[1] * (1 + skipped), *grid)
        grid = _grid(shape[1], input_size)
        if grid is not None:
            return Layout((0, 1, 2), 0, shape[0], *grid)
    return Layout((0, *range(1, len(shape) + 1)), 0, math.prod(shape), 1, 1)


def _misfit(height: int, width: int, input_size: tuple[int, int]) -> float:
    """By how many cells a grid of height x width misses the regular grid of square cells that covers the picture."""
    if not (1 <= height <= input_size[0] and 1 <= width <= input_size[1]):
        return math.inf
    stride = math.sqrt(input_size[0] * input_size[1] / (height * width))
    return max(abs(height - input_size[0] / stride), abs(width - input_size[1] / stride))


def _grid(places: int, input_size: tuple[int, int]) -> tuple[int, int] | None:
    """Height and width of the grid that so many tokens form over the picture, or None."""
    height = max(1, round(math.sqrt(max(0, places) * input_size[0] / input_size[1])))
    width = places // height
    fits = height * width == places and _misfit(height, width, input_size) <= _SLACK_CELLS_OF_TOKENS
    return (height, width) if fits else None


@dataclass(frozen=True)
class Blocks:
    """Pictures as a grid of pixel blocks, one under each place of a map.

    Where the stride does not divide the picture, or blocks are coarser than the stride, the picture is resized to
    (height * block_height) x (width * block_width) on the way in, and back on the way out.
    """

    input_size: tuple[int, int]
    height: int
    width: int
    block_height: int
    block_width: int

    def cut(self, pictures: Tensor) -> Tensor:
        """N x 3 x H x W -> N x 3 x block_height x block_width x height x width; a view where the size is right."""
        size = (self.height * self.block_height, self.width * self.block_width)
        resized = resize(pictures, size)
        cells = resized.reshape(-1, 3, self.height, self.block_height, self.width, self.block_width)
        return cells.permute(0, 1, 3, 5, 2, 4)

    def join(self, blocks: Tensor) -> Tensor:
        """N x channels x height x width, or what `cut` gives -> N x 3 x H x W, not clipped."""
        cells = blocks.reshape(-1, 3, self.block_height, self.block_width, self.height, self.width)
        pictures = cells.permute(0, 1, 4, 2, 5, 3).reshape(
            -1, 3, self.height * self.block_height, self.width * self.block_width
        )
        return resize(pictures, self.input_size)


def blocks_of(layout: Layout, input_size: tuple[int, int], *, finest: int) -> Blocks:
    """The blocks under a layout's places: as many pixels as the stride, at most `finest` a side."""
    block_height = min(finest, max(1, round(input_size[0] / layout.height)))
    block_width = min(finest, max(1, round(input_size[1] / layout.width)))
    return Blocks(input_size, layout.height, layout.width, block_height, block_width)


def resize(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures at another size, smoothed when they shrink; the same tensor where the size is right already."""
    if tuple(pictures.shape[-2:]) == size:
        return pictures
    return F.interpolate(pictures, size=size, mode="bicubic", antialias=True, align_corners=False)
