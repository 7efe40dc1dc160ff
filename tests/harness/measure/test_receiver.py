"""The receiver takes in what is right over a real socket, and stores nothing of anything else."""

from __future__ import annotations

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
import pytest

from device_runner.bundle import Bundle
from device_runner.devices.local import Local
from device_runner.frames import ConnectionEndedError, Frame, encode_payload, read_frame, write_frame
from device_runner.report import RunnerReport
from device_runner.runner import Job, Shipping, run_program
from harness.errors import CalledOffError, ReceiverError, ResultsError
from harness.measure import receiver as module
from harness.measure import turn as turn_module
from harness.measure.receiver import Receiver, Session
from harness.measure.turn import Turn
from harness.results.files import write_whole
from harness.tails.answer import Answer

SHAPE = (1, 4, 6, 6)
ACTIVATION = np.arange(np.prod(SHAPE), dtype=np.float32).reshape(SHAPE)
PICTURES = 3
LIMIT_S = 30.0


def activation_frame(picture: str = "0", activation: npt.NDArray[Any] = ACTIVATION) -> Frame:
    return Frame({"kind": "activation", "picture": picture}, {"activation": activation})


LARGEST = len(encode_payload(activation_frame("9" * 9)))
TOO_MANY = max(LARGEST, module.HELLO_BYTES) + 1  # of either


def twice_the_sums(activation: npt.NDArray[Any]) -> npt.NDArray[Any]:
    sums: npt.NDArray[Any] = activation.sum((2, 3)) * 2
    return sums


def quick(logits: npt.NDArray[Any]) -> Answer:
    """An answer whose codec took no time."""
    return Answer(logits, decode_ns=0)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as listening:
        yield listening


@pytest.fixture
def stored() -> dict[int, bytes]:
    return {}


@pytest.fixture
def session(stored: dict[int, bytes]) -> Session:
    return Session(
        cell="c0ffee",
        round=2,
        max_payload_bytes=LARGEST,
        shape=SHAPE,
        dtype="float32",
        pictures=PICTURES,
        answer=lambda activation: quick(twice_the_sums(activation)),
        keep=stored.__setitem__,
    )


@contextmanager
def connected(receiver: Receiver) -> Iterator[socket.socket]:
    with socket.create_connection(("127.0.0.1", receiver.port), timeout=30) as connection:
        yield connection


def greet(connection: socket.socket, receiver: Receiver, **changed: str | None) -> Frame:
    """Say hello and return what came back."""
    hello: dict[str, str | None] = {"kind": "hello", "token": receiver.token, "cell": "c0ffee", "round": "2"}
    told = {key: value for key, value in {**hello, **changed}.items() if value is not None}
    write_frame(connection, Frame(told, {}))
    return next_frame(connection)


def next_frame(connection: socket.socket) -> Frame:
    return read_frame(connection, max_payload_bytes=2**20)[0]


def ship(connection: socket.socket, frame: Frame) -> Frame:
    """Send an activation that is right and return the answer."""
    write_frame(connection, frame)
    assert next_frame(connection).metadata["kind"] == "received"
    answer = next_frame(connection)
    assert next_frame(connection).metadata["kind"] == "stored"
    return answer


def refusal(connection: socket.socket) -> str:
    """Read up to the receiver's refusal, after which it says nothing more; return its reason."""
    frame = next_frame(connection)
    while frame.metadata["kind"] == "received":
        frame = next_frame(connection)
    assert frame.metadata["kind"] == "refused"
    with pytest.raises((ConnectionEndedError, ConnectionResetError)):
        next_frame(connection)
    return frame.metadata["reason"]


def test_what_is_right_is_answered_and_stored_as_it_came(
    receiver: Receiver, session: Session, stored: dict[int, bytes]
) -> None:
    with receiver.expect(session), connected(receiver) as connection:
        assert greet(connection, receiver).metadata == {"kind": "welcome"}
        for picture in range(PICTURES):
            answer = ship(connection, activation_frame(str(picture), ACTIVATION + picture))
            assert answer.metadata["kind"] == "answer"
            assert np.array_equal(answer.tensors["answer"], twice_the_sums(ACTIVATION + picture))
    assert stored == {i: encode_payload(activation_frame(str(i), ACTIVATION + i)) for i in range(PICTURES)}
    assert session.refusals == []


