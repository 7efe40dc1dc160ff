"""What a run begins with: networks, their split points, and pictures."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from analysis.attacks import ATTACKS, check_attacks
from analysis.campaign.phases import Phase, Phases
from analysis.campaign.subject import Subject, Variant
from device_runner.devices import open_device
from device_runner.errors import BroughtCodeError, SplitbenchError, UsageError
from device_runner.link import LinkShape
from harness.errors import ModelError, SplitError
from harness.measure.affinity import check_affinity
from harness.measure.cool_down import CoolDown
from harness.networks.models import WEIGHTS, load_model
from harness.networks.splits import Network
from harness.pictures import Pictures, load_pictures, summary
from harness.results.schema import AUTO, NetworkConfig, RunConfig, RunFile
from harness.tails import ENGINES
from harness.workstation.compute import Compute

FOLDS_NOTICE = (
    "{} folds: each attack was fitted {} times, and judged on pictures whose photographs it did not learn from"
)
RANDOM_NOTICE = "{}: weights are RANDOM; the leakage of random weights is not that of trained ones"
# Batch norm of random weights is calibrated on three batches.
_NORM_PICTURES = 96


@dataclass(frozen=True)
class Inputs:
    """What a run is made from.

    Attributes:
        exported: where exported programs are kept.
        refusals: why a network cannot be measured, by its name; the others go on without it.
    """

    subjects: tuple[Subject, ...]
    exported: Path
    variants: tuple[Variant, ...]
    refusals: dict[str, SplitbenchError] = field(default_factory=dict)

    @property
    def notices(self) -> tuple[str, ...]:
        """What whoever reads the figures must know."""
        random = [RANDOM_NOTICE.format(s.model.name) for s in self.subjects if not s.model.trained]
        folds = {len(s.pictures.folds) for s in self.subjects} - {1}
        folded = [FOLDS_NOTICE.format(count, count) for count in folds]
        return (*random, *folded, *(_refusal_notice(name, error) for name, error in self.refusals.items()))


def load_inputs(config: NetworkConfig, exported: Path, phases: Phases, attacks: Sequence[str] = ()) -> Inputs:
    """Load the networks and their pictures, and find the split points.

    Args:
        exported: where exported programs are kept.
        attacks: that will learn from the pictures.

    Raises:
        UsageError: an attack is unknown or has too few photographs, or there is no such split.
        SplitbenchError: no network can be measured.
    """
    check_attacks(attacks)  # an unknown attack is known now, not after an hour
    loader, refusals = _Loader(config, phases, attacks), dict[str, SplitbenchError]()
    subjects = []
    with phases.phase(Phase.SPLIT, len(config.models)):
        for name in config.models:
            try:
                subjects.append(loader.subject(name))
            except (BroughtCodeError, ModelError, SplitError) as exc:
                refusals[name] = exc
                if len(config.models) > 1:
                    phases.note(_refusal_notice(name, exc))
    if not subjects:
        raise next(iter(refusals.values()))
    variants = tuple(Variant(subject, precision) for subject in subjects for precision in config.precisions)
    return Inputs(tuple(subjects), exported, variants, refusals)


def resumed_config(file: RunFile) -> RunConfig:
    """What a run asked for, with the networks alone that it could measure when it began."""
    measured = {cell.model for cell in file.cells}
    return file.config.model_copy(update={"models": tuple(name for name in file.config.models if name in measured)})


class _Loader:
    def __init__(self, config: NetworkConfig, phases: Phases, attacks: Sequence[str]) -> None:
        self.config, self.phases, self.attacks = config, phases, attacks
        self._pictures_by_size: dict[tuple[int, int], Pictures] = {}

    def subject(self, name: str) -> Subject:
        config = self.config
        model = load_model(
            name,
            weights=config.weights,
            seed=config.seed,
            input_size=config.input_size,
            calibration=lambda size: self._pictures(size).train.first(_NORM_PICTURES).as_float(),
        )
        network = Network(model)
        subject = Subject(network, network.select(config.split), self._pictures(model.input_size))
        if not model.trained:
            self.phases.note(RANDOM_NOTICE.format(name))
        elif config.weights not in WEIGHTS:
            self.phases.note(f"{name}: weights of {model.weights}")  # and what was done to make them fit
        self.phases.step(f"{name}: {len(network.points)} split points, {len(subject.points)} chosen, {model.weights}")
        return subject

    def _pictures(self, size: tuple[int, int]) -> Pictures:
        if size not in self._pictures_by_size:
            config = self.config
            pictures = load_pictures(
                config.pictures,
                size=size,
                seed=config.seed,
                train_count=config.train_pictures,
                held_out_count=config.held_out,
                folds=config.folds,
                note=self.phases.note,
            )
            if not self._pictures_by_size:  # at other sizes the files are the same
                for line in summary(pictures.left_out):
                    self.phases.note(f"left out: {line}")
            check_sources(self.attacks, pictures)
            self._pictures_by_size[size] = pictures
        return self._pictures_by_size[size]


def unmeasured(asked: Sequence[str], measured: Collection[str]) -> ModelError | None:
    """What is to be said at the end where networks that were asked for could not be measured."""
    missing = [name for name in asked if name not in measured]
    if not missing:
        return None
    return ModelError(f"{', '.join(missing)} could not be measured", remedy="the lines that begin with ! say why")


def _refusal_notice(name: str, error: SplitbenchError) -> str:
    return f"{name} is left out: {error}"


def check_config(config: RunConfig) -> None:
    """What can be wrong with the options is known now, not after an hour.

    Raises:
        UsageError: a device, link, affinity, processor, tail engine or cool-down that cannot be read or had, or a
            device or network named twice.
    """
    Compute.of(config.compute)
    if config.tail != AUTO and (reason := ENGINES.load(config.tail).unavailable()):
        raise UsageError(f"--tail {config.tail}: {reason}", remedy="leave it out: the fastest engine is taken")
    if len(set(config.models)) < len(config.models):
        raise UsageError("a network is named twice", remedy="name each once")
    for address in config.devices:
        open_device(address)
    if len(set(config.devices)) < len(config.devices):
        raise UsageError("a device is named twice", remedy="cells on one device never overlap: name each once")
    check_affinity(config.affinity)
    if config.link is not None:
        LinkShape.parse(config.link)
    if config.cool_down is not None:
        CoolDown.parse(config.cool_down)


def check_sources(attacks: Sequence[str], pictures: Pictures) -> None:
    """Every attack learns from several photographs: that these are too few is known before anything is measured.

    Raises:
        UsageError: an attack needs more source photographs than there are to learn from.
    """
    there = min(len(set(pictures.train.sources) - fold.sources) for fold in pictures.folds)
    for name in attacks:
        needed = ATTACKS.load(name).fewest_sources
        if there < needed:
            raise UsageError(
                f"attack {name} learns from {needed} or more photographs, and there are {there} beside those held out "
                f"({pictures.description})",
                remedy=f"give more photographs (near neighbours count as one), or run without --attack {name}",
            )
