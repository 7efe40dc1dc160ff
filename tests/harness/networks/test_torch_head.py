"""A head as PyTorch runs it gives what the graph gives, for any number of pictures, with gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from harness.codecs import Int8
from harness.networks.int8 import QuantizedNetwork
from harness.networks.models import Model, PictureModel
from harness.networks.splits import Cut, Network, SplitPoint
from harness.networks.torch_head import BATCH, TorchHead
from harness.pictures import Pictures

SIZE = (16, 16)
COUNTS = (1, 5, BATCH, BATCH + 4)


class Windows(nn.Module):
    """Adds what attention finds within windows of 4x4 places, which become a batch of their own, as Swin does."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.mix = nn.Conv2d(3, 8, 2, stride=2), nn.MultiheadAttention(8, 2, batch_first=True)
        self.leave = nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.enter(x)).permute(0, 2, 3, 1)
        count, height, width, channels = x.shape
        rows = x.view(count, height // 4, 4, width // 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
        rows = rows.reshape(-1, 16, channels)
        mixed, _ = self.mix(rows, rows, rows, need_weights=False)
        whole = mixed.view(count, height // 4, width // 4, 4, 4, channels).permute(0, 1, 3, 2, 4, 5)
        out: Tensor = torch.tanh(self.leave(x + whole.reshape(count, height, width, channels)))
        return out.mean((1, 2))


class Tokens(nn.Module):
    """Puts a token of its own before those of the picture, once for each picture, as ViT does."""

    def __init__(self) -> None:
        super().__init__()
        self.enter, self.token = nn.Conv2d(3, 8, 4, stride=4), nn.Parameter(torch.randn(1, 1, 8))
        self.mix, self.leave = nn.Linear(8, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.enter(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1)
        x = torch.tanh(self.mix(x))
        out: Tensor = self.leave(x.mean(1))
        return out


def network_of(kind: type[nn.Module]) -> Network:
    torch.manual_seed(0)
    module = PictureModel(kind(), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)).eval()
    return Network(Model(kind.__name__, module, SIZE, "random", trained=False))


@pytest.fixture(scope="module", params=["plain", "windows", "tokens"])
def network(request: pytest.FixtureRequest, plain: Network) -> Network:
    """A convolutional network, and two whose graphs are bound to their number of pictures."""
    return plain if request.param == "plain" else network_of({"windows": Windows, "tokens": Tokens}[request.param])


def some_pictures(network: Network, count: int) -> Tensor:
    return torch.rand(count, 3, *network.model.input_size, generator=torch.Generator().manual_seed(count))


def expected(network: Network, point: SplitPoint, pictures: Tensor) -> Tensor:
    """What the graph for one picture gives, picture by picture."""
    with torch.no_grad():
        return torch.cat([network.head(point)(picture[None]) for picture in pictures])


def test_it_gives_the_graphs_values_for_any_number_of_pictures(network: Network) -> None:
    for point in network.points[1:]:
        head = TorchHead(network, point)
        for count in COUNTS:
            pictures = some_pictures(network, count)
            torch.testing.assert_close(head(pictures), expected(network, point, pictures), atol=1e-5, rtol=1e-4)


def test_convolutions_take_any_number_at_once_and_windows_do_not(plain: Network) -> None:
    def bound(network: Network) -> list[str]:
        heads = {point.name: TorchHead(network, point) for point in network.points}
        return [name for name, head in heads.items() if not head._takes_any_number]

    assert {point.name for point in plain.points if len(point.activation_shape) == 4}.isdisjoint(bound(plain))
    assert bound(network_of(Windows))
    assert bound(network_of(Tokens))


@pytest.mark.parametrize("count", COUNTS)
def test_gradients_reach_every_picture(network: Network, count: int) -> None:
    head = TorchHead(network, network.points[-1])
    pictures = some_pictures(network, count).requires_grad_()
    (gradient,) = torch.autograd.grad(head(pictures)[:, 0].sum(), pictures)
    reference = []
    for picture in pictures.detach():
        one = picture[None].clone().requires_grad_()
        reference += torch.autograd.grad(network.head(network.points[-1])(one)[:, 0].sum(), one)
    assert gradient.flatten(1).abs().amax(1).min() > 0
    torch.testing.assert_close(gradient, torch.cat(reference), atol=1e-5, rtol=1e-3)


def test_a_picture_has_the_same_activation_alone_and_among_others(network: Network) -> None:
    head, pictures = TorchHead(network, network.points[-1]), some_pictures(network, BATCH + 4)
    alone = torch.cat([head(picture[None]) for picture in pictures])
    torch.testing.assert_close(alone, head(pictures), atol=1e-5, rtol=1e-4)


def test_it_leaves_the_pictures_and_the_networks_values_as_they_are(network: Network) -> None:
    pictures = some_pictures(network, 4)
    before = pictures.clone(), expected(network, network.points[-1], pictures)
    TorchHead(network, network.points[-1])(pictures)
    assert torch.equal(pictures, before[0])
    assert torch.equal(expected(network, network.points[-1], pictures), before[1])


# int8


@pytest.fixture(scope="module")
def int8(plain: Network, pictures: Pictures) -> QuantizedNetwork:
    return QuantizedNetwork(plain, pictures.train.as_float())


def test_where_int8_travels_activations_are_rounded_to_its_grid(plain: Network, int8: QuantizedNetwork) -> None:
    pictures = some_pictures(plain, 5)
    for point in plain.all_points[1:]:
        cut = int8.cut(point)
        codec = cut.codec
        assert isinstance(codec, Int8)
        activations, exact = TorchHead(plain, point, cut)(pictures), TorchHead(plain, point)(pictures)
        steps = activations / codec.scale + codec.zero_point
        torch.testing.assert_close(steps, steps.round(), atol=1e-3, rtol=0)
        assert -128.001 <= steps.min() <= steps.max() <= 127.001
        lowest, highest = (codec.decode(torch.tensor(q)) for q in (-128, 127))
        assert (activations - exact.clamp(lowest, highest)).abs().max() < 0.501 * codec.scale


@pytest.mark.parametrize(
    ("scale", "zero_point", "grid"),
    [(0.25, 0, [-32.0, 31.75]), (0.25, -128, [0.0, 63.75]), (0.001, 10, [-0.138, 0.117])],
)
def test_what_leaves_the_grid_is_at_its_end(plain: Network, scale: float, zero_point: int, grid: list[float]) -> None:
    point = plain.points[1]  # the normalised picture
    cut = Cut(point.node, Int8(scale=scale, zero_point=zero_point))
    picture = torch.zeros(1, 3, *plain.model.input_size)
    exact = TorchHead(plain, point)(picture)
    found = TorchHead(plain, point, cut)(picture)
    nearest = (exact / scale).round() * scale
    torch.testing.assert_close(found, nearest.clamp(*grid), atol=1e-4, rtol=0)


def test_gradients_pass_through_the_rounding(plain: Network, int8: QuantizedNetwork) -> None:
    point = plain.all_points[1]
    gradients: list[Tensor] = []
    for cut in (None, int8.cut(point)):
        pictures = some_pictures(plain, 3).requires_grad_()
        gradients += torch.autograd.grad(TorchHead(plain, point, cut)(pictures).sum(), pictures)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)


def test_a_cut_without_a_scale_rounds_nothing(plain: Network) -> None:
    point, pictures = plain.all_points[1], some_pictures(plain, 2)
    assert torch.equal(TorchHead(plain, point, plain.cut(point))(pictures), TorchHead(plain, point)(pictures))
