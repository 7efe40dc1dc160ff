"""Devices side by side use the workstation one after the other; what runs on it has it for itself."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from device_runner.bundle import Bundle
from device_runner.devices.base import Completed, Device
from device_runner.devices.local import Local
from device_runner.errors import DeviceError
from device_runner.files import locked
from harness.errors import CalledOffError
from harness.export.exporter import ExportSettings, export
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.measure import ready as prepare
from harness.measure.ready import ReadyDevice, prepared
from harness.measure.rounds import Work, measure
from harness.measure.turn import Turn
from harness.measure.verification import PROGRAM_LIMIT_S
from harness.networks.splits import Network
from harness.pictures import Pictures
from harness.results.schema import RoundRecord
from harness.results.store import RunStore
from harness.tails.answer import Answer, AnyArray
from harness.tails.process import LoadedTail, TailProcess, TailRequest
from tests.parts.adbd.fixture import attached_phone, own_adb_server, the_adb_server
from tests.parts.adbd.phone import Phone
from tests.parts.cells import tiny_cell
from tests.parts.runs import small_run
from tests.parts.sshd.fixture import plain_pi, the_plain_pi
from tests.parts.sshd.pi import Pi

__all__ = ["attached_phone", "own_adb_server", "plain_pi", "the_adb_server", "the_plain_pi"]

SPLITS = (0, 2)
TAIL_S = 0.02


@dataclass
class Conversation:
    """When the answers of one connection were made: it lasts from the first to the last."""

    device: str
    began: float
    ended: float


class RecordedTails(TailProcess):
    """Takes its time for every answer to a device, and notes it."""

    def __init__(self, device: str, answers: list[tuple[str, float, float]]) -> None:
        super().__init__(threads=1)
        self.device, self.answers = device, answers

    def answer(self, tail: LoadedTail, received: AnyArray) -> Answer:
        began = time.monotonic()
        time.sleep(TAIL_S)
        answer = super().answer(tail, received)
        self.answers.append((self.device, began, time.monotonic()))
        return answer


@dataclass
class Bench:
    """A run of two cells a device, and when the workstation answered whom."""

    folder: Path
    network: Network
    programs: Sequence[Exported]
    pictures: Pictures
    answers: list[tuple[str, float, float]] = field(default_factory=list)

    @property
    def pictures_file(self) -> Path:
        return self.folder / "held_out.safetensors"

    def store(self, *devices: str) -> RunStore:
        save_file({"pictures": self.pictures.held_out.pixels.contiguous()}, self.pictures_file)
        cells = [
            tiny_cell(split, hash=self.cell(device, split), device=device) for device in devices for split in SPLITS
        ]
        return RunStore.create(self.folder / "run", small_run(cells, self.pictures, ()))

    @staticmethod
    def cell(device: str, split: int) -> str:
        return f"{device}/{split}".encode().hex()[-60:]

    def work(self, device: str) -> list[Work]:
        return [self._one(device, split, program) for split, program in zip(SPLITS, self.programs, strict=True)]

    def measure(self, store: RunStore, ready: ReadyDevice) -> Iterator[RoundRecord]:
        with RecordedTails(ready.device.name, self.answers) as tails:
            yield from measure(store, self.work(ready.device.name), ready, self.pictures_file, tails)

    def _one(self, device: str, split: int, program: Exported) -> Work:
        output = program.manifest.outputs[0]
        cell = tiny_cell(split, hash=self.cell(device, split), device=device, activation_shape=output.activation_shape)
        picture = torch.zeros(1, 3, *self.network.model.input_size)
        tail = TailRequest(self.network, self.network.all_points[split], output.codec, picture)
        return Work(f"split {split}", (cell,), program, (tail,), engine="torch")

    def conversations(self) -> list[Conversation]:
        """The answers of one connection follow one another; so many make one."""
        size, found = len(self.pictures.held_out), []
        for device in {device for device, _, _ in self.answers}:
            own = [(began, ended) for one, began, ended in self.answers if one == device]
            assert len(own) % size == 0
            begins, ends = own[::size], own[size - 1 :: size]
            found += [Conversation(device, a[0], b[1]) for a, b in zip(begins, ends, strict=True)]
        return sorted(found, key=lambda conversation: conversation.began)


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory, plain: Network, pictures: Pictures) -> list[Exported]:
    """The program of each split."""
    settings = ExportSettings("fp32", pictures.train.pixels[0], "", tmp_path_factory.mktemp("exported"))
    programs = [Program.head(plain.all_points[split]) for split in SPLITS]
    made = dict(export(plain, programs, settings, lambda: plain))
    return [one for program in programs if isinstance(one := made[program], Exported)]


@pytest.fixture
def bench(tmp_path: Path, plain: Network, pictures: Pictures, exported: list[Exported]) -> Bench:
    return Bench(tmp_path, plain, exported, pictures)


def test_two_devices_ship_one_after_the_other(bench: Bench, plain_pi: Pi, attached_phone: Phone) -> None:
    addresses = (plain_pi.address, attached_phone.address)
    store, turn = bench.store(*addresses), Turn()

    def run(ready: ReadyDevice) -> list[RoundRecord]:
        return list(bench.measure(store, ready))

    with (
        prepared(addresses[0], turn=turn) as pi,
        prepared(addresses[1], turn=turn) as phone,
        ThreadPoolExecutor(2) as pool,
    ):
        records = [record for rounds in pool.map(run, (pi, phone)) for record in rounds]
    assert {record.status for record in records} == {"ok"}
    conversations = bench.conversations()
    assert len(conversations) == len(records) == 2 * len(SPLITS) * store.file.config.rounds
    assert [(a, b) for a, b in pairwise(conversations) if b.began < a.ended] == []
    switches = sum(a.device != b.device for a, b in pairwise(conversations))
    assert switches > len(SPLITS) * store.file.config.rounds / 2  # they did run side by side


# on this machine


@dataclass
class Seen:
    """Whether the turn was taken when something was asked of a device, and how long its jobs might take."""

    pushed: list[bool] = field(default_factory=list)
    run: list[bool] = field(default_factory=list)
    limits_s: set[float] = field(default_factory=set)


class Here(Local):
    """This machine, which sees when it is asked for something.

    Attributes:
        losses: so many times its connection will be lost when it is to run a head.
    """

    losses = 0

    def __init__(self, address: str) -> None:
        Device.__init__(self, address)  # not Local's: it answers to "local" alone
        self.seen = Seen()

    def push(self, local: Path) -> str:
        self.seen.pushed.append(is_taken())
        return super().push(local)

    def call(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        if "--cell" in argv and "knock" not in argv:
            self.seen.run.append(is_taken())
            self.seen.limits_s.add(timeout_s)
            if self.losses:
                self.losses -= 1
                raise DeviceError(f"{self.name}: lost")
        return super().call(argv, stdin=stdin, timeout_s=timeout_s)


class Away(Here):
    """Another machine, as far as anybody knows."""

    on_workstation = False


def is_taken() -> bool:
    with suppress(BlockingIOError), locked(Turn()._lock, wait=False):
        return False
    return True


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> None:
    """A turn that no other test takes; what is built is taken from the tests' cache."""
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "bundles").symlink_to(bundle.folder.parent)
    monkeypatch.setenv("SPLITBENCH_CACHE_DIR", str(tmp_path / "cache"))


