"""Fixtures: Raspberry Pis, and the HOME of who connects to them. A test module imports those that it uses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.parts.sshd.pi import Pi, raspberry_pi

__all__ = ["at_home", "awkward_pi", "plain_pi", "the_awkward_pi", "the_plain_pi"]


@pytest.fixture(scope="module")
def the_plain_pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    """One Pi for a module's tests."""
    with raspberry_pi(tmp_path_factory.mktemp("pi")) as pi:
        yield pi


@pytest.fixture(scope="module")
def the_awkward_pi(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pi]:
    """Another one: dash, a home folder whose name holds a space and a quote, no programs in /tmp."""
    options = "mode=1777,noexec"
    with raspberry_pi(
        tmp_path_factory.mktemp("pi"), home="it's a pi", login_shell="/bin/dash", tmp_options=options
    ) as pi:
        yield pi


@pytest.fixture
def plain_pi(the_plain_pi: Pi, monkeypatch: pytest.MonkeyPatch) -> Pi:
    """A Pi that this process and what it starts may log in to under `address`."""
    return at_home(the_plain_pi, monkeypatch)


@pytest.fixture
def awkward_pi(the_awkward_pi: Pi, monkeypatch: pytest.MonkeyPatch) -> Pi:
    """An awkward Pi that this process and what it starts may log in to under `address`."""
    return at_home(the_awkward_pi, monkeypatch)


def at_home(pi: Pi, monkeypatch: pytest.MonkeyPatch) -> Pi:
    """Make this process the one that the Pi knows."""
    for name, value in pi.environment.items():
        monkeypatch.setenv(name, value)
    return pi
