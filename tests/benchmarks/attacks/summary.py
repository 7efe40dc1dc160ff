"""What the outcomes say: one table, and by how much each of our attacks is ahead of the best peer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from harness.stats import cluster_interval
from tests.benchmarks.attacks import PEERS
from tests.benchmarks.attacks.outcome import Outcome

_DIGITS = {"psnr_db": 2, "residual": 3, "cpu_s": 1}


@dataclass(frozen=True)
class Advantage:
    """How far one of our attacks is ahead of the best peer, in dB of mean PSNR; below 0 where it is behind.

    The best peer is chosen split by split, on the judged pictures: what is said of ours is rather too little.

    Attributes:
        by_split_db: in the order of splits.
        middle_db: mean over the middle third of them.
        interval_db: its 95 % interval, which resamples source photographs; None for fewer than two.
        worst_db: at the split where it is least.
        worst_split: that split's name.
    """

    network: str
    attack: str
    by_split_db: tuple[float, ...]
    middle_db: float
    interval_db: tuple[float, float] | None
    worst_db: float
    worst_split: str


def line(outcome: Outcome) -> str:
    """One outcome in one line."""
    cpu_s, psnr_db = outcome.fit_cpu_s + outcome.rebuild_cpu_s, float(np.mean(outcome.psnr_db))
    where = f"{outcome.network} split {outcome.split_index} {outcome.split}"
    return f"{where}: {outcome.attack} {psnr_db:.2f} dB, {cpu_s:.1f} CPU s"


def table(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """One row a split: its floor, then each attack's PSNR, residual (both mean over pictures) and CPU seconds."""
    rows: dict[tuple[str, int], dict[str, object]] = {}
    for outcome in outcomes:
        row = rows.setdefault((outcome.network, outcome.split_index), {})
        row.update(network=outcome.network, split_index=outcome.split_index, split=outcome.split)
        row["activation"] = "x".join(map(str, outcome.activation_shape))
        row["floor_psnr_db"] = round(float(np.mean(outcome.floor_psnr_db)), _DIGITS["psnr_db"])
        row[f"{outcome.attack}_psnr_db"] = round(float(np.mean(outcome.psnr_db)), _DIGITS["psnr_db"])
        row[f"{outcome.attack}_residual"] = round(float(np.mean(outcome.residual)), _DIGITS["residual"])
        row[f"{outcome.attack}_cpu_s"] = round(outcome.fit_cpu_s + outcome.rebuild_cpu_s, _DIGITS["cpu_s"])
    found = pd.DataFrame(list(rows.values()))
    kinds = [column for kind in _DIGITS for column in found.columns if column.endswith(f"_{kind}")]
    return found[[column for column in found.columns if column not in kinds] + kinds]


def advantages(outcomes: Sequence[Outcome]) -> list[Advantage]:
    """Of each of our attacks on each network, over the splits at which it and a peer were tried."""
    return [
        advantage
        for network in dict.fromkeys(outcome.network for outcome in outcomes)
        for attack in dict.fromkeys(outcome.attack for outcome in outcomes if outcome.attack not in PEERS)
        if (advantage := _advantage([o for o in outcomes if o.network == network], attack)) is not None
    ]


def _advantage(outcomes: Sequence[Outcome], attack: str) -> Advantage | None:
    """Over the outcomes of one network."""
    ahead: list[tuple[Outcome, np.ndarray]] = []
    for ours in (outcome for outcome in outcomes if outcome.attack == attack):
        peers = [o for o in outcomes if o.split_index == ours.split_index and o.attack in PEERS]
        if peers:
            best = max(peers, key=lambda peer: float(np.mean(peer.psnr_db)))
            ahead.append((ours, np.subtract(ours.psnr_db, best.psnr_db)))
    if not ahead:
        return None
    ahead.sort(key=lambda pair: pair[0].split_index)
    by_picture = np.mean([differences for _, differences in _middle_third(ahead)], axis=0)
    sources = np.array(ahead[0][0].sources)
    interval = cluster_interval([by_picture[sources == source] for source in np.unique(sources)])
    by_split = tuple(float(differences.mean()) for _, differences in ahead)
    worst = int(np.argmin(by_split))
    return Advantage(
        network=ahead[0][0].network,
        attack=attack,
        by_split_db=by_split,
        middle_db=float(by_picture.mean()),
        interval_db=interval,
        worst_db=by_split[worst],
        worst_split=ahead[worst][0].split,
    )


def _middle_third(ahead: list[tuple[Outcome, np.ndarray]]) -> list[tuple[Outcome, np.ndarray]]:
    aside = len(ahead) // 3
    return ahead[aside : len(ahead) - aside]


def markdown(outcomes: Sequence[Outcome], budget_s: float) -> str:
    """The summary and, network by network, the table."""
    parts = [f"# Attacks of the literature and ours\n\n{_conditions(outcomes, budget_s)}", _verdicts(outcomes)]
    whole = table(outcomes)
    for network, rows in whole.groupby("network", sort=False):
        weights = next(outcome.weights for outcome in outcomes if outcome.network == network)
        parts.append(f"## {network}, weights: {weights}\n\n{_as_markdown(rows.drop(columns='network'))}")
    return "\n\n".join(parts) + "\n"


def _conditions(outcomes: Sequence[Outcome], budget_s: float) -> str:
    pictures, photographs = len(outcomes[0].sources), len(set(outcomes[0].sources))
    return (
        f"{pictures} held-out pictures of {photographs} photographs, 64x64; {budget_s:g} CPU seconds for each attack "
        "at each split, fitting and rebuilding all pictures together. PSNR in dB, mean over pictures: a lower bound on "
        "the leakage."
    )


def _verdicts(outcomes: Sequence[Outcome]) -> str:
    rows = pd.DataFrame(
        [
            {
                "network": a.network,
                "ours": a.attack,
                "ours - best peer, middle third, dB": f"{a.middle_db:+.2f}",
                "95 % interval": "{:+.2f} to {:+.2f}".format(*a.interval_db) if a.interval_db else "",
                "at its worst split, dB": f"{a.worst_db:+.2f}",
                "worst split": a.worst_split,
            }
            for a in advantages(outcomes)
        ]
    )
    return _as_markdown(rows) if len(rows) else "No split at which both an attack of ours and a peer were tried."


def _as_markdown(rows: pd.DataFrame) -> str:
    header = [column.replace("_", " ") for column in rows.columns]
    cells = [["" if pd.isna(value) else str(value) for value in row] for row in rows.itertuples(index=False)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [header, ["---"] * len(header), *cells])
