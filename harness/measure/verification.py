"""What a program's outputs are held to: PyTorch's on this machine, and this machine's runner's everywhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from device_runner.bundle import Bundle, build_bundle
from device_runner.devices.local import Local
from device_runner.files import whole_file
from device_runner.runner import Job, run_program
from harness.export.manifest import Exported

PROGRAM_LIMIT_S = 600.0


def host_job(program: Exported) -> Job:
    """Verify a program on this machine against PyTorch: the job runs nothing else."""
    outputs = program.manifest.outputs
    return Job(
        program=str(program.program),
        reference=str(program.reference),
        max_abs_err=tuple(output.tolerance_abs for output in outputs),
        min_cosine=tuple(output.tolerance_cosine for output in outputs),
        zero_points=tuple(output.codec.zero_point for output in outputs),
    )


def device_job(program: Exported) -> Job:
    """Verify a program on another machine against what this machine's runner makes of the reference picture.

    Raises:
        UnverifiedError: this machine's runner itself gives something else than PyTorch.
    """
    tolerances = tuple(output.device_tolerance for output in program.manifest.outputs)
    return replace(host_job(program), reference=str(host_reference(program)), max_abs_err=tolerances, min_cosine=())


def host_reference(program: Exported) -> Path:
    """What this machine's runner makes of the reference picture, verified against PyTorch; kept beside the program.

    Raises:
        UnverifiedError: this machine's runner itself gives something else than PyTorch.
    """
    assert program.folder is not None  # noqa: S101 - split 0 has no program to verify
    bundle: Bundle = build_bundle("host")
    path = program.folder / f"host-{bundle.sha256[:16]}.safetensors"
    if not path.is_file():
        host = Local("local")
        with whole_file(path) as partial:  # two devices may want it at once
            job = replace(host_job(program), write_output=str(partial))
            run_program(host, host.deploy(bundle), job, timeout_s=PROGRAM_LIMIT_S)
    return path