def test_the_answer_is_float32_whatever_the_tail_gives(receiver: Receiver, session: Session) -> None:
    session.answer = lambda activation: quick(twice_the_sums(activation).astype(np.float64).T)
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        answer = ship(connection, activation_frame()).tensors["answer"]
    assert answer.dtype == np.float32
    assert np.array_equal(answer, twice_the_sums(ACTIVATION).T)


def test_the_answer_tells_how_long_reading_the_activation_took(receiver: Receiver, session: Session) -> None:
    session.answer = lambda activation: Answer(twice_the_sums(activation), decode_ns=10**10)
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        start = time.perf_counter_ns()
        told_ns = int(ship(connection, activation_frame()).metadata["decode_ns"])
        taken_ns = time.perf_counter_ns() - start
    assert 10**10 < told_ns < 10**10 + taken_ns  # the frame's parsing, and what the codec took


def test_the_threads_that_a_tail_ran_on_end_with_its_connection(receiver: Receiver, session: Session) -> None:
    threads = []

    def answer(activation: npt.NDArray[Any]) -> Answer:
        threads.append(threading.current_thread())
        return quick(twice_the_sums(activation))

    session.answer = answer
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        ship(connection, activation_frame())
    threads[0].join(timeout=30)
    assert not threads[0].is_alive()


def test_tokens_are_long_and_of_one_run(receiver: Receiver) -> None:
    with Receiver() as other:
        assert len(receiver.token) == len(other.token) == 32
        assert receiver.token != other.token


def test_it_listens_on_loopback_alone(receiver: Receiver) -> None:
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", receiver.port), timeout=30)


def test_an_address_of_another_machine_is_one_line() -> None:
    with pytest.raises(ReceiverError, match=r"192\.0\.2\.1") as caught:
        Receiver("192.0.2.1")
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"token": "0" * 32}, "token"),
        ({"token": ""}, "token"),
        ({"token": None}, "token"),
        ({"token": "\N{SNOWMAN}"}, "token"),
        ({"kind": "activation"}, "token"),
        ({"cell": "other"}, "not expected"),
        ({"cell": None}, "not expected"),
        ({"round": "3"}, "not expected"),
        ({"round": None}, "not expected"),
    ],
)
def test_who_is_not_expected_is_refused(
    receiver: Receiver, session: Session, stored: dict[int, bytes], changed: dict[str, str | None], said: str
) -> None:
    with receiver.expect(session), connected(receiver) as connection:
        told = greet(connection, receiver, **changed)
        assert told.metadata["kind"] == "refused"
        assert said in told.metadata["reason"]
        assert receiver.token not in str(told.metadata)
        with pytest.raises((ConnectionEndedError, ConnectionResetError)):
            next_frame(connection)
    assert stored == {}


def test_nobody_is_admitted_before_or_after_a_session(receiver: Receiver, session: Session) -> None:
    with connected(receiver) as connection:
        assert greet(connection, receiver).metadata["kind"] == "refused"
    with receiver.expect(session), connected(receiver) as connection:
        assert greet(connection, receiver).metadata["kind"] == "welcome"
    with connected(receiver) as connection:
        assert greet(connection, receiver).metadata["kind"] == "refused"


def prefix(length: int, payload: bytes) -> bytes:
    return struct.pack("<QI", length, google_crc32c.value(payload))


