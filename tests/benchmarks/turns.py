"""Two devices side by side against each of them alone: neither may slow the other's end-to-end times down.

The devices are the tests' own Raspberry Pi and phone: their processors are emulated, on this machine. Split 0 tells
most, for there they compute nothing; a head here takes cores from the other device's conversation, as no head of a real
device does.
"""

from __future__ import annotations

import os
import random
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import mannwhitneyu

from analysis.campaign.carry_out import Campaign
from analysis.campaign.devices import ready_devices
from analysis.campaign.inputs import Inputs, load_inputs
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.plan import lay_run
from analysis.campaign.tails import Tails
from analysis.run import Run
from harness.measure.ready import ReadyDevice
from harness.networks.models import DEFAULT_MODEL
from harness.results.schema import RunConfig
from harness.stats import RESAMPLES
from tests.benchmarks.comparison import Result
from tests.parts.adbd.phone import adb_server, phone
from tests.parts.sshd import raspberry_pi
from tests.parts.sshd.fixture import at_home

REPEATS = 5
MOST = 1.05

Rounds = list[npt.NDArray[np.float64]]
"""End-to-end times of one device at one split, in nanoseconds: an array a round."""
ByCell = dict[tuple[str, str], Rounds]
"""By the kind of the device and the split."""


class Silent:
    """Watches a run, and tells nobody."""

    def phase(self, phase: Phase, total: int | None) -> None:
        """Nothing."""

    def step(self, text: str) -> None:
        """Nothing."""

    def note(self, text: str) -> None:
        """Nothing."""


def results(repeats: int = REPEATS) -> Iterator[Result]:
    """Each device's end-to-end times at each split, beside the other device and alone; only for root.

    Args:
        repeats: how often it is measured each way, the ways shuffled, five rounds each time.
    """
    if os.geteuid() != 0:
        return
    alone, beside = _measured(repeats)
    for cell in alone:
        yield _compared(cell, alone[cell], beside[cell])


def _measured(repeats: int) -> tuple[ByCell, ByCell]:
    """Alone, and side by side."""
    alone: ByCell = defaultdict(list)
    beside: ByCell = defaultdict(list)
    rng, phases = random.Random(0), Phases(Silent())
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        pi = stack.enter_context(raspberry_pi(folder))
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        at_home(pi, patch)
        for name, value in stack.enter_context(adb_server()).environment.items():
            patch.setenv(name, value)
        config = _config(pi.address, stack.enter_context(phone()).address)
        inputs = load_inputs(config, folder / "exported", phases)
        both = stack.enter_context(ready_devices(config, config.devices, phases))
        _run(folder / "warm", config, inputs, both, phases)  # exports, and sends what it made
        for i in range(repeats):
            for devices in rng.sample([both, both[:1], both[1:]], 3):
                found = _run(folder / f"{i}-{len(devices)}-{devices[0] is both[0]}", config, inputs, devices, phases)
                for cell, rounds in found.items():
                    (beside if len(devices) == 2 else alone)[cell].extend(rounds)
    return alone, beside


def _config(*devices: str) -> RunConfig:
    return RunConfig(
        models=(DEFAULT_MODEL,),
        split="picture,_swish",
        precisions=("fp32",),
        input_size=(128, 128),
        pictures="builtin",
        weights="auto",
        seed=0,
        devices=devices,
        warmup=1,
        iterations=2,
        survey="none",
        attacks=(),
    )


def _run(folder: Path, config: RunConfig, inputs: Inputs, devices: Sequence[ReadyDevice], phases: Phases) -> ByCell:
    """One run: each device's and split's end-to-end times."""
    addresses = tuple(ready.device.name for ready in devices)
    store = lay_run(folder, config.model_copy(update={"devices": addresses}), inputs, devices)
    with Tails.of_run(store, inputs.exported, phases) as tails:
        Campaign(store, inputs, list(devices), tails, phases).carry_out(lambda: None)
    cells = {cell.hash: (cell.device.partition(":")[0], cell.split) for cell in store.file.cells}
    found: ByCell = defaultdict(list)
    for cell, rounds in Run(store).samples().query("loop == 'shipping'").groupby("cell"):
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
