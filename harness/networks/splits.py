"""Split points of a network's exported graph, and the head and tail that a split point gives."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, fx

from device_runner.errors import UsageError
from device_runner.registry import suggest
from harness.codecs import AnyCodec, Fp32, Uint8
from harness.errors import ExportError, SplitError
from harness.networks.cutting import capture, channels_last, extract_head, extract_tail, on_device
from harness.networks.graph import ancestors, digests, functional_graph, op_name
from harness.networks.macs import node_macs
from harness.networks.models import Model

# A head that ended after one of these would ship the same numbers as a head that ends before it.
_MOVES_ONLY = {
    "view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze", "unsqueeze", "expand",
    "slice", "select", "clone", "alias", "contiguous", "detach", "_unsafe_view", "_to_copy", "lift_fresh_copy",
    "dropout", "identity", "pad", "constant_pad_nd",
}  # fmt: skip
# Backends fuse these into the operation before them, so that a head ending in front of them ends inside a kernel.
_FUSED_BEHIND = {
    "batch_norm", "relu", "relu_", "relu6", "hardtanh", "hardtanh_", "silu", "silu_",
    "hardswish", "hardswish_", "gelu", "sigmoid", "hardsigmoid", "leaky_relu", "elu", "clamp", "mish", "tanh",
}  # fmt: skip


@dataclass(frozen=True)
class SplitPoint:
    """A place where exactly one tensor is live, so that a head can end and a tail begin.

    Attributes:
        index: its place among all of the network's split points; 0 is the picture itself, the last everything.
        name: the module path that ends here ("layer1.0"), or "path:op" inside a module.
        aliases: every module path that ends here.
        op: the operation that makes the activation ("relu"); "picture" at split 0.
        node: the graph node that makes it.
        activation_shape: with its batch dimension of 1.
        dtype: of its numbers in the graph: "float32"; "uint8" at split 0, where the picture itself travels.
        activation_bytes: of the activation in that type.
        head_params, head_macs: parameters and multiply-accumulates before the cut; tail_*: after it.
        in_all: whether a deployed head can sensibly end here.
    """

    index: int
    name: str
    aliases: tuple[str, ...]
    op: str
    node: str
    activation_shape: tuple[int, ...]
    dtype: str
    activation_bytes: int
    head_params: int
    head_macs: int
    tail_params: int
    tail_macs: int
    in_all: bool


@dataclass(frozen=True)
class Cut:
    """Where a split point lies in one graph, and how the value there travels."""

    node: str
    codec: AnyCodec


class CuttableGraph(ABC):
    """A network's graph that can be cut at split points: the float one, or its int8 twin."""

    @abstractmethod
    def graph(self, batch: int) -> fx.GraphModule:
        """The graph for a fixed batch size; node names do not depend on the batch size."""

    @abstractmethod
    def cut(self, point: SplitPoint) -> Cut:
        """Where `point` lies in this graph."""

    def head(self, point: SplitPoint) -> fx.GraphModule:
        """1 x 3 x H x W on [0, 1] -> what travels when the network is cut at `point`."""
        return extract_head(self.graph(1), self.cut(point).node)

    def activations(
        self, pictures: Tensor, points: Sequence[SplitPoint], *, batch: int = 16
    ) -> Iterator[dict[int, Tensor]]:
        """The activations of many splits in one pass, batch by batch, as the receiver reads them.

        Args:
            pictures: N x 3 x H x W on [0, 1]; the graph runs where they are.

        Yields:
            split index -> B x ..., float32.
        """
        cuts = {p.index: self.cut(p) for p in points}
        wanted = {cut.node: index for index, cut in cuts.items()}  # int8: several points may end in one kernel
        for part in torch.split(pictures, batch):
            values = capture(self._graph_on(part.device, len(part)), channels_last(part), wanted)
            yield {index: cut.codec.read(values[wanted[cut.node]]) for index, cut in cuts.items()}

    def _graph_on(self, device: torch.device, batch: int) -> fx.GraphModule:
        """The graph where its pictures are; what is not on the CPU is a copy."""
        if (device, batch) not in self._copies:
            self._copies[device, batch] = on_device(self.graph(batch), device)
        return self._copies[device, batch]

    @cached_property
    def _copies(self) -> dict[tuple[torch.device, int], fx.GraphModule]:
        return {}


