"""What is asked for: a head, a survey of many splits, or a part of a tail. All are programs; most have one output."""

from __future__ import annotations

from dataclasses import dataclass

from harness.networks.splits import SplitPoint


@dataclass(frozen=True)
class Program:
    """What becomes one ExecuTorch program.

    Attributes:
        points: the split of each of its outputs, in order.
        profiled: its operators are timed one by one, which tells what each output's own head would take.
        start: the split whose activation it takes; None: the picture.
    """

    points: tuple[SplitPoint, ...]
    profiled: bool = False
    start: SplitPoint | None = None

    @classmethod
    def head(cls, point: SplitPoint) -> Program:
        """The head that ends at a split."""
        return cls((point,))

    @classmethod
    def survey(cls, points: tuple[SplitPoint, ...]) -> Program:
        """One program for the activations of many splits."""
        return cls(points, profiled=True)

    @classmethod
    def part(cls, start: SplitPoint, end: SplitPoint) -> Program:
        """What leads from one split to a later one; from split 0 it is the head of the later one."""
        return cls((end,), start=start) if start.index else cls.head(end)

    @property
    def is_empty(self) -> bool:
        """The head of split 0: the picture itself travels, and nothing runs."""
        return self.points[-1].index == 0

    @property
    def name(self) -> str:
        """What progress calls it."""
        if self.start:
            return f"tail from {self.start.name}"
        return f"survey of {len(self.points)} splits" if self.profiled else self.points[0].name

    def __str__(self) -> str:
        """What messages call it."""
        last = self.points[-1]
        place = f"split {last.index} ({last.name})"
        if self.start:
            return f"the way from split {self.start.index} ({self.start.name}) to {place}"
        return f"the survey up to {place}" if self.profiled else place
