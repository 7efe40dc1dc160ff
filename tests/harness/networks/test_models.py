"""Names become networks; weights are what they are said to be, and no file of weights runs code."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
import torch
import torchvision
from safetensors.torch import save_file
from torch import Tensor, nn

from device_runner.errors import UsageError
from harness.errors import ModelError
from harness.networks.models import DEFAULT_MODEL, calibrate_batch_norm, load_model, model_names
from harness.networks.splits import Network
from harness.pictures import load_pictures

TINY = "tiny_networks:plain"
SIZE = (32, 32)


class Hostile:
    """Writes a file when it is unpickled."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str, str]]:
        return open, (str(self.victim), "w")


@pytest.fixture
def without_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is fetched fails at once, and nothing was fetched before."""
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.setenv("no_proxy", "")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))


@pytest.fixture
def tiny_state() -> dict[str, Tensor]:
    return dict(load_model(TINY, weights="random", seed=5, input_size=SIZE).module.network.state_dict())


# names


def test_all_classification_networks_of_torchvision_have_names() -> None:
    names = model_names()
    assert {"efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2", "resnet18", "vit_b_16"} <= set(names)
    assert len(names) == len(set(names)) == 3 + len(torchvision.models.list_models(module=torchvision.models))


def test_an_unknown_model_gets_near_names() -> None:
    with pytest.raises(UsageError, match="did you mean resnet18"):
        load_model("resnet81")


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("tiny_networks:absent", UsageError),
        ("no_such_package:factory", UsageError),
        ("tiny_networks:", UsageError),
        ("tiny_networks:NOT_CALLABLE", UsageError),
        ("tiny_networks:gives_a_number", ModelError),
    ],
)
def test_a_factory_that_gives_no_network_is_one_line(name: str, error: type[Exception]) -> None:
    with pytest.raises(error) as caught:
        load_model(name, weights="random")
    assert len(str(caught.value).splitlines()) == 1


def test_a_factorys_network_gets_the_picture_as_it_is() -> None:
    model = load_model(TINY, weights="random", input_size=SIZE)
    pictures = torch.rand(2, 3, *SIZE)
    assert torch.equal(model.module(pictures), model.module.network(pictures))
    assert not model.module.training


# weights


def test_the_default_network_is_trained_and_knows_an_espresso() -> None:
    model = load_model(DEFAULT_MODEL)
    assert model.trained
    assert "ImageNet" in model.weights
    assert model.input_size == (224, 224)
    held_out = load_pictures("builtin", size=(224, 224), train_count=1, held_out_count=8).held_out
    coffee = next(i for i, source in enumerate(held_out.sources) if "coffee" in source)
    with torch.no_grad():
        best = int(model.module(held_out.as_float()[coffee : coffee + 1]).argmax())
    assert best == 967  # espresso


def test_random_weights_are_called_random() -> None:
    model = load_model(TINY, weights="random", seed=3, input_size=SIZE)
    assert (model.weights, model.trained) == ("random, seed 3", False)


def test_equal_seeds_give_equal_weights_and_hashes_and_others_do_not() -> None:
    one, same, other = (Network(load_model(TINY, weights="random", seed=s, input_size=SIZE)) for s in (1, 1, 2))
    assert one.weights_sha256 == same.weights_sha256
    assert one.weights_sha256 != other.weights_sha256


@pytest.mark.usefixtures("without_network")
def test_auto_without_network_ends_in_random_weights_and_says_so() -> None:
    model = load_model("squeezenet1_1", weights="auto", input_size=SIZE)
    assert not model.trained
    assert model.weights.startswith("random")


@pytest.mark.usefixtures("without_network")
def test_pretrained_weights_that_cannot_be_fetched_are_one_line_with_the_files_name() -> None:
    with pytest.raises(ModelError, match=r"squeezenet1_1-\w+\.pth") as caught:
        load_model("squeezenet1_1", weights="pretrained", input_size=SIZE)
    assert len(str(caught.value).splitlines()) == 1


def test_a_factory_has_no_pretrained_weights() -> None:
    with pytest.raises(ModelError, match="--weights FILE"):
        load_model(TINY, weights="pretrained")
    assert not load_model(TINY, weights="auto", input_size=SIZE).trained


def put_pretrained(name: str) -> torchvision.models.WeightsEnum:
    """Put weights where torchvision keeps what it has fetched, in the layout of its own files."""
    weights = torchvision.models.get_model_weights(name).DEFAULT
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    folder.mkdir(parents=True)
    options = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    torch.manual_seed(4)
    state = torchvision.models.get_model(name, weights=None, **options).state_dict()
    for key in [key for key in state if name.startswith("densenet")]:
        state[re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key)] = state.pop(key)
    if not name.startswith("mnasnet"):  # the others' files are older than these
        del state._metadata
        for key in [key for key in state if key.endswith("num_batches_tracked")]:
            del state[key]
    torch.save(state, folder / weights.url.rsplit("/", 1)[-1])
    return weights


@pytest.mark.usefixtures("without_network")
@pytest.mark.parametrize("name", ["resnet18", "densenet121", "googlenet", "inception_v3", "mnasnet0_5"])
def test_pretrained_networks_give_what_torchvisions_own_give(name: str) -> None:
    weights = put_pretrained(name)
    size = (96, 96)
    ours = load_model(name, weights="auto", input_size=size)
    assert ours.trained
    theirs = torchvision.models.get_model(name, weights=weights).eval()
    pictures = torch.rand(2, 3, *size)
    preset = weights.transforms()
    normalised = torchvision.transforms.functional.normalize(pictures, preset.mean, preset.std)
    with torch.no_grad():
        expected = theirs(normalised)
        assert float(expected.abs().max()) > 0
        assert torch.allclose(ours.module(pictures), expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_come_from_a_file(tmp_path: Path, tiny_state: dict[str, Tensor], suffix: str) -> None:
    path = tmp_path / f"mine{suffix}"
    save_file(tiny_state, path) if suffix == ".safetensors" else torch.save(tiny_state, path)
    model = load_model(TINY, weights=str(path), input_size=SIZE)
    assert model.trained
    assert model.weights == f"file mine{suffix}"
    same = load_model(TINY, weights="random", seed=5, input_size=SIZE)
    assert Network(model).weights_sha256 == Network(same).weights_sha256


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_weights_of_a_network_whose_layout_has_versions_come_from_a_file(tmp_path: Path, suffix: str) -> None:
    source = load_model("mnasnet0_5", weights="random", input_size=SIZE)
    state, path = source.module.network.state_dict(), tmp_path / f"mine{suffix}"
    save_file(dict(state), path) if suffix == ".safetensors" else torch.save(state, path)
    loaded = load_model("mnasnet0_5", weights=str(path), input_size=SIZE).module.network.state_dict()
    assert loaded.keys() == state.keys()
    assert all(torch.equal(value, state[key]) for key, value in loaded.items())


@pytest.mark.parametrize("name", ["weights.pt", "weights.pth", "weights.pkl", "weights.safetensors"])
@pytest.mark.parametrize("save", ["torch", "pickle"])
def test_a_hostile_file_is_refused_and_nothing_in_it_is_run(tmp_path: Path, name: str, save: str) -> None:
    path, victim = tmp_path / name, tmp_path / "victim"
    state = {"0.weight": torch.zeros(1), "evil": Hostile(victim)}
    torch.save(state, path) if save == "torch" else path.write_bytes(pickle.dumps(state))
    with pytest.raises(ModelError) as caught:
        load_model(TINY, weights=str(path), input_size=SIZE)
    assert len(str(caught.value).splitlines()) == 1
    assert not victim.exists()
    pickle.loads(pickle.dumps(Hostile(victim))).close()  # noqa: S301 - the file would have been written
    assert victim.exists()


def test_a_missing_file_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no weights file"):
        load_model(TINY, weights=str(tmp_path / "absent.pt"))


@pytest.mark.parametrize("change", ["missing", "shape", "surplus"])
def test_weights_that_do_not_fit_are_one_line_that_names_a_tensor(
    tmp_path: Path, tiny_state: dict[str, Tensor], change: str
) -> None:
    if change == "missing":
        del tiny_state["0.weight"]
    elif change == "shape":
        tiny_state["0.weight"] = torch.zeros(1)
    else:
        tiny_state["99.weight"] = torch.zeros(1)
    path = tmp_path / "misfit.safetensors"
    save_file(tiny_state, path)
    with pytest.raises(ModelError, match=r"misfit.*9?[09]\.weight") as caught:
        load_model(TINY, weights=str(path), input_size=SIZE)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["vit_b_16", "inception_v3"])
def test_a_size_that_the_network_does_not_take_is_one_line(name: str) -> None:
    with pytest.raises(ModelError, match=f"{name} .* 33x33") as caught:
        load_model(name, weights="random", input_size=(33, 33), calibration=lambda size: torch.rand(4, 3, *size))
    assert len(str(caught.value).splitlines()) == 1


# batch norm


def test_calibration_keeps_the_activations_of_a_random_network_from_vanishing() -> None:
    pictures = load_pictures("builtin", size=SIZE, train_count=32, held_out_count=2).train.as_float()
    spreads = []
    for calibration in (None, lambda _: pictures):
        model = load_model("mobilenet_v2", weights="random", input_size=SIZE, calibration=calibration)
        with torch.no_grad():
            network = cast(torchvision.models.MobileNetV2, model.module.network)
            spreads.append(float(network.features((pictures - 0.45) / 0.23).std()))
    assert spreads[0] < 1e-3
    assert spreads[1] > 0.1


def test_calibration_sets_the_statistics_of_the_pictures_and_leaves_weights_and_mode_alone() -> None:
    module = load_model(TINY, weights="random", input_size=SIZE).module
    weights = [parameter.clone() for parameter in module.parameters()]
    pictures = torch.rand(64, 3, *SIZE)
    calibrate_batch_norm(module, pictures, batch=16)
    convolution, norm, *_ = cast(nn.Sequential, module.network)
    with torch.no_grad():
        convolved = convolution(pictures)
    assert torch.allclose(cast(Tensor, norm.running_mean), convolved.mean((0, 2, 3)), atol=1e-5)
    assert torch.allclose(cast(Tensor, norm.running_var), convolved.var((0, 2, 3)), rtol=0.01)
    assert all(torch.equal(a, b) for a, b in zip(weights, module.parameters(), strict=True))
    assert not any(part.training for part in module.modules())
    assert norm.momentum == 0.1