class Network(CuttableGraph):
    """A model's functional graph and its split points.

    Args:
        model: what `harness.networks.models.load_model` gave.

    Raises:
        SplitError: the network cannot be exported, or has no split point.
    """

    def __init__(self, model: Model) -> None:
        self.model = model
        self._graphs: dict[int, fx.GraphModule] = {}
        self.points = tuple(_find_points(model.name, self.graph(1)))

    def graph(self, batch: int) -> fx.GraphModule:
        """The functional graph for a fixed batch size."""
        if batch not in self._graphs:
            model = self.model
            self._graphs[batch] = functional_graph(model.name, model.module, model.input_size, batch)
            names = {node.name for node in self._graphs[batch].graph.nodes}
            if any(node.name not in names for node in self.graph(1).graph.nodes):
                raise SplitError(f"{self.model.name} is another network for {batch} pictures than for one")
        return self._graphs[batch]

    @cached_property
    def digests(self) -> Mapping[str, str]:
        """Of every node of the graph, over all that decides its value."""
        return digests(self.graph(1))

    @property
    def weights_sha256(self) -> str:
        """Over all that decides the network's numbers: operations, and each parameter, buffer and constant used."""
        return self.digests[self.graph(1).graph.output_node().name]

    def cut(self, point: SplitPoint) -> Cut:
        """The point's own node: float32 travels, at split 0 the picture's uint8.

        Raises:
            ExportError: something else would, or nothing.
        """
        value = next(n for n in self.graph(1).graph.nodes if n.name == point.node).meta["val"]
        where = f"split {point.index} ({point.name})"
        if value.dtype != torch.float32:
            kind = str(value.dtype).removeprefix("torch.")
            raise ExportError(f"{where} cannot be shipped: its activation is {kind}; cut where it is float32")
        if value.numel() == 0:
            raise ExportError(f"{where} cannot be shipped: its activation is empty; cut elsewhere")
        return Cut(point.node, Fp32() if point.index else Uint8())

    def tail(self, point: SplitPoint) -> fx.GraphModule:
        """The activation of `point` -> logits."""
        return extract_tail(self.graph(1), point.node)

    @cached_property
    def all_points(self) -> tuple[SplitPoint, ...]:
        """The split points at which a deployed head can sensibly end."""
        return tuple(p for p in self.points if p.in_all)

    def select(self, spec: str) -> tuple[SplitPoint, ...]:
        """Split points named by `spec`: "all", "finest", or numbers, ranges ("3-9") and module paths, comma-separated.

        Raises:
            UsageError: a number or path that this network does not have.
        """
        if spec == "all":
            return self.all_points
        if spec == "finest":
            return self.points
        chosen = {index for part in spec.split(",") for index in self._indices(part.strip())}
        return tuple(self.points[index] for index in sorted(chosen))

    def _indices(self, part: str) -> Iterable[int]:
        if match := re.fullmatch(r"(\d+)(?:-(\d+))?", part):
            first, last = int(match[1]), int(match[2] or match[1])
            if first > last or last >= len(self.points):
                raise UsageError(
                    f"{self.model.name} has no split {part}", remedy=f"its splits are 0 to {len(self.points) - 1}"
                )
            return range(first, last + 1)
        paths = {alias: p.index for p in self.points for alias in (p.name, *p.aliases)}
        if part not in paths:
            raise UsageError(f"{self.model.name} has no split '{part}'", remedy=suggest(part, paths))
        return (paths[part],)


def _find_points(name: str, graph: fx.GraphModule) -> Iterator[SplitPoint]:
    """Nodes after which exactly one input-dependent tensor is live (Kahn-style sweep over last uses)."""
    nodes = list(graph.graph.nodes)
    place = {node: i for i, node in enumerate(nodes)}
    picture = next(n for n in nodes if n.op == "placeholder")
    dependent = {picture}
    live: dict[fx.Node, int] = {picture: max((place[u] for u in picture.users), default=0)}
    cuts = [picture]
    if not live[picture]:
        raise SplitError(f"the output of {name} does not depend on the picture", remedy="have it return its logits")
    for i, node in enumerate(nodes):
        if node.op != "call_function" or not dependent.intersection(node.all_input_nodes):
            continue
        dependent.add(node)
        live[node] = max(place[user] for user in node.users)
        live = {n: last for n, last in live.items() if last > i}
        if list(live) == [node] and isinstance(node.meta.get("val"), Tensor) and node.meta["val"].is_floating_point():
            cuts.append(node)
    if len(cuts) < 2:
        raise SplitError(f"{name} has no split point", remedy="it must be a single path somewhere: one tensor live")
    yield from _describe(graph, cuts, _Sizes(graph, dependent))


