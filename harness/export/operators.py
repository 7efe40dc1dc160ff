"""Which operators each output of a program needs: in its profile they tell where the output lies."""

from __future__ import annotations

from collections import Counter

from torch import fx

from harness.networks.graph import ancestors, op_name
from harness.results.profiled import KINDS


def count_operators(graph: fx.GraphModule) -> tuple[dict[str, int], ...]:
    """Kinds of operators, and how many of each, that every output of a graph needs, in the order of the outputs."""
    ends = graph.graph.output_node().args[0]
    counts = []
    for end in ends if isinstance(ends, tuple | list) else (ends,):
        assert isinstance(end, fx.Node)  # noqa: S101 - a head's output is a tensor
        needed: Counter[str] = Counter()
        for node in ancestors([end]):
            if node.op != "call_function" or getattr(node.target, "__name__", "") == "getitem":
                continue
            for name, kind in KINDS.items():
                needed[name] += kind.nodes.get(op_name(node), 0)
        counts.append({name: count for name, count in needed.items() if count})
    return tuple(counts)
