"""Codecs: how activations travel, one file each.

To add one: a subclass of `Codec` in a file of its own, and its name in `AnyCodec`; tests/contract/test_codecs.py then
holds it to what every codec promises.
"""

from typing import Annotated

from pydantic import Field

from harness.codecs.base import Codec
from harness.codecs.fp32 import Fp32
from harness.codecs.int8 import Int8
from harness.codecs.uint8 import Uint8

AnyCodec = Annotated[Fp32 | Int8 | Uint8, Field(discriminator="name")]
"""Any of them, as a manifest names it."""

__all__ = ["AnyCodec", "Codec", "Fp32", "Int8", "Uint8"]
