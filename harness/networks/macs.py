"""Multiply-accumulates of a graph node, from shapes alone."""

from __future__ import annotations

from math import prod
from typing import Any

from torch import Tensor, fx

from harness.networks.graph import op_name


def node_macs(node: fx.Node) -> int:
    """Multiply-accumulates of one operation: convolutions, matrix products and attention; 0 for anything else."""
    packet = op_name(node)
    if packet in ("conv1d", "conv2d", "conv3d", "convolution"):
        weight = _shape(node.args[1])
        transposed = packet == "convolution" and node.args[6]
        return (prod(_shape(node.args[0])) if transposed else _output(node).numel()) * prod(weight[1:])
    if packet in ("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"):
        return prod(_shape(node.args[0])) * prod(_shape(node.args[1])[1:])
    if packet == "linear":
        return _output(node).numel() * _shape(node.args[1])[-1]
    if packet in ("mm", "bmm", "matmul"):
        return _output(node).numel() * _shape(node.args[0])[-1]
    if packet in ("addmm", "baddbmm"):
        return _output(node).numel() * _shape(node.args[1])[-1]
    if packet == "scaled_dot_product_attention":
        query, key = _shape(node.args[0]), _shape(node.args[1])
        return 2 * prod(query) * key[-2]
    return 0


def _output(node: fx.Node) -> Tensor:
    value: Tensor = node.meta["val"]  # these operations give one tensor
    return value


def _shape(argument: Any) -> tuple[int, ...]:
    return tuple(int(side) for side in argument.meta["val"].shape)
