"""Shared and computed weights become constants of their own, and the programs verify in fp32 and int8."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, fx

from harness.errors import ExportError
from harness.export.exporter import ExportSettings, Precision, export
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.measure.verification import host_reference
from harness.networks.constants import compute_weights, separate_constants
from harness.networks.graph import constant
from harness.networks.int8 import QuantizedNetwork
from harness.networks.models import load_model
from harness.networks.splits import CuttableGraph, Network
from harness.networks.torch_head import TorchHead
from harness.pictures import Pictures

SHARED = (
    *("ThereAndBack", "Recurrent", "ChannelsLast"),
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("ManyUses", "ComputedWeights")),
)


@pytest.fixture(scope="module", params=SHARED)
def network(request: pytest.FixtureRequest, pictures: Pictures) -> Network:
    """A network whose weights are shared or computed."""
    return load(request.param, pictures)


def load(name: str, pictures: Pictures) -> Network:
    own = pictures.train.as_float()
    return Network(
        load_model(f"shared_weights:{name}", weights="random", input_size=(32, 32), calibration=lambda _: own)
    )


def constants(graph: fx.GraphModule) -> list[fx.Node]:
    return [node for node in graph.graph.nodes if node.op == "get_attr"]


def test_every_use_gets_a_constant_of_its_own_and_no_number_changes(network: Network) -> None:
    head, picture = network.head(network.points[-1]), torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        before = head(picture)
        compute_weights(head)
        separate_constants(head)
        after = head(picture)
    assert torch.allclose(before, after, rtol=1e-5, atol=1e-6)
    found = constants(head)
    assert all(len(node.users) == 1 for node in found)
    values = [constant(head, node) for node in found]
    assert len({v.untyped_storage().data_ptr() for v in values if isinstance(v, Tensor)}) == len(values)


def test_an_ordinary_network_keeps_its_nodes_and_its_tensors(lively: Callable[[str, int], Network]) -> None:
    head = lively("resnet18", 32).head(lively("resnet18", 32).points[-1])
    before = [(node.name, constant(head, node)) for node in constants(head)]
    compute_weights(head)
    separate_constants(head)
    after = [(node.name, constant(head, node)) for node in constants(head)]
    assert [name for name, _ in before] == [name for name, _ in after]
    assert all(one is other for (_, one), (_, other) in zip(before, after, strict=True))


def test_attacks_ask_the_same_network(network: Network) -> None:
    pictures = torch.rand(3, 3, 32, 32)
    with torch.no_grad():
        for point in network.points[1:]:
            expected = torch.cat([network.head(point)(picture[None]) for picture in pictures])
            assert torch.allclose(TorchHead(network, point)(pictures), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_programs_of_shared_and_computed_weights_verify(
    network: Network, pictures: Pictures, precision: Precision, tmp_path: Path
) -> None:
    own = pictures.train.as_float()
    graph: CuttableGraph = QuantizedNetwork(network, own) if precision == "int8" else network
    settings = ExportSettings(precision, pictures.train.pixels[0], "pictures", tmp_path)
    ((_, head),) = export(network, [Program.head(network.points[-1])], settings, lambda: graph)
    assert isinstance(head, Exported), str(head)
    assert host_reference(head).is_file()


def test_a_split_of_two_bytes_fails_alone(pictures: Pictures, tmp_path: Path) -> None:
    network = load("HalfInside", pictures)
    settings = ExportSettings("fp32", pictures.train.pixels[0], "", tmp_path)
    made = dict(export(network, [Program.head(point) for point in network.points], settings, lambda: network))
    failed = {point: str(head) for point, head in made.items() if isinstance(head, ExportError)}
    assert failed
    assert all("float16" in reason and "\n" not in reason for reason in failed.values())
    assert isinstance(made[Program.head(network.points[1])], Exported)
    assert Program.head(network.points[-1]) not in failed


def test_what_pytorch_itself_does_not_give_as_numbers_is_not_verified(pictures: Pictures, tmp_path: Path) -> None:
    network = load("Unbounded", pictures)
    settings = ExportSettings("fp32", pictures.train.pixels[0], "", tmp_path)
    made = dict(export(network, [Program.head(point) for point in network.points], settings, lambda: network))
    infinite = [str(head) for program, head in made.items() if program.points[0].op == "add"]
    assert infinite
    assert all("NaN or infinity" in reason for reason in infinite)
    assert isinstance(made[Program.head(network.points[-1])], Exported)


def test_a_network_that_the_quantiser_does_not_take_has_no_int8_heads(
    plain: Network, pictures: Pictures, tmp_path: Path
) -> None:
    graph = QuantizedNetwork(plain, pictures.train.as_float()[:, :2])  # two channels: it cannot run
    settings = ExportSettings("int8", pictures.train.pixels[0], "pictures", tmp_path)
    made = dict(export(plain, [Program.head(point) for point in plain.all_points[1:]], settings, lambda: graph))
    assert len(made) == len(plain.all_points) - 1
    for head in made.values():
        assert isinstance(head, ExportError)
        assert "cannot be quantised" in str(head)
        assert "--precision fp32" in str(head)
        assert len(str(head).splitlines()) == 1
