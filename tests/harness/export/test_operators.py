"""The operators that an output needs are counted as the backend makes them."""

from __future__ import annotations

from harness.export.operators import count_operators
from harness.networks.cutting import extract_head
from harness.networks.folding import fold_batch_norm
from harness.networks.splits import Network


def test_a_convolution_takes_its_batch_norm_in(plain: Network) -> None:
    head = extract_head(plain.graph(1), *(point.node for point in plain.all_points[1:]))
    assert count_operators(head)[-1]["product"] == 4  # two convolutions, a batch norm, a linear layer
    fold_batch_norm(head)
    counts = count_operators(head)
    assert [count.get("product") for count in counts] == [1, 2, 2, 3]
    assert all(count["subtract"] == count["multiply"] == 1 for count in counts)
