"""What the harness and the process that computes its tails say to each other."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from harness.codecs import Codec
from harness.tails.answer import AnyArray

BUFFER_BYTES = 2**30  # activations pass through shared memory of this size, which takes what is written into it


@dataclass(frozen=True)
class Know:
    """A network, once.

    Attributes:
        graph: 1 x 3 x H x W on [0, 1] -> logits, as `torch.save` writes an fx.GraphModule.
        picture: what tails are checked on, N = 1, float32.
    """

    network: str
    graph: bytes
    picture: AnyArray


@dataclass(frozen=True)
class Load:
    """Make a tail ready, check it against PyTorch, and warm it up.

    Attributes:
        number: what later questions call it.
        place: of the cut among the graph's nodes (`harness.tails.serving.computed`).
        programs, failure: of `harness.tails.base.Tail`.
        shape, dtype: of the activation as it travels.
    """

    number: int
    engine: str
    network: str
    place: int
    codec: Codec
    shape: tuple[int, ...]
    dtype: str
    programs: tuple[Path, ...]
    failure: str


@dataclass(frozen=True)
class Ask:
    """Answer the activation that lies in shared memory."""

    number: int


@dataclass(frozen=True)
class Forget:
    """Some tails are not needed any more."""

    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Done:
    """It is known, loaded or forgotten."""


@dataclass(frozen=True)
class Answered:
    """The logits, and what reading the activation took."""

    logits: AnyArray
    decode_ns: int


@dataclass(frozen=True)
class Failed:
    """It could not be done, and why."""

    reason: str


Request = Know | Load | Ask | Forget
Reply = Done | Answered | Failed