RIGHT = encode_payload(activation_frame())
FLIPPED = bytes([*RIGHT[:-9], RIGHT[-9] ^ 0x10, *RIGHT[-8:]])
HOSTILE = {
    "2^60 bytes": (prefix(2**60, b""), str(2**60)),
    "one byte too many": (prefix(TOO_MANY, b""), f"{TOO_MANY - 1} are allowed"),
    "a flipped bit": (prefix(len(RIGHT), RIGHT) + FLIPPED, "checksum"),
    "no safetensors": (prefix(64, b"\xff" * 64) + b"\xff" * 64, "safetensors"),
    "empty": (prefix(0, b""), "safetensors"),
}
MISFITS = {
    "another shape": (activation_frame(activation=ACTIVATION.reshape(1, 4, 36)), "(1, 4, 36)"),
    "fewer values": (activation_frame(activation=ACTIVATION[:, :2]), "(1, 2, 6, 6)"),
    "another type": (activation_frame(activation=ACTIVATION.astype(np.int8)), "int8"),
    "a picture too many": (activation_frame(str(PICTURES)), f"picture {PICTURES}"),
    "a negative picture": (activation_frame("-1"), "no activation"),
    "no number": (activation_frame(""), "no activation"),
    "an endless number": (activation_frame("9" * 5000, ACTIVATION), "no activation"),
    "another kind": (Frame({"kind": "greeting", "picture": "0"}, {"activation": ACTIVATION}), "no activation"),
    "a hello in it": (Frame({"kind": "x", "y": '"kind":"hello"'}, {"activation": ACTIVATION}), "no activation"),
    "another name": (Frame({"kind": "activation", "picture": "0"}, {"picture": ACTIVATION}), "no activation"),
    "no tensor": (Frame({"kind": "activation", "picture": "0"}, {}), "no activation"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_bytes_that_are_no_frame_are_refused_and_not_stored(
    receiver: Receiver, session: Session, stored: dict[int, bytes], case: str
) -> None:
    sent, said = HOSTILE[case]
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        connection.sendall(sent)
        assert said in refusal(connection)
        assert said in session.refusals[-1]
    assert stored == {}
    assert_still_serves(receiver, session, stored)


@pytest.mark.parametrize("case", MISFITS)
def test_frames_that_do_not_fit_are_refused_and_not_stored(
    receiver: Receiver, session: Session, stored: dict[int, bytes], case: str
) -> None:
    frame, said = MISFITS[case]
    session.max_payload_bytes = 2**20
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        write_frame(connection, frame)
        assert said in refusal(connection)
        assert said in session.refusals[-1]
    assert stored == {}
    assert_still_serves(receiver, session, stored)


def assert_still_serves(receiver: Receiver, session: Session, stored: dict[int, bytes]) -> None:
    """Whatever happened before, the next conversation goes well."""
    with receiver.expect(session), connected(receiver) as connection:
        assert greet(connection, receiver).metadata["kind"] == "welcome"
        ship(connection, activation_frame("1"))
    assert list(stored) == [1]


def test_a_hello_may_not_be_large(receiver: Receiver, session: Session, stored: dict[int, bytes]) -> None:
    with receiver.expect(session), connected(receiver) as connection:
        told = greet(connection, receiver, padding="x" * module.HELLO_BYTES)
        assert told.metadata["kind"] == "refused"
        assert str(module.HELLO_BYTES) in told.metadata["reason"]
    assert_still_serves(receiver, session, stored)


def test_who_is_still_sending_reads_why_it_was_refused(
    receiver: Receiver, session: Session, stored: dict[int, bytes]
) -> None:
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        connection.sendall(prefix(TOO_MANY, b"") + bytes(2**20))
        assert str(TOO_MANY) in refusal(connection)
    assert_still_serves(receiver, session, stored)


# several sessions in one connection

OTHER_SHAPE = (1, 5)
OTHER = np.arange(5, dtype=np.int8).reshape(OTHER_SHAPE)
OTHER_LARGEST = len(encode_payload(activation_frame("9" * 9, OTHER)))


@pytest.fixture
def other_stored() -> dict[int, bytes]:
    return {}


@pytest.fixture
def other(other_stored: dict[int, bytes]) -> Session:
    return Session(
        cell="facade",
        round=2,
        max_payload_bytes=OTHER_LARGEST,
        shape=OTHER_SHAPE,
        dtype="int8",
        pictures=PICTURES,
        answer=lambda activation: quick(-activation.astype(np.float32)),
        keep=other_stored.__setitem__,
    )


def test_a_hello_switches_the_session(
    receiver: Receiver, session: Session, other: Session, stored: dict[int, bytes], other_stored: dict[int, bytes]
) -> None:
    with receiver.expect(session, other), connected(receiver) as connection:
        for picture in map(str, range(PICTURES)):
            assert greet(connection, receiver).metadata == {"kind": "welcome"}
            answer = ship(connection, activation_frame(picture)).tensors["answer"]
            assert np.array_equal(answer, twice_the_sums(ACTIVATION))
            assert greet(connection, receiver, cell="facade").metadata == {"kind": "welcome"}
            assert np.array_equal(ship(connection, activation_frame(picture, OTHER)).tensors["answer"], -OTHER)
    assert stored == {i: encode_payload(activation_frame(str(i))) for i in range(PICTURES)}
    assert other_stored == {i: encode_payload(activation_frame(str(i), OTHER)) for i in range(PICTURES)}
    assert session.refusals == other.refusals == []


def test_a_hello_again_keeps_the_session(receiver: Receiver, session: Session, stored: dict[int, bytes]) -> None:
    with receiver.expect(session), connected(receiver) as connection:
        for picture in ("0", "1"):
            assert greet(connection, receiver).metadata["kind"] == "welcome"
            ship(connection, activation_frame(picture))
    assert list(stored) == [0, 1]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"token": "0" * 32}, "token"),
        ({"token": None}, "token"),
        ({"cell": "unknown"}, "not expected"),
        ({"cell": None}, "not expected"),
        ({"round": "3"}, "not expected"),
    ],
)
def test_a_switch_is_checked_like_the_first_hello(
    receiver: Receiver,
    session: Session,
    other: Session,
    other_stored: dict[int, bytes],
    changed: dict[str, str | None],
    said: str,
) -> None:
    with receiver.expect(session, other), connected(receiver) as connection:
        greet(connection, receiver)
        told = greet(connection, receiver, **{"cell": "facade", **changed})
        assert told.metadata["kind"] == "refused"
        assert said in told.metadata["reason"]
        with pytest.raises((ConnectionEndedError, ConnectionResetError)):
            next_frame(connection)
    assert other_stored == {}
    assert said in session.refusals[-1]
    assert other.refusals == []


