"""Which splits of a network a survey covers, which heads are measured, and which of these the estimates lean on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from analysis.campaign.subject import Variant
from harness.export.program import Program
from harness.networks.splits import Cut, SplitPoint
from harness.results.schema import RunConfig

# Activations of one survey program: they all lie in the device's memory at once.
SURVEY_BYTES = 192 * 2**20
# The first, the middle and the last head, and one more; with no more heads than these, a survey would tell nothing new.
MOST_ANCHORS = 4


def surveys(config: RunConfig, variant: Variant) -> list[Program]:
    """The survey programs; none where as few heads are chosen as a survey would measure anyway."""
    if config.survey == "none":
        return []
    points = [p for p in variant.subject.points if p.index and isinstance(variant.cut(p), Cut)]
    if not points or (len(points) <= MOST_ANCHORS and config.survey == "first"):
        return []
    return [Program.survey(part) for part in _parts(points)]


def _parts(points: Sequence[SplitPoint]) -> Iterator[tuple[SplitPoint, ...]]:
    part: list[SplitPoint] = []
    for point in points:
        if part and sum(p.activation_bytes for p in (*part, point)) > SURVEY_BYTES:
            yield tuple(part)
            part = []
        part.append(point)
    yield tuple(part)


def heads(config: RunConfig, variant: Variant) -> list[Program]:
    """The heads that are measured: where a deployed one can end, though a survey may cover all places."""
    only_all = config.split == "finest" and surveys(config, variant)
    return [Program.head(point) for point in variant.subject.points if point.in_all or not only_all]


def anchors(config: RunConfig, variant: Variant) -> list[Program]:
    """The picture itself, and the heads that the profiled times are scaled by: first, middle and last."""
    known = [head for head in heads(config, variant) if isinstance(variant.cut(head.points[0]), Cut)]
    run = [head for head in known if not head.is_empty]
    if not run:
        return known
    half = run[-1].points[0].head_macs / 2
    middle = min(run, key=lambda head: abs(head.points[0].head_macs - half))
    return list(dict.fromkeys([*(head for head in known if head.is_empty), run[0], middle, run[-1]]))


def everything(config: RunConfig, variant: Variant) -> list[Program]:
    """All programs of a network that run on a device; split 0 has none, and ships."""
    measured = [] if config.survey == "only" else heads(config, variant)
    programs = surveys(config, variant)
    return [*programs, *dict.fromkeys([*(anchors(config, variant) if programs else ()), *measured])]
