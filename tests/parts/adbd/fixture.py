"""Fixtures: an adb server, and phones on it. A test module names the ones that it uses by importing them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.adbd.phone import AdbServer, Phone, adb_server, phone

__all__ = ["attached_phone", "own_adb_server", "the_adb_server"]


@pytest.fixture(scope="module")
def the_adb_server() -> Iterator[AdbServer]:
    """One adb server for a module's tests."""
    with adb_server() as server:
        yield server


@pytest.fixture
def own_adb_server(the_adb_server: AdbServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[AdbServer]:
    """The adb server that this process and what it starts talk to; nothing is attached at first."""
    for name, value in the_adb_server.environment.items():
        monkeypatch.setenv(name, value)
    yield the_adb_server
    the_adb_server.forget_everything()


@pytest.fixture
def attached_phone(own_adb_server: AdbServer) -> Iterator[Phone]:  # noqa: ARG001 - it must be there
    """A phone that anybody may reach under `address`."""
    with phone() as running:
        yield running