def test_nobody_switches_to_a_session_that_is_over(receiver: Receiver, session: Session, other: Session) -> None:
    with connected(receiver) as connection:
        with receiver.expect(session, other):
            assert greet(connection, receiver).metadata["kind"] == "welcome"
        with receiver.expect(session), pytest.raises((ConnectionEndedError, ConnectionError)):
            greet(connection, receiver, cell="facade")
        with receiver.expect(session), connected(receiver) as again:
            assert greet(again, receiver, cell="facade").metadata["kind"] == "refused"


def test_each_session_keeps_its_own_limit(
    receiver: Receiver, session: Session, other: Session, stored: dict[int, bytes], other_stored: dict[int, bytes]
) -> None:
    """The other session's limit lies below that of a hello, and of what the first one takes."""
    assert OTHER_LARGEST < LARGEST < module.HELLO_BYTES
    with receiver.expect(session, other), connected(receiver) as connection:
        greet(connection, receiver)
        ship(connection, activation_frame())
        greet(connection, receiver, cell="facade")
        write_frame(connection, activation_frame("1"))
        told = next_frame(connection)
        assert told.metadata["kind"] == "refused"
        assert f"{OTHER_LARGEST} are allowed" in told.metadata["reason"]
    assert (list(stored), other_stored) == ([0], {})
    assert session.refusals == []
    assert str(OTHER_LARGEST) in other.refusals[-1]


