"""bench run on a Raspberry Pi, a phone and this machine: one table; what is lost on the way can be gone on with."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from analysis import load_run
from harness.measure.turn import Turn
from tests.e2e.command import TINY, Bench, assert_one_line
from tests.parts.adbd.fixture import attached_phone, own_adb_server, the_adb_server
from tests.parts.adbd.phone import Phone
from tests.parts.sshd.fixture import plain_pi, the_plain_pi
from tests.parts.sshd.pi import Pi

__all__ = ["attached_phone", "own_adb_server", "plain_pi", "the_adb_server", "the_plain_pi"]

QUICK = ("--iterations", "2", "--warmup", "1", "--attack", "tiny_attack:MeanPicture")
ASKED = ("run", TINY, "--input-size", "32", *QUICK)
FEW = (*ASKED, "--split", "0,5,8")
SLOW = (*FEW, "--cool-down", "0.3s")  # so that something can happen in the middle of it


def wait_for(what: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.01)


def rounds_of(bench: Bench) -> list[Path]:
    return list(bench.folder.glob("runs/*/journal/rounds/*.json"))


def native_runners(*arguments: str) -> list[psutil.Process]:
    """The runners on this machine that were started with these arguments, among others."""
    running = [(p, p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])]
    return [p for p, words in running if any(w.endswith("head_runner") for w in words) and {*arguments} <= {*words}]


def resumes_whole(bench: Bench, before: dict[Path, bytes]) -> None:
    done = bench("run", "--resume")
    assert done.returncode == 0, done.stderr
    assert {path: path.read_bytes() for path in before} == before
    run = load_run(bench.only_run)
    assert set(run.summary()["status"]) == {"ok"}
    assert not run.samples().duplicated(["cell", "round", "loop", "iteration"]).any()


def kept(bench: Bench) -> dict[Path, bytes]:
    """What is finished, but for what failed: that is tried again."""
    return {path: content for path in rounds_of(bench) if b'"failed"' not in (content := path.read_bytes())}


def test_one_command_three_devices_one_table(bench: Bench, plain_pi: Pi, attached_phone: Phone) -> None:
    devices = [plain_pi.address, attached_phone.address, "local"]
    flags = [part for address in devices for part in ("--device", address)]
    done = bench(*ASKED, "--precision", "fp32,int8", "--split", "all", *flags)
    assert done.returncode == 0, done.stderr
    table = load_run(bench.only_run).summary()
    assert set(table["status"]) == {"ok"}, table[["device", "split", "reason"]]
    assert table[table["split_index"] > 0]["verified"].all()
    labels = {f"{plain_pi.address} (emulated)", f"{attached_phone.address} (emulated)", "local"}
    assert set(table["device"]) == labels
    assert table.groupby("device").size().nunique() == 1
    links = table.groupby("device")["link"].first()
    assert links["local"] == "loopback"
    assert set(links) <= {"loopback", "direct", "ssh tunnel", "adb reverse (tcp)"}
    assert table[table["device"] != "local"]["temperature_c"].notna().all()
    assert table["energy_reason"].str.contains("battery").all()
    assert "Emulated device" in done.stdout
    log = (bench.only_run / "run.log").read_text()
    for address in devices:
        assert f"  {address}  " in log


@pytest.mark.slow
def test_the_ways_back_can_be_chosen(bench: Bench, plain_pi: Pi, attached_phone: Phone) -> None:
    for address, link in ((plain_pi.address, "ssh tunnel"), (attached_phone.address, "adb reverse (tcp)")):
        out = link.split()[0]
        done = bench(*FEW, "--device", address, "--way-back", "tunnel", "--out", out)
        assert done.returncode == 0, done.stderr
        assert set(load_run(bench.folder / out).summary()["link"]) == {link}


@pytest.mark.slow
def test_a_pi_that_goes_away_in_the_middle_is_gone_on_with(bench: Bench, plain_pi: Pi) -> None:
    process = bench.start(*SLOW, "--device", plain_pi.address)
    wait_for(lambda: len(rounds_of(bench)) >= 3)
    plain_pi.stop()
    try:
        _, stderr = process.communicate(timeout=120)
    finally:
        plain_pi.start()
    assert process.returncode == 1
    last = stderr.decode().strip().splitlines()[-1]
    assert plain_pi.address in last
    assert "lost" in last
    assert "--resume" in last
    assert "Traceback" not in stderr.decode()
    resumes_whole(bench, kept(bench))


@pytest.mark.slow
def test_an_sshd_that_restarts_costs_nothing(bench: Bench, plain_pi: Pi) -> None:
    process = bench.start(*SLOW, "--device", plain_pi.address)
    wait_for(lambda: len(rounds_of(bench)) >= 3)
    plain_pi.restart()
    _, stderr = process.communicate(timeout=120)
    if process.returncode != 0:  # it was asked between off and on
        assert b"--resume" in stderr
    resumes_whole(bench, kept(bench))


def test_a_phone_that_is_unplugged_is_gone_on_with(used_bench: Bench, attached_phone: Phone) -> None:
    process = used_bench.start(*SLOW, "--device", attached_phone.address)
    wait_for(lambda: len(rounds_of(used_bench)) >= 3)
    attached_phone.change(state="unplugged")
    _, stderr = process.communicate(timeout=180)
    assert process.returncode == 1, stderr
    assert "--resume" in stderr.decode().strip().splitlines()[-1]
    attached_phone.change(state="device")
    resumes_whole(used_bench, kept(used_bench))


def test_a_runner_that_the_kernel_kills_is_a_row_with_a_reason(used_bench: Bench, plain_pi: Pi) -> None:
    many = "99991"  # nobody else's
    process = used_bench.start(*ASKED, "--split", "8", "--iterations", many, "--device", plain_pi.address)
    wait_for(lambda: native_runners(many))
    time.sleep(1)  # into the timed loop
    for runner in native_runners(many):
        runner.send_signal(signal.SIGKILL)
    _, stderr = process.communicate(timeout=120)
    table = load_run(used_bench.only_run).summary()
    assert list(table["status"]) == ["failed"], stderr
    assert "memory" in table["reason"].iloc[0]
    assert table["head_p50_ms"].isna().all()


@pytest.mark.slow
def test_a_harness_that_dies_leaves_nothing_running_and_is_gone_on_with(bench: Bench, plain_pi: Pi) -> None:
    process = bench.start(*SLOW, "--device", plain_pi.address)
    wait_for(lambda: len(rounds_of(bench)) >= 2)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    wait_for(lambda: not native_runners(), 30)
    resumes_whole(bench, kept(bench))


def test_ctrl_c_ends_a_run_that_waits_for_its_turn_at_once(used_bench: Bench, plain_pi: Pi) -> None:
    few = "17"  # nobody else's
    process = used_bench.start(*FEW, "--iterations", few, "--device", plain_pi.address)
    wait_for(lambda: len(rounds_of(used_bench)) >= 3)
    with Turn().taken():  # as another harness on this workstation would
        wait_for(lambda: native_runners(few))
        time.sleep(1)  # to where it waits
        assert native_runners(few)
        os.kill(process.pid, signal.SIGINT)
        began = time.monotonic()
        _, stderr = process.communicate(timeout=60)
    assert time.monotonic() - began < 10
    assert process.returncode == 130
    assert b"Traceback" not in stderr
    assert all(b'"failed"' not in path.read_bytes() for path in rounds_of(used_bench))


def test_a_wrong_host_key_is_one_line(bench: Bench, plain_pi: Pi, tmp_path: Path) -> None:
    known = plain_pi.client / ".ssh" / "known_hosts"
    right = known.read_text()
    key = tmp_path / "other"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(key)], check=True)
    kind, wrong, *_ = key.with_suffix(".pub").read_text().split()
    try:
        known.write_text(f"{right.split()[0]} {kind} {wrong}\n")
        assert_one_line(bench(*FEW, "--device", plain_pi.address), "key")
        assert not (bench.folder / "runs").exists()
    finally:
        known.write_text(right)


@pytest.mark.parametrize(("address", "word"), [("ssh://nobody@127.0.0.1:1", "refuses"), ("usb", "unknown device")])
def test_what_is_not_there_is_one_line(bench: Bench, address: str, word: str) -> None:
    assert_one_line(bench(*FEW, "--device", address), address, word)
    assert not (bench.folder / "runs").exists()


def test_devices_are_listed_and_cleaned(bench: Bench, plain_pi: Pi, attached_phone: Phone) -> None:
    both = (plain_pi.address, attached_phone.address)
    done = bench("devices", *both, "ssh://nobody@127.0.0.1:1")
    assert done.returncode == 1
    assert f"{both[0]}: ok" in done.stdout
    assert f"{both[1]}: ok" in done.stdout
    assert "refuses" in done.stdout
    assert attached_phone.address in bench("devices").stdout + done.stdout
    done = bench("devices", "--clean", *both)
    assert done.stdout.splitlines() == [f"{address}: clean" for address in both]


@pytest.mark.slow
def test_a_power_chip_gives_energy(bench: Bench, plain_pi: Pi) -> None:
    chip = plain_pi.firmware / "pmic_read_adc"
    chip.write_text(" VDD_CORE_A current(7)=2.00000000A\n VDD_CORE_V volt(15)=0.75000000V\n")
    try:
        done = bench(*ASKED, "--split", "8", "--device", plain_pi.address)
    finally:
        chip.unlink()
    assert done.returncode == 0, done.stderr
    row = load_run(bench.only_run).summary().iloc[0]
    assert row["energy_mj"] == pytest.approx(1500 * row["head_p50_ms"] / 1000, rel=0.9)  # an emulator's times vary
