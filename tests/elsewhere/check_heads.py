"""A head, and an int8 twin, compute on another processor what they compute on the CPU; the network stays there."""

from __future__ import annotations

import torch

from harness.networks.int8 import QuantizedNetwork
from harness.networks.models import load_model
from harness.networks.splits import Network
from harness.networks.torch_head import BATCH, TorchHead
from tests.elsewhere.processor import elsewhere

SIZE = (32, 32)


def network() -> Network:
    return Network(load_model("mobilenet_v2", weights="random", input_size=SIZE))


def test_a_head_gives_the_same_values_and_gradients_and_the_network_stays_where_it_is() -> None:
    cut, pictures = network(), torch.rand(BATCH, 3, *SIZE)
    point = cut.all_points[len(cut.all_points) // 2]
    expected = TorchHead(cut, point)(pictures)
    with elsewhere() as device:
        seen = pictures.to(device).requires_grad_()
        activations = TorchHead(cut, point, device=device)(seen)
        assert activations.device == device
        (gradient,) = torch.autograd.grad(activations.square().sum(), seen)
        assert gradient.cpu().abs().max() > 0
        torch.testing.assert_close(activations.detach().cpu(), expected, atol=1e-5, rtol=1e-4)
    constants = [*cut.graph(1).parameters(), *cut.graph(1).buffers()]
    assert {value.device.type for value in constants} == {"cpu"}


def test_an_int8_twin_computes_the_same_activations() -> None:
    cut, pictures = network(), torch.rand(BATCH, 3, *SIZE)
    int8 = QuantizedNetwork(cut, torch.rand(32, 3, *SIZE))
    points = cut.all_points[1::8]
    (here,) = int8.activations(pictures, points)
    with elsewhere() as device:
        (there,) = int8.activations(pictures.to(device), points)
        for index, value in there.items():
            torch.testing.assert_close(value.cpu(), here[index], atol=1e-4, rtol=1e-3)
