"""An ARM64 device computes what this machine computes, one family of networks after the other, and garbage is caught.

Under emulation: outputs are real, times mean nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from device_runner.bundle import build_bundle
from device_runner.devices import emulated as module
from device_runner.devices.emulated import Emulated
from device_runner.errors import RunnerCode
from device_runner.frames import Frame, encode_payload
from device_runner.report import RunnerReport
from device_runner.runner import Job, UnverifiedError, run_program
from harness.export.exporter import ExportSettings, Precision, export
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.measure.verification import device_job
from harness.networks.int8 import QuantizedNetwork
from harness.networks.splits import CuttableGraph, Network

# One network of each family, the side of its pictures, and a split behind what is particular to the family.
FAMILIES = [
    ("alexnet", 64, "features.2"),
    ("efficientnet_lite0", 32, "_blocks.1"),
    ("googlenet", 32, "inception3a"),
    ("mnasnet0_5", 32, "layers.8.0"),
    ("mobilenet_v2", 32, "features.2"),
    ("resnet18", 32, "layer1.0"),
    ("shufflenet_v2_x0_5", 32, "stage2.0:cat"),
    ("squeezenet1_1", 32, "features.3"),
]
SLOW_TO_EXPORT = [
    ("convnext_tiny", 32, "features.1.0"),
    ("densenet121", 32, "features.transition1"),
    ("inception_v3", 75, "maxpool2"),
    ("mobilenet_v3_small", 32, "features.1"),
    ("regnet_y_400mf", 32, "trunk_output.block1"),
    ("vgg11", 32, "features.5"),
    ("vit_b_16", 32, "encoder.layers.encoder_layer_0"),
]
ALL_FAMILIES = [*FAMILIES, *(pytest.param(*family, marks=pytest.mark.slow) for family in SLOW_TO_EXPORT)]
TIME_LIMIT_S = 300.0


def export_one(network: Network, split: str, precision: Precision, root: Path) -> Exported:
    height, width = network.model.input_size
    generator = torch.Generator().manual_seed(6)
    reference = torch.randint(256, (3, height, width), generator=generator, dtype=torch.uint8)
    settings = ExportSettings(precision, reference, "one picture" if precision == "int8" else "", root)

    def graph() -> CuttableGraph:
        if precision == "fp32":
            return network
        return QuantizedNetwork(network, reference[None].float() / 255)  # one picture: only outputs are compared here

    (point,) = network.select(split)
    ((_, head),) = export(network, [Program.head(point)], settings, graph)
    assert isinstance(head, Exported), head
    return head


def job_on_arm64(head: Exported) -> Job:
    """Hold a device to what this machine's runner, verified against PyTorch, makes of the same program."""
    return replace(device_job(head), iterations=1)


def run_on_arm64(job: Job) -> RunnerReport:
    device = Emulated("emulated")
    return run_program(device, device.deploy(build_bundle(device.target)), job, timeout_s=TIME_LIMIT_S)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def int8_head(lively: Callable[[str, int], Network], root: Path) -> Exported:
    name, side, split = FAMILIES[0]
    return export_one(lively(name, side), split, "int8", root)


# ExecuTorch's own, about its own code, where batch norm stands alone.
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf:UserWarning")
@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize(("name", "side", "split"), ALL_FAMILIES)
def test_an_arm64_device_computes_what_this_machine_computes(
    lively: Callable[[str, int], Network], root: Path, name: str, side: int, split: str, precision: Precision
) -> None:
    head = export_one(lively(name, side), split, precision, root)
    assert head.manifest.outputs[0].codec.name == precision
    report = run_on_arm64(job_on_arm64(head))
    (output,) = report.outputs
    assert output.verification is not None
    assert output.verification.passed
    assert output.shape == head.manifest.outputs[0].activation_shape
    assert len(report.run_ns) == 1


@pytest.mark.parametrize(("steps", "verified"), [(1, True), (2, False)])
def test_an_int8_output_may_be_one_step_off_and_no_more(
    int8_head: Exported, tmp_path: Path, steps: int, verified: bool
) -> None:
    job = job_on_arm64(int8_head)
    expected = load_file(str(job.reference))
    activation = expected["activation.0"].copy()
    value = activation.flat[7]
    activation.flat[7] = value - steps if value > 0 else value + steps
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(encode_payload(Frame({}, {"picture": expected["picture"], "activation.0": activation})))
    assert np.abs(activation.astype(int) - expected["activation.0"]).max() == steps
    if verified:
        assert run_on_arm64(replace(job, reference=str(moved))).run_ns
    else:
        with pytest.raises(UnverifiedError) as caught:
            run_on_arm64(replace(job, reference=str(moved)))
        assert caught.value.code == RunnerCode.VERIFICATION_FAILED
        assert not caught.value.report.run_ns


def test_a_processor_that_computes_garbage_is_caught_and_gets_no_latency(
    int8_head: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default processor of qemu ends with status 0, and its outputs are wrong."""
    monkeypatch.setattr(module, "CPU", "max")
    job = job_on_arm64(int8_head)
    unjudged = run_on_arm64(replace(job, max_abs_err=(None,))).outputs[0].verification
    assert unjudged is not None
    if unjudged.max_abs_err == 0:
        pytest.skip("this qemu's default processor computes what it should")
    with pytest.raises(UnverifiedError) as caught:
        run_on_arm64(job)
    report = caught.value.report
    (output,) = report.outputs
    assert output.verification is not None
    assert not output.verification.passed
    assert (report.warmup_ns, report.run_ns, output.shipments) == ([], [], [])