def test_each_session_keeps_its_own_shape(
    receiver: Receiver, session: Session, other: Session, stored: dict[int, bytes], other_stored: dict[int, bytes]
) -> None:
    with receiver.expect(session, other), connected(receiver) as connection:
        greet(connection, receiver, cell="facade")
        greet(connection, receiver)
        write_frame(connection, activation_frame("0", OTHER))
        assert "(1, 5)" in refusal(connection)
    assert (stored, other_stored, other.refusals) == ({}, {}, [])
    assert "(1, 5)" in session.refusals[-1]


def test_a_later_hello_may_not_be_large_either(receiver: Receiver, session: Session, other: Session) -> None:
    session.max_payload_bytes = 2**20
    with receiver.expect(session, other), connected(receiver) as connection:
        greet(connection, receiver)
        write_frame(connection, Frame({"kind": "hello", "padding": "x" * module.HELLO_BYTES}, {}))
        assert "no activation" in refusal(connection)


def test_half_a_frame_is_not_stored(receiver: Receiver, session: Session, stored: dict[int, bytes]) -> None:
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        connection.sendall(prefix(len(RIGHT), RIGHT) + RIGHT[:100])
        connection.shutdown(socket.SHUT_WR)
        assert "100 of" in refusal(connection)
    assert stored == {}


