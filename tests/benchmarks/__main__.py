"""`make benchmark`: prints goals and figures, keeps every sample in build/benchmark.json."""

from __future__ import annotations

import json
import logging
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from tests.benchmarks import devices, speed, turns
from tests.benchmarks.attacks import compare
from tests.benchmarks.attacks.measure import Plan
from tests.benchmarks.comparison import Result

SAMPLES = Path("build/benchmark.json")


def _speed() -> Iterator[Result]:
    """The quick ones first."""
    native, network = speed.build_native(), speed.default_network()
    yield speed.start_up()
    yield speed.framing(native)
    yield speed.head_time(network, native)
    yield from speed.exporting(network)


def _devices() -> Iterator[Result]:
    yield from devices.results(speed.build_native())


def _turns() -> Iterator[Result]:
    yield from turns.results()


def _attacks() -> Iterator[Result]:
    """Takes hours: only when it is asked for by name."""
    yield from compare.results(Plan(), click.echo)


PARTS: dict[str, Callable[[], Iterator[Result]]] = {
    "speed": _speed,
    "devices": _devices,
    "turns": _turns,
    "attacks": _attacks,
}
BY_DEFAULT = ("speed", "devices", "turns")


@click.command()
@click.argument("parts", nargs=-1, type=click.Choice(list(PARTS)))
def main(parts: Sequence[str]) -> None:
    """Run the comparisons of speed, of devices and of devices side by side, or the parts that are named."""
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    console, found = Console(), []
    table = Table("comparison", "median", "95 % interval", "goal", "", box=None)
    for result in (result for part in parts or BY_DEFAULT for result in PARTS[part]()):
        found.append(result)
        interval = (
            f"{result.low:.3f} to {result.high:.3f}" if result.low is not None and result.high is not None else ""
        )
        goal, verdict = "", ""
        if result.goal is not None:
            goal, verdict = f"<= {result.goal:g}", "met" if result.value <= result.goal else "MISSED"
        row = (result.name, f"{result.value:.3f} {result.unit}", interval, goal, verdict)
        console.print("  ".join(row), highlight=False, soft_wrap=True)
        table.add_row(*row)
        SAMPLES.parent.mkdir(exist_ok=True)
        kept = {
            "machine": platform.platform(),
            "python": platform.python_version(),
            "results": [asdict(r) for r in found],
        }
        SAMPLES.write_text(json.dumps(kept, indent=1))
    console.print(table)
    console.print(f"Every sample: {SAMPLES}", highlight=False)


if __name__ == "__main__":
    main()
