"""PSNR against the split, one line an attack, one panel a network."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from analysis.report.chart import INK, calm, drawable
from tests.benchmarks.attacks import PEERS
from tests.benchmarks.attacks.outcome import Outcome

# Okabe and Ito's palette, a colour an attack; ours are drawn whole, peers dashed, and with fewer bits more is missing.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7B8794")
FEWER_BITS = (("^", "-."), ("v", ":"))
DPI = 100


def draw(outcomes: Sequence[Outcome], budget_s: float) -> Figure:
    """The chart of all networks."""
    networks = list(dict.fromkeys(outcome.network for outcome in outcomes))
    attacks = list(dict.fromkeys(outcome.attack for outcome in outcomes))
    figure = Figure(figsize=(12, 5 * len(networks)), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(networks), 1, squeeze=False)[:, 0]
    for panel, network in zip(panels, networks, strict=True):
        _panel(panel, [outcome for outcome in outcomes if outcome.network == network], attacks, budget_s)
    return figure


def _panel(panel: Axes, outcomes: Sequence[Outcome], attacks: Sequence[str], budget_s: float) -> None:
    splits = {o.split_index: o.split for o in sorted(outcomes, key=lambda outcome: outcome.split_index)}
    places = {index: place for place, index in enumerate(splits)}
    bits = {name: [one for one in attacks if one.partition(",")[0] == name] for name in _names(attacks)}
    colours = dict(zip(bits, itertools.cycle(COLOURS[:-1]), strict=False))
    for attack in attacks:
        name = attack.partition(",")[0]
        whole = ("s", "--") if name in PEERS else ("o", "-")
        place = bits[name].index(attack)
        marker, line = FEWER_BITS[(place - 1) % len(FEWER_BITS)] if place else whole
        found = sorted((o for o in outcomes if o.attack == attack), key=lambda outcome: outcome.split_index)
        at, psnr = [places[o.split_index] for o in found], [float(np.mean(o.psnr_db)) for o in found]
        width = 1.3 if name in PEERS else 2.0
        panel.plot(at, psnr, line, marker=marker, color=colours[name], linewidth=width, markersize=5, label=attack)
    floor = float(np.mean(outcomes[0].floor_psnr_db))
    panel.axhline(floor, color=COLOURS[-1], linestyle=":", label=f"floor: mean picture, {floor:.1f} dB")
    panel.set_xticks(range(len(splits)), [drawable(f"{name}  {i}") for i, name in splits.items()], rotation=90, size=8)
    panel.set_ylabel("PSNR, dB: mean over pictures")
    title = f"{outcomes[0].network}, weights: {outcomes[0].weights}; {budget_s:g} CPU seconds an attack and split"
    panel.set_title(drawable(title), loc="left", weight="bold", color=INK)
    panel.legend(loc="upper right", frameon=False, ncols=3)
    calm(panel)


def _names(attacks: Sequence[str]) -> list[str]:
    """The attacks themselves, without the bits that they were tried with."""
    return list(dict.fromkeys(attack.partition(",")[0] for attack in attacks))
