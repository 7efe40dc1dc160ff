"""Where the picture is in an activation, and blocks of pixels under its places."""

from __future__ import annotations

import pytest
import torch

from analysis.attacks.maps import Blocks, blocks_of, layout_of

SQUARE, WIDE = (224, 224), (64, 160)


@pytest.mark.parametrize(
    ("shape", "input_size", "expected"),
    [
        ((32, 112, 112), SQUARE, (32, 112, 112)),  # convnets
        ((64, 224, 224), SQUARE, (64, 224, 224)),
        ((1280, 7, 7), SQUARE, (1280, 7, 7)),
        ((512, 1, 1), SQUARE, (512, 1, 1)),
        ((32, 147, 147), (299, 299), (32, 147, 147)),  # Inception pads nothing
        ((2048, 8, 8), (299, 299), (2048, 8, 8)),
        ((24, 32, 80), WIDE, (24, 32, 80)),
        ((320, 2, 5), WIDE, (320, 2, 5)),
        ((56, 56, 96), SQUARE, (96, 56, 56)),  # Swin: channels last
        ((7, 7, 768), SQUARE, (768, 7, 7)),
        ((16, 40, 96), WIDE, (96, 16, 40)),
        ((196, 768), SQUARE, (768, 14, 14)),  # ViT
        ((197, 768), SQUARE, (1536, 14, 14)),
        ((198, 192), SQUARE, (576, 14, 14)),
        ((40, 192), WIDE, (192, 4, 10)),
        ((768, 196), SQUARE, (768, 14, 14)),  # tokens of a map that was flattened
        ((192, 40), WIDE, (192, 4, 10)),
        ((1000,), SQUARE, (1000, 1, 1)),  # no place at all
        ((64, 49, 64), SQUARE, (64 * 49 * 64, 1, 1)),
        ((13, 6), SQUARE, (78, 1, 1)),
        ((2, 3, 4, 5), SQUARE, (120, 1, 1)),
    ],
)
def test_the_layout_of_known_architectures(
    shape: tuple[int, ...], input_size: tuple[int, int], expected: tuple[int, int, int]
) -> None:
    layout = layout_of(shape, input_size)
    assert (layout.channels, layout.height, layout.width) == expected
    if len(shape) < 3 or shape[0] * shape[1] < 10_000:
        assert layout.to_map(torch.zeros(2, *shape)).shape == (2, *expected)


def test_channels_last_and_first_give_the_same_map() -> None:
    channels_first = torch.rand(2, 6, 8, 8)
    channels_last = channels_first.permute(0, 2, 3, 1).contiguous()
    maps = [layout_of(tuple(x.shape[1:]), (32, 32)).to_map(x) for x in (channels_first, channels_last)]
    assert torch.equal(maps[0], maps[1])


def test_tokens_go_to_their_places_and_a_class_token_everywhere() -> None:
    tokens = torch.arange(10.0).reshape(1, 10, 1)
    maps = layout_of((10, 1), (30, 30)).to_map(tokens)
    assert maps[0, 0].flatten().tolist() == list(range(1, 10))
    assert maps[0, 1].flatten().tolist() == [0] * 9


def test_the_last_channels_are_those_that_are_repeated() -> None:
    layout = layout_of((198, 192), SQUARE)
    maps = layout.to_map(torch.rand(2, 198, 192))
    leading = maps[:, layout.channels - layout.repeated :]
    assert leading.shape[1] == 2 * 192
    assert torch.equal(leading, leading[:, :, :1, :1].expand_as(leading))
    assert not layout_of((196, 768), SQUARE).repeated


def test_channels_first_and_last_tokens_give_the_same_map() -> None:
    tokens = torch.rand(2, 16, 7)
    maps = [layout_of(tuple(x.shape[1:]), (32, 32)).to_map(x) for x in (tokens, tokens.mT.contiguous())]
    assert torch.equal(maps[0], maps[1])


@pytest.mark.parametrize("input_size", [(32, 32), (64, 160)])
def test_cutting_and_joining_is_lossless_where_the_stride_divides(input_size: tuple[int, int]) -> None:
    pictures = torch.rand(2, 3, *input_size)
    blocks = Blocks(input_size, input_size[0] // 8, input_size[1] // 8, 8, 8)
    cut = blocks.cut(pictures)
    assert cut.shape == (2, 3, 8, 8, input_size[0] // 8, input_size[1] // 8)
    assert torch.equal(blocks.join(cut), pictures)


def test_a_block_lies_under_its_place() -> None:
    picture = torch.zeros(1, 3, 8, 8)
    picture[0, 1, 4:6, 6:8] = 1
    cut = Blocks((8, 8), 4, 4, 2, 2).cut(picture)
    assert cut[0, 1, :, :, 2, 3].sum() == 4
    assert cut.sum() == 4


def test_strides_that_do_not_divide_the_picture_resize_it_and_back() -> None:
    smooth = torch.linspace(0, 1, 99).expand(1, 3, 99, 99)
    blocks = blocks_of(layout_of((32, 48, 48), (99, 99)), (99, 99), finest=8)
    assert (blocks.block_height, blocks.block_width) == (2, 2)
    assert (blocks.join(blocks.cut(smooth)) - smooth).abs().max() < 0.02


def test_blocks_are_no_finer_than_asked_for() -> None:
    blocks = blocks_of(layout_of((1000,), (64, 160)), (64, 160), finest=16)
    assert (blocks.block_height, blocks.block_width) == (16, 16)
    assert blocks.join(blocks.cut(torch.rand(2, 3, 64, 160))).shape == (2, 3, 64, 160)
