"""One call of head_runner: its report, or an error that keeps what it said."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runner.bundle import Bundle
from device_runner.devices.local import Local
from device_runner.errors import DeviceError, RunnerCode, RunnerError
from device_runner.frames import Frame, encode_payload, read_frame, write_frame
from device_runner.runner import Job, Shipping, UnverifiedError, run_head

LIMIT_S = 60.0


@pytest.fixture
def device() -> Local:
    return Local("local")


@pytest.fixture
def job(heads: Any) -> Job:
    return Job(
        program=str(heads.pte("convolution")),
        reference=str(heads.reference("convolution")),
        max_abs_err=1e-4,
        min_cosine=None,
        zero_point=None,
        threads=1,
        warmup=2,
        iterations=5,
    )


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], str]:
    """Write a runner that does what the given shell commands do."""

    def write(commands: str) -> str:
        path = tmp_path / "runner"
        path.write_text(f"#!/bin/sh\n{commands}\n")
        path.chmod(0o755)
        return str(path)

    return write


def test_a_right_head_is_reported_with_every_sample(device: Local, bundle: Bundle, job: Job) -> None:
    report = run_head(device, str(bundle.runner), job, timeout_s=LIMIT_S)
    assert report.verification is not None
    assert report.verification.passed
    assert (len(report.warmup_ns), len(report.head_ns), report.shipments) == (2, 5, [])
    assert (report.output.dtype, report.output.shape, report.threads) == ("F32", (1, 4, 6, 6), 1)


def test_an_int8_head_is_judged_by_its_zero_point(device: Local, bundle: Bundle, heads: Any, job: Job) -> None:
    eight_bit = replace(
        job,
        program=str(heads.pte("eight_bit")),
        reference=str(heads.reference("eight_bit")),
        max_abs_err=None,
        min_cosine=0.9999,
        zero_point=-128,
    )
    report = run_head(device, str(bundle.runner), eight_bit, timeout_s=LIMIT_S)
    assert report.output.dtype == "I8"
    assert report.verification is not None
    assert report.verification.cosine is not None


def test_an_unverified_head_keeps_its_figures(device: Local, bundle: Bundle, heads: Any, job: Job) -> None:
    wrong = replace(job, program=str(heads.pte("other_weights")))
    with pytest.raises(UnverifiedError) as caught:
        run_head(device, str(bundle.runner), wrong, timeout_s=LIMIT_S)
    verification = caught.value.report.verification
    assert verification is not None
    assert not verification.passed
    assert verification.max_abs_err is not None
    assert verification.max_abs_err > 1e-4
    assert caught.value.report.head_ns == []
    assert caught.value.code is RunnerCode.VERIFICATION_FAILED


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"program": "/no/such/head.pte"}, RunnerCode.PROGRAM_MISSING),
        ({"program": "reference"}, RunnerCode.PROGRAM_DAMAGED),
        ({"reference": "/no/such/reference"}, RunnerCode.FILE_UNREADABLE),
        ({"threads": 0}, RunnerCode.USAGE),
    ],
)
def test_the_runners_own_errors_arrive_with_their_code(
    device: Local, bundle: Bundle, job: Job, changed: dict[str, Any], code: RunnerCode
) -> None:
    if changed.get("program") == "reference":
        changed = {"program": job.reference}
    with pytest.raises(RunnerError) as caught:
        run_head(device, str(bundle.runner), replace(job, **changed), timeout_s=LIMIT_S)
    assert caught.value.code is code
    assert "head_runner: " not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("kill -9 $$", "-9"),
        ("echo it broke >&2; exit 3", "it broke"),
        ("echo '{}'", "report"),
        ("echo nonsense", "report"),
        ("exit 69", "report"),
        ("exit 66", "66"),
    ],
)
def test_a_runner_that_dies_or_talks_nonsense_is_a_runner_error(
    device: Local, job: Job, script: Callable[[str], str], commands: str, said: str
) -> None:
    with pytest.raises(RunnerError, match=said) as caught:
        run_head(device, script(commands), job, timeout_s=LIMIT_S)
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


def test_a_runner_that_does_not_end_is_a_device_error(device: Local, job: Job, script: Callable[[str], str]) -> None:
    with pytest.raises(DeviceError, match="did not end"):
        run_head(device, script("exec sleep 60"), job, timeout_s=0.3)


def test_the_token_travels_on_standard_input_alone(
    device: Local, job: Job, script: Callable[[str], str], tmp_path: Path
) -> None:
    shipping = Shipping("pictures", "127.0.0.1:1", "secret", "c0ffee", 1)
    recorder = script(f'echo "$@" > {tmp_path}/argv; cat > {tmp_path}/stdin; exit 71')
    with pytest.raises(RunnerError):
        run_head(device, recorder, replace(job, shipping=shipping), timeout_s=LIMIT_S)
    assert (tmp_path / "stdin").read_text() == "secret\n"
    argv = (tmp_path / "argv").read_text()
    assert "secret" not in argv
    assert "--connect 127.0.0.1:1 --cell c0ffee --round 1" in argv


def test_every_picture_is_shipped_and_timed(
    device: Local, bundle: Bundle, heads: Any, job: Job, receiver: Callable[..., Any]
) -> None:
    def serve(client: Any) -> None:
        read_frame(client, max_payload_bytes=4096)
        write_frame(client, Frame({"kind": "welcome"}, {}))
        for i in range(len(heads.pictures)):
            frame, _ = read_frame(client, max_payload_bytes=2**20)
            assert np.allclose(frame.tensors["activation"], heads.outputs["convolution"][i], atol=1e-4)
            write_frame(client, Frame({"kind": "received"}, {}))
            write_frame(client, Frame({"kind": "answer"}, {"answer": np.zeros((1, 5), np.float32)}))
            write_frame(client, Frame({"kind": "stored"}, {}))

    with receiver(serve) as address:
        shipping = Shipping(str(heads.pictures_file), address, "secret", "c0ffee", 0)
        report = run_head(device, str(bundle.runner), replace(job, shipping=shipping), timeout_s=LIMIT_S)
    assert [shipment.picture for shipment in report.shipments] == list(range(len(heads.pictures)))
    for shipment in report.shipments:
        parts = shipment.head_ns + shipment.transfer_ns + shipment.tail_ns
        assert 0 < parts <= shipment.end_to_end_ns


def test_the_picture_itself_ships_without_a_program(
    device: Local, bundle: Bundle, heads: Any, job: Job, receiver: Callable[..., Any]
) -> None:
    def serve(client: Any) -> None:
        read_frame(client, max_payload_bytes=4096)
        write_frame(client, Frame({"kind": "welcome"}, {}))
        for picture in heads.pictures:
            frame, payload = read_frame(client, max_payload_bytes=2**20)
            assert np.array_equal(frame.tensors["activation"][0], picture)
            assert payload == encode_payload(frame)
            write_frame(client, Frame({"kind": "received"}, {}))
            write_frame(client, Frame({"kind": "answer"}, {"answer": np.zeros((1, 5), np.float32)}))
            write_frame(client, Frame({"kind": "stored"}, {}))

    with receiver(serve) as address:
        shipping = Shipping(str(heads.pictures_file), address, "secret", "c0ffee", 0)
        whole = replace(job, program=None, reference=None, max_abs_err=None, shipping=shipping)
        report = run_head(device, str(bundle.runner), whole, timeout_s=LIMIT_S)
    assert report.verification is None
    assert report.output.dtype == "U8"
    assert len(report.shipments) == len(heads.pictures)
