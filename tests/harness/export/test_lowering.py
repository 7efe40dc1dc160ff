"""What is done to a head before it is lowered changes none of its numbers."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from harness.networks.folding import fold_batch_norm
from harness.networks.graph import op_name
from harness.networks.splits import Network


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "tiny_networks:plain"])
def test_folding_batch_norm_changes_rounding_alone(lively: Callable[[str, int], Network], name: str) -> None:
    network = lively(name, 32)
    head = network.head(network.points[-1])
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = head(picture)
        fold_batch_norm(head)
        after = head(picture)
    assert not [node for node in head.graph.nodes if op_name(node) == "batch_norm"]
    assert torch.allclose(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


def test_a_batch_norm_without_a_convolution_of_its_own_stays(lively: Callable[[str, int], Network]) -> None:
    network = lively("densenet121", 32)  # there, batch norm comes first
    head = network.head(network.points[-1])
    picture = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = head(picture)
        fold_batch_norm(head)
        after = head(picture)
    assert [node for node in head.graph.nodes if op_name(node) == "batch_norm"]
    assert torch.allclose(before, after, rtol=1e-3, atol=1e-4 * float(before.abs().max()))


def test_folding_a_head_leaves_the_network_alone(lively: Callable[[str, int], Network]) -> None:
    network = lively("resnet18", 32)
    before = [node.name for node in network.graph(1).graph.nodes]
    state = {key: value.clone() for key, value in network.graph(1).state_dict().items()}
    fold_batch_norm(network.head(network.points[-1]))
    assert [node.name for node in network.graph(1).graph.nodes] == before
    assert all(torch.equal(value, state[key]) for key, value in network.graph(1).state_dict().items())