def test_who_falls_silent_is_let_go(
    receiver: Receiver, session: Session, stored: dict[int, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SILENCE_S", 0.2)
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        assert "timed out" in refusal(connection)
    assert_still_serves(receiver, session, stored)


def test_strangers_do_not_disturb_a_session(receiver: Receiver, session: Session, stored: dict[int, bytes]) -> None:
    """Strangers who talk nonsense, hang up or stay silent while a device ships: it is served all the same."""
    with receiver.expect(session), connected(receiver) as device:
        greet(device, receiver)
        ship(device, activation_frame("0"))
        with connected(receiver) as silent, connected(receiver) as rude:
            rude.sendall(b"GET / HTTP/1.0\r\n\r\n")
            ship(device, activation_frame("1"))
            silent.sendall(b"")
        ship(device, activation_frame("2"))
    assert list(stored) == [0, 1, 2]
    assert session.refusals == []


def test_a_stranger_cannot_hold_the_door_for_long(
    receiver: Receiver, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One who sends a byte now and then keeps a device waiting for the time limit of a hello, not for ever."""
    monkeypatch.setattr(module, "HELLO_S", 0.5)
    over = threading.Event()

    def drip(stranger: socket.socket) -> None:
        for byte in prefix(4000, b"") + b" " * 4000:
            if over.wait(0.05):
                return
            try:
                stranger.sendall(bytes([byte]))
            except OSError:  # the receiver hung up, as it should
                return

    with receiver.expect(session), connected(receiver) as stranger:
        dripping = threading.Thread(target=drip, args=(stranger,))
        dripping.start()
        try:
            with connected(receiver) as device:
                assert greet(device, receiver).metadata["kind"] == "welcome"
        finally:
            over.set()
            dripping.join()


def test_a_tail_that_fails_is_told(receiver: Receiver, session: Session, stored: dict[int, bytes]) -> None:
    def fails(_: npt.NDArray[Any]) -> Answer:
        raise RuntimeError("the tail cannot")

    session.answer = fails
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        write_frame(connection, activation_frame())
        assert "the tail cannot" in refusal(connection)
    assert stored == {}
    session.answer = lambda activation: quick(twice_the_sums(activation))
    assert_still_serves(receiver, session, stored)


def test_a_full_disk_is_told_and_kept_for_the_run(
    receiver: Receiver, session: Session, small_disk: Callable[[int], Path]
) -> None:
    folder = small_disk(4096)
    (folder / "filler").write_bytes(b"x" * 4096)
    session.keep = lambda picture, payload: write_whole(folder / f"{picture}.safetensors", payload)
    with receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
        write_frame(connection, activation_frame())
        assert next_frame(connection).metadata["kind"] == "received"
        assert next_frame(connection).metadata["kind"] == "answer"
        assert "No space left" in refusal(connection)
    assert isinstance(session.broken, ResultsError)
    assert [path.name for path in folder.iterdir()] == ["filler"]


def test_a_closed_receiver_is_gone(session: Session) -> None:
    with Receiver() as receiver, receiver.expect(session), connected(receiver) as connection:
        greet(connection, receiver)
    with pytest.raises(ConnectionRefusedError), connected(receiver):
        pass


# in turns


@pytest.fixture
def turn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Turn:
    monkeypatch.setenv("SPLITBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(turn_module, "TELL_EVERY_S", 0.01)
    return Turn()


@pytest.fixture
def in_turns(turn: Turn) -> Iterator[Receiver]:
    with Receiver(turn=turn) as listening:
        yield listening


@dataclass
class Second:
    """Another device, with a receiver of its own.

    Attributes:
        heard: the kinds of frames that it was sent.
    """

    receiver: Receiver
    heard: list[str] = field(default_factory=list)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """It has said hello, and waits for its welcome until the end of the block; then it must have come."""
        with ThreadPoolExecutor(1) as pool:
            welcomed = pool.submit(self._converse)
            wait_until(lambda: "wait" in self.heard)
            yield
            welcomed.result(LIMIT_S)
        assert self.heard == ["wait"] * (len(self.heard) - 1) + ["welcome"]

    def _converse(self) -> None:
        with connected(self.receiver) as connection:
            self.heard.append(greet(connection, self.receiver).metadata["kind"])
            while self.heard[-1] == "wait":
                self.heard.append(next_frame(connection).metadata["kind"])


def wait_until(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.fixture
def second(turn: Turn, session: Session) -> Iterator[Second]:
    with Receiver(turn=turn) as receiver, receiver.expect(replace(session)):
        yield Second(receiver)


def hang_up(connection: socket.socket) -> None:
    connection.shutdown(socket.SHUT_WR)


def talk_nonsense(connection: socket.socket) -> None:
    connection.sendall(prefix(2**60, b""))


def make_the_tail_fail(connection: socket.socket) -> None:
    write_frame(connection, activation_frame("1", ACTIVATION * np.float32(np.nan)))


def fall_silent(connection: socket.socket) -> None:
    assert connection


@pytest.mark.parametrize("end", [hang_up, talk_nonsense, make_the_tail_fail, fall_silent])
def test_a_conversation_begins_when_the_one_before_has_ended(
    in_turns: Receiver,
    session: Session,
    second: Second,
    end: Callable[[socket.socket], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def answer(activation: npt.NDArray[Any]) -> Answer:
        if np.isnan(activation).any():
            raise RuntimeError("the tail cannot")
        return quick(twice_the_sums(activation))

    monkeypatch.setattr(module, "SILENCE_S", 0.5 if end is fall_silent else LIMIT_S)
    session.answer = answer
    with in_turns.expect(session), connected(in_turns) as first:
        assert greet(first, in_turns).metadata["kind"] == "welcome"
        with second.waiting():
            ship(first, activation_frame("0"))
            assert set(second.heard) == {"wait"}
            end(first)


def test_a_device_that_is_expected_no_longer_has_the_turn_no_longer(
    in_turns: Receiver, session: Session, second: Second
) -> None:
    """One that was unplugged says nothing more, and hangs up on nobody."""
    with connected(in_turns) as first, ExitStack() as waiting, in_turns.expect(session):
        assert greet(first, in_turns).metadata["kind"] == "welcome"
        waiting.enter_context(second.waiting())


def test_a_device_that_leaves_while_it_waits_is_not_waited_for(
    in_turns: Receiver, session: Session, turn: Turn
) -> None:
    with turn.taken(), in_turns.expect(session):
        with connected(in_turns) as impatient:
            assert greet(impatient, in_turns).metadata["kind"] == "wait"
        wait_until(lambda: len(turn._line) == 1)


def test_a_later_hello_does_not_wait_behind_another_device(
    in_turns: Receiver, session: Session, other: Session, second: Second
) -> None:
    with in_turns.expect(session, other), connected(in_turns) as first:
        greet(first, in_turns)
        with second.waiting():
            assert greet(first, in_turns, cell="facade").metadata["kind"] == "welcome"
            assert greet(first, in_turns).metadata["kind"] == "welcome"
            assert set(second.heard) == {"wait"}
            hang_up(first)


@pytest.mark.parametrize("changed", [{"token": "0" * 32}, {"token": None}, {"cell": "knock"}])
def test_who_is_not_expected_neither_waits_for_the_turn_nor_takes_it(
    in_turns: Receiver, session: Session, turn: Turn, changed: dict[str, str | None]
) -> None:
    with in_turns.expect(session):
        with turn.taken(), connected(in_turns) as stranger:
            assert greet(stranger, in_turns, **changed).metadata["kind"] == "refused"
            assert len(turn._line) == 1
        with connected(in_turns) as stranger:
            assert greet(stranger, in_turns, **changed).metadata["kind"] == "refused"
            assert len(turn._line) == 0


def test_who_waits_is_refused_when_the_run_ends(in_turns: Receiver, session: Session, turn: Turn) -> None:
    with turn.taken(), in_turns.expect(session), connected(in_turns) as waiting:
        told = greet(waiting, in_turns)
        turn.call_off()
        while told.metadata["kind"] == "wait":
            told = next_frame(waiting)
        assert "the run is ending" in told.metadata["reason"]
        wait_until(lambda: isinstance(session.broken, CalledOffError))


@dataclass
class SlowTail:
    """What one of two devices is answered with, and when that was."""

    seconds: float
    begun: threading.Event = field(default_factory=threading.Event)
    answered: list[tuple[float, float]] = field(default_factory=list)

    def __call__(self, _: npt.NDArray[Any]) -> Answer:
        began = time.monotonic()
        self.begun.set()
        time.sleep(self.seconds)
        self.answered.append((began, time.monotonic()))
        return Answer(np.zeros((1, 5), np.float32), 0)


def test_what_a_runner_waited_for_lies_in_none_of_its_samples(turn: Turn, bundle: Bundle, tmp_path: Path) -> None:
    """Two real runners; the second one says hello while the first is being answered."""
    pixels = np.zeros((PICTURES, 3, 8, 8), np.uint8)
    file, device = tmp_path / "pictures", Local("local")
    file.write_bytes(encode_payload(Frame({}, {"pictures": pixels})))

    def run(receiver: Receiver) -> RunnerReport:
        shipping = Shipping(str(file), f"127.0.0.1:{receiver.port}", receiver.token, cells=("c0ffee",), round=2)
        return run_program(device, device.deploy(bundle), Job(shipping=shipping), timeout_s=LIMIT_S)

    def session_with(tail: SlowTail) -> Session:
        return Session("c0ffee", 2, 2**20, (1, 3, 8, 8), "uint8", PICTURES, answer=tail, keep=lambda _, __: None)

    slow, quick = SlowTail(0.4), SlowTail(0.0)
    with (
        Receiver(turn=turn) as first,
        Receiver(turn=turn) as second,
        first.expect(session_with(slow)),
        second.expect(session_with(quick)),
        ThreadPoolExecutor(2) as pool,
    ):
        reports = [pool.submit(run, first)]
        assert slow.begun.wait(LIMIT_S)
        wait_until(lambda: len(turn._line) == 1)
        reports.append(pool.submit(run, second))
        wait_until(lambda: len(turn._line) == 2)
        waited_from = time.monotonic()
        alone, beside = (report.result().outputs[0].shipments for report in reports)
    assert quick.answered[0][0] - waited_from > slow.seconds  # it did wait
    assert quick.answered[0][0] > slow.answered[-1][1]
    assert min(shipment.end_to_end_ns or 0 for shipment in alone) > slow.seconds * 1e9
    assert 0 < max(shipment.end_to_end_ns or 0 for shipment in beside) < slow.seconds * 1e9
