"""What must be said about a row wherever it is shown: why it failed, which of its numbers not to trust."""

from __future__ import annotations

from collections.abc import Iterable

from analysis.report.rows import DELEGATED_ENOUGH, NO_REASON, Row

# An optimisation that leaves more of the activation unmatched than this did not find a picture that explains it.
FAILED_RESIDUAL = 0.4


def remarks(row: Row) -> list[str]:
    """Sentences on this row, each without its numbers, so that rows with the same trouble share a footnote."""
    if not row.ok:
        troubles = [f"{row.text('status') or 'failed'}: {row.text('reason') or NO_REASON}"]
        return [*troubles, "head time profiled, not measured"] if row.profiled else troubles
    sentences = []
    delegated = row.number("delegated_share")
    if delegated is not None and delegated < DELEGATED_ENOUGH:
        backend = row.text("backend") or "the backend"
        share = f"less than {DELEGATED_ENOUGH:.0%} of the head's MACs"
        sentences.append(f"{backend} took over {share}: slow portable kernels ran the rest")
    if row.flag("verified") is False:
        sentences.append("the head's output was not verified: its times may be those of a wrong result")
    if row.profiled:
        sentences.append(f"head time profiled, {row.text('reason') or 'not measured'}")
    if row.flag("unstable"):
        sentences.append("unstable: the rounds disagree")
    if row.flag("throttled"):
        sentences.append("the device throttled while it was timed")
    if row.flag("converged") is False:
        sentences.append("the attack had not converged: it may recover more with a larger budget")
    residual = row.number("feature_residual")
    if residual is not None and residual > FAILED_RESIDUAL:
        sentences.append(
            "the attack failed: no picture with the received activation was found, so it says nothing of privacy"
        )
    return sentences


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
