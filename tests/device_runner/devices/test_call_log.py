"""Each call to a device is one line of the log: who, how long, what came of it, and which command; no content."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator

import pytest

from device_runner.devices.call_log import CALLS
from device_runner.devices.local import Local
from device_runner.errors import DeviceError


class _Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler = _Lines()
    CALLS.addHandler(handler)
    yield handler.lines
    CALLS.removeHandler(handler)


def test_a_call_has_its_duration_and_status(lines: list[str]) -> None:
    Local("local").call(["sh", "-c", "sleep 0.05\nexit 3"], timeout_s=10)
    (line,) = lines
    found = re.fullmatch(r"local  (\d\.\d{3}) s  status 3 \(status 3\)  sh -c 'sleep 0\.05 exit 3'", line)
    assert found, line
    assert 0.05 <= float(found[1]) < 5


def test_what_goes_in_and_comes_out_is_not_told(lines: list[str]) -> None:
    done = Local("local").call(["cat"], stdin=b"token\n", timeout_s=10)
    assert done.stdout == b"token\n"
    assert "token" not in lines[0]


def test_a_failure_is_told_and_still_raised(lines: list[str]) -> None:
    with pytest.raises(DeviceError, match="cannot be started"):
        Local("local").call(["/no/such/program"], timeout_s=10)
    assert "DeviceError: local: /no/such/program cannot be started" in lines[0]


def test_a_line_is_one_line_that_steers_nothing_and_is_not_long(lines: list[str]) -> None:
    Local("local").call(["true", "a\x1b[2Jb", "x" * 10_000], timeout_s=10)
    assert lines[0].isprintable()
    assert len(lines[0]) < 600
