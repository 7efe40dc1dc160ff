"""Two sentences on a network: where its leakage falls off, and what of the study applies to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from analysis.decision.published import PublishedEffect
from analysis.marks import NEAR_FLOOR_DB
from harness.results.schema import StructureCounts

# Those of the study, the strongest first.
_ATTACKS = ("best", "spectral", "linear", "whitebox")


def advice(
    summary: pd.DataFrame, structures: Mapping[str, StructureCounts], effects: Sequence[PublishedEffect]
) -> list[str]:
    """Sentences on each network of a run that was attacked, from the run's own rows.

    Args:
        summary: the tidy table.
        structures: of its networks, as far as they are known.
        effects: what the study found.
    """
    attacked = summary[(summary["split_index"] > 0) & summary["psnr_db"].notna()]
    sentences = []
    for model, rows in attacked.groupby("model", sort=False):
        for precision, variant in rows.groupby("precision", sort=False):
            sentences.append(_fall(f"{model}, {precision}", variant))
        if (structure := structures.get(str(model))) is not None:
            sentences.append(_applies(bool(rows["trained"].all()), structure, effects))
    return [sentence for sentence in sentences if sentence]


def _fall(name: str, rows: pd.DataFrame) -> str:
    """Where the strongest attack tried at a split comes near the floor, and does not leave it again."""
    strongest = rows.loc[rows.groupby("split_index")["psnr_db"].idxmax()]
    above_db = strongest["psnr_db"] - strongest["floor_psnr_db"]
    leaking = strongest[above_db > NEAR_FLOOR_DB]
    if leaking.empty:
        return f"{name}: no attack came {NEAR_FLOOR_DB:g} dB above the floor at any split; {_weak(strongest)}."
    last = leaking.iloc[-1]
    reached = (
        f"{last['attack']} still reached {last['psnr_db']:.1f} dB at split {last['split_index']} ({last['split']})"
    )
    after = strongest[strongest["split_index"] > last["split_index"]]
    if after.empty:
        return f"{name}: its leakage does not fall off: {reached}, the last one that was attacked."
    first, floor = after.iloc[0], f"the floor ({after.iloc[0]['floor_psnr_db']:.1f} dB)"
    return (
        f"{name}: its leakage falls off at split {first['split_index']} ({first['split']}): from there on no attack "
        f"came {NEAR_FLOOR_DB:g} dB above {floor}, while {reached}; {_weak(after)}."
    )


def _weak(rows: pd.DataFrame) -> str:
    """Who was tried where little was recovered: what was recovered says nothing of who was not."""
    weakly = int((rows["weakly_attacked"] == True).sum())  # noqa: E712 - it may be missing
    if weakly == len(rows):
        stronger = "a stronger attack (--attack best, a larger --attack-total)"
        return f"only linear was tried there, and {stronger} may recover more"
    others = f", linear alone at {weakly} of these {len(rows)} splits" if weakly else ""
    return f"tried there: {', '.join(dict.fromkeys(rows['attack']))}{others}"


def _applies(trained: bool, structure: StructureCounts, effects: Sequence[PublishedEffect]) -> str:
    """By the strongest attack that the study tried on networks with all that this one has."""
    networks = "fitted" if trained else "untrained"
    wanted = dict(_contrasts(structure))
    for attack in _ATTACKS:
        known = {e.contrast: e for e in effects if e.attack == attack and e.networks == networks}
        if wanted and wanted.keys() <= known.keys():
            found = "; ".join(f"{what}: {_with_interval(known[contrast])}" for contrast, what in wanted.items())
            return (
                f"What that owes to its structure, on small {networks} networks by {attack} (docs/study.md; "
                f"above 0 dB more is recovered): {found}."
            )
    return ""


def _contrasts(structure: StructureCounts) -> Iterator[tuple[str, str]]:
    """The study's names of what this network has, and what to call it here."""
    if structure.residual:
        yield "residual against plain", f"skip connections ({structure.residual} here)"
    if structure.dense:
        yield "concatenating (dense) against plain", f"concatenated skips ({structure.dense} here)"
    if structure.inception:
        yield "inception branches against one", f"branches ({structure.inception} here)"
    if structure.convolutions > 1:
        body = "residual" if structure.residual else "plain"
        yield f"32 against 2 convolutions, {body}", f"depth, 32 convolutions against 2 ({structure.convolutions} here)"
    if structure.max_pooling:
        yield "max pooling against stride", f"max pooling in the place of strides ({structure.max_pooling} here)"


def _with_interval(effect: PublishedEffect) -> str:
    interval = "one seed" if effect.low_db is None else f"{effect.low_db:+.1f}, {effect.high_db:+.1f}"
    return f"{effect.psnr_db:+.1f} dB [{interval}]"
