"""Which programs a tail is made of: parts that later tails share, so that all of them cost little more than one.

A tail of its own for each of 30 splits would take as long to lower as their 30 heads. So the network is parted at some
of its splits: every split has one program that leads to the next parting, and its tail is that one followed by those
from parting to parting. Handing an activation on costs little: the logits are the same bit for bit, and tails of
efficientnet_lite0 take 1 to 4 % longer (docs/tails.md).
"""

from __future__ import annotations

from collections.abc import Iterator

from harness.export.program import Program
from harness.networks.splits import Network, SplitPoint

_SPLITS_A_PART = 6
# So that weights which many tails need (a classifier's) do not lie on disk with each of them: parameters, 64 MB.
_PARAMETERS_A_PART = 2**24


def tail_parts(network: Network, point: SplitPoint) -> tuple[Program, ...]:
    """The programs that lead from a split to the logits, in order; from split 0 it is one, the last split's head."""
    last = network.points[-1]
    if point.index == 0:
        return (Program.head(last),)
    after = [parting for parting in _partings(network) if parting.index > point.index]
    return tuple(Program.part(start, end) for start, end in zip([point, *after], after, strict=False))


def _partings(network: Network) -> list[SplitPoint]:
    return list(reversed(list(_from_the_last(network))))


def _from_the_last(network: Network) -> Iterator[SplitPoint]:
    parting, splits = network.points[-1], 0
    yield parting
    for point in reversed([p for p in network.all_points if 0 < p.index < parting.index]):
        splits += 1
        if splits == _SPLITS_A_PART or point.tail_params - parting.tail_params > _PARAMETERS_A_PART:
            parting, splits = point, 0
            yield parting
