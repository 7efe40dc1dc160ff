"""Which of the receiver's own pictures attacks are validated on, and not trained."""

from __future__ import annotations

import torch
from torch import Tensor

# One source photograph in four.
_ONE_IN = 4


def in_validation(sources: tuple[str, ...]) -> Tensor:
    """Whether each picture is in the validation split (bool, N): all pictures of a source photograph are, or none."""
    chosen = set(sorted(set(sources))[::_ONE_IN])
    return torch.tensor([source in chosen for source in sources])
