"""Programs of a run, from the cache or lowered now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

from torch import Tensor

from analysis.campaign.phases import Phase, Phases
from analysis.campaign.subject import Variant
from harness.errors import ExportError
from harness.export.exporter import ExportSettings, export
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.pictures import load_pictures

Programs = Mapping[Variant, Sequence[Program]]
"""What is to be exported, by network and precision."""
Made = dict[tuple[Variant, Program], Exported | ExportError]
"""What came of it."""


def export_programs(programs: Programs, exported: Path, phases: Phases) -> Made:
    """Heads and survey programs, from the cache or lowered now; one that fails says so and ends no other.

    Args:
        exported: where they are kept.
    """
    made: Made = {}
    if not any(programs.values()):
        return made
    with phases.phase(Phase.EXPORT, sum(map(len, programs.values()))):
        for variant, wanted in programs.items():
            settings = export_settings(variant, exported)
            for program, outcome in export(variant.subject.network, wanted, settings, variant.graph):
                if isinstance(outcome, ExportError):
                    phases.note(str(outcome))
                phases.step(f"{variant.name} {program.name}")
                made[variant, program] = outcome
    return made


def export_settings(variant: Variant, exported: Path) -> ExportSettings:
    """What an export of this network in this precision depends on."""
    return ExportSettings(
        precision=variant.precision,
        reference=reference_picture(variant.subject.model.input_size),
        calibration_sha256=variant.subject.pictures.sha256 if variant.precision == "int8" else "",
        root=exported,
    )


@cache
def reference_picture(size: tuple[int, int]) -> Tensor:
    """The picture that heads are verified and timed on, whatever --pictures says: a built-in one; 3 x H x W uint8."""
    return load_pictures("builtin", size=size, train_count=1, held_out_count=1).train.pixels[0].contiguous()
