"""What a device that files are copied to promises, whatever connects to it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_runner.devices.ssh import Ssh
from device_runner.errors import TransferError
from tests.parts.common import blob, failure
from tests.parts.sshd.fixture import plain_pi, the_plain_pi
from tests.parts.sshd.pi import Pi

__all__ = ["plain_pi", "the_plain_pi"]


@pytest.fixture
def device(plain_pi: Pi) -> Iterator[Ssh]:
    with Ssh(plain_pi.address) as ssh:
        yield ssh


def test_a_file_is_hashed_anew_only_after_it_changed(device: Ssh, tmp_path: Path) -> None:
    file = blob(tmp_path, 1000)
    first, before = device.push(file), file.stat()
    blob(tmp_path, 1000)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert device.push(file) == first, "nothing shows that it changed, so that it need not be read"
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert device.push(file) != first


def test_what_cannot_be_replaced_is_not_taken_for_what_was_sent(device: Ssh, tmp_path: Path) -> None:
    folder = f"{device.root()}/kept"
    device.call_checked(["mkdir", "-p", folder], timeout_s=20)
    device.put(blob(tmp_path, 1000), f"{folder}/blob")
    device.call_checked(["chmod", "-R", "a-w", folder], timeout_s=20)
    with failure("0 of 1000 bytes arrived: ", remedy=f"{folder} can be written", kind=TransferError):
        device.put(blob(tmp_path, 1000), f"{folder}/blob")
    device.call_checked(["chmod", "-R", "u+w", folder], timeout_s=20)
