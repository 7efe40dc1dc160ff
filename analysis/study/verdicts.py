"""From cells to verdicts: how structure changes what an attack recovers, seed by seed, and what papers say of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd
from statsmodels.stats.weightstats import DescrStatsW

from analysis.study.cells import FAMILY_STATES, network_of
from analysis.study.families import DEPTHS
from analysis.study.records import StudyRecord

FEWEST_PHOTOGRAPHS, FEWEST_SEEDS = 20, 5
# Either half of the seeds must say the same; fewer than these say nothing.
FEWEST_SEEDS_IN_HALF = 3
# Differences under this mean nothing to the owner of a picture, and prototypes of attacks differ by as much.
SMALLEST_EFFECT_DB = 0.5

Says = Literal["lowers", "raises", "does not lower"]
Word = Literal["confirmed", "refuted", "undecided"]


@dataclass(frozen=True)
class Contrast:
    """A weighted sum over networks: what a difference in structure does to the PSNR.

    Args:
        name: what is compared with what.
        weights: network (a key of `NETWORKS`) and weight; they sum to zero.
    """

    name: str
    weights: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class Claim:
    """What a paper says that a contrast does to leakage."""

    paper: str
    text: str
    contrast: Contrast
    says: Says


@dataclass(frozen=True)
class PerSeed:
    """A contrast by seed, the mean over cuts; the unit of the analysis."""

    values: dict[int, float]

    @property
    def mean(self) -> float:
        """The effect; above 0: it raises what is recovered."""
        return float(np.mean(list(self.values.values())))

    @property
    def interval(self) -> tuple[float, float]:
        """95 % interval of the effect: Student's t over the seeds' paired differences; endless for one seed."""
        if len(self.values) < 2:
            return -np.inf, np.inf
        low, high = DescrStatsW(list(self.values.values())).tconfint_mean(alpha=0.05)
        return float(low), float(high)

    def of_seeds(self, seeds: Iterable[int]) -> PerSeed:
        """The same from some of the seeds."""
        return PerSeed({seed: self.values[seed] for seed in seeds})


@dataclass(frozen=True)
class Effect:
    """A contrast as one attack sees it.

    Args:
        state: of the networks: untrained or fitted.
        psnr_db: what verdicts rest on; whoever does worse than the mean picture counts as having answered with it.
        ssim: of the answers as they are.
        psnr_db_per_cut: the mean over seeds, by cut.
        above_floor_db: mean PSNR above the floor of the network that leaks most.
        unconverged: cells in which the attack had not converged, by network.
        cells: how many cells each network has.
    """

    contrast: Contrast
    state: str
    attack: str
    psnr_db: PerSeed
    ssim: PerSeed
    psnr_db_per_cut: dict[int, float]
    above_floor_db: float
    unconverged: dict[str, int]
    cells: int

    def of_seeds(self, seeds: Sequence[int]) -> Effect:
        """The same from some of the seeds."""
        return replace(self, psnr_db=self.psnr_db.of_seeds(seeds), ssim=self.ssim.of_seeds(seeds))


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds for one attack.

    Args:
        reason: why it is undecided, or empty.
        halves: what either half of the seeds says alone; empty where they are too few to say anything.
    """

    claim: Claim
    effect: Effect
    word: Word
    reason: str
    halves: tuple[Word, ...]


def _against(family: str, member: str, reference: str, name: str) -> Contrast:
    return Contrast(name, ((network_of(family, member), 1.0), (network_of(family, reference), -1.0)))


def _along_depth(body: str) -> Contrast:
    """The change from the shallowest to the deepest network along a line through all, depths in doublings."""
    steps = np.log2(DEPTHS) - np.log2(DEPTHS).mean()
    weights = steps * np.ptp(steps) / np.square(steps).sum()
    networks = [network_of("depth", f"{body}_{depth}") for depth in DEPTHS]
    name = f"{DEPTHS[-1]} against {DEPTHS[0]} convolutions, {body}"
    return Contrast(name, tuple(zip(networks, map(float, weights), strict=True)))


