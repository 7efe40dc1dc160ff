"""What a tail engine is: it takes an activation as it was read, and finishes the network."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from torch import Tensor, fx


@dataclass(frozen=True)
class Tail:
    """A tail, as an engine is given it.

    Attributes:
        graph: activation -> logits; its engine may change it.
        programs: the ExecuTorch programs that it was lowered to, run one after the other; empty at the last split.
        failure: why there are none.
    """

    graph: fx.GraphModule
    programs: tuple[Path, ...] = ()
    failure: str = ""


class Engine(ABC):
    """Finishes networks. Its results are held to PyTorch's before any time is taken.

    Args:
        threads: that it may compute on.

    Attributes:
        name: what `--tail` and tables call it.
        runs_programs: it needs the tail lowered.
    """

    name: ClassVar[str]
    runs_programs: ClassVar[bool] = False

    def __init__(self, threads: int) -> None:
        self.threads = threads

    @classmethod
    def unavailable(cls) -> str:
        """Why it cannot be used on this machine; "" where it can."""
        return ""

    @abstractmethod
    def load(self, tail: Tail) -> Callable[[Tensor], Tensor]:
        """Make a tail ready.

        Returns:
            Activation (1 x ..., float32, on the CPU) -> logits (float32, on the CPU, there when it returns).

        Raises:
            Exception: it cannot take this tail, whatever its library raises.
        """
