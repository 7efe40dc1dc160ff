"""The harness's side of the process that computes tails."""

from __future__ import annotations

import io
import mmap
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Lock
from time import perf_counter_ns

import numpy as np
import torch
from torch import Tensor

from device_runner.raised import class_and_message
from device_runner.said import last_line
from harness.codecs import Codec
from harness.errors import TailError
from harness.networks.cutting import extract_head
from harness.networks.splits import Network, SplitPoint
from harness.tails.answer import Answer, AnyArray
from harness.tails.messages import BUFFER_BYTES, Answered, Ask, Failed, Forget, Know, Load, Reply, Request
from harness.tails.serving import computed

FALLBACK = "torch"  # takes every tail
_ANSWER_S = 100.0  # a device waits for 120
_KEPT_BYTES = 2**30  # weights of loaded tails that are kept for later


@dataclass(frozen=True, eq=False)
class TailRequest:
    """A tail that is to be loaded.

    Attributes:
        codec, shape: of the activation as it travels.
        picture: what it is checked on, 1 x 3 x H x W on [0, 1].
        programs, failure: of `harness.tails.base.Tail`.
    """

    network: Network
    point: SplitPoint
    codec: Codec
    picture: Tensor
    programs: tuple[Path, ...] = ()
    failure: str = ""

    @property
    def key(self) -> tuple[object, ...]:
        """Names it among all of a run."""
        return self.network.weights_sha256, self.point.index, self.codec, self.programs

    def __str__(self) -> str:
        return f"the tail of split {self.point.index} ({self.point.name})"


@dataclass(eq=False)
class LoadedTail:
    """A tail that is ready to answer.

    Attributes:
        engine: that it runs on.
        reason: why that is not the one that was asked for; "" where it is.
        users: blocks that need it now.
    """

    process: TailProcess = field(repr=False)
    request: TailRequest
    number: int
    engine: str
    threads: int
    reason: str
    users: int = 0

    def answer(self, received: AnyArray) -> Answer:
        """What the network says to an activation as it was received.

        Raises:
            TailError: the engine failed, or died.
        """
        return self.process.answer(self, received)


class TailProcess:
    """Computes tails in a process of its own, which is started when first needed, and again where it died.

    Args:
        threads: that engines may compute on.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._lock, self._numbers = Lock(), count()
        self._connected: _Connected | None = None
        self._places: dict[str, dict[str, int]] = {}  # by network: of each node among those that it knows
        self._loaded: dict[tuple[object, ...], LoadedTail] = {}
        self._refused: dict[tuple[object, ...], str] = {}  # by an engine, and why; it is not asked again

    def __enter__(self) -> TailProcess:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def start(self) -> None:
        """Begin now, so that it is there when it is needed: it takes seconds to import PyTorch."""
        with self._lock:
            self._connected = self._connected or _Connected.start(self.threads)

    def close(self) -> None:
        """End the process."""
        connected, self._connected = self._connected, None
        self._places.clear()
        self._loaded.clear()
        if connected:
            connected.close()

    @contextmanager
    def loaded(self, engine: str, requests: Sequence[TailRequest]) -> Iterator[list[LoadedTail]]:
        """Tails that stay ready while the block runs; one that the engine cannot take runs on PyTorch, and says so.

        Raises:
            TailError: PyTorch cannot take it either.
        """
        with self._lock:
            self._make_room({(engine, *request.key) for request in requests})
            tails = self._load_all(engine, requests)
            for tail in tails:
                tail.users += 1
        try:
            yield tails
        finally:
            for tail in tails:
                tail.users -= 1

    def answer(self, tail: LoadedTail, received: AnyArray) -> Answer:
        """`LoadedTail.answer`."""
        with self._lock:
            if not self._is_there(tail):
                raise TailError(f"{tail.request}: its process is gone", remedy="bench run --resume")
            assert self._connected is not None  # noqa: S101 - what is loaded is loaded somewhere
            start = perf_counter_ns()
            self._connected.write(received)
            written_ns = perf_counter_ns() - start
            reply = self._exchange(Ask(tail.number), f"{tail.request} on {tail.engine}")
        if not isinstance(reply, Answered):
            assert isinstance(reply, Failed)  # noqa: S101 - nothing else answers a question
            raise TailError(f"{tail.request} on {tail.engine}: {reply.reason}", remedy=_other(tail.engine))
        return Answer(reply.logits, written_ns + reply.decode_ns)

    def _load_all(self, engine: str, requests: Sequence[TailRequest]) -> list[LoadedTail]:
        while True:
            tails = [self._load(engine, request) for request in requests]
            if all(map(self._is_there, tails)):  # one that killed the process has taken the others with it
                return tails

    def _is_there(self, tail: LoadedTail) -> bool:
        return any(tail is other for other in self._loaded.values())

    def _load(self, engine: str, request: TailRequest) -> LoadedTail:
        key = (engine, *request.key)
        if key not in self._loaded:
            used, number = engine, next(self._numbers)
            if key not in self._refused and (reason := self._attempt(engine, request, number)):
                self._refused[key] = reason
            refusal = self._refused.get(key, "")
            if refusal:
                used, number = FALLBACK, next(self._numbers)
                failure = refusal if engine == FALLBACK else self._attempt(used, request, number)
                if failure:
                    raise TailError(f"{request} cannot be computed: {failure}", remedy="cut elsewhere")
            reason = f"{engine}: {refusal}" if refusal else ""
            self._loaded[key] = LoadedTail(self, request, number, used, self.threads, reason)
        return self._loaded[key]

    def _attempt(self, engine: str, request: TailRequest, number: int) -> str:
        """Load a tail; why it cannot be, or ""."""
        self._introduce(request)
        network, point = request.network, request.point
        load = Load(
            number=number,
            engine=engine,
            network=network.weights_sha256,
            place=self._places[network.weights_sha256][point.node],
            codec=request.codec,
            shape=point.activation_shape,
            dtype=request.codec.dtype,
            programs=request.programs,
            failure=request.failure,
        )
        try:
            reply = self._exchange(load, f"{request} on {engine}")
        except TailError as exc:
            return exc.message
        return reply.reason if isinstance(reply, Failed) else ""

    def _introduce(self, request: TailRequest) -> None:
        network = request.network
        if network.weights_sha256 in self._places:
            return
        whole = _whole(network)
        know = Know(network.weights_sha256, _written(whole, network.model.name), request.picture.numpy())
        if isinstance(reply := self._exchange(know, network.model.name), Failed):
            raise TailError(f"the tails of {network.model.name} cannot be computed: {reply.reason}")
        places = {node.name: place for place, node in enumerate(computed(whole))}
        self._places[network.weights_sha256] = places

    def _make_room(self, needed: set[tuple[object, ...]]) -> None:
        """Forget tails that nobody needs now, where all of them together take too much memory."""
        if sum(_weight_bytes(tail.request) for tail in self._loaded.values()) <= _KEPT_BYTES:
            return
        idle = [key for key, tail in self._loaded.items() if not tail.users and key not in needed]
        numbers = tuple(self._loaded.pop(key).number for key in idle)
        if numbers:
            self._exchange(Forget(numbers), "tails")

    def _exchange(self, request: Request, what: str) -> Reply:
        self._connected = self._connected or _Connected.start(self.threads)
        try:
            return self._connected.exchange(request)
        except (EOFError, OSError, TimeoutError) as exc:
            said = self._connected.end()
            self.close()
            why = f"no answer within {_ANSWER_S:.0f} s" if isinstance(exc, TimeoutError) else said
            raise TailError(f"{what}: its process ended ({why})", remedy="bench run --resume tries again") from exc


def _whole(network: Network) -> torch.fx.GraphModule:
    """The network's graph without the wrapping of torch.export, which cannot be written."""
    return extract_head(network.graph(1), network.points[-1].node)


