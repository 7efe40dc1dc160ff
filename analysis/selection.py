"""Which splits of an experiment a survey covers, which heads are measured, and which of these the estimates lean on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.subject import Experiment
from harness.results.schema import RunConfig
from harness.splits import Cut, SplitPoint

# Activations of one survey program: they all lie in the device's memory at once.
SURVEY_BYTES = 192 * 2**20
# The first, the middle and the last head, and one more; with no more heads than these, a survey would tell nothing new.
MOST_ANCHORS = 4


def to_survey(config: RunConfig, experiment: Experiment) -> tuple[tuple[SplitPoint, ...], ...]:
    """The splits of each survey program; none where as few heads are chosen as a survey would measure anyway."""
    subject, precision = experiment
    if config.survey == "none":
        return ()
    points = [p for p in subject.points if p.index and isinstance(subject.cut(p, precision), Cut)]
    if not points or (len(points) <= MOST_ANCHORS and config.survey == "first"):
        return ()
    return tuple(_parts(points))


def _parts(points: Sequence[SplitPoint]) -> Iterator[tuple[SplitPoint, ...]]:
    part: list[SplitPoint] = []
    for point in points:
        if part and sum(p.activation_bytes for p in (*part, point)) > SURVEY_BYTES:
            yield tuple(part)
            part = []
        part.append(point)
    yield tuple(part)


def to_measure(config: RunConfig, experiment: Experiment) -> tuple[SplitPoint, ...]:
    """The splits whose heads are measured: where a deployed head can end, though a survey may cover all places."""
    subject, _ = experiment
    if config.split == "finest" and to_survey(config, experiment):
        return tuple(p for p in subject.points if p.in_all)
    return subject.points


def anchors(config: RunConfig, experiment: Experiment) -> tuple[SplitPoint, ...]:
    """The picture itself, and the heads that the profiled times are scaled by: first, middle and last."""
    subject, precision = experiment
    points = [p for p in to_measure(config, experiment) if isinstance(subject.cut(p, precision), Cut)]
    heads = [p for p in points if p.index]
    if not heads:
        return tuple(points)
    middle = min(heads, key=lambda p: abs(p.head_macs - heads[-1].head_macs / 2))
    return tuple(dict.fromkeys([*(p for p in points if not p.index), heads[0], middle, heads[-1]]))
