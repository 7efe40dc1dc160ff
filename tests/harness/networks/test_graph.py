"""A network's digest covers all that decides its numbers, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.errors import SplitError
from harness.networks.graph import tensor_digest
from harness.networks.models import load_model
from harness.networks.splits import Network

SIZE = (32, 32)
FACTORIES = Path(__file__).parents[1] / "factories"
OTHER_PROCESS = f"""
from harness.networks.models import load_model
from harness.networks.splits import Network
print(Network(load_model("brought_networks:TintedConstant", weights="random", input_size={SIZE})).weights_sha256)
"""


def network(factory: str) -> Network:
    return Network(load_model(f"brought_networks:{factory}", weights="random", input_size=SIZE))


@pytest.mark.parametrize("factory", ["TintedBuffer", "TintedTensor", "TintedNumber", "TintedConstant"])
def test_what_no_state_dict_holds_decides_the_hash_of_network_and_heads(
    factory: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []  # the first two operations are the normalisation, which comes before the tint
    for tint in ("0", "0.5", "0"):
        monkeypatch.setenv("TINT", tint)
        one = network(factory)
        found.append({one.weights_sha256, *(one.digests[point.node] for point in one.points if point.index > 2)})
    assert found[0] == found[2]
    assert not found[0] & found[1]


def test_every_parameter_and_buffer_counts_and_what_is_not_used_does_not() -> None:
    model = load_model("tiny_networks:plain", weights="random", input_size=SIZE)
    seen = {Network(model).weights_sha256}
    state = model.module.state_dict()
    used = ("scale", "network.0.weight", "network.1.running_var", "network.8.bias")
    for name in used:
        state[name] += 1
        seen.add(Network(model).weights_sha256)
    assert len(seen) == 1 + len(used)
    model.module.register_buffer("unused", torch.ones(1))
    assert Network(model).weights_sha256 in seen


def test_a_head_does_not_hang_on_what_comes_after_it() -> None:
    model = load_model("tiny_networks:plain", weights="random", input_size=SIZE)
    before = Network(model)
    whole = before.weights_sha256
    model.module.state_dict()["network.8.bias"] += 1
    after = Network(model)
    assert whole != after.weights_sha256
    assert all(before.digests[p.node] == after.digests[p.node] for p in before.points[:-1])


def test_another_process_gives_the_same_hash() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys; sys.path.insert(0, {str(FACTORIES)!r}){OTHER_PROCESS}"],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[3],
        env={"PYTHONHASHSEED": "7", "PATH": ""},
    )
    assert done.stdout.split()[-1] == network("TintedConstant").weights_sha256


@pytest.mark.parametrize(
    "value",
    [
        torch.tensor(1.5, dtype=torch.bfloat16),
        torch.tensor(True),
        torch.tensor([1 + 2j, 3]).conj(),
        torch.zeros(0, 3),
        torch.rand(4, 1, 3, 3).to(memory_format=torch.channels_last),
        torch.rand(1, 3, 1, 1).to(memory_format=torch.channels_last),
        torch.rand(1).expand(3, 8),
        torch.rand(8, 3).t(),
        torch.eye(4).to_sparse(),
        torch.rand(6)[::2],
    ],
)
def test_every_kind_of_tensor_has_a_digest_of_type_shape_and_values(value: torch.Tensor) -> None:
    plain = (value.to_dense() if value.is_sparse else value).resolve_conj().clone().contiguous()
    assert tensor_digest("w", value) == tensor_digest("w", plain)
    assert tensor_digest("w", value) != tensor_digest("w", plain.unsqueeze(0))
    assert tensor_digest("w", value) != tensor_digest("w", plain.to(torch.complex128))
    if value.numel():
        assert tensor_digest("w", value) != tensor_digest("w", plain.logical_not().to(plain.dtype))


def test_a_tensor_without_numbers_is_an_error_of_its_own() -> None:
    with pytest.raises(SplitError, match="its weights are on the meta device: 'w'"):
        tensor_digest("w", torch.empty(3, device="meta"))