@dataclass
class Run:
    """A run on one device, whose rounds are measured when they are asked for."""

    device: Here
    turn: Turn
    store: RunStore
    rounds: Iterator[RoundRecord]

    def next_rounds(self) -> set[str]:
        """Measure the next round of all work; returns what became of it."""
        return {next(self.rounds).status for _ in SPLITS}


@contextmanager
def run_on(kind: type[Here], bench: Bench) -> Iterator[Run]:
    """The device is ready for as long as the block runs."""
    store = bench.store("machine")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prepare, "open_device", kind)
        with prepared("machine") as ready:
            assert isinstance(ready.device, Here)
            ready.device.seen.pushed.clear()  # the knock's
            yield Run(ready.device, ready.turn, store, bench.measure(store, ready))


@pytest.mark.usefixtures("own_cache")
def test_this_machine_has_the_turn_for_all_that_it_does(bench: Bench) -> None:
    with run_on(Here, bench) as run:
        assert {record.status for record in run.rounds} == {"ok"}
    seen = run.device.seen
    assert set(seen.pushed) == set(seen.run) == {True}
    assert seen.limits_s == {PROGRAM_LIMIT_S}
    assert not is_taken()


@pytest.mark.usefixtures("own_cache")
def test_another_machine_is_sent_its_files_in_the_turn_and_computes_without_it(bench: Bench) -> None:
    with run_on(Away, bench) as run:
        seen = run.device.seen
        assert run.next_rounds() == {"ok"}
        assert set(seen.pushed) == {True}
        first = len(seen.pushed)
        assert {record.status for record in run.rounds} == {"ok"}
    assert set(seen.pushed[first:]) == set(seen.run) == {False}
    assert min(seen.limits_s) > PROGRAM_LIMIT_S  # it may have to wait before it ships


@pytest.mark.usefixtures("own_cache")
def test_a_machine_that_was_lost_is_sent_its_files_in_the_turn_again(bench: Bench) -> None:
    with run_on(Away, bench) as run:
        assert run.next_rounds() == {"ok"}
        pushed = run.device.seen.pushed
        pushed.clear()
        run.device.losses = 1
        assert next(run.rounds).status == "ok"
    half = len(pushed) // 2
    assert pushed == [False] * half + [True] * half


@pytest.mark.usefixtures("own_cache")
@pytest.mark.parametrize("kind", [Here, Away])
def test_who_waits_when_the_run_ends_keeps_no_round(bench: Bench, kind: type[Here]) -> None:
    """This machine waits before its job, another one in it, before it ships."""
    with run_on(kind, bench) as run, ThreadPoolExecutor(1) as pool:
        assert run.next_rounds() == {"ok"}
        jobs = len(run.device.seen.run)
        with Turn().taken():
            waiting = pool.submit(next, run.rounds)
            while not run.turn._line:
                time.sleep(0.01)
            run.turn.call_off()
            with pytest.raises(CalledOffError):
                waiting.result()
        assert len(run.device.seen.run) == jobs + (kind is Away)
        assert len(run.store.journal.rounds()) == len(SPLITS)
