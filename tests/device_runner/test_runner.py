"""One call of head_runner: its report, or an error that keeps what it said."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from device_runner.bundle import Bundle
from device_runner.devices.local import Local
from device_runner.errors import DeviceError, RunnerCode, RunnerError
from device_runner.frames import Frame, decode_payload, encode_payload, read_frame, write_frame
from device_runner.link import LinkShape
from device_runner.runner import Job, Shipping, UnverifiedError, run_program

LIMIT_S = 60.0


@pytest.fixture
def device() -> Local:
    return Local("local")


@pytest.fixture
def job(heads: Any) -> Job:
    return Job(
        program=str(heads.pte("convolution")),
        reference=str(heads.reference("convolution")),
        max_abs_err=(1e-4,),
        min_cosine=(None,),
        zero_points=(None,),
        threads=1,
        warmup=2,
        iterations=5,
    )


@pytest.fixture
def script(tmp_path: Path) -> Callable[[str], tuple[str, ...]]:
    """Write a runner that does what the given shell commands do; its command line has a loader in front."""

    def write(commands: str) -> tuple[str, ...]:
        path = tmp_path / "runner"
        path.write_text(f"{commands}\n")
        return ("/bin/sh", str(path))

    return write


def test_a_right_head_is_reported_with_every_sample(device: Local, bundle: Bundle, job: Job) -> None:
    report = run_program(device, device.deploy(bundle), job, timeout_s=LIMIT_S)
    (output,) = report.outputs
    assert output.verification is not None
    assert output.verification.passed
    assert (len(report.warmup_ns), len(report.run_ns), output.shipments) == (2, 5, [])
    assert (output.dtype, output.shape, report.threads) == ("F32", (1, 4, 6, 6), 1)


def test_an_int8_head_is_judged_by_its_zero_point(device: Local, bundle: Bundle, heads: Any, job: Job) -> None:
    eight_bit = replace(
        job,
        program=str(heads.pte("eight_bit")),
        reference=str(heads.reference("eight_bit")),
        max_abs_err=(None,),
        min_cosine=(0.9999,),
        zero_points=(-128,),
    )
    report = run_program(device, device.deploy(bundle), eight_bit, timeout_s=LIMIT_S)
    (output,) = report.outputs
    assert output.dtype == "I8"
    assert output.verification is not None
    assert output.verification.cosine is not None


def test_an_unverified_head_keeps_its_figures(device: Local, bundle: Bundle, heads: Any, job: Job) -> None:
    wrong = replace(job, program=str(heads.pte("other_weights")))
    with pytest.raises(UnverifiedError) as caught:
        run_program(device, device.deploy(bundle), wrong, timeout_s=LIMIT_S)
    verification = caught.value.report.outputs[0].verification
    assert verification is not None
    assert not verification.passed
    assert verification.max_abs_err is not None
    assert verification.max_abs_err > 1e-4
    assert caught.value.report.run_ns == []
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
        run_program(device, device.deploy(bundle), replace(job, **changed), timeout_s=LIMIT_S)
    assert caught.value.code is code
    assert "head_runner: " not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("echo it broke >&2; exit 3", "it broke"),
        ("echo '{}'", "report"),
        ("echo nonsense", "report"),
        ("exit 69", "report"),
        ("exit 66", "66"),
    ],
)
def test_a_runner_that_dies_or_talks_nonsense_is_a_runner_error(
    device: Local, job: Job, script: Callable[[str], tuple[str, ...]], commands: str, said: str
) -> None:
    with pytest.raises(RunnerError, match=said) as caught:
        run_program(device, script(commands), job, timeout_s=LIMIT_S)
    assert caught.value.remedy
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("commands", "said", "remedy"),
    [
        ("kill -9 $$", "SIGKILL", "memory"),
        ("exit 137", "SIGKILL", "memory"),
        ("echo Killed >&2; exit 137", "SIGKILL .*: Killed", "memory"),
        ("kill -15 $$", "SIGTERM", "run again"),
        ("kill -31 $$", "SIGSYS", "system call"),
        ("kill -11 $$", "SIGSEGV", "report it"),
        ("kill -40 $$", "signal 40", "report it"),
        ("exit 126", "cannot be executed", "noexec"),
        ("echo bad library >&2; exit 127", "not found .*: bad library", "--clean"),
        ("exit 255", "status 255", "run again"),
    ],
)
def test_what_ended_a_runner_from_outside_is_named_with_a_remedy(
    device: Local, job: Job, script: Callable[[str], tuple[str, ...]], commands: str, said: str, remedy: str
) -> None:
    with pytest.raises(RunnerError, match=said) as caught:
        run_program(device, script(commands), job, timeout_s=LIMIT_S)
    assert remedy in caught.value.remedy
    assert caught.value.code is None
    assert len(str(caught.value).splitlines()) == 1


def test_a_runner_that_does_not_end_is_a_device_error(
    device: Local, job: Job, script: Callable[[str], tuple[str, ...]]
) -> None:
    with pytest.raises(DeviceError, match="did not end"):
        run_program(device, script("exec sleep 60"), job, timeout_s=0.3)


def test_a_runner_that_is_told_to_wait_for_ever_is_a_device_error(
    device: Local, bundle: Bundle, heads: Any, receiver: Callable[..., Any]
) -> None:
    def serve(client: Any) -> None:
        with suppress(ConnectionError):  # the runner was ended
            while True:
                write_frame(client, Frame({"kind": "wait"}, {}))
                time.sleep(0.01)

    runner = device.deploy(bundle)
    with receiver(serve) as address:
        job = Job(shipping=Shipping(str(heads.pictures_file), address, "secret", ("c0ffee",), 0))
        with pytest.raises(DeviceError, match="did not end"):
            run_program(device, runner, job, timeout_s=0.5)


def test_the_token_travels_on_standard_input_alone(
    device: Local, job: Job, script: Callable[[str], tuple[str, ...]], tmp_path: Path
) -> None:
    shipping = Shipping("pictures", "127.0.0.1:1", "secret", ("c0ffee",), 1)
    recorder = script(f'echo "$@" > {tmp_path}/argv; cat > {tmp_path}/stdin; exit 71')
    with pytest.raises(RunnerError):
        run_program(device, recorder, replace(job, shipping=shipping), timeout_s=LIMIT_S)
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
            write_frame(client, Frame({"kind": "answer", "decode_ns": "0"}, {"answer": np.zeros((1, 5), np.float32)}))
            write_frame(client, Frame({"kind": "stored"}, {}))

    with receiver(serve) as address:
        shipping = Shipping(str(heads.pictures_file), address, "secret", ("c0ffee",), 0)
        report = run_program(device, device.deploy(bundle), replace(job, shipping=shipping), timeout_s=LIMIT_S)
    (output,) = report.outputs
    assert [shipment.picture for shipment in output.shipments] == list(range(len(heads.pictures)))
    for shipment in output.shipments:
        assert shipment.head_ns is not None
        assert shipment.end_to_end_ns is not None
        assert shipment.encode_ns is not None
        assert shipment.decode_ns == 0
        parts = shipment.head_ns + shipment.encode_ns + shipment.transfer_ns + shipment.tail_ns
        assert 0 < parts == shipment.end_to_end_ns


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
            write_frame(client, Frame({"kind": "answer", "decode_ns": "0"}, {"answer": np.zeros((1, 5), np.float32)}))
            write_frame(client, Frame({"kind": "stored"}, {}))

    with receiver(serve) as address:
        shipping = Shipping(str(heads.pictures_file), address, "secret", ("c0ffee",), 0)
        whole = replace(
            job, program=None, reference=None, max_abs_err=(), min_cosine=(), zero_points=(), shipping=shipping
        )
        report = run_program(device, device.deploy(bundle), whole, timeout_s=LIMIT_S)
    (output,) = report.outputs
    assert output.verification is None
    assert output.dtype == "U8"
    assert len(output.shipments) == len(heads.pictures)


def test_every_option_reaches_the_runner(
    device: Local, bundle: Bundle, heads: Any, job: Job, receiver: Callable[..., Any], tmp_path: Path
) -> None:
    for name, value in (("current_now", -250_000), ("voltage_now", 4_000_000)):
        (tmp_path / name).write_text(f"{value}\n")
    core = min(os.sched_getaffinity(0))
    shape = LinkShape.parse("wifi:10mbit/20ms")

    def serve(client: Any) -> None:
        read_frame(client, max_payload_bytes=4096)
        write_frame(client, Frame({"kind": "welcome"}, {}))
        for _ in heads.pictures:
            read_frame(client, max_payload_bytes=2**20)
            write_frame(client, Frame({"kind": "received"}, {}))
            write_frame(client, Frame({"kind": "answer", "decode_ns": "0"}, {"answer": np.zeros((1, 5), np.float32)}))
            write_frame(client, Frame({"kind": "stored"}, {}))

    with receiver(serve) as address:
        whole = replace(
            job,
            affinity=f"{1 << core:x}",
            write_output=str(tmp_path / "output"),
            power=(str(tmp_path / "current_now"), str(tmp_path / "voltage_now")),
            shipping=Shipping(str(heads.pictures_file), address, "secret", ("c0ffee",), 0),
            link_shape=shape,
        )
        report = run_program(device, device.deploy(bundle), whole, timeout_s=LIMIT_S)
    assert report.affinity == f"{1 << core:x}"
    assert decode_payload((tmp_path / "output").read_bytes()).tensors["activation.0"].shape == (1, 4, 6, 6)
    assert report.power_mw == pytest.approx(1000)
    assert report.energy_mj is not None
    assert report.power_reason is None
    assert report.timer_resolution_ns
    assert report.overhead_ns
    for shipment in report.outputs[0].shipments:
        assert shipment.transfer_ns >= 1e9 * (shape.rtt_s + shipment.wire_bytes / shape.rate_bytes_per_s)


def test_a_link_shape_without_shipping_shapes_nothing(device: Local, bundle: Bundle, job: Job) -> None:
    shaped = replace(job, link_shape=LinkShape.parse("1kbit/2s"))
    assert run_program(device, device.deploy(bundle), shaped, timeout_s=LIMIT_S).outputs[0].shipments == []
