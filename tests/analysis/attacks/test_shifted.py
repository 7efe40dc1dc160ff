"""The attacker without photographs: learns from dead leaves alone."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.attacks import Pairs
from analysis.attacks.shifted import ShiftedDecoder, dead_leaves


def head(seen: Tensor) -> Tensor:
    return F.pixel_unshuffle(seen, 2)


def test_dead_leaves_are_pictures_always_the_same_and_no_two_alike() -> None:
    leaves = dead_leaves(5, (24, 32))
    assert leaves.shape == (5, 3, 24, 32)
    assert 0 <= leaves.min() <= leaves.max() <= 1
    assert torch.equal(leaves, dead_leaves(5, (24, 32)))
    assert len({picture.numpy().tobytes() for picture in leaves}) == 5


def test_what_it_rebuilds_does_not_depend_on_the_receivers_photographs() -> None:
    held_out = head(torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(9)))
    answers = []
    for seed in (0, 1):
        seen = torch.rand(24, 3, 16, 16, generator=torch.Generator().manual_seed(seed))
        attack = ShiftedDecoder()
        attack.fit(Pairs(seen, head(seen), tuple("abcd" * 6)), head=head, budget_s=1e-3)
        answers.append(attack.rebuild(held_out))
    assert torch.equal(*answers)
