"""Makes a specimen: its network with its weights, the pictures of its fold, and the points where it is cut."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.study.cells import FIT_MOST_STEPS, FIT_TARGET, NETWORKS, SHARES, Specimen
from analysis.study.fitting import fit
from analysis.study.photographs import Photographs
from analysis.study.records import CutFacts, FitFacts
from harness.errors import ModelError
from harness.networks.models import Model, load_model
from harness.networks.splits import Network, SplitPoint
from harness.pictures import Pictures

# Batch norm of random weights is calibrated on four batches.
NORM_PICTURES = 128
SIZE = (64, 64)
# The least that it takes.
SIZES = {"inception_v3": (80, 80)}


@dataclass(frozen=True)
class Ready:
    """A specimen that can be attacked.

    Args:
        points: where it is cut, shallow to deep.
        fit: how fitting went; None where it was not fitted.
    """

    network: Network
    points: tuple[SplitPoint, ...]
    pictures: Pictures
    fit: FitFacts | None

    def facts(self, cut: int) -> CutFacts:
        """Where the specimen is cut."""
        point = self.points[cut]
        return CutFacts(
            split=point.name,
            activation_shape=point.activation_shape,
            head_params=point.head_params,
            head_macs=point.head_macs,
            mac_share=_mac_share(point),
        )


def make(specimen: Specimen, photographs: Photographs) -> Ready:
    """The specimen, made from nothing but its own attributes and the photographs.

    Raises:
        ModelError: the network cannot be made, or has no trained weights on this machine.
        SplitError: it cannot be exported.
    """
    pictures = photographs.fold(specimen.fold, SIZES.get(specimen.network, SIZE))
    if specimen.kind == "family":
        return _of_family(specimen, pictures)
    weights = "random" if specimen.kind == "zoo" else "auto"
    model = load_model(
        specimen.network,
        weights=weights,
        seed=specimen.seed,
        input_size=SIZES.get(specimen.network, SIZE),
        calibration=lambda _: pictures.train.as_float()[:NORM_PICTURES],
    )
    if specimen.kind == "case" and not model.trained:
        raise ModelError(f"no trained weights of {specimen.network} here", remedy="pip install 'splitbench[weights]'")
    network = Network(model)
    cuts = network.all_points[1:-1]
    points = tuple(min(cuts, key=lambda point: abs(_mac_share(point) - share)) for share in SHARES)
    return Ready(network, points, pictures, None)


def _of_family(specimen: Specimen, pictures: Pictures) -> Ready:
    member = NETWORKS[specimen.network]
    model, facts = member.untrained(specimen.seed, pictures.train.as_float()[:NORM_PICTURES]), None
    if specimen.state == "fitted":
        model, facts = _fitted(model, specimen, pictures)
    network = Network(model)
    return Ready(network, tuple(network.select(cut)[0] for cut in member.cuts), pictures, facts)


def _fitted(model: Model, specimen: Specimen, pictures: Pictures) -> tuple[Model, FitFacts]:
    fitted = fit(
        model.module,
        pictures.train.as_float(),
        pictures.train.sources,
        seed=specimen.seed,
        target=FIT_TARGET,
        most_steps=FIT_MOST_STEPS,
    )
    facts = FitFacts(accuracy=fitted.accuracy, steps=fitted.steps, reached=fitted.reached)
    return NETWORKS[specimen.network].model(fitted.network, f"fitted, seed {specimen.seed}"), facts


def _mac_share(point: SplitPoint) -> float:
    return point.head_macs / (point.head_macs + point.tail_macs)
