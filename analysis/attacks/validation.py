"""Which of the receiver's own pictures an attack judges itself by."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.attacks.base import Pairs

# One source photograph in four.
_KEPT_BACK = 4


def kept_back(sources: tuple[str, ...]) -> Tensor:
    """Whether each picture is kept back from training (bool, N): all pictures of a source photograph are, or none."""
    judged = set(sorted(set(sources))[::_KEPT_BACK])
    return torch.tensor([source in judged for source in sources])


def spread(own: Pairs, most: int) -> Pairs:
    """Up to `most` of these pairs, source photographs taking turns."""
    turns: dict[str, int] = {}
    order = []
    for index, source in enumerate(own.sources):
        turns[source] = turns.get(source, 0) + 1
        order.append((turns[source], source, index))
    return own.where(torch.tensor([index for *_, index in sorted(order)[:most]]))
