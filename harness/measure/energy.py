"""Energy of a head on a device whose power a command tells: asked again and again while the head runs in a loop."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np

from device_runner.devices import Device
from device_runner.devices.power import pmic_power_mw
from device_runner.report import RunnerReport
from device_runner.runner import Job, run_program

_LOOP_S = 3.0
_SETTLE_S = 0.5  # loading and verifying come first
_ASK_EVERY_S = 0.05
_FEWEST_SAMPLES = 5
_LIMIT_S = 120.0


def with_energy(
    report: RunnerReport, device: Device, runner: Sequence[str], job: Job, command: Sequence[str]
) -> RunnerReport:
    """The report with power and energy from a loop of its own, in which nothing is timed for the table.

    Args:
        report: of the timed loops; tells how many iterations fill the loop.
        command: what prints the power now.

    Raises:
        DeviceError: the device was lost.
    """
    if not report.run_ns:
        return report
    head_s = float(np.mean(report.run_ns)) / 1e9
    loop = replace(job, shipping=None, warmup=0, iterations=max(3, math.ceil((_SETTLE_S + _LOOP_S) / head_s)))
    powers: list[float] = []
    with ThreadPoolExecutor(1) as pool:
        began = time.monotonic()
        running = pool.submit(run_program, device, runner, loop, timeout_s=_LIMIT_S)
        while not running.done():
            power = pmic_power_mw(device.call_checked(command, timeout_s=_LIMIT_S).decode(errors="replace"))
            if power is not None and time.monotonic() - began > _SETTLE_S and not running.done():
                powers.append(power)
            time.sleep(_ASK_EVERY_S)
    looped_s = float(np.mean(running.result().run_ns)) / 1e9
    if len(powers) < _FEWEST_SAMPLES:
        return report.model_copy(update={"power_reason": f"only {len(powers)} power readings"})
    power_mw = float(np.mean(powers))
    energy = {"power_mw": power_mw, "energy_mj": power_mw * looped_s, "power_samples": len(powers)}
    return report.model_copy(update=energy)
