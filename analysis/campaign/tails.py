"""The tails of a run: which engine finishes each network, and what it needs for that."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from analysis.campaign.exports import Made, export_programs, reference_picture
from analysis.campaign.phases import Phases
from analysis.campaign.subject import Subject, Variant
from harness.codecs import Codec, Uint8
from harness.export.manifest import Exported
from harness.export.tail_parts import tail_parts
from harness.networks.splits import SplitPoint
from harness.results.schema import ChosenEngine
from harness.results.store import RunStore
from harness.tails import ENGINES
from harness.tails.choice import AUTO, fastest
from harness.tails.process import TailProcess, TailRequest


@dataclass
class Tails:
    """Computes tails for a run.

    Attributes:
        process: where they are computed.
        exported: where programs are kept.
    """

    store: RunStore
    process: TailProcess
    exported: Path
    phases: Phases
    _made: Made = field(default_factory=dict)

    @classmethod
    @contextmanager
    def of_run(cls, store: RunStore, exported: Path, phases: Phases) -> Iterator[Tails]:
        """For as long as the block runs."""
        with TailProcess(store.file.config.tail_threads) as process:
            yield cls(store, process, exported, phases)

    def prepare(self, subject: Subject, points: Iterable[SplitPoint]) -> None:
        """Choose the network's engine where it has none yet, and lower what it needs for these tails."""
        engine = self.store.file.engines.get(subject.model.name) or self._choose(subject)
        if ENGINES.load(engine.engine).runs_programs:
            self._lower(subject, points)

    def engine(self, subject: Subject) -> str:
        """The name of the engine that was chosen for a network."""
        return self.store.file.engines[subject.model.name].engine

    def request(self, subject: Subject, point: SplitPoint, codec: Codec) -> TailRequest:
        """A tail as it is to be loaded."""
        network, picture = subject.network, reference_picture(subject.model.input_size).float().div(255).unsqueeze(0)
        made = [self._made.get((_variant(subject), part)) for part in tail_parts(network, point)]
        programs = tuple(one.program for one in made if isinstance(one, Exported) and one.program)
        failure = next((str(one) for one in made if not isinstance(one, Exported | None)), "")
        return TailRequest(network, point, codec, picture, programs, failure)

    def _choose(self, subject: Subject) -> ChosenEngine:
        asked, network = self.store.file.config.tail, subject.network
        if asked != AUTO:
            chosen = ChosenEngine(engine=asked)
        else:
            whole = network.points[0]
            self._lower(subject, [whole])
            chosen = fastest(self.process, self.request(subject, whole, Uint8()))
            times = ", ".join(f"{name} {ms:.1f} ms" for name, ms in chosen.times_ms.items())
            self.phases.note(f"{subject.model.name}: tails on {chosen.engine} (the whole network: {times or 'none'})")
        self.store.keep_engine(subject.model.name, chosen)
        return chosen

    def _lower(self, subject: Subject, points: Iterable[SplitPoint]) -> None:
        wanted = dict.fromkeys(part for point in points for part in tail_parts(subject.network, point))
        missing = [part for part in wanted if (_variant(subject), part) not in self._made]
        self._made |= export_programs({_variant(subject): missing}, self.exported, self.phases)


def _variant(subject: Subject) -> Variant:
    """Tails are float, whatever their heads are."""
    return Variant(subject, "fp32")
