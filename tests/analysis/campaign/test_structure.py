"""What the study knows an effect of is counted as a person would count it."""

from __future__ import annotations

import pytest

from analysis.campaign.structure import structure_of
from harness.networks.models import load_model
from harness.networks.splits import Network
from harness.results.schema import StructureCounts


@pytest.mark.parametrize(
    ("name", "structure"),
    [
        # 8 blocks, each with a sum; 17 convolutions in a row, for the three of the shortcuts lie beside them
        ("resnet18", StructureCounts(convolutions=17, residual=8, dense=0, inception=0, max_pooling=1)),
        ("vgg11", StructureCounts(convolutions=8, residual=0, dense=0, inception=0, max_pooling=5)),
        # fire modules: squeeze, then two expansions side by side
        ("squeezenet1_1", StructureCounts(convolutions=18, residual=0, dense=0, inception=8, max_pooling=3)),
    ],
)
def test_structure_of_known_networks(name: str, structure: StructureCounts) -> None:
    network = Network(load_model(name, weights="random", input_size=(64, 64)))
    assert structure_of(network.graph(1)) == structure
