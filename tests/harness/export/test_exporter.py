"""Heads become programs that run and verify; what is there is not made again, and what fails is one head's reason."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from safetensors.numpy import load_file

from device_runner.bundle import Bundle
from device_runner.devices.local import Local
from device_runner.files import file_sha256
from device_runner.frames import Frame, encode_payload
from device_runner.report import RunnerReport
from device_runner.runner import run_program
from harness.codecs import Int8
from harness.errors import ExportError
from harness.export.exporter import ExportSettings, Precision, program_folder
from harness.export.exporter import export as export_programs
from harness.export.manifest import Exported, read_exported
from harness.export.program import Program
from harness.measure.verification import host_job
from harness.networks.int8 import QuantizedNetwork
from harness.networks.models import load_model
from harness.networks.splits import Cut, CuttableGraph, Network, SplitPoint
from harness.pictures import Pictures

Outcomes = dict[str, Exported | ExportError]


def never() -> CuttableGraph:
    raise AssertionError("something was exported that is there already")


def settings(root: Path, precision: Precision = "fp32", side: int = 32) -> ExportSettings:
    reference = torch.randint(256, (3, side, side), generator=torch.Generator().manual_seed(6), dtype=torch.uint8)
    return ExportSettings(precision, reference, "calibration" if precision == "int8" else "", root)


def export(
    network: Network,
    points: Sequence[SplitPoint],
    chosen: ExportSettings,
    graph: Callable[[], CuttableGraph] | None = None,
) -> Outcomes:
    programs = [Program.head(point) for point in points]
    made = export_programs(network, programs, chosen, graph or (lambda: network))
    return {program.name: head for program, head in made}


def head_folder(network: Network, point: SplitPoint, chosen: ExportSettings) -> Path:
    return program_folder(network, Program.head(point), chosen)


def run(bundle: Bundle, head: Exported) -> RunnerReport:
    """Run a head as it would be run on a device; raises unless it verifies."""
    job = replace(host_job(head), iterations=1)
    return run_program(Local("local"), [str(bundle.runner)], job, timeout_s=120)


def heads(outcomes: Outcomes) -> dict[str, Exported]:
    return {name: head for name, head in outcomes.items() if isinstance(head, Exported)}


def failures(outcomes: Outcomes) -> dict[str, str]:
    return {name: str(head) for name, head in outcomes.items() if isinstance(head, ExportError)}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="module")
def fp32(plain: Network, root: Path) -> Outcomes:
    return export(plain, plain.all_points, settings(root))


@pytest.fixture(scope="module")
def int8(plain: Network, pictures: Pictures, root: Path) -> Outcomes:
    graph = QuantizedNetwork(plain, pictures.train.as_float())
    return export(plain, plain.all_points, settings(root, "int8"), lambda: graph)


# programs that run


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_head_runs_and_verifies(
    plain: Network, bundle: Bundle, precision: str, request: pytest.FixtureRequest
) -> None:
    outcomes: Outcomes = request.getfixturevalue(precision)
    assert not failures(outcomes)
    assert sorted(outcomes) == sorted(point.name for point in plain.all_points)
    for name, head in heads(outcomes).items():
        if head.program is None:
            assert name == "picture"
            continue
        report = run(bundle, head)
        (output,) = report.outputs
        assert output.verification is not None
        assert output.verification.passed
        assert output.shape == head.manifest.outputs[0].activation_shape
        assert output.dtype == ("I8" if precision == "int8" else "F32")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_manifest_describes_what_lies_beside_it(
    plain: Network, precision: Precision, request: pytest.FixtureRequest
) -> None:
    outcomes: Outcomes = request.getfixturevalue(precision)
    for point in plain.all_points[1:]:
        head = heads(outcomes)[point.name]
        manifest = head.manifest
        (output,) = manifest.outputs
        assert head.program is not None
        assert head.reference is not None
        assert manifest.pte_sha256 == file_sha256(head.program)
        assert manifest.pte_bytes == head.program.stat().st_size
        reference = load_file(head.reference)
        activation = reference["activation.0"]
        assert activation.shape == output.activation_shape == point.activation_shape
        assert activation.nbytes == output.codec.activation_bytes(output.activation_shape)
        assert activation.dtype == {"fp32": np.float32, "int8": np.int8}[precision]
        assert np.array_equal(reference["picture"], settings(Path(), precision).reference.numpy())
        frame = Frame({"kind": "activation", "picture": "15"}, {"activation": activation})
        assert 0 <= output.codec.max_payload_bytes(output.activation_shape) - len(encode_payload(frame)) <= 8
        assert manifest.delegated_share is not None
        assert 0.99 <= manifest.delegated_share <= 1
        assert (manifest.model, output.split, output.split_index) == (plain.model.name, point.name, point.index)
        assert read_exported(head.program.parent) == head


def test_int8_heads_say_how_their_numbers_are_read(int8: Outcomes, plain: Network) -> None:
    for point in plain.all_points[1:]:
        (output,) = heads(int8)[point.name].manifest.outputs
        assert isinstance(output.codec, Int8)
        assert (output.tolerance_abs, output.tolerance_cosine) == (None, 0.99)


def test_the_first_split_ships_the_picture_and_has_no_program(fp32: Outcomes) -> None:
    head = heads(fp32)["picture"]
    assert (head.folder, head.program, head.reference) == (None, None, None)
    (output,) = head.manifest.outputs
    assert output.codec.name == "uint8"
    assert output.codec.activation_bytes(output.activation_shape) == 3 * 32 * 32


@pytest.mark.parametrize("name", ["swin_t", "convnext_tiny", "tiny_networks:Strided"])
def test_heads_whose_values_are_strided_give_them_in_order(
    lively: Callable[[str, int], Network], bundle: Bundle, tmp_path: Path, name: str
) -> None:
    network = lively(name, 32)
    picture = torch.rand(1, 3, 32, 32)
    found = (point for point in network.points[1:] if not network.head(point)(picture).is_contiguous())
    strided = list(islice(found, 2))
    assert strided
    outcomes = export(network, strided, settings(tmp_path))
    assert len(heads(outcomes)) == len(strided)
    for head in heads(outcomes).values():
        assert run(bundle, head).outputs[0].verification is not None


def test_the_share_that_the_backend_left_is_told(lively: Callable[[str, int], Network], tmp_path: Path) -> None:
    network = lively("tiny_networks:Volumetric", 16)
    (head,) = heads(export(network, network.points[-1:], settings(tmp_path, side=16))).values()
    share = head.manifest.delegated_share
    assert share is not None
    assert 0 <= share < 0.9


# the cache


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_what_is_there_is_not_exported_again(
    plain: Network, root: Path, precision: Precision, request: pytest.FixtureRequest
) -> None:
    before: Outcomes = request.getfixturevalue(precision)
    assert export(plain, plain.all_points, settings(root, precision), never) == before


def test_a_second_process_finds_the_same_folders(plain: Network, root: Path, fp32: Outcomes) -> None:
    del fp32
    again = Network(plain.model)
    for one, other in zip(plain.points, again.points, strict=True):
        assert head_folder(plain, one, settings(root)) == head_folder(again, other, settings(root))


def test_whatever_a_program_depends_on_is_in_its_folders_name(plain: Network, tmp_path: Path) -> None:
    point = plain.all_points[2]
    chosen = settings(tmp_path)
    other_picture = ExportSettings("fp32", chosen.reference + 1, "", tmp_path)
    other_pictures = ExportSettings("int8", chosen.reference, "other", tmp_path)
    other_weights = Network(load_model("tiny_networks:plain", weights="random", seed=9, input_size=(32, 32)))
    folders = [
        head_folder(plain, point, chosen),
        head_folder(plain, point, settings(tmp_path, "int8")),
        head_folder(plain, point, other_pictures),
        head_folder(plain, point, other_picture),
        head_folder(plain, plain.all_points[3], chosen),
        head_folder(other_weights, point, chosen),
    ]
    assert len(set(folders)) == len(folders)


def test_no_name_leads_out_of_the_folder(plain: Network, tmp_path: Path) -> None:
    for point in plain.points:
        folder = head_folder(plain, point, settings(tmp_path))
        assert folder.relative_to(tmp_path).parts[0] == "tiny_networks_plain"
        assert len(folder.relative_to(tmp_path).parts) == 3


@pytest.mark.parametrize("damage", ["cut short", "another head's", "gone", "manifest"])
def test_a_damaged_head_is_refused_with_what_to_do(
    plain: Network, root: Path, fp32: Outcomes, tmp_path: Path, damage: str
) -> None:
    assert not failures(fp32)
    tmp_path = shutil.copytree(root, tmp_path / "exported")
    first, second = plain.all_points[1:3]
    outcomes = heads(export(plain, [first, second], settings(tmp_path), never))
    program, other = outcomes[first.name].program, outcomes[second.name].program
    assert program is not None
    assert other is not None
    if damage == "cut short":
        program.write_bytes(program.read_bytes()[:-100])
    elif damage == "another head's":
        program.write_bytes(other.read_bytes())
    elif damage == "gone":
        program.unlink()
    else:
        (program.parent / "manifest.json").write_text("{}")
    with pytest.raises(ExportError, match=r"delete .* and run again") as caught:
        export(plain, [first], settings(tmp_path), never)
    assert str(program.parent) in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


# what goes wrong


def test_a_head_that_cannot_be_lowered_is_a_reason_and_the_others_are_made(
    lively: Callable[[str, int], Network], tmp_path: Path
) -> None:
    network = lively("tiny_networks:unlowerable", 16)
    points = network.points[-3:]  # sigmoid, the operator that is unknown, convolution
    outcomes = export(network, points, settings(tmp_path, side=16))
    assert set(heads(outcomes)) == {point.name for point in points[:1]}
    assert set(failures(outcomes)) == {point.name for point in points[1:]}
    for name, reason in failures(outcomes).items():
        assert name in reason
        assert "unknown" in reason, "the operator is named"
        assert len(reason.splitlines()) == 1
    assert not list(tmp_path.rglob(".export-*"))


def test_a_killed_worker_costs_one_head(lively: Callable[[str, int], Network], tmp_path: Path) -> None:
    network = lively("tiny_networks:deadly_to_lower", 16)
    points = network.points[-3:]
    outcomes = export(network, points, settings(tmp_path, side=16))
    assert set(heads(outcomes)) == {point.name for point in points[:1]}
    assert set(failures(outcomes)) == {point.name for point in points[1:]}
    assert all("-9" in reason and len(reason.splitlines()) == 1 for reason in failures(outcomes).values())
    assert not list(tmp_path.rglob(".export-*"))


class KillsIdleWorkers(CuttableGraph):
    """A graph that kills all waiting workers, once, when a point is looked up."""

    def __init__(self, network: Network) -> None:
        self.network, self.killed = network, 0

    def graph(self, batch: int) -> torch.fx.GraphModule:
        return self.network.graph(batch)

    def cut(self, point: SplitPoint) -> Cut:
        if not self.killed:
            for worker in multiprocessing.active_children():
                worker.kill()
                worker.join()
                self.killed += 1
        return self.network.cut(point)


def test_workers_that_are_killed_while_idle_cost_at_most_a_head_each(plain: Network, tmp_path: Path) -> None:
    graph = KillsIdleWorkers(plain)
    points = plain.all_points[1:]
    outcomes = export(plain, points, settings(tmp_path), lambda: graph)
    assert graph.killed
    assert len(outcomes) == len(points)
    assert len(failures(outcomes)) <= graph.killed
    assert not list(tmp_path.rglob(".export-*"))


def test_workers_go_when_the_caller_stops_early(plain: Network, tmp_path: Path) -> None:
    others = set(psutil.Process().children())  # multiprocessing's own helper, if an earlier test has started it
    programs = [Program.head(point) for point in plain.all_points[1:]]
    outcomes = export_programs(plain, programs, settings(tmp_path), lambda: plain)
    next(outcomes)
    workers = set(psutil.Process().children()) - others
    assert workers
    outcomes.close()  # type: ignore[attr-defined]
    assert not psutil.wait_procs(workers, timeout=10)[1]
    assert not list(tmp_path.rglob(".export-*"))


SCRIPT = """
import sys
from pathlib import Path
import torch
from harness.export.exporter import ExportSettings, export
from harness.export.program import Program
from harness.networks.models import load_model
from harness.networks.splits import Network
network = Network(load_model("tiny_networks:plain", weights="random", input_size=(32, 32)))
chosen = ExportSettings("fp32", torch.zeros(3, 32, 32, dtype=torch.uint8), "", Path(sys.argv[1]))
programs = [Program.head(point) for point in network.all_points[1:]]
for program, head in export(network, programs, chosen, lambda: network):
    print("done", program.name, head, flush=True)
