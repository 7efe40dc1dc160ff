"""Real parts for the tests of the workstation's side: small networks, pictures, a full disk, a built runner."""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from device_runner.bundle import Bundle, build_bundle
from harness.networks.models import Model, load_model
from harness.networks.splits import Network
from harness.pictures import Pictures, load_pictures
from tests.parts.threads import one_thread

SIZE = (32, 32)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors gain nothing from threads, and these wait for each other where the machine is busy."""
    with one_thread():
        yield


@pytest.fixture(scope="session", autouse=True)
def _factories() -> Iterator[None]:
    """`tiny_networks` can be imported, as a user's own module can."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parent / "factories"))
        yield


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return build_bundle()


@pytest.fixture(scope="session")
def pictures() -> Pictures:
    return load_pictures("builtin", size=SIZE, train_count=48, held_out_count=4)


@pytest.fixture(scope="session")
def random_pictures() -> Callable[[tuple[int, int]], Tensor]:
    """Make 8 pictures of a size from nothing but numbers."""

    def make(size: tuple[int, int]) -> Tensor:
        return torch.rand(8, 3, *size, generator=torch.Generator().manual_seed(1))

    return make


@pytest.fixture(scope="session")
def lively(random_pictures: Callable[[tuple[int, int]], Tensor]) -> Callable[[str, int], Network]:
    """Make a network whose logits are far from zero, so that a wrong tail shows.

    Without batch norm's calibration the activations of many random networks vanish, and some begin with a last layer
    of zeros.
    """

    @functools.cache
    def make(name: str, side: int) -> Network:
        trained = name.startswith("efficientnet_lite")
        model = load_model(
            name, weights="auto" if trained else "random", input_size=(side, side), calibration=random_pictures
        )
        generator = torch.Generator().manual_seed(2)
        with torch.no_grad():
            for parameter in model.module.parameters():
                if not parameter.any() and parameter.dim() > 1:
                    nn.init.normal_(parameter, std=0.05, generator=generator)
        return Network(model)

    return make


@pytest.fixture(scope="session")
def plain_model(pictures: Pictures) -> Model:
    return load_model(
        "tiny_networks:plain",
        weights="random",
        input_size=SIZE,
        calibration=lambda _: pictures.train.as_float(),
    )


@pytest.fixture(scope="session")
def plain(plain_model: Model) -> Network:
    return Network(plain_model)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mount a file system that holds so many bytes and no more; needs root."""
    mounted: list[Path] = []

    def mount(size: int) -> Path:
        folder = tmp_path / f"disk{len(mounted)}"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
        if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode != 0:
            pytest.skip("a small file system can be mounted by root alone")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", str(folder)], check=True)
