"""The comparison as a whole: what is missing is measured, then table, summary and chart are written."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator

from tests.benchmarks.attacks import chart, summary
from tests.benchmarks.attacks.measure import Plan, outcomes
from tests.benchmarks.attacks.outcome import Outcome
from tests.benchmarks.comparison import Result

# Ahead of the best peer by at least this on the mean over the middle third of the splits, and nowhere behind by more.
LEAST_AHEAD_DB, MOST_BEHIND_DB = 3.0, 0.1


def compare(plan: Plan, say: Callable[[str], None]) -> list[Outcome]:
    """Measure what is missing, tell each outcome, and write attacks.csv, attacks.md and attacks.png beside them all."""
    found = []
    for outcome in outcomes(plan):
        say(summary.line(outcome))
        found.append(outcome)
    if found:
        drawn = io.BytesIO()
        chart.draw(found, plan.budget_s).savefig(drawn, dpi=chart.DPI)
        plan.kept.write("attacks.png", drawn.getvalue())
        plan.kept.write("attacks.csv", summary.table(found).to_csv(index=False).encode())
        plan.kept.write("attacks.md", summary.markdown(found, plan.budget_s).encode())
    return found


def results(plan: Plan, say: Callable[[str], None]) -> Iterator[Result]:
    """How far the best peer is ahead of each of ours: it should be behind."""
    for ahead in summary.advantages(compare(plan, say)):
        samples = {"ours_minus_best_peer_db": list(ahead.by_split_db)}
        low, high = (None, None) if ahead.interval_db is None else (-ahead.interval_db[1], -ahead.interval_db[0])
        name = f"{ahead.network}: best peer - {ahead.attack}"
        yield Result(f"{name}, middle third", "dB", -ahead.middle_db, low, high, -LEAST_AHEAD_DB, samples)
        yield Result(
            f"{name}, worst split ({ahead.worst_split})", "dB", -ahead.worst_db, None, None, MOST_BEHIND_DB, {}
        )
