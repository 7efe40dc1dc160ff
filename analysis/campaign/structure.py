"""What of a network's structure the study knows an effect of, counted in its graph."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import torch
from torch import fx

from harness.networks.graph import ancestors
from harness.results.schema import StructureCounts

_CONVOLUTIONS = {"aten.convolution.default", "aten.conv2d.default"}
_ADDITIONS = {"aten.add.Tensor", "aten.add_.Tensor"}
_CONCATENATIONS = {"aten.cat.default", "aten.concat.default"}
_MAX_POOLINGS = {"aten.max_pool2d.default", "aten.max_pool2d_with_indices.default"}


def structure_of(graph: fx.GraphModule) -> StructureCounts:
    """Count in a network's functional graph; what is made of constants alone counts nowhere."""
    picture = next(node for node in graph.graph.nodes if node.op == "placeholder")
    depths = _convolutions_on_the_way(graph, picture)
    joined = {node: [n for n in node.all_input_nodes if n in depths] for node in depths}
    joins = {node: inputs for node, inputs in joined.items() if len(inputs) > 1}
    concatenations = [inputs for node, inputs in joins.items() if _is(node, _CONCATENATIONS)]
    dense = sum(map(_one_is_made_from_another, concatenations))
    return StructureCounts(
        convolutions=max(depths.values()),
        residual=sum(_is(node, _ADDITIONS) for node in joins),
        dense=dense,
        inception=len(concatenations) - dense,
        max_pooling=sum(_is(node, _MAX_POOLINGS) for node in depths),
    )


def _convolutions_on_the_way(graph: fx.GraphModule, picture: fx.Node) -> Mapping[fx.Node, int]:
    """Every node that is made from the picture, with the most convolutions on a way from there, its own included."""
    depths = {picture: 0}
    for node in graph.graph.nodes:
        before = [depths[n] for n in node.all_input_nodes if n in depths]
        if before:
            depths[node] = max(before) + _is(node, _CONVOLUTIONS)
    return depths


def _one_is_made_from_another(values: Iterable[fx.Node]) -> bool:
    known = list(values)
    return any(one in ancestors(other.all_input_nodes) for one in known for other in known)


def _is(node: fx.Node, names: Iterable[str]) -> bool:
    return isinstance(node.target, torch._ops.OpOverload) and str(node.target) in names
