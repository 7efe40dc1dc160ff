"""A network of the run, with all that is made from it once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from harness.errors import ExportError
from harness.export.exporter import Precision
from harness.networks.models import Model
from harness.networks.splits import Cut, CuttableGraph, Network, SplitPoint
from harness.pictures import Pictures
from harness.results.schema import Cell

if TYPE_CHECKING:
    from harness.networks.int8 import QuantizedNetwork


@dataclass(eq=False)
class Subject:
    """One network of the run, with all that is made from it once."""

    network: Network
    points: tuple[SplitPoint, ...]
    pictures: Pictures

    @property
    def model(self) -> Model:
        """The network's model."""
        return self.network.model

    @cached_property
    def quantized(self) -> QuantizedNetwork:
        """The int8 twin, made when first needed."""
        from harness.networks.int8 import CALIBRATION_PICTURES, QuantizedNetwork  # imports ExecuTorch, which takes 5 s

        return QuantizedNetwork(self.network, self.pictures.train.first(CALIBRATION_PICTURES).as_float())


@dataclass(frozen=True)
class Variant:
    """A network in one precision: what programs are cut from."""

    subject: Subject
    precision: Precision

    @property
    def name(self) -> str:
        """For instance "resnet18 int8"."""
        return f"{self.subject.model.name} {self.precision}"

    def graph(self) -> CuttableGraph:
        """The graph that heads are cut from."""
        return self.subject.quantized if self.precision == "int8" else self.subject.network

    def cut(self, point: SplitPoint) -> Cut | ExportError:
        """Where it is cut at `point`, or why it cannot be."""
        try:
            return self.graph().cut(point)
        except ExportError as exc:
            return exc

    def owns(self, cell: Cell) -> bool:
        """Whether a cell is one of this network in this precision."""
        return (cell.model, cell.precision) == (self.subject.model.name, self.precision)
