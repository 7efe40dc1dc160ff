"""Real parts for the tests of the device side: heads, a bundle, the native frame tool, a receiver."""

from __future__ import annotations

import json
import queue
import socket
import subprocess
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from device_runner.bundle import NATIVE_FOLDER, Bundle, build_bundle
from device_runner.errors import RunnerCode
from device_runner.frames import Frame, encode_payload

SIZE = 16
"""Side of the pictures that the small heads take."""

FRAME_TOOL_SOURCES = ("answer", "connection", "crc32c", "error", "frame", "output", "safetensors", "utf8")


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return build_bundle()


@pytest.fixture(scope="session")
def frame_tool(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the native wire format as a program that a bad memory access or undefined behaviour ends with a signal."""
    program = tmp_path_factory.mktemp("frame_tool") / "frame_tool"
    sources = [NATIVE_FOLDER / "src" / f"{name}.cpp" for name in FRAME_TOOL_SOURCES]
    flags = ["-std=c++17", "-Wall", "-Wextra", "-Werror", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    main = Path(__file__).parent / "native" / "frame_tool.cpp"
    subprocess.run(["g++", *flags, "-I", NATIVE_FOLDER / "src", main, *sources, "-o", program], check=True)
    return program


class Convolution(nn.Module):
    """Two convolutions that a backend takes over whole."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.layers = nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.layers(x)
        return out


class PassOn(nn.Module):
    """The picture as it came in."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(x)


class NotANumber(nn.Module):
    """Nothing but NaN for every picture."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.sqrt(-1 - x)


class EightBit(nn.Module):
    """Ends in int8, as a quantised head does."""

    scale, zero_point = 1 / 255, -128

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        quantize = torch.ops.quantized_decomposed.quantize_per_tensor
        out: torch.Tensor = quantize(x, self.scale, self.zero_point, -128, 127, torch.int8)
        return out


class TwoOutputs(nn.Module):
    """No head: a head gives one activation."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return x + 1, x * 2


PORTABLE = (PassOn, TwoOutputs)


@dataclass(frozen=True)
class Heads:
    """Programs and the files that go with them; `outputs` are what PyTorch gives for `pictures`."""

    folder: Path
    pictures: np.ndarray[Any, np.dtype[np.uint8]]
    outputs: dict[str, list[np.ndarray[Any, Any]]]

    def pte(self, name: str) -> Path:
        return self.folder / f"{name}.pte"

    def reference(self, name: str) -> Path:
        """Picture 0 and what this head gives for it."""
        return self.folder / f"{name}.reference"

    @property
    def pictures_file(self) -> Path:
        return self.folder / "pictures"


def lower(module: nn.Module, size: int) -> bytes:
    """Export a module through the backend; one that is PORTABLE runs on the kernel libraries alone."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import (
        XnnpackPartitioner,
    )
    from executorch.exir import to_edge_transform_and_lower

    program = torch.export.export(module.eval(), (torch.rand(1, 3, size, size),))
    partitioners = [] if isinstance(module, PORTABLE) else [XnnpackPartitioner()]
    lowered = to_edge_transform_and_lower(program, partitioner=partitioners)
    return bytes(lowered.to_executorch().buffer)


@pytest.fixture(scope="session")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Heads:
    folder = tmp_path_factory.mktemp("heads")
    modules: dict[str, tuple[nn.Module, int]] = {
        "convolution": (Convolution(seed=0), SIZE),
        "other_weights": (Convolution(seed=1), SIZE),
        "other_size": (Convolution(seed=0), SIZE * 2),
        "pass_on": (PassOn(), SIZE),
        "not_a_number": (NotANumber(), SIZE),
        "eight_bit": (EightBit(), SIZE),
        "two_outputs": (TwoOutputs(), SIZE),
    }
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ExecuTorch's own, about its own code
        for name, (module, size) in modules.items():
            (folder / f"{name}.pte").write_bytes(lower(module, size))
    pictures = np.random.default_rng(0).integers(0, 256, (3, 3, SIZE, SIZE), dtype=np.uint8)
    (folder / "pictures").write_bytes(encode_payload(Frame({}, {"pictures": pictures})))
    outputs = {}
    for name in ("convolution", "pass_on", "not_a_number", "eight_bit"):
        with torch.no_grad():
            given = [modules[name][0](torch.from_numpy(picture)[None].float() / 255).numpy() for picture in pictures]
        outputs[name] = given
        payload = encode_payload(Frame({}, {"picture": pictures[0], "activation.0": given[0]}))
        (folder / f"{name}.reference").write_bytes(payload)
    return Heads(folder, pictures, outputs)


@dataclass(frozen=True)
class Outcome:
    """How a run of head_runner ended; `report` is None unless it printed one, `message` its line on standard error."""

    code: RunnerCode
    report: dict[str, Any] | None
    message: str


@pytest.fixture(scope="session")
def run_head(bundle: Bundle) -> Callable[..., Outcome]:
    """Run head_runner with the given options; whatever happens must be a code of ours and at most one line."""

    def run(
        *,
        token: str = "let-me-in",  # noqa: S107 - of a test
        stdout: Path | None = None,
        **options: object,
    ) -> Outcome:
        arguments = {"threads": 1, "warmup": 1, "iterations": 2, **options}
        command = [str(bundle.runner)]
        for name, value in arguments.items():
            command += [] if value is None else [f"--{name.replace('_', '-')}", str(value)]
        with (stdout or Path("/dev/null")).open("wb") as sink:
            completed = subprocess.run(
                command,
                input=f"{token}\n".encode(),
                stdout=sink if stdout else subprocess.PIPE,
                stderr=subprocess.PIPE,
                timeout=60,
                check=False,
            )
        code = RunnerCode(completed.returncode)
        lines = completed.stderr.decode().splitlines()
        assert len(lines) == (code != RunnerCode.OK), lines
        assert all(line.startswith("head_runner: ") and "; " in line for line in lines)
        return Outcome(code, json.loads(completed.stdout) if completed.stdout else None, "".join(lines))

    return run


@pytest.fixture
def receiver() -> Callable[[Callable[[socket.socket], object]], Any]:
    """Listen on a socket whose one client is given to `handler`, as a context manager that gives its "host:port"."""

    @contextmanager
    def listening(handler: Callable[[socket.socket], object]) -> Iterator[str]:
        failures: queue.Queue[Exception] = queue.Queue()

        def serve(server: socket.socket) -> None:
            try:
                client, _ = server.accept()
                with client:
                    client.settimeout(30)
                    handler(client)
            except Exception as exc:  # raised again below, in the test's own thread
                failures.put(exc)

        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(30)
            thread = threading.Thread(target=serve, args=(server,))
            thread.start()
            yield f"127.0.0.1:{server.getsockname()[1]}"
            thread.join()
        if not failures.empty():
            raise failures.get()

    return listening
