"""Ridge regression from patches of the activation to the pixels beneath them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name that everybody knows it by

from analysis.attacks.base import CrossFitted, HeadFunction, Pairs
from analysis.attacks.maps import Layout, blocks_of, layout_of

# Rows of the regression; more cost time and gain nothing that could be measured.
MOST_ROWS = 30_000
# Pixels of a block, a side. Nothing finer than this survives in the middle of a network; what is coarser is enlarged.
FINEST_BLOCK = 8
# The same for a vector, whose one block is the whole picture.
FINEST_BLOCK_OF_VECTOR = 16
# Principal components used of the place itself and of the rings of places around it: a 5x5 patch, thinner outside;
# 3x3 where a place covers more than 8 pixels a side, for there more features only fit the photographs at hand.
RINGS = (128, 128, 32)
RINGS_OF_COARSE_MAP = (128, 64)
RINGS_OF_VECTOR = (256,)
# Principal components of the leading tokens (a class token), used at every place beside those of the place itself.
LEADING_COMPONENTS = 16
# Components that the places along each border have weights of their own for.
BORDER_COMPONENTS = 48
# Ridge strengths, relative to the variance of the components; the last leaves nothing but the mean block.
STRENGTHS = tuple(10.0**exponent for exponent in range(-8, 5))
FOLDS = 4
_FIRST_TRIED = STRENGTHS.index(1e-2)
_ROWS_AT_ONCE = 4096
_ROWS_FOR_COMPONENTS = 4096
# Strengths are compared by the errors along this many directions in which blocks vary most: nearly all of the error.
_DIRECTIONS_JUDGED = 16


class Linear(CrossFitted):
    """Linear decoder from a patch of the activation to the pixels beneath. Strong near the input, weak past stride 8.

    Channels are reduced to principal components. The strength of the ridge is chosen across source photographs, so
    that where an activation tells nothing that carries over to other photographs, the answer is their mean.
    """

    name, access = "linear", "black-box"
    knows, cost = "pictures with their activations", "seconds"

    def _fit(self, own: Pairs, head: HeadFunction, budget_s: float | None) -> None:  # noqa: ARG002 - seconds in any case
        generator = torch.Generator("cpu").manual_seed(0)  # anywhere the same numbers
        self.layout = layout_of(own.activation_shape, own.input_size)
        is_vector = self.layout.height * self.layout.width == 1
        finest = FINEST_BLOCK_OF_VECTOR if is_vector else FINEST_BLOCK
        self._blocks = blocks_of(self.layout, own.input_size, finest=finest)
        is_coarse = own.input_size[0] > FINEST_BLOCK * self.layout.height
        rings = RINGS_OF_VECTOR if is_vector else RINGS_OF_COARSE_MAP if is_coarse else RINGS
        self._projection = _Projection.of(self.layout, own.activations, rings, generator)
        self._mean_block = _mean(self._blocks.cut(own.pictures.mean(0, keepdim=True)).flatten(1, 3), self.layout)
        targets = self._blocks.cut(own.pictures)
        features = _Features(self._projection, self.components(own.activations))
        folds = [_moments(features, targets, self._mean_block, members, generator) for members in _folds(own.sources)]
        chosen = _choose(folds, [features.count, 1 + self._projection.rings[0]])
        self._weights = chosen.weights(_total(folds))
        # Solved for when they are asked for: a run of this attack alone never asks.
        self._without = cache(lambda fold: chosen.weights(_total([f for f in folds if f is not folds[fold]])))
        self._fold_of = _fold_of(own.sources)

    def _rebuild(self, activations: Tensor) -> Tensor:
        return self._predict(activations, self._weights).clamp(0, 1)

    def validation_pairs(self, own: Pairs) -> Pairs:
        """All: each fold has weights that were fitted without it."""
        return own

    def _out_of_fold(self, own: Pairs) -> Tensor:
        fold = torch.tensor([self._fold_of[source] for source in own.sources])
        rebuilt = torch.empty_like(own.pictures)
        for index in set(fold.tolist()):
            rebuilt[fold == index] = self._predict(own.activations[fold == index], self._without(index))
        return rebuilt

    def _predict(self, activations: Tensor, weights: Tensor) -> Tensor:
        components = self.components(activations)
        blocks = self._projection.predict(components, weights.to(components.device)) + self._mean_block
        return self._blocks.join(blocks)

    def components(self, activations: Tensor) -> Tensor:
        """The principal components of activations as maps, N x C x h x w, of unit variance together."""
        return self._projection(self.layout.to_map(activations))


@dataclass(frozen=True)
class _Projection:
    """From a map's channels to their principal components, and how many of these each part of a patch uses.

    Args:
        mean: of the channels, channels x h x w or 1 x 1; see `_mean`.
        axes: channels x components: those of the places strongest first, scaled so that they have unit variance
            together; then those of leading tokens, to the same scale.
        rings: components used of the place itself (all), of the ring around it, of the next ring ...
        border: components that the outermost places have weights of their own for; their patches leave the picture.
    """

    mean: Tensor
    axes: Tensor
    rings: tuple[int, ...]
    border: int

    @classmethod
    def of(cls, layout: Layout, activations: Tensor, rings: Sequence[int], generator: torch.Generator) -> _Projection:
        """Learn it from activations (N x ...), with at most so many components of places for each ring."""
        maps = layout.to_map(activations)
        mean, own = _mean(maps, layout), layout.channels - layout.repeated
        count, _, height, width = maps.shape
        order = torch.randperm(count * height * width, generator=generator, device=generator.device)
        chosen = order[:_ROWS_FOR_COMPONENTS].to(maps.device)
        y, x = chosen // width % height, chosen % width
        rows = maps[chosen // (height * width), :own, y, x] - mean[:own].expand(-1, height, width)[:, y, x].T
        axes = _principal_axes(rows.cpu(), rings[0], generator).to(maps.device)
        deviation = float((rows @ axes).std(correction=0))
        largest, within = max(height, width), [min(most, axes.shape[1]) for most in rings]
        border = min(BORDER_COMPONENTS, axes.shape[1]) if largest > 1 else 0
        if layout.repeated:  # apart, or their components would crowd out the places' own
            rows = maps[:, own:, 0, 0] - mean[own:, 0, 0]
            leading = _principal_axes(rows.cpu(), LEADING_COMPONENTS, generator).to(maps.device)
            deviation = max(deviation, float((rows @ leading).std(correction=0)))
            within[0] = axes.shape[1] + leading.shape[1]
            axes = torch.cat([F.pad(axes, (0, 0, 0, layout.repeated)), F.pad(leading, (0, 0, own, 0))], dim=1)
        return cls(mean, axes / deviation if deviation > 0 else axes, tuple(within[:largest]), border)

    def __call__(self, maps: Tensor) -> Tensor:
        """N x channels x h x w -> N x components x h x w."""
        axes = self.axes.T[:, :, None, None].contiguous()
        return F.conv2d(maps, axes).sub_(F.conv2d(self.mean[None], axes))

    def offsets(self) -> list[tuple[int, int, int]]:
        """Each place of the patch relative to its centre (dy, dx), centre first, and how many components are used."""
        reach = range(1 - len(self.rings), len(self.rings))
        places = sorted(((dy, dx) for dy in reach for dx in reach), key=lambda place: max(map(abs, place)))
        return [(dy, dx, self.rings[max(abs(dy), abs(dx))]) for dy, dx in places]

    def predict(self, components: Tensor, weights: Tensor) -> Tensor:
        """N x components x h x w -> N x values of a block x h x w, with weights in the order of `_Features.rows`."""
        side = 2 * len(self.rings) - 1
        kernel = weights.new_zeros(weights.shape[1], components.shape[1], side, side)
        used = 1
        for dy, dx, count in self.offsets():
            kernel[:, :count, dy + side // 2, dx + side // 2] = weights[used : used + count].T
            used += count
        predicted = F.conv2d(components, kernel, weights[0].contiguous(), padding=side // 2)
        for index in range(4 if self.border else 0):
            part = weights[used : used + 1 + self.border]
            edge = _edge(components, index)[:, : self.border]
            _edge(predicted, index).add_(torch.einsum("nck,co->nok", edge, part[1:]) + part[0][:, None])
            used += 1 + self.border
        return predicted


def _mean(maps: Tensor, layout: Layout) -> Tensor:
    """The mean of maps (N x C x h x w): of each place (C x h x w) where these are tokens, else of all (C x 1 x 1).

    What a transformer adds to a token to tell its place says nothing of the picture.
    """
    return maps.mean(0) if layout.is_tokens else maps.mean((0, 2, 3))[:, None, None]


def _edge(maps: Tensor, index: int) -> Tensor:
    """The top row, bottom row, left column or right column of maps, as a view: N x C x places."""
    return maps.select(2 + index // 2, -(index % 2))


def _principal_axes(rows: Tensor, most: int, generator: torch.Generator) -> Tensor:
    """The `most` directions in which centred rows vary most, strongest first, as columns of unit length.

    Subspace iteration from a random start (Halko, Martinsson and Tropp, 2011): exact where there are few columns.
    """
    axes = torch.randn(rows.shape[1], min(most + 16, *rows.shape), generator=generator, device=generator.device)
    for _ in range(4):
        axes, _ = torch.linalg.qr(rows.T @ (rows @ axes))
    projected = rows @ axes
    rotation: Tensor = torch.linalg.eigh(projected.T @ projected).eigenvectors
    return (axes @ rotation.flip(1))[:, :most]


class _Features:
    """Rows of the regression: a one, the patch around a place, and its centre again for each border that it lies on."""

    def __init__(self, projection: _Projection, components: Tensor) -> None:
        self._projection = projection
        self._reach = len(projection.rings) - 1
        count, channels, self.height, self.width = components.shape
        self._padded = components.new_zeros(
            count, self.height + 2 * self._reach, self.width + 2 * self._reach, channels
        )
        within = self._padded[:, self._reach :, self._reach :][:, : self.height, : self.width]
        within.copy_(components.permute(0, 2, 3, 1))

    @property
    def count(self) -> int:
        """Features of a row."""
        patch = sum(count for _, _, count in self._projection.offsets())
        return 1 + patch + (4 * (1 + self._projection.border) if self._projection.border else 0)

    def write(self, rows: Tensor, pictures: Tensor, y: Tensor, x: Tensor) -> None:
        """Writes the features of places (index of the picture, row, column) into `rows`, places x features."""
        places = self._padded.flatten(0, 2)
        _, height, width, _ = self._padded.shape
        centre = (pictures * height + y + self._reach) * width + x + self._reach
        rows[:, 0] = 1
        used = 1
        for dy, dx, count in self._projection.offsets():
            rows[:, used : used + count] = places[centre + (dy * width + dx), :count]
            used += count
        rows[:, used:] = 0
        for on_border in (y == 0, y == self.height - 1, x == 0, x == self.width - 1) if self._projection.border else ():
            there = torch.nonzero(on_border).flatten()
            rows[there, used : used + 1 + self._projection.border] = rows[there, : 1 + self._projection.border]
            used += 1 + self._projection.border


@dataclass(frozen=True)
class _Moments:
    """What least squares needs to know of some rows, in float64.

    Args:
        gram: products of features with features.
        cross: products of features with targets.
        energy: products of targets with targets.
        rows: how many.
    """

    gram: Tensor
    cross: Tensor
    energy: Tensor
    rows: int

    def __add__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.gram + other.gram, self.cross + other.cross, self.energy + other.energy, self.rows + other.rows
        )

    def __sub__(self, other: _Moments) -> _Moments:
        return _Moments(
            self.gram - other.gram, self.cross - other.cross, self.energy - other.energy, self.rows - other.rows
        )

    def solve(self, strength: float) -> Tensor:
        """Ridge weights; the bias, which comes first, is unpenalised. NaN where rounding makes it unsolvable."""
        penalised = self.gram.clone()
        penalised.diagonal()[1:] += strength * self.rows
        factor, failed = torch.linalg.cholesky_ex(penalised)
        weights: Tensor = torch.cholesky_solve(self.cross, factor)
        return torch.full_like(weights, math.nan) if failed else weights

    def error(self, weights: Tensor) -> float:
        """Sum of squares left after predicting these rows with `weights`; infinite where the weights are NaN."""
        left = (
            float(self.energy.trace())
            - 2 * float((weights * self.cross).sum())
            + float((weights * (self.gram @ weights)).sum())
        )
        return math.inf if math.isnan(left) else max(left, 1e-12)

    def first(self, count: int) -> _Moments:
        """The moments of the first `count` features alone."""
        return _Moments(self.gram[:count, :count], self.cross[:count], self.energy, self.rows)

    def along(self, directions: Tensor) -> _Moments:
        """The moments of targets reduced to orthonormal directions, targets x directions."""
        return _Moments(self.gram, self.cross @ directions, directions.T @ self.energy @ directions, self.rows)


def _total(parts: Sequence[_Moments]) -> _Moments:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _folds(sources: tuple[str, ...]) -> Iterator[Tensor]:
    """Indices of the pictures of each fold; all pictures of one source photograph are in one fold."""
    fold_of = _fold_of(sources)
    fold = torch.tensor([fold_of[source] for source in sources])
    for index in range(min(FOLDS, len(fold_of))):
        yield torch.nonzero(fold == index).flatten()


def _fold_of(sources: tuple[str, ...]) -> dict[str, int]:
    """The fold of each source photograph."""
    return {source: index % FOLDS for index, source in enumerate(sorted(set(sources)))}


def _moments(
    features: _Features, targets: Tensor, mean_block: Tensor, members: Tensor, generator: torch.Generator
) -> _Moments:
    """Moments of randomly chosen places, equally many of each picture among `members`; targets lose the mean block."""
    places = features.height * features.width
    mean_block = mean_block.expand(-1, features.height, features.width)
    each = max(1, min(places, MOST_ROWS // len(targets)))
    count = features.count
    products = np.zeros((count + len(mean_block),) * 2)
    for pictures in torch.split(members, max(1, _ROWS_AT_ONCE // each)):
        orders = [torch.randperm(places, generator=generator, device=generator.device) for _ in pictures]
        place = torch.cat([order[:each] for order in orders]).to(members.device)
        index, y, x = pictures.repeat_interleave(each), place // features.width, place % features.width
        rows = torch.empty(len(index), len(products))
        features.write(rows[:, :count], index, y, x)
        rows[:, count:] = targets[index, :, :, :, y, x].flatten(1) - mean_block[:, y, x].T
        products += _gram(rows)
    both = torch.from_numpy(products)
    return _Moments(both[:count, :count], both[:count, count:], both[count:, count:], each * len(members))


def _gram(rows: Tensor) -> np.ndarray:
    """Products of all columns with each other."""
    if rows.device.type != "cpu":
        return np.asarray((rows.T @ rows).cpu().numpy())
    return np.asarray(rows.numpy().T @ rows.numpy())  # NumPy sees a product with itself and computes half of it


@dataclass(frozen=True)
class _Ridge:
    """How many leading features are used, and how strong the ridge is."""

    width: int
    strength: float

    def weights(self, moments: _Moments) -> Tensor:
        """Ridge weights, float32; those of features left out are zero."""
        weights = moments.first(self.width).solve(self.strength).float()
        return F.pad(weights, (0, 0, 0, len(moments.cross) - self.width))


def _choose(folds: Sequence[_Moments], widths: Sequence[int]) -> _Ridge:
    """What serves unseen photographs best.

    Args:
        folds: moments, each of other source photographs.
        widths: how many leading features to try.
    """
    directions = torch.linalg.eigh(_total(folds).energy).eigenvectors[:, -_DIRECTIONS_JUDGED:]
    judged = [fold.along(directions) for fold in folds]
    best_error, best = math.inf, _Ridge(1, STRENGTHS[-1])
    for width in widths:
        error, strength = _strength([fold.first(width) for fold in judged])
        if error < best_error:
            best_error, best = error, _Ridge(width, strength)
    return best


def _strength(folds: Sequence[_Moments]) -> tuple[float, float]:
    """The least error on folds of weights fitted on the others, and the strength that gives it.

    The error is the mean over folds of the error's logarithm, as PSNR is a logarithm and pictures count alike. From a
    strength that suits the middle of a network, neighbours are tried as long as one is better.
    """
    everything = _total(folds)
    others = [everything - fold for fold in folds]
    errors: dict[int, float] = {}

    def error(index: int) -> float:
        if index not in errors:
            left = (fold.error(other.solve(STRENGTHS[index])) for fold, other in zip(folds, others, strict=True))
            errors[index] = sum(map(math.log, left)) / len(folds)
        return errors[index]

    best, lowest = -1, _FIRST_TRIED
    while best != lowest:
        best = lowest
        lowest = min(range(max(0, best - 1), min(len(STRENGTHS), best + 2)), key=error)
    return error(best), STRENGTHS[best]
