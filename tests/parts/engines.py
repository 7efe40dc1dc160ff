"""Tail engines that go wrong, each in one way."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor

from harness.tails.base import Engine, Tail


class Sound(Engine):
    """Does what it should; a user's own could look like this."""

    name: ClassVar[str] = "sound"

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        return tail.graph


class Refuses(Engine):
    """Takes no tail."""

    name: ClassVar[str] = "refuses"

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        del tail
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")


class Wrong(Engine):
    """Gives something else than PyTorch."""

    name: ClassVar[str] = "wrong"

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        return lambda activation: tail.graph(activation) + 0.1


class DiesWhileLoading(Engine):
    """Takes its process with it, for every tail but that of the picture."""

    name: ClassVar[str] = "dies_while_loading"

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        if any(node.op == "call_function" and "conv2d" in str(node.target) for node in tail.graph.graph.nodes):
            return tail.graph
        os.kill(os.getpid(), signal.SIGSEGV)
        raise AssertionError


class _Later(Engine):
    """Sound until it has been checked and warmed up."""

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        left = iter(range(3))

        def finish(activation: Tensor) -> Tensor:
            logits: Tensor = tail.graph(activation)
            return logits if next(left, None) is not None else self.spoil(logits)

        return finish

    def spoil(self, logits: Tensor) -> Tensor:
        raise NotImplementedError


class Dies(_Later):
    """Dies in the middle of an answer."""

    name: ClassVar[str] = "dies"

    def spoil(self, logits: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGSEGV)
        return logits


class GivesNaN(_Later):
    """Answers with NaN."""

    name: ClassVar[str] = "gives_nan"

    def spoil(self, logits: Tensor) -> Tensor:
        return logits * float("nan")


class Raises(_Later):
    """Raises what its library does."""

    name: ClassVar[str] = "raises"

    def spoil(self, logits: Tensor) -> Tensor:
        del logits
        raise RuntimeError("CUDA error: device-side assert triggered")


class Slow(Engine):
    """Sound, and slow."""

    name: ClassVar[str] = "slow"

    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        def finish(activation: Tensor) -> Tensor:
            time.sleep(0.02)
            logits: Tensor = tail.graph(activation)
            return logits

        return finish
