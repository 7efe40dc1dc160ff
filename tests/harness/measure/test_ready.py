"""A device is ready when its runner reaches a receiver: straight where that works, through a tunnel where not."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace

import psutil
import pytest

from device_runner.devices import Device, DeviceFacts
from device_runner.devices.local import Local
from device_runner.errors import DeviceError, HeldError, UsageError
from device_runner.link import LinkShape
from harness.measure import ready as prepare
from harness.measure.ready import _listening, prepared
from tests.parts.sshd.fixture import plain_pi, the_plain_pi
from tests.parts.sshd.pi import Pi

__all__ = ["plain_pi", "the_plain_pi"]


class Elsewhere(Local):
    """This machine, as if it stood behind a network: seen from there the workstation has a given address."""

    direct_link, tunnel_link = "direct", "tunnel"
    seen: str | None = None

    def __init__(self, address: str) -> None:
        Device.__init__(self, address)  # not Local's: it answers to "local" alone

    def workstation_address(self) -> str:
        return self.seen  # type: ignore[return-value]

    def open_tunnel(self, port: int) -> str:
        return f"127.0.0.1:{port}"

    def describe(self) -> DeviceFacts:
        return replace(super().describe(), emulated=True)


@pytest.fixture
def elsewhere(monkeypatch: pytest.MonkeyPatch) -> type[Elsewhere]:
    def open_it(address: str) -> Device:
        return Elsewhere(address)

    monkeypatch.setattr(prepare, "open_device", open_it)
    return Elsewhere


def test_this_machine_is_ready_over_loopback() -> None:
    with prepared("local") as ready:
        assert (ready.entry.label, ready.entry.link) == ("local", "loopback")
        assert ready.receiver_address() == f"127.0.0.1:{ready.receiver.port}"


def test_a_shaped_link_is_called_so() -> None:
    with prepared("local", shape=LinkShape.parse("wifi:40mbit/5ms")) as ready:
        assert ready.entry.link == "wifi:40mbit/5ms over loopback (shaped)"


def test_an_emulated_device_is_called_so(elsewhere: type[Elsewhere], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "seen", "127.0.0.1")
    with prepared("pi") as ready:
        assert (ready.entry.label, ready.entry.link) == ("pi (emulated)", "direct")
        assert ready.entry.emulated


def test_a_name_makes_no_device_emulated_and_spares_none_the_word(
    elsewhere: type[Elsewhere], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(elsewhere, "seen", "127.0.0.1")
    with prepared("emulated-pi") as ready:
        assert (ready.entry.label, ready.entry.emulated) == ("emulated-pi (emulated)", True)
    monkeypatch.setattr(elsewhere, "describe", Local.describe)
    with prepared("emulated-pi") as ready:
        assert (ready.entry.label, ready.entry.emulated) == ("emulated-pi", False)


@pytest.mark.parametrize("seen", [None, "192.0.2.1"], ids=["not known", "not this machine's own"])
def test_a_tunnel_is_taken_where_there_is_no_direct_way(
    elsewhere: type[Elsewhere], monkeypatch: pytest.MonkeyPatch, seen: str | None
) -> None:
    monkeypatch.setattr(elsewhere, "seen", seen)
    with prepared("pi") as ready:
        assert ready.entry.link == "tunnel"
    with pytest.raises(DeviceError, match="directly"), prepared("pi", way_back="direct"):
        pass


def link_local() -> list[str]:
    """This machine's addresses of the kind that needs a zone, if it has any."""
    every = (a.address for addresses in psutil.net_if_addrs().values() for a in addresses)
    return [address for address in every if address.startswith("fe80:") and "%" in address][:1]


@pytest.mark.parametrize("seen", ["::1", *link_local()])
def test_a_device_that_came_over_ipv6_is_answered_there(
    elsewhere: type[Elsewhere], monkeypatch: pytest.MonkeyPatch, seen: str
) -> None:
    monkeypatch.setattr(elsewhere, "seen", seen)
    with prepared("pi", way_back="direct") as ready:
        assert ready.entry.link == "direct"
        assert ready.receiver_address() == f"[{seen}]:{ready.receiver.port}"


@pytest.mark.parametrize("own", link_local())
def test_a_zone_is_the_device_s_own_name_for_a_network(own: str) -> None:
    listening = _listening(f"{own.partition('%')[0]}%wlan9")
    assert listening
    listening.close()


@pytest.mark.slow
def test_a_pi_that_is_reached_over_ipv6_connects_straight(plain_pi: Pi) -> None:
    with prepared(f"ssh://pi@[::1]:{plain_pi.port}", way_back="direct") as ready:
        assert ready.entry.link == "direct"


def test_the_way_that_was_asked_for_is_taken(elsewhere: type[Elsewhere], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(elsewhere, "seen", "127.0.0.1")
    with prepared("pi", way_back="tunnel") as ready:
        assert ready.entry.link == "tunnel"


def test_this_machine_has_no_tunnel() -> None:
    with pytest.raises(UsageError, match="no tunnel"), prepared("local", way_back="tunnel"):
        pass


def test_two_harnesses_never_measure_on_one_device_at_once() -> None:
    with (
        prepared("local"),
        pytest.raises(DeviceError, match="another harness is measuring on local"),
        prepared("local"),
    ):
        pass
    with prepared("local") as ready:  # the lock has gone with its owner
        assert ready.entry.label == "local"


def test_a_forked_process_that_outlives_the_harness_holds_no_device() -> None:
    fork = multiprocessing.get_context("fork")
    runs = fork.Event()

    def outlive() -> None:
        runs.set()
        time.sleep(60)

    with prepared("local"):
        left = fork.Process(target=outlive, daemon=True)
        left.start()
        assert runs.wait(60)  # a process that is only about to run may hold it for a moment
    try:
        with prepared("local") as ready:
            assert ready.entry.label == "local"
    finally:
        left.kill()
        left.join()


class TestOneDeviceUnderTwoAddresses:
    @pytest.fixture
    def two_addresses(self, elsewhere: type[Elsewhere], monkeypatch: pytest.MonkeyPatch) -> None:
        def describe(device: Elsewhere) -> DeviceFacts:
            return replace(Local.describe(device), identity="0123456789abcdef")

        monkeypatch.setattr(elsewhere, "describe", describe)
        monkeypatch.setattr(elsewhere, "seen", "127.0.0.1")

    @pytest.mark.usefixtures("two_addresses")
    def test_is_named_once_in_a_run(self) -> None:
        with (
            prepared("ssh://pi"),
            pytest.raises(UsageError, match=r"ssh://pi and ssh://10\.0\.0\.7 are the same machine; name it once"),
            prepared("ssh://10.0.0.7"),
        ):
            pass
        with prepared("ssh://10.0.0.7") as ready:  # neither lock is left
            assert ready.entry.address == "ssh://10.0.0.7"

    @pytest.mark.usefixtures("two_addresses")
    def test_is_one_device_to_another_harness(self) -> None:
        fork = multiprocessing.get_context("fork")
        taken, over = fork.Event(), fork.Event()

        def measure() -> None:
            with prepared("ssh://pi"):
                taken.set()
                over.wait(60)

        other = fork.Process(target=measure, daemon=True)
        other.start()
        assert taken.wait(60)
        try:
            words = r"measuring on ssh://10.0.0.7 \(ssh://pi is the same machine\); wait for it"
            with pytest.raises(HeldError, match=words), prepared("ssh://10.0.0.7"):
                pass
        finally:
            over.set()
            other.join()
