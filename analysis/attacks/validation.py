"""Which of the receiver's own pictures an attack keeps back to judge itself by."""

from __future__ import annotations

import torch
from torch import Tensor

from analysis.attacks.base import Pairs

# One source photograph in four.
SHARE = 4


def kept_back(sources: tuple[str, ...]) -> Tensor:
    """Whether each picture is kept back (bool, N): all pictures of a source photograph are, or none."""
    judged = set(sorted(set(sources))[::SHARE])
    return torch.tensor([source in judged for source in sources])


def validation_pairs(own: Pairs, most: int) -> Pairs:
    """Up to `most` of the pictures kept back, source photographs taking turns."""
    turns: dict[str, int] = {}
    order = []
    for index in torch.nonzero(kept_back(own.sources)).flatten().tolist():
        source = own.sources[index]
        turns[source] = turns.get(source, 0) + 1
        order.append((turns[source], source, index))
    return own.where(torch.tensor([index for *_, index in sorted(order)[:most]]))
