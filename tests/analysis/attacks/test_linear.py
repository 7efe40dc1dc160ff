"""The linear decoder against closed forms and on real photographs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812

from analysis.attacks import Pairs
from analysis.attacks.linear import Linear
from analysis.metrics import floor_psnr_db, psnr_db
from harness.pictures import Pictures, load_pictures


@pytest.fixture(scope="module")
def photographs() -> Pictures:
    return load_pictures("builtin", size=(32, 48), train_count=104, held_out_count=8)


def random_convolution(stride: int, channels: int) -> nn.Conv2d:
    """Kernels reach the next place's centre, so that every pixel is seen."""
    torch.manual_seed(0)
    return nn.Conv2d(3, channels, stride * 2 - 1, stride=stride, padding=stride - 1)


@torch.no_grad()
def reached(pictures: Pictures, head: nn.Module) -> tuple[float, float]:
    """Mean PSNR on held-out photographs through a head, and the floor."""
    own, held_out = pictures.train.as_float(), pictures.held_out.as_float()
    attack = Linear()
    attack.fit(Pairs(own, head(own), pictures.train.sources), head=head)
    return (
        float(psnr_db(held_out, attack.rebuild(head(held_out))).mean()),
        float(floor_psnr_db(own, held_out).mean()),
    )


def test_a_convolution_with_more_channels_than_pixels_is_inverted(photographs: Pictures) -> None:
    psnr, _ = reached(photographs, random_convolution(stride=2, channels=24))
    assert psnr > 45


def test_a_relu_behind_it_costs_some_of_it(photographs: Pictures) -> None:
    psnr, floor = reached(photographs, nn.Sequential(random_convolution(stride=2, channels=24), nn.ReLU()))
    assert floor + 8 < psnr < 45


def test_borders_are_rebuilt_as_well_as_the_rest(photographs: Pictures) -> None:
    head = random_convolution(stride=2, channels=24)
    own, held_out = photographs.train.as_float(), photographs.held_out.as_float()
    attack = Linear()
    with torch.no_grad():
        attack.fit(Pairs(own, head(own), photographs.train.sources), head=head)
        error = (attack.rebuild(head(held_out)) - held_out).abs()
    assert error[:, :, :2].mean() < 3 * error[:, :, 8:-8, 8:-8].mean() + 1e-3


@pytest.mark.parametrize("shape", [(1, 1), (2, 3)])
def test_activations_that_tell_nothing_do_not_lead_below_the_mean_picture(
    photographs: Pictures, shape: tuple[int, int]
) -> None:
    class Unrelated(nn.Module):
        """Many channels, none of which has to do with the picture: deep splits look like this to a linear decoder."""

        def forward(self, seen: Tensor) -> Tensor:
            generator = torch.Generator().manual_seed(len(seen))
            return torch.randn(len(seen), 300, *shape, generator=generator)

    psnr, floor = reached(photographs, Unrelated())
    assert psnr > floor - 0.5


def test_strength_is_chosen_across_photographs(photographs: Pictures) -> None:
    """Activations that name the photograph help on the same photographs only; the decoder must not fall for them."""
    known = sorted(set(photographs.train.sources))
    names = torch.tensor([known.index(source) for source in photographs.train.sources])
    own, held_out = photographs.train.as_float(), photographs.held_out.as_float()
    attack = Linear()
    attack.fit(Pairs(own, F.one_hot(names, 64).float() * 10, photographs.train.sources), head=torch.flatten)
    stranger = torch.zeros(len(held_out), 64)
    stranger[:, 40] = 10
    psnr = psnr_db(held_out, attack.rebuild(stranger)).mean()
    assert psnr > floor_psnr_db(own, held_out).mean() - 0.5


def test_many_channels_are_reduced_and_still_inverted(photographs: Pictures) -> None:
    psnr, _ = reached(photographs, random_convolution(stride=4, channels=300))
    assert psnr > 35


