"""Files of weights: whatever wrapped them is taken off and told, what is no weights gets a line of its own."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from harness.errors import ModelError
from harness.networks.models import Model, load_model
from harness.networks.weights import load_state, read_weights

TINY = "tiny_networks:plain"
SIZE = (32, 32)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def kept_state() -> State:
    return dict(load_model(TINY, weights="random", seed=5, input_size=SIZE).module.network.state_dict())


@pytest.fixture
def tiny_state(kept_state: State) -> State:
    return {key: value.clone() for key, value in kept_state.items()}


def prefixed(state: State, prefix: str) -> State:
    return {f"{prefix}{key}": value for key, value in state.items()}


def load(path: Path) -> Model:
    return load_model(TINY, weights=str(path), input_size=SIZE)


@pytest.mark.parametrize(
    ("wrap", "said"),
    [
        (lambda state: prefixed(state, "module."), "without the prefix 'module.'"),
        (lambda state: prefixed(state, "_orig_mod."), "without the prefix '_orig_mod.'"),
        (lambda state: prefixed(state, "_orig_mod.module."), "without the prefix '_orig_mod.module.'"),
        (
            lambda state: {"model": prefixed(state, "module."), "epoch": 3},
            "'model' in it; without the prefix 'module.'",
        ),
        (lambda state: {"state_dict": state, "optimizer": {"param_groups": []}}, "'state_dict' in it"),
        (lambda state: {"model_state_dict": state, "loss": 0.5}, "'model_state_dict' in it"),
        (lambda state: {"checkpoint": {"model": state}}, "'checkpoint.model' in it"),
        (lambda state: {"ema": state}, "'ema' in it"),
        (lambda state: prefixed(state, "module.") | {"n_averaged": torch.tensor(4)}, "without the prefix 'module.'"),
        (
            lambda state: {"state_dict": prefixed(state, "model.") | {"criterion.weight": torch.ones(10)}},
            "'state_dict' in it; without the prefix 'model.'; 1 tensors beside them left out",
        ),
        (lambda state: {k: v.half() if v.dim() else v for k, v in state.items()}, "converted from float16 to float32"),
    ],
)
def test_what_wraps_weights_is_taken_off_and_told(
    tmp_path: Path, tiny_state: State, wrap: Callable[[State], object], said: str
) -> None:
    torch.save(wrap(tiny_state), tmp_path / "mine.pt")
    model = load(tmp_path / "mine.pt")
    assert said in model.weights
    for key, value in model.module.network.state_dict().items():
        assert torch.allclose(value.float(), tiny_state[key].float(), atol=1e-3), key


@pytest.mark.parametrize(
    ("name", "save"), [("mine.pth", save_file), ("mine.safetensors", torch.save), ("mine", save_file)]
)
def test_a_file_is_what_it_holds_not_what_it_is_called(
    tmp_path: Path, tiny_state: State, name: str, save: Callable[[State, Path], None]
) -> None:
    save(tiny_state, tmp_path / name)
    state, where = read_weights(tmp_path / name)
    assert where == ""
    assert state.keys() == tiny_state.keys()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n<!DOCTYPE html><html><title>Sign in</title>", "is a web page"),
        (b"<html>404", "is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00", "pointer of Git LFS"),
        (b'{"architectures": ["ResNet"]}', "is JSON text"),
        (b"\x89HDF\r\n\x1a\n" + bytes(64), "is an HDF5"),
        (bytes(range(256)), "nothing in it was run"),
    ],
)
@pytest.mark.parametrize("name", ["best.pt", "best.safetensors"])
def test_what_is_no_weights_gets_a_line_of_its_own(tmp_path: Path, content: bytes, said: str, name: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match=said) as caught:
        read_weights(tmp_path / name)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.remedy


def test_a_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="is a folder"):
        read_weights(tmp_path)


def test_a_whole_pickled_network_is_refused_by_its_name(tmp_path: Path) -> None:
    torch.save(nn.Sequential(nn.Linear(2, 2)), tmp_path / "whole.pt")
    with pytest.raises(ModelError, match=r"whole pickled network; nothing in it was run; save model\.state_dict"):
        read_weights(tmp_path / "whole.pt")


def test_a_scripted_network_is_refused_by_its_name(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit.script is deprecated, and its files are around
        torch.jit.script(nn.Linear(2, 2)).save(str(tmp_path / "scripted.pt"))  # type: ignore[no-untyped-call]
    with pytest.raises(ModelError, match="TorchScript"):
        read_weights(tmp_path / "scripted.pt")


def test_the_state_of_an_optimizer_is_no_weights(tmp_path: Path) -> None:
    optimizer = torch.optim.Adam(nn.Linear(2, 2).parameters())
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    with pytest.raises(ModelError, match="state of an optimizer"):
        read_weights(tmp_path / "optimizer.pt")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda state: state["0.weight"].view(-1)[3:4].fill_(torch.nan), "'0.weight' holds NaN"),
        (lambda state: state["1.running_var"][:1].fill_(torch.inf), "'1.running_var' holds infinite numbers"),
        (
            lambda state: state.update({"8.weight": torch.ones(1000, 32), "8.bias": torch.ones(1000)}),
            ": the file has 1000 rows, the network 10",
        ),
        (lambda state: state.update({"0.weight": torch.ones(8, 3, 5, 5)}), "8x3x5x5 in the file, 8x3x3x3 in the"),
        (lambda state: state.pop("3.weight"), "'3.weight': not in the file"),
        (lambda state: state.update({"9.weight": torch.ones(1)}), "'9.weight': in the file only"),
        (lambda state: state.update({"0.weight": torch.ones(8, 3, 3, 3).to(torch.int8)}), "'0.weight' is int8 in"),
    ],
)
def test_weights_that_do_not_fit_or_are_no_numbers_name_the_tensor(
    tmp_path: Path, tiny_state: State, change: Callable[[State], object], said: str
) -> None:
    change(tiny_state)
    save_file(tiny_state, tmp_path / "mine.safetensors")
    with pytest.raises(ModelError, match=said) as caught:
        load(tmp_path / "mine.safetensors")
    assert "mine.safetensors" in str(caught.value)


def test_a_module_that_is_called_module_keeps_its_name() -> None:
    network = nn.Sequential()
    network.module = nn.Linear(2, 3)
    state = {"module.weight": torch.ones(3, 2), "module.bias": torch.zeros(3)}
    assert load_state(network, state, "test") == []
    assert torch.equal(network.module.weight, torch.ones(3, 2))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_one_line(
    tmp_path: Path, tiny_state: dict[str, Tensor], suffix: str, share: float
) -> None:
    path = tmp_path / f"short{suffix}"
    save_file(tiny_state, path) if suffix == ".safetensors" else torch.save(tiny_state, path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(ModelError, match="short") as caught:
        read_weights(path)
    assert len(str(caught.value).splitlines()) == 1


def test_flipped_bytes_are_one_line_or_still_tensors(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    path = tmp_path / "flipped.pt"
    torch.save(tiny_state, path)
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    refused = 0
    for place in torch.randint(len(content), (300,), generator=generator).tolist():
        path.write_bytes(content[:place] + bytes([content[place] ^ 0xFF]) + content[place + 1 :])
        try:
            assert all(isinstance(value, Tensor) for value in read_weights(path)[0].values())
        except ModelError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize("content", [[torch.zeros(1)], {"a": "text"}, torch.zeros(2)])
def test_a_file_with_something_else_is_refused(tmp_path: Path, content: object) -> None:
    path = tmp_path / "other.pt"
    torch.save(content, path)
    with pytest.raises(ModelError, match="state dict"):
        read_weights(path)


def test_names_that_are_numbers_are_one_line(tmp_path: Path) -> None:
    torch.save({0: torch.zeros(1), 1: torch.zeros(1)}, tmp_path / "numbers.pt")
    with pytest.raises(ModelError, match="under other names than text; "):
        read_weights(tmp_path / "numbers.pt")
