"""`python -m tests.benchmarks.attacks`: the comparison with other networks, splits, attacks or another budget."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from analysis.attacks import ATTACKS
from tests.benchmarks.attacks import PEERS
from tests.benchmarks.attacks.compare import results
from tests.benchmarks.attacks.measure import Plan

_DEFAULT = Plan()


@click.command()
@click.option("--networks", multiple=True, default=_DEFAULT.networks, show_default=True)
@click.option("--splits", default=_DEFAULT.splits, show_default=True, help="As `bench run --split` takes them.")
@click.option("--budget", default=_DEFAULT.budget_s, show_default=True, help="CPU seconds an attack and split.")
@click.option(
    "--attacks", type=click.Choice([*ATTACKS, *PEERS]), multiple=True, default=_DEFAULT.attacks, show_default=True
)
@click.option("--bits", type=click.IntRange(1, 16), multiple=True, help="Attack activations in so many bits, too.")
@click.option("--folder", type=click.Path(path_type=Path), default=_DEFAULT.folder, show_default=True)
def main(
    networks: tuple[str, ...], splits: str, budget: float, attacks: tuple[str, ...], bits: tuple[int, ...], folder: Path
) -> None:
    """Compare our attacks with the literature's; goes on where it was stopped."""
    logging.getLogger("torch.utils._pytree").setLevel(logging.ERROR)
    for result in results(Plan(networks, splits, attacks, budget, folder, bits), click.echo):
        verdict = "met" if result.goal is not None and result.value <= result.goal else "MISSED"
        click.echo(f"{result.name}: {result.value:+.2f} dB, goal <= {result.goal}: {verdict}")


if __name__ == "__main__":
    main()
