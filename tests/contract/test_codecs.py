"""What every codec promises, whoever wrote it: what is decoded is what was rounded, and sizes are kept."""

from __future__ import annotations

from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor

from device_runner.frames import Frame, encode_payload
from harness.codecs import AnyCodec, Codec, Fp32, Int8, Uint8

SHAPE = (1, 4, 5, 6)
CODECS = (Fp32(), Int8(scale=0.02, zero_point=-11), Int8(scale=0.004, zero_point=-128), Uint8())


@pytest.fixture
def activation() -> Tensor:
    """On [0, 1], which every one of these can hold."""
    return torch.rand(*SHAPE, generator=torch.Generator().manual_seed(3))


def travelled(codec: Codec) -> Tensor:
    """All that can travel, or a good part of it."""
    if codec.dtype == "float32":
        return torch.linspace(-3, 3, 120).reshape(SHAPE)
    low, high = torch.iinfo(getattr(torch, codec.dtype)).min, torch.iinfo(getattr(torch, codec.dtype)).max
    return torch.arange(low, high + 1, dtype=getattr(torch, codec.dtype))


def test_every_codec_is_held_to_this() -> None:
    assert {type(codec) for codec in CODECS} == set(get_args(get_args(AnyCodec)[0]))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_what_was_read_is_rounded_to_itself(codec: Codec) -> None:
    decoded = codec.decode(travelled(codec))
    assert decoded.dtype == torch.float32
    torch.testing.assert_close(codec.rounded(decoded), decoded, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_graph_s_value_is_read_alike_whether_it_travels_or_is_computed(codec: Codec) -> None:
    there = travelled(codec)
    assert torch.equal(codec.read(there), codec.decode(there))
    torch.testing.assert_close(codec.read(codec.decode(there)), codec.decode(there), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_rounding_moves_a_value_by_half_a_step_and_lets_gradients_through(codec: Codec, activation: Tensor) -> None:
    levels = codec.decode(travelled(codec)).flatten()
    step = 0.0 if codec.dtype == "float32" else float((levels[1:] - levels[:-1]).max())
    inside = activation.clamp(float(levels.min()), float(levels.max())).requires_grad_()
    rounded = codec.rounded(inside)
    assert (rounded - inside).abs().max() <= 0.501 * step
    (gradient,) = torch.autograd.grad((rounded * 3).sum(), inside)
    assert torch.equal(gradient, torch.full(SHAPE, 3.0))


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_no_frame_is_larger_than_the_codec_says(codec: Codec) -> None:
    array = np.zeros(SHAPE, codec.dtype)
    assert codec.activation_bytes(SHAPE) == array.nbytes
    frame = Frame({"kind": "activation", "picture": "123456789"}, {"activation": array})
    assert len(encode_payload(frame)) <= codec.max_payload_bytes(SHAPE) <= array.nbytes + 256


@pytest.mark.parametrize("codec", CODECS, ids=str)
def test_a_codec_is_read_back_from_a_manifest(codec: Codec) -> None:
    assert type(codec).model_validate_json(codec.model_dump_json()) == codec
