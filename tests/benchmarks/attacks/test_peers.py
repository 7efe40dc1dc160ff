"""The literature's attacks are the real thing: each inverts what can be inverted, within its budget."""

from __future__ import annotations

import time

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812

from analysis.attacks import Attack, HeadFunction, Pairs
from analysis.metrics import floor_psnr_db, psnr_db
from tests.benchmarks.attacks import PEERS
from tests.benchmarks.attacks.rmle import squared_variation
from tests.parts.smooth import mixing_head, smooth_pictures


def token_head(seen: Tensor) -> Tensor:
    """16 tokens of 48 values."""
    return F.pixel_unshuffle(seen, 4).flatten(2).transpose(1, 2)


@pytest.fixture(params=sorted(PEERS))
def attack(request: pytest.FixtureRequest) -> Attack:
    return PEERS.load(request.param)()


@pytest.mark.parametrize("head", [mixing_head, token_head])
def test_it_rebuilds_more_than_the_mean_picture(attack: Attack, head: HeadFunction) -> None:
    own, held_out = smooth_pictures(64, 0), smooth_pictures(4, 1)
    attack.fit(Pairs(own, head(own), tuple("abcdefgh" * 8)), head=head, budget_s=1.0)
    rebuilt = attack.rebuild(head(held_out))
    assert psnr_db(held_out, rebuilt).mean() > floor_psnr_db(own, held_out).mean() + 2


def test_it_takes_vectors(attack: Attack) -> None:
    def head(seen: Tensor) -> Tensor:
        return seen.mean((2, 3))

    own = smooth_pictures(16, 0)
    attack.fit(Pairs(own, head(own), tuple("abcdefgh" * 2)), head=head, budget_s=0.1)
    assert attack.rebuild(head(own[:2])).shape == (2, 3, 16, 16)


def test_it_keeps_its_budget(attack: Attack) -> None:
    own = smooth_pictures(64, 0)
    began = time.process_time()
    attack.fit(Pairs(own, mixing_head(own), tuple("abcdefgh" * 8)), head=mixing_head, budget_s=0.5)
    attack.rebuild(mixing_head(own[:16]))
    assert 0.4 < time.process_time() - began < 1.0


def test_squared_variation_is_nothing_for_a_flat_picture_and_one_a_direction_for_a_chessboard() -> None:
    chessboard = (torch.arange(4)[:, None] + torch.arange(4)).remainder(2).float().expand(1, 3, 4, 4)
    both = torch.cat([torch.ones(1, 3, 4, 4), chessboard])
    torch.testing.assert_close(squared_variation(both), torch.tensor([0.0, 2.0]))
