"""The devices of a run, made ready."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from analysis.campaign.phases import Phase, Phases
from device_runner.link import LinkShape
from harness.measure.affinity import core_mask
from harness.measure.ready import ReadyDevice, prepared
from harness.measure.turn import Turn
from harness.results.schema import RunConfig


@contextmanager
def ready_devices(config: RunConfig, addresses: Sequence[str], phases: Phases) -> Iterator[list[ReadyDevice]]:
    """Connect to devices and deploy the runner, for as long as the block runs."""
    shape = LinkShape.parse(config.link) if config.link else None
    with ExitStack() as stack:
        turn, devices = Turn(), []
        with phases.phase(Phase.DEVICE, len(addresses)):
            for address in addresses:
                ready = stack.enter_context(prepared(address, way_back=config.way_back, shape=shape, turn=turn))
                core_mask(config.affinity, ready.device)  # fails now if it lacks these cores
                phases.step(f"{ready.entry.label}: {ready.facts.model}, link {ready.entry.link}")
                devices.append(ready)
        yield devices
