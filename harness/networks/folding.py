"""Batch norm, folded into the convolution before it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import fx
from torch.nn.utils.fusion import fuse_conv_bn_weights

from harness.networks.constants import add_constant
from harness.networks.graph import constant, op_name


def fold_batch_norm(module: fx.GraphModule) -> None:
    """Fold batch norm into the convolution before it, in place.

    XNNPACK's own pass does the same, but only after a dozen others have re-traced five nodes for each of these.
    """
    norms = [n for n in module.graph.nodes if n.target is torch.ops.aten._native_batch_norm_legit_no_training.default]
    for norm in norms:
        convolution = norm.args[0]
        weights = (*convolution.args[1:3], *norm.args[1:5])
        if op_name(convolution) == "conv2d" and len(convolution.users) == 1 and _are_there(weights):
            _fold_pair(module, convolution, norm)
    module.graph.eliminate_dead_code()
    module.recompile()


def _fold_pair(module: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> None:
    eps: Any = norm.args[6]
    gamma, beta, mean, variance = (_constant(module, node) for node in norm.args[1:5])
    weight, bias = (_constant(module, node) for node in [*convolution.args[1:3], None][:2])
    fused = fuse_conv_bn_weights(weight, bias, mean, variance, eps, gamma, beta)
    arguments = [*convolution.args, None][: max(3, len(convolution.args))]
    for place, (kind, value) in enumerate(zip(("weight", "bias"), fused, strict=True), start=1):
        arguments[place] = add_constant(module, f"_folded_{convolution.name}_{kind}", value, before=convolution)
    convolution.args = tuple(arguments)
    for output in list(norm.users):
        output.replace_all_uses_with(convolution)
        module.graph.erase_node(output)
    module.graph.erase_node(norm)


def _constant(module: fx.GraphModule, node: object) -> Any:
    return constant(module, node) if isinstance(node, fx.Node) else None


def _are_there(nodes: Iterable[object]) -> bool:
    return all(node.op == "get_attr" for node in nodes if isinstance(node, fx.Node))
