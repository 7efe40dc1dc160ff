"""int8 networks stay close to their float32 twins, at every split point at which a head ends in int8."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from executorch.backends.xnnpack.quantizer.xnnpack_quantizer import XNNPACKQuantizer
from torch import nn

from device_runner.bundle import Bundle
from device_runner.devices.local import Local
from device_runner.frames import Frame, encode_payload
from device_runner.runner import Job, run_program
from harness.codecs import Int8
from harness.errors import ExportError
from harness.export.lowering import lower
from harness.networks import int8 as quantize
from harness.networks.int8 import ClampQuantizer, QuantizedNetwork
from harness.networks.models import load_model
from harness.networks.splits import Network
from harness.pictures import Pictures, load_pictures

LITE_SIZE = (64, 64)


@pytest.fixture(scope="module")
def lite_pictures() -> Pictures:
    return load_pictures("builtin", size=LITE_SIZE, train_count=64, held_out_count=8)


@pytest.fixture(scope="module")
def lite() -> Network:
    return Network(load_model("efficientnet_lite0", input_size=LITE_SIZE))


@pytest.fixture(scope="module")
def lite_int8(lite: Network, lite_pictures: Pictures) -> QuantizedNetwork:
    return QuantizedNetwork(lite, lite_pictures.train.as_float())


@pytest.fixture(scope="module")
def plain_int8(plain: Network, pictures: Pictures) -> QuantizedNetwork:
    return QuantizedNetwork(plain, pictures.train.as_float())


def cosine(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0))


def test_every_split_of_all_is_close_to_float32(
    lite: Network, lite_int8: QuantizedNetwork, lite_pictures: Pictures
) -> None:
    held_out = lite_pictures.held_out.as_float()
    points = [point for point in lite.all_points if point.index]
    (exact,) = lite.activations(held_out, points)
    (close,) = lite_int8.activations(held_out, points)
    least = {point.name: cosine(exact[point.index], close[point.index]) for point in points}
    assert min(least.values()) >= 0.99, least


def test_a_relu6_network_keeps_most_of_its_256_levels(
    lite: Network, lite_int8: QuantizedNetwork, lite_pictures: Pictures
) -> None:
    points = [point for point in lite.all_points if point.op == "hardtanh"]
    assert len(points) > 2
    for point in points[:3]:
        head = lite_int8.head(point)
        levels = {int(q) for picture in lite_pictures.held_out.as_float() for q in head(picture[None]).unique()}
        assert len(levels) >= 100, point


def test_heads_end_in_int8_with_scale_and_zero_point(plain: Network, plain_int8: QuantizedNetwork) -> None:
    picture = torch.rand(1, 3, 32, 32)
    for point in plain.all_points[1:]:
        codec = plain_int8.cut(point).codec
        assert isinstance(codec, Int8), point
        with torch.no_grad():
            travels, exact = plain_int8.head(point)(picture), plain.head(point)(picture)
        assert travels.dtype == torch.int8
        assert codec.decode(travels).shape == exact.shape
        # Half a step of its own, and the errors that came with its input.
        assert float((codec.decode(travels) - exact).abs().mean()) <= 3 * codec.scale, point


def test_graphs_of_all_batch_sizes_agree(plain: Network, plain_int8: QuantizedNetwork, pictures: Pictures) -> None:
    held_out = pictures.train.as_float()[:16]
    points = plain.all_points[1:]
    (together,) = plain_int8.activations(held_out, points, batch=16)
    alone = list(plain_int8.activations(held_out, points, batch=1))
    for point in points:
        codec = plain_int8.cut(point).codec
        assert isinstance(codec, Int8)
        step = codec.scale
        one_by_one = torch.cat([found[point.index] for found in alone])
        difference = (together[point.index] - one_by_one).abs()
        assert float(difference.max()) <= 1.01 * step, point  # a value on the edge of two steps may fall either way
        assert float((difference > 0.5 * step).float().mean()) < 0.01, point


def test_a_split_inside_an_int8_kernel_is_refused(plain: Network, plain_int8: QuantizedNetwork) -> None:
    inside = [point for point in plain.points if point.op == "conv2d" and not point.in_all]
    assert len(inside) == 2
    for point in inside:
        with pytest.raises(ExportError, match="inside one int8 kernel") as caught:
            plain_int8.cut(point)
        assert str(point.index) in str(caught.value)


def test_equal_pictures_give_equal_networks_and_others_do_not(plain: Network, pictures: Pictures) -> None:
    train = pictures.train.as_float()[:32]
    same, darker = QuantizedNetwork(plain, train), QuantizedNetwork(plain, train * 0.5)
    first = QuantizedNetwork(plain, train)
    assert [first.cut(p) for p in plain.all_points] == [same.cut(p) for p in plain.all_points]
    assert [first.cut(p) for p in plain.all_points] != [darker.cut(p) for p in plain.all_points]


def test_a_residual_network_is_close_to_float32() -> None:
    size = (64, 64)
    own = load_pictures("builtin", size=size, train_count=64, held_out_count=4)
    calibration = own.train.as_float()
    network = Network(load_model("resnet18", weights="random", input_size=size, calibration=lambda _: calibration))
    points = [point for point in network.all_points if point.index]
    (exact,) = network.activations(own.held_out.as_float(), points)
    (close,) = QuantizedNetwork(network, calibration).activations(own.held_out.as_float(), points)
    assert min(cosine(exact[point.index], close[point.index]) for point in points) >= 0.98


def test_a_dead_channels_bias_fits_the_kernels_int32(
    lite: Network, lite_int8: QuantizedNetwork, lite_pictures: Pictures, bundle: Bundle, tmp_path: Path
) -> None:
    """Channels that training has switched off stay dark in the program, as they are in PyTorch."""
    stem = lite.all_points[1]
    pixels = lite_pictures.held_out.pixels[0]
    picture = pixels.float().div(255).unsqueeze(0)
    lower(lite_int8.head(stem), picture, tmp_path / "head.pte")
    reference = Frame({}, {"picture": pixels.numpy(), "activation.0": lite_int8.head(stem)(picture).numpy()})
    (tmp_path / "reference").write_bytes(encode_payload(reference))
    job = Job(str(tmp_path / "head.pte"), str(tmp_path / "reference"), max_abs_err=(1,), zero_points=(-128,))
    device = Local("local")
    assert run_program(device, device.deploy(bundle), job, timeout_s=60).outputs[0].verification is not None


def transposed() -> nn.Module:
    """Transposed convolutions and their batch norms, a batch norm that stands alone, one behind a ReLU."""
    return nn.Sequential(
        nn.BatchNorm2d(3), nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.ReLU(), nn.BatchNorm2d(8),
        nn.ConvTranspose2d(8, 4, 2, 2), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(4096, 5),
    )  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        "mobilenet_v2",
        pytest.param("efficientnet_lite0", marks=pytest.mark.slow),
        pytest.param("densenet121", marks=pytest.mark.slow),
        pytest.param("tests.harness.test_quantize:transposed", marks=pytest.mark.slow),
    ],
)
def test_no_pattern_of_training_is_in_a_calibrated_network(
    lively: Callable[[str, int], Network], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the libraries would look for, for many seconds, changes nothing."""
    network, pictures = lively(name, 32), torch.rand(1, 3, 32, 32)
    without = QuantizedNetwork(network, pictures).graph(1)
    monkeypatch.setattr(quantize, "_without_patterns_of_training", nullcontext)
    monkeypatch.setattr(ClampQuantizer, "SUPPORTED_PATTERNS", XNNPACKQuantizer.SUPPORTED_PATTERNS)
    with_them = QuantizedNetwork(network, pictures).graph(1)
    assert str(without.graph) == str(with_them.graph)
    assert without.state_dict().keys() == with_them.state_dict().keys()
    for tensor, value in without.state_dict().items():
        assert torch.equal(value, with_them.state_dict()[tensor]), tensor
