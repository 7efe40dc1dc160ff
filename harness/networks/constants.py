"""A graph's constants as backends expect them: weights that are there at once, and one for every use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx, nn

from harness.networks.graph import ancestors, constant, op_name

# Their weights, biases and statistics: backends want these as constants, not as what other operations make of some.
_HAVE_WEIGHTS = {
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "linear", "batch_norm",
}  # fmt: skip
_READS_INT8 = "dequantize"


def compute_weights(module: fx.GraphModule) -> None:
    """Let weights that the graph computes from constants (normalised, masked, cast ones) be parameters, in place.

    Those that are stored as int8 stay so: backends multiply them as they are.
    """
    for node in list(module.graph.nodes):
        if op_name(node) not in _HAVE_WEIGHTS or node.op != "call_function":
            continue
        for place, argument in enumerate(node.args[1:3], start=1):
            if (
                isinstance(argument, fx.Node)
                and _is_constant(argument)
                and not op_name(argument).startswith(_READS_INT8)
            ):
                value = _value(module, argument)
                if not isinstance(value, nn.Parameter):
                    name = f"_computed_{argument.name}_of_{node.name}"
                    node.update_arg(place, add_constant(module, name, value, before=node, meta=argument.meta))
    module.graph.eliminate_dead_code()
    module.recompile()


def separate_constants(module: fx.GraphModule) -> None:
    """Give every use of a constant, and every constant that is a part of another tensor, its own copy, in place.

    Backends lay a weight out as the operation wants it that uses it first; another one would read it wrongly.
    """
    taken: set[int] = set()
    for node in list(module.graph.nodes):
        if node.op != "get_attr" or not isinstance(value := constant(module, node), Tensor):
            continue
        for number, user in enumerate(list(node.users)):
            if number or value.untyped_storage().data_ptr() in taken or not _owns_its_numbers(value):
                name = f"_own_{node.name}_of_{user.name}"
                user.replace_input_with(node, add_constant(module, name, value, before=user, meta=node.meta))
            taken.add(value.untyped_storage().data_ptr())
    module.graph.eliminate_dead_code()
    module.recompile()


def add_constant(
    module: fx.GraphModule, name: str, value: Tensor, *, before: fx.Node, meta: Mapping[str, object] | None = None
) -> fx.Node:
    """A node of that name that gives a copy of `value`, which the module keeps."""
    copy = value.detach().clone(memory_format=torch.contiguous_format)
    module.register_parameter(name, nn.Parameter(copy, requires_grad=False))  # of what type it is, integers too
    with module.graph.inserting_before(before):
        node = module.graph.get_attr(name)
    node.meta = dict(meta or {})
    return node


def _is_constant(node: fx.Node) -> bool:
    return not any(n.op == "placeholder" for n in ancestors([node]))


@torch.no_grad()
def _value(module: fx.GraphModule, end: fx.Node) -> Tensor:
    values: dict[fx.Node, Any] = {}
    needed = ancestors([end])
    for node in module.graph.nodes:
        if node in needed:
            arguments, options = fx.map_arg((node.args, node.kwargs), lambda n: values[n])
            values[node] = constant(module, node) if node.op == "get_attr" else node.target(*arguments, **options)
    value: Tensor = values[end]  # the operations that it is for take tensors
    return value


def _owns_its_numbers(value: Tensor) -> bool:
    plain = torch.empty(value.shape, device="meta").stride()  # torch calls other strides of sides of 1 contiguous, too
    return value.stride() == plain and value.untyped_storage().nbytes() == value.numel() * value.element_size()
