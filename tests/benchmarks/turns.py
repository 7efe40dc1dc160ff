"""Two devices side by side against each of them alone: neither may slow the other's end-to-end times down.

The devices are the tests' own Raspberry Pi and phone: their processors are emulated, on this machine. Split 0 tells
most, for there they compute nothing; a head here takes cores from the other device's conversation, as no head of a real
device does.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import mannwhitneyu

from analysis import load_run
from harness.stats import RESAMPLES
from tests.benchmarks.comparison import Result
from tests.parts.adbd.phone import adb_server, phone
from tests.parts.sshd import raspberry_pi
from tests.parts.sshd.fixture import at_home

ASKED = ("run", "--split", "picture,_swish", "--input-size", "128", "--no-survey", "--warmup", "1", "--iterations", "2")
ATTACK = ("--attack", "tests.e2e.tiny_attack:MeanPicture")
REPEATS = 3
MOST = 1.05

Rounds = list[npt.NDArray[np.float64]]
"""End-to-end times of one cell, in nanoseconds: an array a round."""


def results(repeats: int = REPEATS) -> Iterator[Result]:
    """Each device's end-to-end times at each split, beside the other device and alone; only for root.

    Args:
        repeats: how often it is measured each way, the ways shuffled, five rounds each time.
    """
    if os.geteuid() != 0:
        return
    with (
        tempfile.TemporaryDirectory() as folder,
        raspberry_pi(Path(folder)) as pi,
        adb_server() as server,
        phone() as attached,
        pytest.MonkeyPatch.context() as patch,
    ):
        at_home(pi, patch)
        for name, value in server.environment.items():
            patch.setenv(name, value)
        both = (pi.address, attached.address)
        _measured(Path(folder), both)  # exports, and sends the bundles
        alone: dict[tuple[str, str], Rounds] = defaultdict(list)
        beside: dict[tuple[str, str], Rounds] = defaultdict(list)
        rng = random.Random(0)
        for _ in range(repeats):
            for addresses in rng.sample([both, both[:1], both[1:]], 3):
                for cell, rounds in _measured(Path(folder), addresses).items():
                    (beside if addresses == both else alone)[cell].extend(rounds)
    for cell in alone:
        yield _compared(cell, alone[cell], beside[cell])


def _measured(folder: Path, addresses: Sequence[str]) -> dict[tuple[str, str], Rounds]:
    """One run: each device's and split's end-to-end times."""
    with tempfile.TemporaryDirectory() as out:
        devices = [part for address in addresses for part in ("--device", address)]
        command = [str(Path(sys.executable).parent / "bench"), *ASKED, *ATTACK, *devices, "--out", f"{out}/run"]
        environment = os.environ | {"PYTHONPATH": str(Path.cwd())}
        subprocess.run(command, cwd=folder, env=environment, check=True, capture_output=True)
        run = load_run(Path(out) / "run")
        cells = {cell.hash: ((cell.device or "").partition(":")[0], cell.split) for cell in run.file.cells}
        shipped = run.samples().query("loop == 'shipping'")
        found: dict[tuple[str, str], Rounds] = defaultdict(list)
        for cell, rounds in shipped.groupby("cell"):
            for _, times in rounds.groupby("round")["end_to_end_ns"]:
                found[cells[str(cell)]].append(times.to_numpy(float))
        return found


def _compared(cell: tuple[str, str], alone: Rounds, beside: Rounds) -> Result:
    """The ratio of the medians; its interval resamples rounds."""
    rng = np.random.default_rng(0)

    def median(rounds: Rounds) -> float:
        return float(np.median(np.concatenate(rounds)))

    def redrawn(rounds: Rounds) -> Rounds:
        return [rounds[i] for i in rng.integers(len(rounds), size=len(rounds))]

    ratios = [median(redrawn(beside)) / median(redrawn(alone)) for _ in range(RESAMPLES)]
    low, high = np.percentile(ratios, [2.5, 97.5])
    p = float(mannwhitneyu(*([np.median(one) for one in rounds] for rounds in (beside, alone))).pvalue)
    samples = {"mann_whitney_p": [p]}
    for name, rounds in (("alone", alone), ("beside", beside)):
        samples[f"{name}_ns"] = np.concatenate(rounds).tolist()
        samples[f"{name}_round"] = [float(i) for i, one in enumerate(rounds) for _ in one]
    device, split = cell
    return Result(
        f"end to end, {device}, {split}: beside / alone (Mann-Whitney p = {p:.2g})",
        "ratio",
        median(beside) / median(alone),
        float(low),
        float(high),
        MOST,
        samples,
    )
