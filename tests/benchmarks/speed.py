"""What is compared with what."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

from analysis.campaign.exports import reference_picture
from device_runner.bundle import build_bundle
from device_runner.cache import cache_folder
from device_runner.frames import Frame, encode_payload
from harness.export.exporter import ExportSettings, export
from harness.export.manifest import Exported
from harness.export.program import Program
from harness.measure.receiver import Receiver, Session
from harness.networks.models import DEFAULT_MODEL, load_model
from harness.networks.splits import Network, SplitPoint
from harness.tails.answer import Answer
from tests.benchmarks.comparison import Result, in_pairs, judge

NATIVE = Path(__file__).parent / "native"
MEGABYTE_PICTURE = (3, 592, 592)  # 1.05 MB as uint8
FRAMES = 60


def build_native() -> Path:
    """Build bare_loop and raw_sender; returns their folder."""
    folder = cache_folder() / "benchmarks"
    bin_folder = Path(sys.prefix) / "bin"
    executorch = Path(sys.modules["executorch"].__path__[0])
    configure = [
        *(str(bin_folder / "cmake"), "-S", str(NATIVE), "-B", str(folder), "-G", "Ninja"),
        f"-DCMAKE_MAKE_PROGRAM={bin_folder / 'ninja'}",
        f"-DCMAKE_PREFIX_PATH={executorch}",
    ]
    subprocess.run(configure, check=True, capture_output=True)
    subprocess.run([str(bin_folder / "cmake"), "--build", str(folder)], check=True, capture_output=True)
    return folder


def head_time(network: Network, native: Path) -> Result:
    """Compare the runner's median head time with a bare ExecuTorch loop on the same program."""
    (point,) = network.select("_blocks.10")
    with tempfile.TemporaryDirectory() as folder:
        head = _export(network, [point], Path(folder))[0]
        common = ["--threads", "1", "--warmup", "20", "--iterations", "100"]
        runner = [str(build_bundle().runner), "--pte", str(head.program), "--reference", str(head.reference), *common]
        height, width = map(str, network.model.input_size)
        bare = [str(native / "bare_loop"), str(head.program), "1", "20", "100", "3", height, width]

        def median(command: list[str]) -> float:
            done = subprocess.run(command, check=True, capture_output=True)
            return float(statistics.median(json.loads(done.stdout)["run_ns"]))

        ours, theirs = in_pairs(lambda: median(runner), lambda: median(bare), pairs=21)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    return judge("head time: runner / bare loop", "ratio", 1.03, ratios, {"runner_ns": ours, "bare_ns": theirs})


def framing(native: Path) -> Result:
    """Compare a framed 1 MB activation, checked and acknowledged, with the same bytes through a raw socket."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, *MEGABYTE_PICTURE), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as folder:
        pictures = Path(folder) / "pictures.safetensors"
        pictures.write_bytes(encode_payload(Frame({}, {"pictures": np.repeat(pixels, FRAMES, axis=0)})))
        ours, theirs = in_pairs(lambda: _framed(pictures), lambda: _raw(native, pixels.nbytes), pairs=15)
    extra = [(a - b) / 1e6 for a, b in zip(ours, theirs, strict=True)]
    return judge("1 MB frame: extra over a raw socket", "ms", 0.5, extra, {"framed_ns": ours, "raw_ns": theirs})


def _framed(pictures: Path) -> float:
    session = Session(
        cell="benchmark",
        round=0,
        max_payload_bytes=2**21,
        shape=(1, *MEGABYTE_PICTURE),
        dtype="uint8",
        pictures=FRAMES,
        answer=lambda _: Answer(np.zeros((1, 1000), np.float32), decode_ns=0),
        keep=lambda _, __: None,
    )
    with Receiver() as receiver, receiver.expect(session):
        where = ["--connect", f"127.0.0.1:{receiver.port}", "--cell", "benchmark", "--round", "0"]
        command = [str(build_bundle().runner), "--threads", "1", "--warmup", "0", "--iterations", "0"]
        command += ["--pictures", str(pictures), *where]
        done = subprocess.run(command, input=f"{receiver.token}\n".encode(), check=True, capture_output=True)
    shipments = json.loads(done.stdout)["outputs"][0]["shipments"]
    return float(statistics.median(shipment["encode_ns"] + shipment["transfer_ns"] for shipment in shipments))


def _raw(native: Path, size: int) -> float:
    listener = socket.create_server(("127.0.0.1", 0))

    def receive() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            buffer = memoryview(bytearray(size))
            for _ in range(FRAMES):
                filled = 0
                while filled < size:
                    filled += connection.recv_into(buffer[filled:])
                connection.sendall(b"x")

    thread = threading.Thread(target=receive)
    thread.start()
    command = [str(native / "raw_sender"), "127.0.0.1", str(listener.getsockname()[1]), str(size), str(FRAMES)]
    done = subprocess.run(command, check=True, capture_output=True)
    thread.join()
    listener.close()
    return float(statistics.median(json.loads(done.stdout)["transfer_ns"]))


def exporting(network: Network) -> tuple[Result, Result]:
    """Compare exporting all heads with one warm process that re-traces each; and time the second run's export phase."""
    points = [point for point in network.all_points if point.index]
    picture = reference_picture(network.model.input_size).float().div(255).unsqueeze(0)
    retrace(network, points[0], picture)  # warm
    halves = [points[0::2], points[1::2]]
    ours: list[float] = []
    theirs: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for i, half in enumerate(halves):
            steps: list[tuple[list[float], Callable[[], object]]] = [
                (ours, lambda half=half: _export(network, half, Path(folder))),  # type: ignore[misc]
                (theirs, lambda half=half: [retrace(network, p, picture) for p in half]),  # type: ignore[misc]
            ]
            for times, step in steps if i % 2 == 0 else reversed(steps):
                times.append(_seconds(step))
        ratio = sum(ours) / sum(theirs)
        pairs = [a / b for a, b in zip(ours, theirs, strict=True)]
        samples = {"export_s": ours, "retrace_s": theirs}
        all_heads = Result("export of all heads / re-tracing", "ratio", ratio, min(pairs), max(pairs), 0.5, samples)
        again = [_seconds(lambda: _export(network, points, Path(folder))) for _ in range(5)]
    return all_heads, judge("second run's export phase", "s", 2.0, again, {"seconds": again})


def retrace(network: Network, point: SplitPoint, picture: torch.Tensor) -> bytes:
    """Export one head as its user would by hand: trace, lower, serialise."""
    program = torch.export.export(network.head(point), (picture,))
    return bytes(to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()]).to_executorch().buffer)


def start_up() -> Result:
    """Time `bench --help`."""
    command = [str(Path(sys.executable).parent / "bench"), "--help"]
    times = [_seconds(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(20)]
    return judge("bench --help", "s", 0.3, times, {"seconds": times})


def _export(network: Network, points: Sequence[SplitPoint], folder: Path) -> list[Exported]:
    settings = ExportSettings("fp32", reference_picture(network.model.input_size), "", folder)
    made = export(network, [Program.head(point) for point in points], settings, lambda: network)
    heads = [head for _, head in made if isinstance(head, Exported)]
    assert len(heads) == len(points), "a head could not be exported"
    return heads


def _seconds(step: Callable[[], object]) -> float:
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def default_network() -> Network:
    """Load the default network at its own size."""
    return Network(load_model(DEFAULT_MODEL))
