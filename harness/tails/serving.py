"""The process that computes tails: `python -m harness.tails.serving CONNECTION BUFFER THREADS`.

Apart from the harness, so that an engine that dies takes nothing with it, and its threads stand in nobody's way.
"""

from __future__ import annotations

import io
import mmap
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch import Tensor, fx

from device_runner.raised import class_and_message
from harness.networks.cutting import capture, extract_tail
from harness.tails import ENGINES
from harness.tails.base import Engine, Tail
from harness.tails.messages import BUFFER_BYTES, Answered, Ask, Done, Failed, Forget, Know, Load, Reply, Request

# As heads are held to (harness.export.exporter): engines round otherwise than PyTorch, a wrong one is far off.
RELATIVE_TOLERANCE = 1e-4
_WARM_UPS = 3


def computed(graph: fx.GraphModule) -> list[fx.Node]:
    """The input and what is made of it, in order.

    Names do not survive the way to another process, and what is made of constants is computed on it; these places do.
    """
    found: dict[fx.Node, None] = {}
    for node in graph.graph.nodes:
        if node.op == "placeholder" or (
            node.op == "call_function" and not found.keys().isdisjoint(node.all_input_nodes)
        ):
            found[node] = None
    return list(found)


@dataclass(frozen=True)
class _Network:
    graph: fx.GraphModule
    picture: Tensor
    logits: Tensor


@dataclass(frozen=True)
class _Loaded:
    request: Load
    finish: Callable[[Tensor], Tensor]


class Server:
    """Knows networks, loads tails and answers.

    Args:
        buffer: shared memory, in which activations lie as they travelled.
        threads: that engines may compute on.
    """

    def __init__(self, buffer: mmap.mmap, threads: int) -> None:
        self._buffer, self._threads = buffer, threads
        self._networks: dict[str, _Network] = {}
        self._engines: dict[str, Engine] = {}
        self._tails: dict[int, _Loaded] = {}

    def reply(self, request: Request) -> Reply:
        """Do what is asked."""
        try:
            with torch.no_grad():
                return self._do(request)
        except Exception as exc:  # engines raise whatever their libraries do
            return Failed(class_and_message(exc))

    def _do(self, request: Request) -> Reply:
        match request:
            case Know():
                self._networks[request.network] = _network(request)
            case Load():
                finish = self._checked(request)
                self._tails[request.number] = _Loaded(request, finish)
            case Ask():
                return self._answer(self._tails[request.number])
            case Forget():
                for number in request.numbers:
                    self._tails.pop(number, None)
        return Done()

    def _checked(self, request: Load) -> Callable[[Tensor], Tensor]:
        """Load a tail, and hold it to PyTorch's logits of the reference picture; that warms it up, too."""
        network = self._networks[request.network]
        cut = computed(network.graph)[request.place]
        activation = capture(network.graph, network.picture, {cut.name: 0})[0] if request.place else network.picture
        tail = Tail(extract_tail(network.graph, cut.name), request.programs, request.failure)
        finish = self._engine(request.engine).load(tail)
        for _ in range(_WARM_UPS):
            logits = finish(activation)
        off = float((logits - network.logits).abs().max())
        if not off <= RELATIVE_TOLERANCE * max(1.0, float(network.logits.abs().max())):
            raise ValueError(f"its logits are {off:.1e} off PyTorch's")
        return finish

    def _engine(self, name: str) -> Engine:
        if name not in self._engines:
            kind = ENGINES.load(name)
            if reason := kind.unavailable():
                raise RuntimeError(reason)
            self._engines[name] = kind(self._threads)
        return self._engines[name]

    def _answer(self, tail: _Loaded) -> Reply:
        start = time.perf_counter_ns()
        shape, dtype = tail.request.shape, getattr(torch, tail.request.dtype)
        travelled = torch.frombuffer(self._buffer, dtype=dtype, count=torch.Size(shape).numel()).view(shape)
        activation = tail.request.codec.decode(travelled)
        decode_ns = time.perf_counter_ns() - start
        logits = tail.finish(activation).numpy()
        if (logits != logits).any():
            raise ValueError("its logits hold NaN")
        return Answered(logits, decode_ns)


def _network(request: Know) -> _Network:
    # Our own harness wrote it, a moment ago; no file and no device has touched it.
    graph: fx.GraphModule = torch.load(io.BytesIO(request.graph), weights_only=False)
    picture = torch.from_numpy(request.picture)
    return _Network(graph, picture, graph(picture))


def main(connection: int, buffer: int, threads: int) -> None:
    """Answer until the harness is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the harness ends this one
    torch.set_num_threads(1)  # those of OpenMP spin for a while after each operation; an engine asks for its own
    server, requests = Server(mmap.mmap(buffer, BUFFER_BYTES), threads), Connection(connection)
    with suppress(EOFError, ConnectionError):
        while True:
            requests.send(server.reply(requests.recv()))


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
