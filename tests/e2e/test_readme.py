"""What README and guides tell people to type works as it stands there, on the tests' Pi and phone."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from analysis import load_run
from device_runner.devices import open_device
from harness.cli import bench as command
from tests.e2e.command import DEEPER, TINY, Bench
from tests.parts.adbd.fixture import attached_phone, own_adb_server, the_adb_server
from tests.parts.adbd.phone import AdbServer, Phone
from tests.parts.sshd.fixture import plain_pi, the_plain_pi
from tests.parts.sshd.pi import Pi

__all__ = ["attached_phone", "own_adb_server", "plain_pi", "the_adb_server", "the_plain_pi"]

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))
# The default network takes an hour under emulation; one with fewer layers takes seconds.
SMALLER = ("--input-size", "32", "--iterations", "1", "--warmup", "0", "--attack", "tiny_attack:MeanPicture")


def examples(page: str) -> list[str]:
    """The lines of a page's shell blocks that start `bench`, indented ones and those behind a prompt."""
    lines = re.findall(r"^(?:    |\$ )(bench .*)$", (ROOT / page).read_text(), re.MULTILINE)
    return [line.partition("  #")[0] for line in lines if "[" not in line]


def words(line: str) -> list[str]:
    return shlex.split(line)[1:]


@pytest.mark.parametrize(("page", "line"), [(page, line) for page in PAGES for line in examples(page)])
def test_every_example_is_understood(page: str, line: str) -> None:
    del page
    name, *arguments = words(line)
    context = command.commands[name].make_context(name, arguments, resilient_parsing=False)
    for address in (*context.params.get("devices", ()), *context.params.get("addresses", ())):
        open_device(address)


def test_the_readme_has_examples_of_devices() -> None:
    assert [words(line)[0] for line in examples("README.md") if "ssh://" in line] == ["devices", "run"]


@pytest.fixture
def devices(plain_pi: Pi, own_adb_server: AdbServer, attached_phone: Phone, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the README calls raspberrypi.local is the Pi, and `adb` the phone."""
    config = plain_pi.client / ".ssh" / "config"
    config.write_text(f"Host raspberrypi.local\n  HostName 127.0.0.1\n  Port {plain_pi.port}\n")
    own_adb_server.attach(attached_phone)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.mark.usefixtures("devices")
def test_the_readmes_devices_are_ok(bench: Bench) -> None:
    (line,) = (line for line in examples("README.md") if line.startswith("bench devices"))
    done = bench(*words(line))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [row for row in done.stdout.splitlines() if row.endswith(": ok")] == [
        f"{address}: ok" for address in words(line)[1:]
    ]


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("network", [TINY, pytest.param(DEEPER, marks=pytest.mark.slow)])
def test_the_readmes_run_and_python_block_work_on_a_smaller_network(bench: Bench, network: str) -> None:
    (line,) = (line for line in examples("README.md") if line.startswith("bench run") and "ssh://" in line)
    done = bench(*words(line), network, *SMALLER)
    assert done.returncode == 0, done.stderr
    table = load_run(bench.only_run).summary()
    assert set(table["status"]) == {"ok"}, table[["device", "split", "reason"]]
    assert table["device"].nunique() == 3
    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    ran = subprocess.run([sys.executable, "-c", block], cwd=bench.folder, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


@pytest.mark.usefixtures("devices")
@pytest.mark.parametrize("survey", [(), ("--no-survey",)], ids=["survey first", "no survey"])
@pytest.mark.parametrize("attempt", range(2))
@pytest.mark.slow
def test_two_remote_devices_need_no_local(bench: Bench, survey: tuple[str, ...], attempt: int) -> None:
    """They share a run's folder, its pictures and the exported heads, and neither waits for the other."""
    del attempt
    done = bench("run", DEEPER, *SMALLER, "--device", "ssh://pi@raspberrypi.local", "--device", "adb", *survey)
    assert done.returncode == 0, done.stderr
    table = load_run(bench.only_run).summary()
    assert set(table["status"]) == {"ok"}, table[["device", "split", "reason"]]
    assert table["device"].nunique() == 2
