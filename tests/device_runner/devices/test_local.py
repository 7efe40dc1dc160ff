"""This machine has one address, and so has the emulated device."""

from __future__ import annotations

import pytest

from device_runner.devices import open_device
from device_runner.errors import UsageError


@pytest.mark.parametrize(("address", "meant"), [("local:1", "local"), ("local/", "local"), ("emulated:x", "emulated")])
def test_it_goes_by_one_name(address: str, meant: str) -> None:
    with pytest.raises(UsageError, match=f"'{address}' is not a device; did you mean {meant}\\?"):
        open_device(address)


def test_an_address_of_a_file_server_is_told_what_was_meant() -> None:
    with pytest.raises(UsageError, match="did you mean ssh://pi@h\\?"):
        open_device("sftp://pi@h")
