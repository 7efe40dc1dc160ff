"""The workstation's end of the connection: takes activation frames in, answers, stores."""

from __future__ import annotations

import hmac
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field

import numpy as np

from device_runner.errors import FrameError, SplitbenchError
from device_runner.frames import ConnectionEndedError, Frame, decode_payload, read_frame, read_payload, write_frame
from harness.errors import CalledOffError, ReceiverError, ResultsError
from harness.measure.turn import Turn
from harness.tails.answer import Answer, AnyArray

HELLO_BYTES = 4096
HELLO_S = 5.0
LINGER_S = 1.0
SILENCE_S = 60.0

WELCOME = Frame({"kind": "welcome"}, {})
WAIT = Frame({"kind": "wait"}, {})


@dataclass
class Session:
    """One (cell, round) that the receiver is waiting for.

    Attributes:
        max_payload_bytes: from the manifest, known before anything arrives.
        shape, dtype: what an activation must look like.
        pictures: how many there are; a frame for another one is refused.
        answer: the tail: activation as received -> logits.
        keep: stores a payload under its picture's number, after the answer has gone out.
        refusals: why connections were refused, newest last.
        broken: why the run cannot go on: nothing can be stored (no space left), or it is being ended.
    """

    cell: str
    round: int
    max_payload_bytes: int
    shape: tuple[int, ...]
    dtype: str
    pictures: int
    answer: Callable[[AnyArray], Answer]
    keep: Callable[[int, bytes], None]
    refusals: list[str] = field(default_factory=list)
    broken: SplitbenchError | None = None


class Receiver:
    """Listens on one address for one run; admits only who knows the run's random token.

    Args:
        host: IPv4 or IPv6 address to listen on (fe80::1%eth0); loopback unless a device has to reach it from outside.
        turn: each conversation waits for it, and has it to its end; None: who expects somebody has it already.

    Raises:
        ReceiverError: the address cannot be listened on.
    """

    def __init__(self, host: str = "127.0.0.1", turn: Turn | None = None) -> None:
        self.token = secrets.token_hex(16)
        self._turn = turn
        try:
            family, *_, where = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
            self._listener = socket.create_server(where, family=family, backlog=4)
        except OSError as exc:
            raise ReceiverError(
                f"cannot listen on {host}: {exc.strerror}", remedy="name an address of this machine"
            ) from exc
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._sessions: tuple[Session, ...] = ()
        self._admitted: socket.socket | None = None
        self._thread = threading.Thread(target=self._serve, name="receiver", daemon=True)
        self._thread.start()

    def __enter__(self) -> Receiver:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening."""
        with suppress(OSError):  # wakes the thread; it may be gone already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(timeout=SILENCE_S)

    @contextmanager
    def expect(self, *sessions: Session) -> Iterator[None]:
        """Admit these sessions' connections, and no others, while the block runs.

        A connection is of one session at a time: that of the last `hello` in it. It ends with the block: a device that
        was lost has the turn no longer.
        """
        self._sessions = sessions
        try:
            yield
        finally:
            with self._lock:
                self._sessions = ()
                if self._admitted is not None:
                    with suppress(OSError):  # it has ended already
                        self._admitted.shutdown(socket.SHUT_RDWR)

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # closed
            # One at a time: cells on one device never overlap; a stranger gets one small frame and a time limit.
            with connection:
                connection.settimeout(SILENCE_S)
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # In a thread that ends with it, and so do the OpenMP threads that tails ran on: while they live, those
                # of the main thread sleep after every step, and attacks take twice as long.
                conversation = threading.Thread(target=self._converse, args=(connection,), daemon=True)
                conversation.start()
                conversation.join()
                with self._lock:
                    self._admitted = None

    def _converse(self, connection: socket.socket) -> None:
        session: Session | None = None
        try:
            with _ended_after(HELLO_S, connection):
                hello = read_frame(connection, max_payload_bytes=HELLO_BYTES)[0]
            session = self._admit(connection, hello)
            with self._its_turn(connection):
                write_frame(connection, WELCOME)
                while True:
                    payload = read_payload(connection, max_payload_bytes=max(session.max_payload_bytes, HELLO_BYTES))
                    if _may_be_hello(payload) and (frame := decode_payload(payload)).metadata.get("kind") == "hello":
                        session = self._admit(connection, frame)
                        write_frame(connection, WELCOME)
                    else:
                        _take_one(connection, session, payload)
        except ConnectionEndedError:
            return
        except (SplitbenchError, OSError, RuntimeError) as exc:  # RuntimeError: the tail, inside torch
            reason = str(exc)
            if session is not None:  # what a stranger was told says nothing of the device
                session.refusals.append(reason)
                if isinstance(exc, ResultsError | CalledOffError):
                    session.broken = exc
            with suppress(OSError):  # the other side may be gone
                write_frame(connection, Frame({"kind": "refused", "reason": reason[:400]}, {}))
                _let_it_read(connection)

    def _admit(self, connection: socket.socket, hello: Frame) -> Session:
        told = hello.metadata
        if told.get("kind") != "hello" or not hmac.compare_digest(told.get("token", "").encode(), self.token.encode()):
            raise ReceiverError("the token is not this run's", remedy="only this run's own runner is admitted")
        with self._lock:
            expected = {(session.cell, str(session.round)): session for session in self._sessions}
            session = expected.get((told.get("cell", ""), told.get("round", "")))
            if session is None:
                raise ReceiverError(
                    "this cell and round are not expected now", remedy="run one harness at a time per device"
                )
            self._admitted = connection
        return session

    def _its_turn(self, connection: socket.socket) -> AbstractContextManager[None]:
        """The runner starts no clock before `welcome`; it gives up where nothing comes for two minutes."""
        return self._turn.taken(lambda: write_frame(connection, WAIT)) if self._turn else nullcontext()


def _let_it_read(connection: socket.socket) -> None:
    """Take in what is still being sent, for a moment: closing on unread bytes would take back what was said last."""
    connection.shutdown(socket.SHUT_WR)
    with _ended_after(LINGER_S, connection):
        while connection.recv(2**16):
            pass


@contextmanager
def _ended_after(seconds: float, connection: socket.socket) -> Iterator[None]:
    """End a connection that takes longer, even one that sends a byte now and then."""

    def end() -> None:
        with suppress(OSError):  # the other side ended it
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _may_be_hello(payload: bytes) -> bool:
    """Tell at a glance: decoding is not part of an activation's transfer."""
    return len(payload) <= HELLO_BYTES and b'"kind":"hello"' in payload