def _written(graph: torch.fx.GraphModule, name: str) -> bytes:
    stream = io.BytesIO()
    try:
        torch.save(graph, stream)
    except Exception as exc:  # pickle has no base for what a graph's constants raise
        raise TailError(
            f"the graph of {name} cannot be written: {class_and_message(exc)}",
            remedy="keep only tensors and numbers in the network",
        ) from exc
    return stream.getvalue()


def _weight_bytes(request: TailRequest) -> int:
    return 4 * request.point.tail_params


def _other(engine: str) -> str:
    return "cut elsewhere" if engine == FALLBACK else f"run it with --tail {FALLBACK}"


@dataclass
class _Connected:
    """A running process, and the memory that it shares with us."""

    process: subprocess.Popen[bytes]
    connection: Connection
    buffer: mmap.mmap
    said: tempfile._TemporaryFileWrapper[bytes] | io.BufferedRandom

    @classmethod
    def start(cls, threads: int) -> _Connected:
        with ExitStack() as stack:
            ours, theirs = socket.socketpair()
            stack.callback(theirs.close)
            memory = stack.enter_context(tempfile.TemporaryFile())
            os.truncate(memory.fileno(), BUFFER_BYTES)
            said = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the rest
            numbers = (theirs.fileno(), memory.fileno())
            # It imports from where we do, a user's own engine too, and from nowhere else: -P leaves this folder out.
            path = os.pathsep.join(entry or str(Path.cwd()) for entry in sys.path)
            process = subprocess.Popen(  # noqa: S603 - ourselves
                [sys.executable, "-P", "-m", "harness.tails.serving", *map(str, numbers), str(threads)],
                env=os.environ | {"PYTHONPATH": path},
                pass_fds=numbers,
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=said,
            )
            return cls(process, Connection(ours.detach()), mmap.mmap(memory.fileno(), BUFFER_BYTES), said)

    def exchange(self, request: Request) -> Reply:
        self.connection.send(request)
        if not self.connection.poll(_ANSWER_S):
            raise TimeoutError
        reply: Reply = self.connection.recv()
        return reply

    def write(self, activation: AnyArray) -> None:
        if activation.nbytes > BUFFER_BYTES:
            raise TailError(f"an activation of {activation.nbytes} bytes is too large", remedy="cut elsewhere")
        np.copyto(np.frombuffer(self.buffer, activation.dtype, activation.size).reshape(activation.shape), activation)

    def end(self) -> str:
        """How it ended, or is ended now."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self.process.kill()
        status = self.process.wait()
        self.said.seek(0)
        said = last_line(self.said.read().decode(errors="replace"))
        return f"status {status}" + (f": {said}" if said else "")

    def close(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.wait()
        self.said.close()
        with suppress(BufferError):  # a view of the last activation may still be alive
            self.buffer.close()