def test_it_answers_out_of_fold_as_if_it_did_not_know_the_photograph(photographs: Pictures) -> None:
    head = nn.Sequential(random_convolution(stride=4, channels=12), nn.ReLU())
    own, held_out = photographs.train.as_float(), photographs.held_out.as_float()
    with torch.no_grad():
        pairs = Pairs(own, head(own), photographs.train.sources)
        attack = Linear()
        attack.fit(pairs, head=head)
        reached = float(psnr_db(held_out, attack.rebuild(head(held_out))).mean())
    out_of_fold = attack.out_of_fold(pairs)
    known = psnr_db(own, attack.rebuild(pairs.activations)).mean()
    assert psnr_db(own, out_of_fold).mean() < known
    assert psnr_db(own, out_of_fold).mean() == pytest.approx(reached, abs=3)
    assert 0 <= out_of_fold.min() <= out_of_fold.max() <= 1


def test_out_of_fold_answers_do_not_fall_for_activations_that_name_the_photograph(photographs: Pictures) -> None:
    own = photographs.train.as_float()
    known = sorted(set(photographs.train.sources))
    names = torch.tensor([known.index(source) for source in photographs.train.sources])
    pairs = Pairs(own, F.one_hot(names, 64).float() * 10, photographs.train.sources)
    attack = Linear()
    attack.fit(pairs, head=torch.flatten)
    mean = own.mean(0, keepdim=True).expand_as(own)
    assert psnr_db(own, attack.out_of_fold(pairs)).mean() < psnr_db(own, mean).mean() + 0.5


def test_it_can_answer_out_of_fold_for_all_of_the_receivers_own_pictures_or_some(photographs: Pictures) -> None:
    head = random_convolution(stride=4, channels=12)
    own = photographs.train.as_float()
    with torch.no_grad():
        pairs = Pairs(own, head(own), photographs.train.sources)
    attack = Linear()
    attack.fit(pairs, head=head)
    assert attack.validation_pairs(pairs) is pairs
    some = torch.tensor([40, 3, 77])
    torch.testing.assert_close(
        attack.out_of_fold(pairs.where(some)), attack.out_of_fold(pairs)[some], atol=1e-4, rtol=0
    )


# transformers' tokens


class Tokens(nn.Module):
    """What a convolution gives as tokens, behind a class token that is unlike them; each knows its place."""

    def __init__(self, *, strength: float) -> None:
        super().__init__()
        self.maps, self.strength = random_convolution(stride=4, channels=64), strength

    def forward(self, seen: Tensor) -> Tensor:
        places = self.maps(seen).flatten(2).mT
        generator = torch.Generator().manual_seed(1)
        positions = torch.randn(places.shape[1:], generator=generator)
        class_token = torch.randn(64, 64, generator=generator) @ places.mean(1).unsqueeze(-1)
        return torch.cat([self.strength * class_token.mT, places + self.strength * positions], dim=1)


def test_the_class_token_and_positions_hide_nothing(photographs: Pictures) -> None:
    plain, told = (reached(photographs, Tokens(strength=strength))[0] for strength in (0.0, 2.0))
    assert told > plain - 0.5


def test_a_class_token_that_is_always_the_same_is_not_amplified_to_noise() -> None:
    generator = torch.Generator().manual_seed(0)
    places = torch.randn(24, 64, 32, generator=generator)
    activations = torch.cat([torch.full((24, 1, 32), 0.3), places], dim=1)
    attack = Linear()
    pictures = torch.rand(24, 3, 16, 16, generator=generator)
    attack.fit(Pairs(pictures, activations, tuple("abcdef" * 4)), head=torch.flatten)
    leading = attack.components(activations)[:, 32:]
    assert 0 < leading.shape[1] <= 16
    assert leading.abs().max() < 1e-4


# pooled vectors


def test_a_vector_tells_more_than_the_mean_picture(photographs: Pictures) -> None:
    psnr, floor = reached(photographs, nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten()))
    assert psnr > floor + 2
