"""A network's functional graph, and what its numbers hang on: a digest of every value in it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import redirect_stderr
from io import StringIO
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from device_runner.files import digest
from device_runner.raised import in_brackets, in_one_line, place
from harness.errors import SplitError
from harness.networks.process_state import kept

# It warns of what the error that follows says better.
logging.getLogger("torch.fx.experimental.symbolic_shapes").setLevel(logging.ERROR)


def functional_graph(name: str, module: nn.Module, size: tuple[int, int], batch: int) -> fx.GraphModule:
    """torch.export, then functionalised: in-place operations would let a tail change the activation it was handed.

    What the output does not hang on (asserts, counters that are written and never read) is left out.

    Args:
        name: what messages call the network.
        size: height and width of its pictures, in pixels.

    Raises:
        SplitError: it cannot be exported.
    """
    example = torch.zeros(batch, 3, *size)
    try:
        with kept(), redirect_stderr(StringIO()):  # torch prints half a graph there where it fails
            program = torch.export.export(module, (example,)).run_decompositions({})
            graph: fx.GraphModule = program.module()
    except KeyboardInterrupt:
        raise
    except BaseException as exc:  # torch.export runs the user's forward and documents no base of what it raises
        why, remedy = _cause(exc)
        raise SplitError(f"{name} cannot be exported by torch.export: {why}", remedy=remedy) from exc
    output = graph.graph.output_node()
    results = output.args[0]
    if not isinstance(results, tuple | list) or len(results) != 1 or not isinstance(results[0], fx.Node):
        raise SplitError(f"{name} does not give exactly one tensor", remedy="have it return its logits alone")
    output.args = (results[0],)
    _lay_rows_first(graph)
    _keep_only_what_matters(graph)
    for node in graph.graph.nodes:
        if not all(isinstance(side, int) for side in getattr(node.meta.get("val"), "shape", ())):
            raise SplitError(
                f"the shapes in {name} depend on the values of tensors, from '{node.name}' on",
                remedy="its shapes must be the same for every picture",
            )
    return graph


def _cause(exc: BaseException) -> tuple[str, str]:
    """Why an export failed, and what can be done."""
    causes = [exc]
    while causes[-1].__cause__ is not None:
        causes.append(causes[-1].__cause__)
    if any(isinstance(cause, GuardOnDataDependentSymNode) for cause in causes) or "data-dependent" in str(exc):
        return (
            f"it branches on the values of tensors{in_brackets(place(exc))}",
            "its forward must do the same for every picture (torch.where and torch.clamp can choose)",
        )
    return in_one_line(exc), "try torch.export.export(network, (picture,)) by itself; bench --debug shows the traceback"


def _keep_only_what_matters(graph: fx.GraphModule) -> None:
    needed = ancestors([graph.graph.output_node()])
    for node in reversed(list(graph.graph.nodes)):
        if node not in needed and node.op != "placeholder":
            graph.graph.erase_node(node)
    graph.graph.set_codegen(fx.graph.CodeGen())
    graph.delete_all_unused_submodules()
    graph.recompile()


def _lay_rows_first(graph: fx.GraphModule) -> None:
    """Let no operation ask for channels last: the numbers are the same, and activations travel row by row."""
    for node in graph.graph.nodes:
        if node.kwargs.get("memory_format") not in (None, torch.preserve_format, torch.contiguous_format):
            node.kwargs = node.kwargs | {"memory_format": torch.contiguous_format}


def ancestors(ends: Iterable[fx.Node], stop: fx.Node | None = None) -> set[fx.Node]:
    """Every node that the ends are made from, and they themselves; `stop` and what only it needs are left out."""
    reached: set[fx.Node] = set()
    waiting = list(ends)
    while waiting:
        node = waiting.pop()
        if node not in reached and node is not stop:
            reached.add(node)
            waiting.extend(node.all_input_nodes)
    return reached


def digests(graph: fx.GraphModule) -> Mapping[str, str]:
    """Node name -> sha256 over all that decides the node's value: the operations before it and every number in them.

    Names play no part, so that two processes give one network the same digests.

    Raises:
        SplitError: a weight has no numbers, or is no tensor.
    """
    by_node: dict[fx.Node, str] = {}
    for node in graph.graph.nodes:
        own = _constant_digest(graph, node) if node.op == "get_attr" else _operation(node)
        arguments = fx.map_arg((node.args, node.kwargs), lambda n: by_node[n])
        by_node[node] = digest(node.op, own, arguments)
    return {node.name: sha256 for node, sha256 in by_node.items()}


def _operation(node: fx.Node) -> str:
    if node.op in ("placeholder", "output"):
        return ""
    module, name = getattr(node.target, "__module__", ""), getattr(node.target, "__name__", "")
    return str(node.target) if isinstance(node.target, torch._ops.OpOverload | str) else f"{module}.{name}"


def constant(graph: fx.GraphModule, node: fx.Node) -> Any:
    """What a get_attr node gives."""
    value: object = graph
    for part in str(node.target).split("."):
        value = getattr(value, part)
    return value


def _constant_digest(graph: fx.GraphModule, node: fx.Node) -> str:
    value = constant(graph, node)
    if isinstance(value, Tensor):
        return tensor_digest(str(node.target), value)
    if isinstance(value, fx.GraphModule):  # the body of a higher-order operation
        return digests(value)[value.graph.output_node().name]
    raise SplitError(
        f"'{node.target}' of the network is a {type(value).__name__}", remedy="keep its numbers in tensors"
    )


def tensor_digest(name: str, value: Tensor) -> str:
    """Sha256 over a tensor's type, shape and values, whatever its strides.

    Raises:
        SplitError: it has no values.
    """
    if value.is_meta:
        raise SplitError(f"its weights are on the meta device: '{name}'", remedy="have the factory give them numbers")
    plain = (value.to_dense() if value.layout != torch.strided else value).detach().cpu()
    plain = plain.resolve_conj().resolve_neg().contiguous()
    flat = plain.as_strided((plain.numel(),), (1,))  # torch calls some strides of sides of 1 contiguous that are not 1
    return digest(value.dtype, tuple(value.shape), flat.view(torch.uint8).numpy().data)


def op_name(node: fx.Node) -> str:
    """A node's operation without namespace and overload: "conv2d"; the second half of a batch norm is "batch_norm"."""
    if node.op != "call_function":
        return node.op
    if getattr(node.target, "__name__", "") == "getitem":
        return op_name(node.all_input_nodes[0])
    name = str(getattr(node.target, "overloadpacket", node.target)).rsplit(".", 1)[-1]
    return "batch_norm" if name == "_native_batch_norm_legit_no_training" else name
