"""head_runner on survey programs: every output is verified and shipped as its own head would; programs are profiled."""

from __future__ import annotations

import os
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from device_runner.bundle import Bundle, build_bundle
from device_runner.devices.emulated import Emulated
from device_runner.devices.local import Local
from device_runner.errors import RunnerCode, RunnerError
from device_runner.frames import HEADER_BYTES, Frame, decode_payload, encode_payload
from device_runner.link import LinkShape
from device_runner.report import OutputReport, RunnerReport, Verification
from device_runner.runner import Job, Shipping, UnverifiedError, run_program
from harness.measure.receiver import Receiver, Session
from harness.tails.answer import Answer
from tests.device_runner.conftest import Heads, lower

LIMIT_S = 60.0
EMULATED_LIMIT_S = 300.0
SIZE = 64
SCALE, ZERO_POINT = 1 / 50, -100
TOLERANCES = (1e-4, 1.0, 1e-4, 1e-4)
CELLS = ("c0ffee", "facade", "decade", "beaded")

Arrays = list[npt.NDArray[Any]]
Run = Callable[[Job], RunnerReport]


class Network(nn.Module):
    """Four outputs, the second in int8; a kernel of its own stands between what the backend takes over."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        first = self.first(x)
        quantize = torch.ops.quantized_decomposed.quantize_per_tensor
        summed = torch.cumsum(first, 1)
        return first, quantize(first, SCALE, ZERO_POINT, -128, 127, torch.int8), summed, self.second(summed)


@dataclass(frozen=True)
class Survey:
    """A survey program and its files; `outputs` are what PyTorch gives, by picture and output."""

    folder: Path
    pictures: npt.NDArray[np.uint8]
    outputs: list[Arrays]

    @property
    def pictures_file(self) -> Path:
        return self.folder / "pictures"

    def reference(self, name: str, outputs: Arrays) -> str:
        """Write a reference of picture 0."""
        numbered = {f"activation.{i}": output for i, output in enumerate(outputs)}
        path = self.folder / name
        path.write_bytes(encode_payload(Frame({}, {"picture": self.pictures[0], **numbered})))
        return str(path)


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Survey:
    network = Network()
    folder = tmp_path_factory.mktemp("survey")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ExecuTorch's own, about its own code
        (folder / "program.pte").write_bytes(lower(network, SIZE))
    pictures = np.random.default_rng(0).integers(0, 256, (2, 3, SIZE, SIZE), dtype=np.uint8)
    (folder / "pictures").write_bytes(encode_payload(Frame({}, {"pictures": pictures})))
    with torch.no_grad():
        outputs = [[out.numpy() for out in network(torch.from_numpy(it)[None].float() / 255)] for it in pictures]
    return Survey(folder, pictures, outputs)


@pytest.fixture
def job(survey: Survey) -> Job:
    """What ends well, without shipping."""
    return Job(
        program=str(survey.folder / "program.pte"),
        reference=survey.reference("reference", survey.outputs[0]),
        max_abs_err=TOLERANCES,
        min_cosine=(None, 0.99, None, None),
        zero_points=(None, ZERO_POINT, None, None),
        warmup=1,
        iterations=3,
        profiled=True,
    )


@pytest.fixture
def run(bundle: Bundle) -> Run:
    device = Local("local")
    return lambda job: run_program(device, device.deploy(bundle), job, timeout_s=LIMIT_S)


def verification_of(output: OutputReport) -> Verification:
    """Of what ran as a program, and so was verified."""
    assert output.verification is not None
    return output.verification


# verifying and timing


def test_every_output_is_verified_and_every_run_kept(run: Run, survey: Survey, job: Job) -> None:
    report = run(job)
    assert [(output.dtype, output.shape) for output in report.outputs] == [
        ("I8" if output.dtype == np.int8 else "F32", output.shape) for output in survey.outputs[0]
    ]
    for output, tolerance in zip(report.outputs, TOLERANCES, strict=True):
        verification = verification_of(output)
        assert verification.passed
        assert verification.max_abs_err is not None
        assert verification.max_abs_err <= tolerance
        assert output.shipments == []
    assert (len(report.warmup_ns), len(report.run_ns)) == (1, 3)
    assert all(sample > 0 for sample in [report.load_ns, *report.warmup_ns, *report.run_ns])
    assert report.threads == 1


def test_an_empty_entry_is_not_judged(run: Run, survey: Survey, job: Job) -> None:
    off = [output.copy() for output in survey.outputs[0]]
    off[2][0, 1, 2, 3] += 0.5
    unjudged = replace(job, reference=survey.reference("off", off), max_abs_err=(1e-4, 1.0, None, 1e-4))
    verification = verification_of(run(unjudged).outputs[2])
    assert verification.passed
    assert verification.max_abs_err == pytest.approx(0.5, abs=1e-4)


def test_without_lists_nothing_is_judged(run: Run, job: Job) -> None:
    report = run(replace(job, max_abs_err=(), min_cosine=(), zero_points=()))
    assert all(verification_of(output).passed for output in report.outputs)


def test_an_output_is_compared_without_its_own_zero_point(run: Run, survey: Survey, job: Job) -> None:
    off = [output.copy() for output in survey.outputs[0]]
    off[1][0, 0] = np.clip(off[1][0, 0].astype(int) + 9, -128, 127)
    shifted = replace(job, reference=survey.reference("shifted", off), max_abs_err=())
    values = [array.astype(float).ravel() - ZERO_POINT for array in (off[1], survey.outputs[0][1])]
    cosine = values[0] @ values[1] / np.linalg.norm(values[0]) / np.linalg.norm(values[1])
    assert verification_of(run(replace(shifted, min_cosine=())).outputs[1]).cosine == pytest.approx(cosine, abs=1e-4)


@pytest.mark.parametrize("number", [0, 1, 3])
def test_a_failed_verification_names_the_output_and_keeps_all_figures(
    run: Run, survey: Survey, job: Job, number: int
) -> None:
    off = [output.copy() for output in survey.outputs[0]]
    off[number].flat[5] += 3
    with pytest.raises(UnverifiedError, match=f"its output {number} ") as caught:
        run(replace(job, reference=survey.reference("wrong", off)))
    report = caught.value.report
    assert [verification_of(output).passed for output in report.outputs] == [i != number for i in range(4)]
    assert verification_of(report.outputs[number]).max_abs_err == pytest.approx(3, abs=1)
    assert (report.run_ns, report.profile, report.profile_reason) == ([], None, None)
    assert caught.value.code is RunnerCode.VERIFICATION_FAILED
    assert caught.value.remedy


def test_verified_outputs_are_written_as_a_reference(run: Run, survey: Survey, job: Job, tmp_path: Path) -> None:
    run(replace(job, write_output=str(tmp_path / "output")))
    written = decode_payload((tmp_path / "output").read_bytes()).tensors
    assert sorted(written) == ["activation.0", "activation.1", "activation.2", "activation.3", "picture"]
    np.testing.assert_array_equal(written["picture"], survey.pictures[0])
    np.testing.assert_allclose(written["activation.3"], survey.outputs[0][3], atol=1e-4)
    again = run(replace(job, reference=str(tmp_path / "output"), max_abs_err=(0.0,) * 4))
    assert [verification_of(output).max_abs_err for output in again.outputs] == [0] * 4


# counts


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"max_abs_err": (1.0,) * 3}, "another list"),
        ({"max_abs_err": (1.0,) * 5, "min_cosine": (), "zero_points": ()}, "list 5"),
        ({"max_abs_err": (), "min_cosine": (), "zero_points": (None,)}, "list 1"),
        ({"max_abs_err": (1.0, 1.0, 1.0, float("nan"))}, "nan"),
        ({"zero_points": (0, 0, 0, 128)}, "128"),
    ],
)
def test_lists_of_another_number_of_outputs_are_refused(run: Run, job: Job, changed: dict[str, Any], said: str) -> None:
    with pytest.raises(RunnerError, match=said) as caught:
        run(replace(job, **changed))
    assert caught.value.code is RunnerCode.USAGE
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("kept", [0, 3, 5])
def test_a_program_of_another_number_of_outputs_is_refused(run: Run, survey: Survey, job: Job, kept: int) -> None:
    outputs = [*survey.outputs[0], survey.outputs[0][0]][:kept]
    bare = replace(job, reference=survey.reference("fewer", outputs), max_abs_err=(), min_cosine=(), zero_points=())
    with pytest.raises(RunnerError, match="not 1 and" if kept else "activation.0") as caught:
        run(bare)
    assert caught.value.code is RunnerCode.INPUT_MISMATCH


@pytest.mark.parametrize(
    "arguments",
    [["--profile", "--profile"], ["--power", "/current:/voltage"], ["--profile", "yes"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_a_usage_error(bundle: Bundle, job: Job, arguments: list[str]) -> None:
    assert job.program
    assert job.reference
    command = [str(bundle.runner), *arguments, "--pte", job.program, "--reference", job.reference]
    done = subprocess.run([*command, "--threads", "1", "--warmup", "0", "--iterations", "0"], capture_output=True)
    assert done.returncode == RunnerCode.USAGE
    assert len(done.stderr.splitlines()) == 1


# shipping


def sessions_of(survey: Survey, stored: list[dict[int, bytes]]) -> list[Session]:
    return [
        Session(
            cell=cell,
            round=2,
            max_payload_bytes=output.nbytes + 200,
            shape=output.shape,
            dtype=str(output.dtype),
            pictures=len(survey.pictures),
            answer=lambda activation: Answer(activation.astype(np.float32).mean((2, 3)), decode_ns=0),
            keep=kept.__setitem__,
        )
        for cell, output, kept in zip(CELLS, survey.outputs[0], stored, strict=True)
    ]


def shipping_to(receiver: Receiver, survey: Survey, cells: tuple[str, ...] = CELLS) -> Shipping:
    return Shipping(str(survey.pictures_file), f"127.0.0.1:{receiver.port}", receiver.token, cells, round=2)


def test_every_activation_arrives_in_its_own_session_as_its_head_would_send_it(
    run: Run, survey: Survey, job: Job
) -> None:
    stored: list[dict[int, bytes]] = [{} for _ in CELLS]
    sessions = sessions_of(survey, stored)
    with Receiver() as receiver, receiver.expect(*sessions):
        report = run(replace(job, shipping=shipping_to(receiver, survey)))
    assert [session.refusals for session in sessions] == [[], [], [], []]
    for number, (kept, output) in enumerate(zip(stored, report.outputs, strict=True)):
        assert list(kept) == [shipment.picture for shipment in output.shipments] == [0, 1]
        for picture, payload in kept.items():
            activation = decode_payload(payload).tensors["activation"]
            np.testing.assert_allclose(activation, survey.outputs[picture][number], atol=TOLERANCES[number])
            of_its_head = Frame({"kind": "activation", "picture": str(picture)}, {"activation": activation})
            assert payload == encode_payload(of_its_head)
            assert output.shipments[picture].wire_bytes == HEADER_BYTES + len(payload)
        for shipment in output.shipments:
            assert shipment.encode_ns is not None
            assert shipment.decode_ns is not None
            assert min(shipment.encode_ns, shipment.transfer_ns, shipment.decode_ns) > 0 <= shipment.tail_ns
        assert {(shipment.head_ns, shipment.end_to_end_ns) for shipment in output.shipments} == {(None, None)}


def test_a_cell_that_is_not_expected_ends_the_survey(run: Run, survey: Survey, job: Job) -> None:
    stored: list[dict[int, bytes]] = [{} for _ in CELLS]
    sessions = sessions_of(survey, stored)[:2]
    with Receiver() as receiver, receiver.expect(*sessions), pytest.raises(RunnerError, match="not expected") as caught:
        run(replace(job, shipping=shipping_to(receiver, survey)))
    assert caught.value.code is RunnerCode.RECEIVER_REFUSED
    assert [len(kept) for kept in stored] == [1, 1, 0, 0]
    assert "not expected" in sessions[1].refusals[-1]


@pytest.mark.parametrize("cells", [(), CELLS[:3]])
def test_another_number_of_cells_is_refused(run: Run, survey: Survey, job: Job, cells: tuple[str, ...]) -> None:
    with Receiver() as receiver, pytest.raises(RunnerError, match="entries") as caught:
        run(replace(job, shipping=shipping_to(receiver, survey, cells)))
    assert caught.value.code is RunnerCode.USAGE


def test_a_shaped_link_and_the_cores_reach_the_runner(run: Run, survey: Survey, job: Job) -> None:
    core = min(os.sched_getaffinity(0))
    shape = LinkShape.parse("20mbit/5ms")
    with Receiver() as receiver, receiver.expect(*sessions_of(survey, [{} for _ in CELLS])):
        shipped = replace(job, shipping=shipping_to(receiver, survey))
        report = run(replace(shipped, link_shape=shape, affinity=f"{1 << core:x}"))
    assert report.affinity == f"{1 << core:x}"
    for output in report.outputs:
        for shipment in output.shipments:
            assert shipment.transfer_ns >= 1e9 * (shape.rtt_s + shipment.wire_bytes / shape.rate_bytes_per_s)


# profile


def assert_profiled(report: RunnerReport, iterations: int) -> None:
    """What computes stands there in its order and nothing that surrounds it, so that no time counts twice."""
    assert report.profile_reason is None
    assert report.profile is not None
    kernel = report.profile.operators.index("native_call_cumsum.out")
    for part in (report.profile.operators[:kernel], report.profile.operators[kernel + 1 :]):
        assert sum("Convolution" in name for name in part) == 1
    for around in ("Method", "DELEGATE_CALL", "OPERATOR_CALL", "Program"):
        assert not [name for name in report.profile.operators if around in name]
    assert sum(name.startswith("native_call") for name in report.profile.operators) == 1
    assert len(report.profile.times_ns) == iterations
    assert all(time_ns >= 0 for times in report.profile.times_ns for time_ns in times)
    assert all(times[kernel] > 0 for times in report.profile.times_ns)
    assert sum(map(sum, report.profile.times_ns)) > 0


def test_every_operator_is_timed_once_an_iteration(run: Run, job: Job) -> None:
    assert_profiled(run(replace(job, iterations=5)), 5)


def test_a_head_is_profiled_too_after_all_else(run: Run, heads: Heads) -> None:
    head = Job(str(heads.pte("convolution")), str(heads.reference("convolution")), warmup=1, iterations=2)
    report = run(replace(head, profiled=True))
    assert report.profile is not None
    assert sum("Convolution" in name for name in report.profile.operators) == 2
    assert (len(report.profile.times_ns), len(report.run_ns)) == (2, 2)
    assert (run(head).profile, run(head).profile_reason) == (None, None)


def test_without_a_program_there_is_nothing_to_profile(run: Run, survey: Survey) -> None:
    shipping = Shipping(str(survey.pictures_file), "127.0.0.1:1", "let-me-in", CELLS[:1], 0)
    with pytest.raises(RunnerError, match="--pte is missing") as caught:
        run(Job(profiled=True, shipping=shipping))
    assert caught.value.code is RunnerCode.USAGE


def test_a_profile_of_as_many_iterations_as_it_takes_is_a_usage_error(run: Run, job: Job) -> None:
    with pytest.raises(RunnerError, match="a profile is of a number of them") as caught:
        run(replace(job, iterations="auto"))
    assert caught.value.code is RunnerCode.USAGE


def test_no_iterations_give_no_profile_and_a_reason(run: Run, job: Job) -> None:
    report = run(replace(job, iterations=0))
    assert report.profile is None
    assert report.profile_reason == "no operator was seen to run"


@pytest.mark.parametrize(
    "profile",
    ['{"operators":["a","b"],"times_ns":[[1,2],[1]]}', '{"operators":["a"],"times_ns":[[1.5]]}', '{"operators":[]}'],
)
def test_a_profile_that_does_not_fit_is_no_report(job: Job, tmp_path: Path, profile: str) -> None:
    said = (
        '{"load_ns":1,"outputs":[{"dtype":"U8","shape":[1],"verification":null,"shipments":[]}],"warmup_ns":[],'
        f'"run_ns":[],"profile":{profile},"peak_rss_bytes":1,"threads":1}}'
    )
    (tmp_path / "runner").write_text(f"echo '{said}'\n")
    with pytest.raises(RunnerError, match="cannot be read"):
        run_program(Local("local"), ("/bin/sh", str(tmp_path / "runner")), job, timeout_s=LIMIT_S)


# another processor


def test_an_arm64_device_runs_a_survey(run: Run, job: Job, tmp_path: Path) -> None:
    """Held to what this machine's runner makes of the same program; int8 may be one step off."""
    run(replace(job, write_output=str(tmp_path / "reference")))
    device = Emulated("emulated")
    there = replace(job, reference=str(tmp_path / "reference"), min_cosine=(), iterations=2)
    report = run_program(device, device.deploy(build_bundle(device.target)), there, timeout_s=EMULATED_LIMIT_S)
    assert all(verification_of(output).passed for output in report.outputs)
    assert_profiled(report, 2)
