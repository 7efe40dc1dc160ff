"""The installed command, in a folder of its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.command import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give the `bench` command in an empty folder."""
    return Bench(tmp_path)
