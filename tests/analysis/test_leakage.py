"""Pairs that attacks are trained on, and the pictures that are written of what they rebuilt."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import fx, nn

from analysis.leakage import FEWEST_PICTURES, collect_pairs, write_pictures
from harness.errors import ResultsError
from harness.models import Model, PictureModel
from harness.pictures import Pictures, load_pictures
from harness.splits import Cut, CuttableGraph, Network, SplitPoint

SIZE = (32, 32)


@pytest.fixture(scope="module")
def pictures() -> Pictures:
    return load_pictures("builtin", size=SIZE, train_count=FEWEST_PICTURES + 3, held_out_count=2)


@pytest.fixture(scope="module")
def network() -> Network:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(900, 5))
    module = PictureModel(layers, mean=(0, 0, 0), std=(1, 1, 1)).eval()
    return Network(Model("small", module, SIZE, "random", trained=False))


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
    monkeypatch.setattr("analysis.leakage.SPLIT_BYTES", 1)
    own = collect_pairs(network, network.points[1:], pictures)
    assert {len(pairs) for pairs in own.values()} == {FEWEST_PICTURES}


def test_points_that_end_in_one_kernel_both_get_its_activations(network: Network, pictures: Pictures) -> None:
    first, second = network.points[1:3]

    class Fused(CuttableGraph):
        """Two split points in one node, as int8 has them where an operation keeps the scale."""

        def graph(self, batch: int) -> fx.GraphModule:
            return network.graph(batch)

        def cut(self, point: SplitPoint) -> Cut:  # noqa: ARG002
            return Cut(first.node)

    own = collect_pairs(Fused(), [first, second], pictures)
    assert torch.equal(own[first.index].activations, own[second.index].activations)


def test_written_pictures_are_those_that_were_given_and_take_the_place_of_earlier_ones(tmp_path: Path) -> None:
    pixels = torch.randint(256, (3, 3, 12, 16), dtype=torch.uint8)
    folder = tmp_path / "linear"
    write_pictures(folder, torch.zeros(1, 3, 12, 16), ["earlier"])
    write_pictures(folder, pixels / 255, ["a", "b", "c"])
    assert sorted(path.name for path in folder.iterdir()) == ["a.png", "b.png", "c.png"]
    for name, picture in zip("abc", pixels, strict=True):
        np.testing.assert_array_equal(np.asarray(Image.open(folder / f"{name}.png")), picture.permute(1, 2, 0))
    assert [path.name for path in tmp_path.iterdir()] == ["linear"]


def test_pictures_that_cannot_be_written_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ResultsError, match=r"cannot write to .*; free disk space"):
        write_pictures(tmp_path / "file" / "linear", torch.zeros(1, 3, 12, 16), ["a"])
