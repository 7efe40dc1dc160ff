"""Every split's tail is a chain of programs that later tails share."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest

from harness.export.program import Program
from harness.export.tail_parts import tail_parts
from harness.networks.splits import Network, SplitPoint

LARGE = 2**24


def ways(network: Network, point: SplitPoint) -> list[tuple[int, int]]:
    return [(part.start.index if part.start else 0, part.points[0].index) for part in tail_parts(network, point)]


@pytest.fixture(scope="module")
def lite(lively: Callable[[str, int], Network]) -> Network:
    return lively("efficientnet_lite0", 32)


def test_the_parts_lead_from_the_split_to_the_logits_without_a_gap(lite: Network) -> None:
    last = lite.points[-1].index
    for point in lite.points[1:-1]:
        steps = ways(lite, point)
        assert (steps[0][0], steps[-1][1]) == (point.index, last)
        assert all(before[1] == after[0] for before, after in pairwise(steps))


def test_split_0_has_one_program_the_last_split_s_own_head_and_the_last_split_none(lite: Network) -> None:
    assert tail_parts(lite, lite.points[0]) == (Program.head(lite.points[-1]),)
    assert tail_parts(lite, lite.points[-1]) == ()


def test_all_tails_together_take_one_program_a_split(lite: Network) -> None:
    points = lite.all_points[1:-1]
    programs = {part for point in points for part in tail_parts(lite, point)}
    assert len(programs) == len(points)
    assert max(len(tail_parts(lite, point)) for point in points) <= 6


def test_all_of_them_are_little_more_work_than_the_network_itself(lite: Network) -> None:
    points = lite.all_points[1:-1]
    programs = {part for point in points for part in tail_parts(lite, point)}
    macs = sum(part.points[0].head_macs - part.start.head_macs for part in programs if part.start)
    each_alone = sum(point.tail_macs for point in points)
    assert macs < 5 * lite.points[-1].head_macs < 0.5 * each_alone


def test_heavy_weights_lie_in_few_programs(lively: Callable[[str, int], Network]) -> None:
    vgg = lively("vgg11", 32)
    heaviest = max(range(len(vgg.points) - 1), key=lambda i: vgg.points[i].tail_params - vgg.points[i + 1].tail_params)
    programs = {part for point in vgg.all_points[1:-1] for part in tail_parts(vgg, point)}
    holding = [p for p in programs if p.start and p.start.index <= heaviest < p.points[0].index]
    assert len(holding) == 1
    assert vgg.points[heaviest].tail_params - vgg.points[heaviest + 1].tail_params > LARGE
