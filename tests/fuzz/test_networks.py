"""Networks drawn at random end no run, and whatever is ok was verified; `networks.py` tries thousands by hand."""

from __future__ import annotations

import pytest
import torch

from tests.fuzz.networks import Outcome, network, try_network
from tests.parts.threads import one_thread


def test_a_network_is_known_by_its_number() -> None:
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        assert torch.equal(network(22)(picture), network(22)(picture))
    assert str(network(3)) != str(network(4))


def test_none_ends_a_run_and_every_ok_row_was_verified() -> None:
    total = Outcome()
    with one_thread():
        for seed in (1, 2, 3, 20):
            total += try_network(seed)
    assert not total.broken, total
    assert any(" ok" in reason for reason in total.rows), total


@pytest.mark.slow
def test_nor_do_a_hundred_others() -> None:
    total = Outcome()
    with one_thread():
        for seed in range(100, 200):
            total += try_network(seed)
    assert not total.broken, total
