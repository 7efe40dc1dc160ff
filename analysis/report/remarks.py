"""What must be said about a row wherever it is shown: why it failed, which of its numbers not to trust."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from analysis.report.rows import DELEGATED_ENOUGH, NO_REASON, Row


def remarks(row: Row) -> list[str]:
    """Sentences on this row, each without its numbers, so that rows with the same trouble share a footnote."""
    if not row.ok:
        troubles = [f"{row.text('status') or 'failed'}: {row.text('reason') or NO_REASON}"]
        return [*troubles, "head time profiled, not measured"] if row.profiled else troubles
    return [*_of_times(row), *_of_the_attacker(row)]


def _of_times(row: Row) -> Iterator[str]:
    delegated = row.number("delegated_share")
    if delegated is not None and delegated < DELEGATED_ENOUGH:
        backend = row.text("backend") or "the backend"
        share = f"less than {DELEGATED_ENOUGH:.0%} of the head's MACs"
        yield f"{backend} took over {share}: slow portable kernels ran the rest"
    if row.flag("verified") is False:
        yield "the head's output was not verified: its times may be those of a wrong result"
    if row.profiled:
        yield f"head time profiled, {row.text('reason') or 'not measured'}"
    if row.flag("unstable"):
        yield "unstable: the rounds disagree"
    if why := row.text("tail_reason"):
        yield f"its tail ran on {row.text('tail_engine')}, not as the others ({why})"
    if row.flag("throttled"):
        yield "the device throttled while it was timed"


def _of_the_attacker(row: Row) -> Iterator[str]:
    if row.flag("cut_short"):
        yield "the attack was cut short by its budget: it may recover more with a larger one"
    elif row.flag("converged") is False:
        yield "the attack had not converged: it may recover more with a larger budget"
    if row.flag("search_failed"):
        yield "the attack failed: no picture with the received activation was found, so it says nothing of privacy"
    if row.flag("weakly_attacked"):
        yield (
            "weakly attacked: only linear was tried, and it stays within 3 dB of the floor; "
            "a stronger attack (--attack best, a larger --attack-total) may recover more"
        )


def footnotes(rows: Iterable[Row]) -> dict[str, str]:
    """Sentence -> its mark ("a", "b", ..., "aa"), in the order in which rows need them."""
    marks: dict[str, str] = {}
    for row in rows:
        for sentence in remarks(row):
            marks.setdefault(sentence, _mark(len(marks)))
    return marks


def _mark(index: int) -> str:
    letter = chr(ord("a") + index % 26)
    return letter if index < 26 else _mark(index // 26 - 1) + letter
