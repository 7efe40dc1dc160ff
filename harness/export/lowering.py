"""Heads -> ExecuTorch programs, in processes of their own."""

from __future__ import annotations

import gc
import signal
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, fx, nn
from torch.fx import traceback

from device_runner.raised import class_and_message
from harness.export.operators import count_operators
from harness.networks.constants import compute_weights, separate_constants
from harness.networks.cutting import capture, extract_head, extract_tail
from harness.networks.folding import fold_batch_norm
from harness.networks.macs import node_macs


@dataclass(frozen=True)
class LoweringRequest:
    """What becomes a program.

    Attributes:
        nodes: whose values it returns.
        target: where it goes.
        start: the node whose value it takes; None: the picture.
    """

    nodes: tuple[str, ...]
    target: Path
    start: str | None = None


@dataclass(frozen=True)
class Lowered:
    """What came of lowering, or why it failed.

    Attributes:
        outside_macs: multiply-accumulates that XNNPACK left outside its delegate.
        operators: how many of each kind every output needs.
    """

    outside_macs: int = 0
    operators: tuple[dict[str, int], ...] = ()
    failure: str | None = None


class _NoHistory(traceback.NodeSource):
    """A node's origin without its ancestors, which every lowering pass would copy again and nobody here reads."""

    def __init__(self, node: object, pass_name: str = "", action: traceback.NodeSourceAction | None = None) -> None:
        del node
        super().__init__(None, pass_name, action)


@cache
def warm_up() -> None:
    """Lower next to nothing: the patterns that XNNPACK's partitioner makes at first are then there in forked processes.

    They take some 2.5 s, whatever is lowered.
    """
    with TemporaryDirectory() as folder:
        lower(fx.symbolic_trace(nn.Conv2d(3, 4, 1)), torch.zeros(1, 3, 8, 8), Path(folder) / "head.pte")


def serve(graph: fx.GraphModule, picture: Tensor, requests: Connection, inherited: Sequence[Connection]) -> None:
    """The body of a forked process: answer each `LoweringRequest` with a `Lowered`, until the other side is gone.

    Args:
        graph: what heads are cut from.
        picture: an example input, 1 x 3 x H x W on [0, 1].
        inherited: the other side's ends of this and earlier pipes; one that stays open here would hide that it is gone.
    """
    for connection in inherited:
        connection.close()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the parent ends this one
    torch.set_num_threads(1)  # the parent's OpenMP threads do not exist here
    traceback.NodeSource = _NoHistory  # type: ignore[misc, assignment]
    graph.requires_grad_(False)  # else what passes compute of weights hangs on them, and torch warns of that
    gc.freeze()
    with suppress(EOFError, ConnectionError):
        while True:
            request: LoweringRequest = requests.recv()
            requests.send(_attempt(graph, picture, request))


def _attempt(graph: fx.GraphModule, picture: Tensor, request: LoweringRequest) -> Lowered:
    gc.disable()  # lowering makes millions of small objects that live as long as it does
    try:
        program, example = extract_head(graph, *request.nodes), picture
        if request.start:
            example = capture(graph, picture, {request.start: 0})[0]
            program = extract_tail(program, request.start)
        return lower(program, example, request.target)
    except OSError as exc:
        return Lowered(failure=f"{request.target.name} cannot be written ({exc.strerror}); free disk space")
    except Exception as exc:  # the exporter raises anything; the row carries the reason
        return Lowered(failure=class_and_message(exc))
    finally:
        gc.enable()
        gc.collect()


def lower(head: fx.GraphModule, example: Tensor, target: Path) -> Lowered:
    """Lower a program through XNNPACK and write it.

    Args:
        head: one output, or the several of a survey; or a part of a tail.
        example: an input, N = 1: a picture on [0, 1], or an activation.
    """
    # Its import takes 5 s, and a command that lowers nothing goes without.
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    compute_weights(head)
    fold_batch_norm(head)
    separate_constants(head)
    operators = count_operators(head)
    for node in head.graph.nodes:
        node.meta.clear()  # every lowering pass would copy it along
    manager = to_edge_transform_and_lower(torch.export.export(head, (example,)), partitioner=[XnnpackPartitioner()])
    outside = sum(node_macs(n) for n in manager.exported_program().graph.nodes if n.op == "call_function")
    with target.open("wb") as stream:
        manager.to_executorch().write_to_file(stream)
    return Lowered(outside_macs=outside, operators=operators)
