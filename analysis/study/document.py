"""Writes the study's document: question, set-up, charts, verdicts, limits; Markdown beside a folder of charts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from analysis.decision.published import NAME, PublishedEffect, as_json
from analysis.study import verdicts as judged
from analysis.study.area import AREA_CAP_DB
from analysis.study.cells import BEST_NETWORKS, FIT_TARGET, NETWORKS, SHARES, Plan, StudyCell, network_of
from analysis.study.charts import write_charts
from analysis.study.curves import Area, curves
from analysis.study.families import FAMILIES
from analysis.study.photographs import FOLDS, HELD_OUT_PICTURES, TRAIN_PICTURES, Photographs
from analysis.study.records import StudyRecord
from analysis.study.verdicts import Claim, Effect, PerSeed, Verdict
from harness.results.files import write_whole, writing


@dataclass(frozen=True)
class NetworkFacts:
    """A network of the families, as its records tell; most families share their reference."""

    names: tuple[str, ...]
    head_params: int
    head_macs: int
    activations: str
    accuracy: float | None
    fitted: int
    reached: int


@dataclass(frozen=True)
class ClaimVerdicts:
    """What each attack says of a claim, in one state of the networks."""

    claim: Claim
    state: str
    by_attack: dict[str, Verdict]


@dataclass(frozen=True)
class Attacked:
    """How an attack fared over all cells of one kind of network in one state."""

    kind: str
    state: str
    attack: str
    planned: int
    cells: int
    failed: int
    unconverged: int
    without_progress: int
    seconds: float | None


def write_document(path: Path, plan: Plan, records: Sequence[StudyRecord], photographs: Photographs) -> list[Verdict]:
    """Write the document to `path`, and its charts and effects into the folder of the same name beside it.

    Args:
        records: of the plan's cells, as many as there are.

    Returns:
        The verdicts that it states.

    Raises:
        ResultsError: no space, or not allowed.
    """
    effects = judged.effects(records)
    stated = judged.verdicts(effects, len(photographs.sources))
    zoo, cases = curves(records, "zoo"), curves(records, "case")
    folder = path.with_suffix("")
    with writing(folder, "name another --document"):
        folder.mkdir(parents=True, exist_ok=True)
    charts = write_charts(records, effects, zoo, folder)
    claimed = {claim.contrast for claim in judged.CLAIMS}
    text = (
        _environment()
        .get_template("study.md.j2")
        .render(
            plan=plan,
            photographs=photographs,
            records=records,
            statuses=Counter(record.status for record in records),
            failures=Counter(_failure(record) for record in records if record.status != "ok"),
            unfitted=sum(record.fit is not None and not record.fit.reached for record in records),
            charts={name: f"{folder.name}/{chart.name}" for name, chart in charts.items()},
            verdicts=stated,
            claims=list(_by_claim(stated)),
            attacks=list(dict.fromkeys(verdict.effect.attack for verdict in stated)),
            others=[effect for effect in effects if effect.contrast not in claimed],
            attacked=list(_attacked(plan, records)),
            networks=list(_network_facts(records)),
            zoo=sorted(zoo, key=lambda curve: (-curve.area_db.mean, curve.network)),
            cases=cases,
            constants={
                "folds": FOLDS,
                "train": TRAIN_PICTURES,
                "held_out": HELD_OUT_PICTURES,
                "target": FIT_TARGET,
                "shares": SHARES,
                "best": BEST_NETWORKS,
                "cap": AREA_CAP_DB,
                "photographs": judged.FEWEST_PHOTOGRAPHS,
                "seeds": judged.FEWEST_SEEDS,
                "seeds_in_half": judged.FEWEST_SEEDS_IN_HALF,
                "smallest": judged.SMALLEST_EFFECT_DB,
            },
        )
    )
    write_whole(path, text.encode())
    write_whole(folder / NAME, as_json([_published(effect) for effect in effects]))
    return stated


def _published(effect: Effect) -> PublishedEffect:
    """As the document has it, to a tenth of a dB."""
    low, high = (round(value, 1) + 0.0 if np.isfinite(value) else None for value in effect.psnr_db.interval)
    return PublishedEffect(
        contrast=effect.contrast.name,
        networks="fitted" if effect.state == "fitted" else "untrained",
        attack=effect.attack,
        psnr_db=round(effect.psnr_db.mean, 1) + 0.0,
        low_db=low,
        high_db=high,
    )


def interval(effect: PerSeed, form: str = "+.1f") -> str:
    """An effect with its interval: "-1.2 [-1.9, -0.5]"."""
    low, high = effect.interval
    return (
        f"{effect.mean:{form}} [{low:{form}}, {high:{form}}]"
        if np.isfinite(low)
        else f"{effect.mean:{form}} [one seed]"
    )


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("analysis.study", "."),
        undefined=StrictUndefined,
        autoescape=False,  # noqa: S701 - Markdown, from our own figures
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"interval": interval, "area": _area, "row": _row, "unconverged": _unconverged}
    return environment


def _row(values: Iterable[float], form: str) -> str:
    """Figures of several cuts in one cell of a table."""
    return " / ".join(format(value, form) for value in values)


def _area(area: Area, form: str) -> str:
    if area.interval is None:
        return format(area.mean, form)
    low, high = area.interval
    return f"{area.mean:{form}} [{low:{form}}, {high:{form}}]"


def _unconverged(effect: Effect) -> str:
    """Cells in which the attack had not converged, for the first and the last network of a contrast."""
    first, last = effect.contrast.weights[0][0], effect.contrast.weights[-1][0]
    return ", ".join(f"{name.split('/')[1]} {effect.unconverged[name]}/{effect.cells}" for name in (first, last))


def _by_claim(stated: Sequence[Verdict]) -> Iterable[ClaimVerdicts]:
    for claim, state in dict.fromkeys((verdict.claim, verdict.effect.state) for verdict in stated):
        own = [verdict for verdict in stated if (verdict.claim, verdict.effect.state) == (claim, state)]
        yield ClaimVerdicts(claim, state, {verdict.effect.attack: verdict for verdict in own})


def _failure(record: StudyRecord) -> str:
    specimen = record.cell.specimen
    where = specimen.network if specimen.kind != "family" else specimen.kind
    return f"{where}, {record.cell.attack}: {record.reason}"


def _attacked(plan: Plan, records: Sequence[StudyRecord]) -> Iterable[Attacked]:
    planned = Counter(_group(cell) for cell in plan.cells)
    for (kind, state, attack), count in planned.items():
        chosen = [record for record in records if _group(record.cell) == (kind, state, attack)]
        done = [record for record in chosen if record.status == "ok"]
        yield Attacked(
            kind,
            state,
            attack,
            planned=count,
            cells=len(chosen),
            failed=len(chosen) - len(done),
            unconverged=sum(record.converged is False for record in done),
            without_progress=sum(record.converged is None for record in done),
            seconds=float(np.median([record.seconds for record in done])) if done else None,
        )


def _group(cell: StudyCell) -> tuple[str, str, str]:
    return cell.specimen.kind, cell.specimen.state, cell.attack


def _names(network: str) -> tuple[str, ...]:
    """What a network is called in each family that it belongs to."""
    members = [member for family in FAMILIES.values() for member in family]
    return tuple(f"{m.family}/{m.name}" for m in members if network_of(m.family, m.name) == network)


def _network_facts(records: Sequence[StudyRecord]) -> Iterable[NetworkFacts]:
    for network in NETWORKS:
        known = [r for r in records if r.cell.specimen.kind == "family" and r.cell.specimen.network == network]
        cuts = {record.cell.cut: record.at for record in known if record.at is not None}
        if not cuts:
            continue
        fits = {record.cell.specimen: record.fit for record in known if record.fit is not None}
        deepest = cuts[max(cuts)]
        yield NetworkFacts(
            _names(network),
            deepest.head_params,
            deepest.head_macs,
            " and ".join("x".join(map(str, at.activation_shape[1:])) for _, at in sorted(cuts.items())),
            accuracy=float(np.mean([fit.accuracy for fit in fits.values()])) if fits else None,
            fitted=len(fits),
            reached=sum(fit.reached for fit in fits.values()),
        )