"""


def start_export(folder: Path) -> subprocess.Popen[bytes]:
    """Export in a process of its own, at least one head finished when this returns."""
    paths = [str(Path(__file__).parents[3]), str(Path(__file__).parents[1] / "factories")]
    exporter = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    assert exporter.stdout is not None
    assert b"Head" not in exporter.stdout.readline()[:4]
    return exporter


def test_no_worker_outlives_a_killed_harness(tmp_path: Path) -> None:
    exporter = start_export(tmp_path)
    workers = psutil.Process(exporter.pid).children()
    assert workers
    exporter.kill()
    exporter.communicate()
    assert not psutil.wait_procs(workers, timeout=60)[1]


def test_ctrl_c_ends_workers_without_a_word_of_theirs(tmp_path: Path) -> None:
    exporter = start_export(tmp_path)
    workers = psutil.Process(exporter.pid).children()
    os.killpg(exporter.pid, signal.SIGINT)  # the terminal sends it to all of them
    _, stderr = exporter.communicate(timeout=60)
    assert not psutil.wait_procs(workers, timeout=60)[1]
    assert stderr.count(b"Traceback") == 1, stderr.decode()  # the script's own


def test_a_full_disk_is_a_reason_of_one_line(plain: Network, small_disk: Callable[[int], Path]) -> None:
    full = small_disk(16384)
    points = plain.all_points[1:4]
    outcomes = export(plain, points, settings(full))
    assert failures(outcomes)
    for reason in failures(outcomes).values():
        assert "No space left" in reason
        assert "free disk space" in reason
        assert len(reason.splitlines()) == 1
    kept = {head.program for head in outcomes.values() if isinstance(head, Exported)}
    assert set(full.rglob("head.pte")) == kept  # a head is whole or not there


def test_a_folder_that_cannot_be_written_is_one_line(plain: Network, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcomes = export(plain, plain.all_points[1:2], settings(tmp_path / "file" / "exported"))
    (reason,) = failures(outcomes).values()
    assert "cannot write" in reason
    assert len(reason.splitlines()) == 1


def export_survey(network: Network, chosen: ExportSettings, graph: Callable[[], CuttableGraph]) -> Exported:
    points = network.all_points[1:]
    asked, head = Program.survey(points), Program.head(points[0])
    made = dict(export_programs(network, [asked, head], chosen, graph))
    assert isinstance(made[head], Exported)
    survey = made[asked]
    assert isinstance(survey, Exported), survey
    return survey


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_survey_program_gives_every_splits_activation_as_its_own_head_would(
    plain: Network, pictures: Pictures, bundle: Bundle, tmp_path: Path, precision: Precision
) -> None:
    graph = QuantizedNetwork(plain, pictures.train.as_float()) if precision == "int8" else plain
    chosen = settings(tmp_path, precision)
    survey = export_survey(plain, chosen, lambda: graph)
    points = plain.all_points[1:]
    assert [output.split_index for output in survey.manifest.outputs] == [point.index for point in points]
    assert survey.program
    assert survey.reference
    assert survey.manifest.pte_bytes == survey.program.stat().st_size
    assert all(output.operators for output in survey.manifest.outputs)
    report = run_program(Local("local"), [str(bundle.runner)], host_job(survey), timeout_s=120)
    alone = heads(export(plain, points, chosen, lambda: graph))
    for place, (output, point) in enumerate(zip(survey.manifest.outputs, points, strict=True)):
        head = alone[point.name]
        assert report.outputs[place].shape == output.activation_shape
        assert (output.model_copy(update={"operators": {}}),) == head.manifest.outputs
        expected = load_file(survey.reference)[f"activation.{place}"]
        assert head.reference
        np.testing.assert_array_equal(expected, load_file(head.reference)["activation.0"])
        assert output.codec.decode(torch.from_numpy(expected)).abs().max() > 0


def test_a_survey_that_is_there_is_not_made_again(plain: Network, tmp_path: Path) -> None:
    made = export_survey(plain, settings(tmp_path), lambda: plain)
    assert made.folder == program_folder(plain, Program.survey(plain.all_points[1:]), settings(tmp_path))
    assert export_survey(plain, settings(tmp_path), never) == made
    fewer = program_folder(plain, Program.survey(plain.all_points[2:]), settings(tmp_path))
    assert fewer != made.folder


def test_a_damaged_survey_is_refused(plain: Network, tmp_path: Path) -> None:
    survey = export_survey(plain, settings(tmp_path), lambda: plain)
    assert survey.folder
    assert survey.program
    survey.program.write_bytes(survey.program.read_bytes()[:-1])
    with pytest.raises(ExportError, match=r"head\.pte is not the program"):
        read_exported(survey.folder)
