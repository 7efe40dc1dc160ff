"""With --iterations auto a head runs until its median is known, and no longer; around a program of known durations."""

from __future__ import annotations

import math
import subprocess
from pathlib import Path

import pytest

from device_runner.bundle import NATIVE_FOLDER

FEWEST, MOST, LONG_ENOUGH_NS, NARROW = 10, 1000, 1_000_000_000, 0.02
MS = 1_000_000


@pytest.fixture(scope="module")
def timing_tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the loops as a program that a bad memory access or undefined behaviour ends with a signal."""
    program = tmp_path_factory.mktemp("timing_tool") / "timing_tool"
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    sources = [Path(__file__).parent / "native" / "timing_tool.cpp", NATIVE_FOLDER / "src" / "timing.cpp"]
    subprocess.run(["g++", *flags, "-I", NATIVE_FOLDER / "src", *sources, "-o", program], check=True)
    return program


def run(timing_tool: Path, *durations_ns: int) -> list[int]:
    done = subprocess.run([timing_tool, *map(str, durations_ns)], check=True, capture_output=True, timeout=60)
    return [int(line) for line in done.stdout.split()]


def is_narrow(samples: list[int]) -> bool:
    """Whether the 95 % interval of the median is narrow: two samples that leave out 2.5 % on either side, or less."""
    count, below, left_out = len(samples), 0, 1
    while (left_out + math.comb(count, below + 1)) * 40 <= 2**count:
        below += 1
        left_out += math.comb(count, below)
    ordered = sorted(samples)
    median = ordered[count // 2]
    return ordered[below] >= (1 - NARROW) * median and ordered[count - 1 - below] <= (1 + NARROW) * median


def looks(count: int) -> list[int]:
    """After how many runs it is asked whether they are enough, up to so many."""
    asked = [FEWEST]
    while asked[-1] < count:
        asked.append(min(asked[-1] + asked[-1] // 4, MOST))
    return asked


@pytest.mark.parametrize(
    "durations_ns",
    [(MS,), (MS // 10,), (MS, MS + MS // 50, MS + MS // 25), (MS, 2 * MS), (MS // 10, MS // 5, MS // 7), (0,)],
    ids=str,
)
def test_it_stops_when_the_median_is_known_and_not_before(timing_tool: Path, durations_ns: tuple[int, ...]) -> None:
    samples = run(timing_tool, *durations_ns)
    asked = looks(len(samples))
    assert asked[-1] == len(samples)
    assert not any(is_narrow(samples[:count]) for count in asked[:-1])
    assert is_narrow(samples) or len(samples) == MOST or sum(samples) >= 0.9 * LONG_ENOUGH_NS


def test_a_median_that_stays_unknown_ends_after_a_second_or_a_thousand_runs(timing_tool: Path) -> None:
    samples = run(timing_tool, MS // 10, MS // 5)
    assert len(samples) == MOST or sum(samples) >= 0.9 * LONG_ENOUGH_NS
    assert len(run(timing_tool, 0, 40 * MS)) < MOST / 10


def test_a_slow_head_runs_ten_times_whatever_that_takes(timing_tool: Path) -> None:
    assert len(run(timing_tool, 110 * MS, 150 * MS)) == FEWEST