def _take_one(connection: socket.socket, session: Session, payload: bytes) -> None:
    if len(payload) > session.max_payload_bytes:  # it fits a hello, and is none
        raise FrameError(
            f"an activation takes {len(payload)} bytes, {session.max_payload_bytes} are allowed",
            remedy="check that the sender runs the same plan",
        )
    write_frame(connection, Frame({"kind": "received"}, {}))
    start = time.perf_counter_ns()
    frame = decode_payload(payload)
    parse_ns = time.perf_counter_ns() - start
    picture, activation = _check(frame, session)
    answer = session.answer(activation)
    logits = np.ascontiguousarray(answer.logits, dtype=np.float32)
    told = {"kind": "answer", "decode_ns": str(parse_ns + answer.decode_ns)}
    write_frame(connection, Frame(told, {"answer": logits}))
    session.keep(picture, payload)
    write_frame(connection, Frame({"kind": "stored"}, {}))


def _check(frame: Frame, session: Session) -> tuple[int, AnyArray]:
    number, activation = frame.metadata.get("picture", ""), frame.tensors.get("activation")
    if frame.metadata.get("kind") != "activation" or activation is None or not re.fullmatch("[0-9]{1,9}", number):
        raise ReceiverError("a frame that is no activation arrived", remedy="use one version on both sides")
    if int(number) >= session.pictures:
        raise ReceiverError(f"an activation of picture {number} arrived", remedy=f"there are {session.pictures}")
    if activation.shape != session.shape or str(activation.dtype) != session.dtype:
        raise ReceiverError(
            f"an activation of {activation.dtype} {activation.shape} arrived, not {session.dtype} {session.shape}",
            remedy="export the head again",
        )
    return int(number), activation