RESIDUAL = _against("skip", "residual", "plain", "residual against plain")
DENSE = _against("skip", "dense", "plain", "concatenating (dense) against plain")
INCEPTION = _against("branches", "inception", "one", "inception branches against one")
DEPTH_PLAIN, DEPTH_RESIDUAL = _along_depth("plain"), _along_depth("residual")
CONTRASTS = (
    RESIDUAL,
    DENSE,
    INCEPTION,
    DEPTH_PLAIN,
    DEPTH_RESIDUAL,
    _against("pooling", "max", "stride", "max pooling against stride"),
    _against("norm", "without", "with", "without batch norm against with"),
    _against("activation", "gelu", "relu", "GELU against ReLU"),
)
_OH_LEE, _PEEL = "Oh & Lee, EMDL 2019", "PEEL, arXiv 2504.06410"
_GOLDEN = "Golden Partition Zone, ICML 2026, arXiv 2506.15412"
# No network of the study is cut past that transition: all cuts lie among its convolutions.
_NO_DEPTH = "more depth does not protect short of the transition from features to decisions"
CLAIMS = (
    Claim(_OH_LEE, "skip connections lower leakage", RESIDUAL, "lowers"),
    Claim(_PEEL, "residual blocks cause leakage", RESIDUAL, "raises"),
    Claim(_OH_LEE, "skip connections lower leakage", DENSE, "lowers"),
    Claim(_OH_LEE, "depth lowers leakage", DEPTH_PLAIN, "lowers"),
    Claim(_GOLDEN, _NO_DEPTH, DEPTH_PLAIN, "does not lower"),
    Claim(_OH_LEE, "depth lowers leakage", DEPTH_RESIDUAL, "lowers"),
    Claim(_GOLDEN, _NO_DEPTH, DEPTH_RESIDUAL, "does not lower"),
    Claim(_OH_LEE, "diverse operations (inception branches) lower leakage", INCEPTION, "lowers"),
)


def effects(records: Sequence[StudyRecord]) -> list[Effect]:
    """Every contrast, for each state and attack for which any seed has all of its networks."""
    table = _table(records)
    shown = []
    for contrast in CONTRASTS:
        for state in FAMILY_STATES:
            for attack in dict.fromkeys(table["attack"]):
                chosen = table[(table["state"] == state) & (table["attack"] == attack)]
                if (effect := _effect(chosen, contrast, state, attack)) is not None:
                    shown.append(effect)
    return shown


def is_compared(record: StudyRecord) -> bool:
    """Whether a cell takes part: attacked, of a family, and where fitted, to the accuracy that all are fitted to."""
    of_family = record.cell.specimen.kind == "family"
    return record.status == "ok" and of_family and (record.fit is None or record.fit.reached)


def verdicts(measured: Sequence[Effect], photographs: int) -> list[Verdict]:
    """Every claim, by each of the effects that it is about.

    Args:
        measured: what `effects` gave.
        photographs: how many source photographs the study has; few make every verdict undecided.
    """
    return [
        _verdict(claim, effect, photographs)
        for claim in CLAIMS
        for effect in measured
        if effect.contrast == claim.contrast
    ]


def decide(says: Says, effect: Effect, photographs: int, fewest_seeds: int = FEWEST_SEEDS) -> tuple[Word, str]:
    """Verdict on what a claim says, and why it is undecided where it is."""
    if photographs < FEWEST_PHOTOGRAPHS:
        return "undecided", f"fewer than {FEWEST_PHOTOGRAPHS} photographs"
    if len(effect.psnr_db.values) < fewest_seeds:
        return "undecided", f"fewer than {fewest_seeds} seeds"
    if effect.above_floor_db < SMALLEST_EFFECT_DB:
        return "undecided", "the attack recovers nothing"
    low, high = effect.psnr_db.interval
    if says == "does not lower" and low > -SMALLEST_EFFECT_DB:
        return "confirmed", ""
    if low <= 0 <= high:
        return "undecided", "the interval holds 0"
    if abs(effect.psnr_db.mean) < SMALLEST_EFFECT_DB:
        return "undecided", f"smaller than {SMALLEST_EFFECT_DB} dB"
    lowers = effect.psnr_db.mean < 0
    return ("confirmed" if lowers == (says == "lowers") else "refuted"), ""


