"""What a program's outputs are held to: PyTorch's on this machine, and this machine's runner's everywhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from device_runner.bundle import Bundle, build_bundle
from device_runner.devices.local import Local
from device_runner.files import whole_file
from device_runner.runner import Job, run_head
from device_runner.survey import SurveyJob, run_survey
from harness.manifest import Head, Manifest, Survey

PROGRAM_LIMIT_S = 600.0
# Two computations of one program that round differently are at most one step of int8 apart.
INT8_STEPS = 1.0


def host_job(head: Head) -> Job:
    """Verify a head on this machine against PyTorch: the job runs nothing else."""
    manifest = head.manifest
    return Job(
        program=str(head.program),
        reference=str(head.reference),
        max_abs_err=manifest.tolerance_abs,
        min_cosine=manifest.tolerance_cosine,
        zero_point=manifest.zero_point,
    )


def host_reference(program: Head | Survey) -> Path:
    """What this machine's runner makes of the reference picture, verified against PyTorch; kept beside the program.

    Raises:
        UnverifiedError, UnverifiedSurveyError: this machine's runner itself gives something else than PyTorch.
    """
    assert program.folder is not None  # noqa: S101 - split 0 has no program to verify
    bundle: Bundle = build_bundle("host")
    path = program.folder / f"host-{bundle.sha256[:16]}.safetensors"
    if not path.is_file():
        host = Local("local")
        runner = host.deploy(bundle)
        with whole_file(path) as partial:  # two devices may want it at once
            if isinstance(program, Survey):
                survey = replace(host_survey_job(program), write_output=str(partial))
                run_survey(host, runner, survey, timeout_s=PROGRAM_LIMIT_S)
            else:
                head = replace(host_job(program), write_output=str(partial))
                run_head(host, runner, head, timeout_s=PROGRAM_LIMIT_S)
    return path


def device_tolerance(manifest: Manifest) -> float | None:
    """How far another machine's output may be from this one's: in steps where it is int8."""
    return INT8_STEPS if manifest.codec == "int8" else manifest.tolerance_abs


def host_survey_job(survey: Survey) -> SurveyJob:
    """Like `host_job`, of every output of a survey program."""
    outputs = survey.manifest.outputs
    return SurveyJob(
        program=str(survey.program),
        reference=str(survey.reference),
        max_abs_err=tuple(output.tolerance_abs for output in outputs),
        min_cosine=tuple(output.tolerance_cosine for output in outputs),
        zero_points=tuple(output.zero_point for output in outputs),
    )