class _Sizes:
    """Parameters and multiply-accumulates of the operations in a graph."""

    def __init__(self, graph: fx.GraphModule, dependent: set[fx.Node]) -> None:
        owned = dict(graph.named_parameters(remove_duplicate=False))
        self._params = {n: owned[str(n.target)] for n in graph.graph.nodes if str(n.target) in owned}
        self._macs = {n: node_macs(n) for n in dependent if n.op == "call_function"}

    def params(self, nodes: Iterable[fx.Node]) -> int:
        """Numbers in the parameters among the nodes; one that has several names counts once."""
        used = {id(p): p for node in nodes if (p := self._params.get(node)) is not None}
        return sum(parameter.numel() for parameter in used.values())

    def macs(self, nodes: Iterable[fx.Node]) -> int:
        """Multiply-accumulates of the nodes."""
        return sum(self._macs.get(node, 0) for node in nodes)


def _describe(graph: fx.GraphModule, cuts: list[fx.Node], sizes: _Sizes) -> Iterator[SplitPoint]:
    params_total, macs_total = sizes.params(graph.graph.nodes), sizes.macs(graph.graph.nodes)
    ends = _module_ends(graph)
    names_seen: dict[str, int] = {}
    last = len(cuts) - 1
    for index, node in enumerate(cuts):
        before = ancestors([node])
        head_params, head_macs = sizes.params(before), sizes.macs(before)
        value: Tensor = node.meta["val"]
        dtype = torch.uint8 if index == 0 else value.dtype
        aliases = ends.get(node, ())
        name = "picture" if index == 0 else _unique(aliases[0] if aliases else _inner_name(node), names_seen)
        yield SplitPoint(
            index=index,
            name=name,
            aliases=aliases,
            op="picture" if index == 0 else op_name(node),
            node=node.name,
            activation_shape=tuple(value.shape),
            dtype=str(dtype).removeprefix("torch."),
            activation_bytes=value.numel() * dtype.itemsize,
            head_params=head_params,
            head_macs=head_macs,
            tail_params=params_total - head_params,
            tail_macs=macs_total - head_macs,
            in_all=index in (0, last) or (head_macs > 0 and _can_end(node)),
        )


def _can_end(node: fx.Node) -> bool:
    if op_name(node) in _MOVES_ONLY:
        return False
    after = list(node.users)
    while len(after) == 1 and op_name(after[0]) in _MOVES_ONLY:
        after = list(after[0].users)
    if len(after) == 1 and after[0].op == "output":
        return False  # only moves follow: the last split is the same head
    return not (len(after) == 1 and op_name(after[0]) in _FUSED_BEHIND)


def _scopes(node: fx.Node) -> list[str]:
    """Module paths around a node, outermost first; "layer1.0.relu@1" is the second call of layer1.0.relu."""
    keys = (key.removeprefix("L__self__") for key in node.meta.get("nn_module_stack", {}))
    return [path for key in keys if (path := key.removeprefix("network").removeprefix("."))]


def _module_ends(graph: fx.GraphModule) -> dict[fx.Node, tuple[str, ...]]:
    """Node -> the module paths whose last operation it is, outermost first."""
    last: dict[str, fx.Node] = {}
    for node in graph.graph.nodes:
        if node.op == "call_function":
            last.update(dict.fromkeys(_scopes(node), node))
    ends: dict[fx.Node, tuple[str, ...]] = {}
    for node in last.values():
        ends[node] = tuple(p for p in _scopes(node) if last[p] is node)
    return ends


def _inner_name(node: fx.Node) -> str:
    scopes = _scopes(node)
    return f"{scopes[-1]}:{op_name(node)}" if scopes else op_name(node)


def _unique(name: str, seen: dict[str, int]) -> str:
    seen[name] = seen.get(name, 0) + 1
    return name if seen[name] == 1 else f"{name}#{seen[name]}"
