"""Parts of a network's graph: the head before a place, the tail behind it, and the values there."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import Argument, Target

from harness.networks.graph import ancestors, constant


class _Capture(fx.Interpreter):
    """Runs a graph up to the last wanted node and keeps the values of the wanted ones."""

    def __init__(self, graph: fx.GraphModule, wanted: dict[str, int]) -> None:
        super().__init__(graph)
        self.wanted, self.values = wanted, dict[int, Tensor]()

    def run_node(self, n: fx.Node) -> object:
        if n.op != "placeholder" and len(self.values) == len(self.wanted):
            return None
        value = super().run_node(n)
        if n.name in self.wanted:
            self.values[self.wanted[n.name]] = value.detach().contiguous()
        return value

    def call_function(self, target: Target, args: tuple[Argument, ...], kwargs: dict[str, Any]) -> object:
        if target is torch.ops.aten.view.default:  # a view in the graph's strides, not in those of channels last
            target = torch.ops.aten.reshape.default
        return super().call_function(target, args, kwargs)


def capture(graph: fx.GraphModule, pictures: Tensor, wanted: dict[str, int]) -> dict[int, Tensor]:
    """Values of the named nodes, under the numbers given for them, in one pass over the graph."""
    run = _Capture(graph, wanted)
    with torch.no_grad():
        run.run(pictures)
    return run.values


def extract_head(graph: fx.GraphModule, *ends: str) -> fx.GraphModule:
    """The part of a graph that leads from its input to the named nodes."""
    nodes = {n.name: n for n in graph.graph.nodes}
    needed = ancestors([nodes[end] for end in ends])
    head = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.graph.nodes:
        if node in needed or node.op == "placeholder":
            copies[node] = head.node_copy(node, lambda n: copies[n])
    outputs = [copies[nodes[end]] for end in ends]
    head.output(outputs[0] if len(outputs) == 1 else tuple(outputs))
    return fx.GraphModule(graph, head)


def extract_tail(graph: fx.GraphModule, start: str) -> fx.GraphModule:
    """The part of a graph that leads from the named node's value to the output."""
    tail = fx.Graph()
    cut = next(n for n in graph.graph.nodes if n.name == start)
    output = next(n for n in graph.graph.nodes if n.op == "output")
    needed = ancestors([output], stop=cut)
    copies = {cut: tail.placeholder("activation")}
    copies[cut].meta = dict(cut.meta)
    for node in graph.graph.nodes:
        if node in needed and node is not cut:
            copies[node] = tail.node_copy(node, lambda n: copies[n])
    return with_any_strides(fx.GraphModule(graph, tail))


def with_any_strides(module: fx.GraphModule) -> fx.GraphModule:
    """Let a graph take maps whose channels lie last, in place: its views were traced for those whose rows do."""
    for node in module.graph.nodes:
        if node.target is torch.ops.aten.view.default:
            node.target = torch.ops.aten.reshape.default
    module.recompile()
    return module


def on_device(module: fx.GraphModule, device: torch.device) -> fx.GraphModule:
    """A graph that computes on a device: itself where it does already, else a copy, with all its constants."""
    if device.type == "cpu":
        return module
    copied = copy.deepcopy(module).to(device)
    for node in copied.graph.nodes:
        if "device" in node.kwargs:
            node.kwargs = node.kwargs | {"device": device}
        if node.op == "get_attr" and isinstance(value := constant(copied, node), Tensor) and value.device != device:
            parent, _, name = node.target.rpartition(".")
            setattr(copied.get_submodule(parent), name, value.to(device))
    copied.recompile()
    return copied


def channels_last(value: Tensor) -> Tensor:
    """The same map with its channels last in memory, where a processor convolves it in half the time."""
    return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value
