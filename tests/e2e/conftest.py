"""The installed command, in a folder of its own."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.e2e.command import TINY, Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """Give the `bench` command in an empty folder."""
    return Bench(tmp_path)


@pytest.fixture(scope="session")
def tiny_heads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Export every head of the tiny network once."""
    bench = Bench(tmp_path_factory.mktemp("heads"))
    done = bench("export", TINY, "--input-size", "32")
    assert done.returncode == 0, done.stderr
    return bench.exported_models


@pytest.fixture
def used_bench(bench: Bench, tiny_heads: Path) -> Bench:
    """Give `bench` in a folder in which the tiny network was exported before."""
    shutil.copytree(tiny_heads, bench.exported_models)
    return bench
