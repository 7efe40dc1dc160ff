"""Pairs that attacks are trained on, and the scores of what they rebuild."""

from __future__ import annotations

import pytest
import torch
from torch import fx

from analysis.judging import FEWEST_PICTURES, Judge, collect_pairs, groups, learned_from, received
from analysis.metrics import PSNR_CAP_DB
from harness.codecs import Fp32
from harness.networks.splits import Cut, CuttableGraph, Network, SplitPoint
from harness.pictures import Pictures
from harness.results.schema import TRAIN_PICTURES


def test_pairs_are_what_the_heads_make_of_the_receivers_own_pictures(network: Network, pictures: Pictures) -> None:
    points = network.points[1:]
    own = collect_pairs(network, points, pictures)
    assert sorted(own) == [point.index for point in points]
    for point in points:
        pairs = own[point.index]
        alone = torch.cat([network.head(point)(picture[None]) for picture in pictures.train.as_float()])
        torch.testing.assert_close(pairs.activations, alone, atol=1e-5, rtol=0)
        assert torch.equal(pairs.pictures, pictures.train.as_float())
        assert pairs.sources == pictures.train.sources


def test_a_large_activation_is_collected_for_fewer_pictures(
    network: Network, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("analysis.judging.SPLIT_BYTES", 1)
    own = collect_pairs(network, network.points[1:], pictures)
    assert {len(pairs) for pairs in own.values()} == {FEWEST_PICTURES}


def test_attacks_learn_from_no_more_pictures_than_memory_has_room_for(
    network: Network, pictures: Pictures, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.pictures.crops.PICTURES_BYTES", 7 * pictures.train.as_float()[0].nbytes)
    assert learned_from(pictures) == len(pictures.train), "what is learned from by default always is"
    monkeypatch.setattr("harness.pictures.crops.FEWEST_MADE", 5)
    own = collect_pairs(network, network.points[1:], pictures)
    assert {len(pairs) for pairs in own.values()} == {7}


def test_of_more_pictures_than_by_default_fewer_splits_are_collected_at_once(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = network.points[1:]
    assert [len(group) for group in groups(points, TRAIN_PICTURES)] == [len(points)]
    monkeypatch.setattr("analysis.judging.GROUP_BYTES_OF_MANY", 1)
    assert [len(group) for group in groups(points, TRAIN_PICTURES + 1)] == [1] * len(points)


def test_points_that_end_in_one_kernel_both_get_its_activations(network: Network, pictures: Pictures) -> None:
    first, second = network.points[1:3]

    class Fused(CuttableGraph):
        """Two split points in one node, as int8 has them where an operation keeps the scale."""

        def graph(self, batch: int) -> fx.GraphModule:
            return network.graph(batch)

        def cut(self, point: SplitPoint) -> Cut:  # noqa: ARG002
            return Cut(first.node, Fp32())

    own = collect_pairs(Fused(), [first, second], pictures)
    assert torch.equal(own[first.index].activations, own[second.index].activations)


def test_what_is_received_for_a_held_out_picture_is_what_the_head_makes_of_it(
    network: Network, pictures: Pictures
) -> None:
    points = network.points[1:]
    arrived = received(network, points, pictures)
    for point in points:
        alone = torch.cat([network.head(point)(picture[None]) for picture in pictures.held_out.as_float()])
        torch.testing.assert_close(arrived[point.index], alone, atol=1e-5, rtol=0)


def test_every_held_out_picture_has_its_scores_and_the_mean_picture_scores_the_floor(pictures: Pictures) -> None:
    own, original = pictures.train.as_float(), pictures.held_out.as_float()
    judge = Judge(own, original)
    exact, mean = judge.scores(original), judge.scores(own.mean(0, keepdim=True).expand_as(original))
    assert exact.psnr_db == (PSNR_CAP_DB,) * len(original)
    assert exact.ssim == pytest.approx((1.0,) * len(original))
    assert mean.psnr_db == mean.floor_psnr_db == exact.floor_psnr_db
