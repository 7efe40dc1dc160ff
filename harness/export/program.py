"""What is asked for: a head, or a survey of many splits. Both are programs; a head has one output."""

from __future__ import annotations

from dataclasses import dataclass

from harness.networks.splits import SplitPoint


@dataclass(frozen=True)
class Program:
    """What becomes one ExecuTorch program.

    Attributes:
        points: the split of each of its outputs, in order.
        profiled: its operators are timed one by one, which tells what each output's own head would take.
    """

    points: tuple[SplitPoint, ...]
    profiled: bool = False

    @classmethod
    def head(cls, point: SplitPoint) -> Program:
        """The head that ends at a split."""
        return cls((point,))

    @classmethod
    def survey(cls, points: tuple[SplitPoint, ...]) -> Program:
        """One program for the activations of many splits."""
        return cls(points, profiled=True)

    @property
    def is_empty(self) -> bool:
        """The head of split 0: the picture itself travels, and nothing runs."""
        return self.points[-1].index == 0

    @property
    def name(self) -> str:
        """What progress calls it."""
        return f"survey of {len(self.points)} splits" if self.profiled else self.points[0].name

    def __str__(self) -> str:
        """What messages call it."""
        last = self.points[-1]
        place = f"split {last.index} ({last.name})"
        return f"the survey up to {place}" if self.profiled else place