def _verdict(claim: Claim, effect: Effect, photographs: int) -> Verdict:
    word, reason = decide(claim.says, effect, photographs)
    halves = tuple(decide(claim.says, half, photographs, FEWEST_SEEDS_IN_HALF)[0] for half in _halves(effect))
    if word != "undecided" and any(half != word for half in halves):
        return Verdict(claim, effect, "undecided", "not from either half of the seeds", halves)
    return Verdict(claim, effect, word, reason, halves)


def _halves(effect: Effect) -> list[Effect]:
    seeds = sorted(effect.psnr_db.values)
    if len(seeds) < 2 * FEWEST_SEEDS_IN_HALF:
        return []
    return [effect.of_seeds(seeds[: len(seeds) // 2]), effect.of_seeds(seeds[len(seeds) // 2 :])]


def _table(records: Sequence[StudyRecord]) -> pd.DataFrame:
    """One row per cell that takes part."""
    rows = [
        {
            "network": record.cell.specimen.network,
            "state": record.cell.specimen.state,
            "seed": record.cell.specimen.seed,
            "fold": record.cell.specimen.fold,
            "cut": record.cell.cut,
            "attack": record.cell.attack,
            "psnr_db": float(max(np.mean(record.psnr_db), np.mean(record.floor_psnr_db))),
            "ssim": float(np.mean(record.ssim)),
            "floor_db": float(np.mean(record.floor_psnr_db)),
            "unconverged": float(record.converged is False),
        }
        for record in records
        if is_compared(record)
    ]
    columns = ["network", "state", "seed", "fold", "cut", "attack", "psnr_db", "ssim", "floor_db", "unconverged"]
    return pd.DataFrame(rows, columns=columns)


def _effect(table: pd.DataFrame, contrast: Contrast, state: str, attack: str) -> Effect | None:
    """The contrast from those (seed, fold, cut) that all of its networks have."""
    networks = [network for network, _ in contrast.weights]
    psnr = _wide(table, "psnr_db", networks).dropna()
    if psnr.empty:
        return None
    ssim, floor, unconverged = (
        _wide(table, column, networks).loc[psnr.index] for column in ("ssim", "floor_db", "unconverged")
    )
    difference = _contrasted(psnr, contrast)
    return Effect(
        contrast,
        state,
        attack,
        psnr_db=PerSeed(_means(difference, "seed")),
        ssim=PerSeed(_means(_contrasted(ssim, contrast), "seed")),
        psnr_db_per_cut=_means(difference, "cut"),
        above_floor_db=float((psnr.mean() - floor.mean()).max()),
        unconverged={network: int(unconverged[network].sum()) for network in networks},
        cells=len(psnr),
    )


def _contrasted(wide: pd.DataFrame, contrast: Contrast) -> pd.Series[float]:
    return pd.Series(wide.to_numpy() @ np.array([weight for _, weight in contrast.weights]), wide.index)


def _wide(table: pd.DataFrame, column: str, networks: Sequence[str]) -> pd.DataFrame:
    """A column with one row per (seed, fold, cut) and one column per network."""
    wide = table.pivot_table(index=["seed", "fold", "cut"], columns="network", values=column)
    return wide.reindex(columns=list(networks))


def _means(difference: pd.Series[float], level: str) -> dict[int, float]:
    return {int(str(key)): float(value) for key, value in difference.groupby(level=level).mean().items()}
