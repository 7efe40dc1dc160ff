"""A manifest is read back as it was written, or refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from device_runner.files import file_sha256
from harness.codecs import Int8
from harness.errors import ExportError
from harness.export.manifest import Manifest, Output, read_exported

PROGRAM = b"a program"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "head.pte").write_bytes(PROGRAM)
    manifest = Manifest(
        model="tiny",
        weights_sha256="0" * 64,
        input_size=(32, 32),
        precision="int8",
        outputs=(
            Output(
                split_index=3,
                split="layer1",
                codec=Int8(scale=0.1, zero_point=-3),
                activation_shape=(1, 4, 6, 6),
                tolerance_cosine=0.99,
            ),
        ),
        pte_sha256=file_sha256(tmp_path / "head.pte"),
        pte_bytes=len(PROGRAM),
        delegated_share=1.0,
        versions={"torch": "2"},
    )
    (tmp_path / "manifest.json").write_text(manifest.model_dump_json())
    return tmp_path


def rewrite(folder: Path, **changed: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))


def test_a_head_is_read_back(folder: Path) -> None:
    head = read_exported(folder)
    assert head is not None
    assert head.program == folder / "head.pte"
    assert head.reference == folder / "reference.safetensors"
    (output,) = head.manifest.outputs
    assert (output.codec, output.activation_shape) == (Int8(scale=0.1, zero_point=-3), (1, 4, 6, 6))


def test_an_empty_folder_holds_no_head(tmp_path: Path) -> None:
    assert read_exported(tmp_path) is None
    assert read_exported(tmp_path / "absent") is None


@pytest.mark.parametrize(
    "changed", [{"format": 1}, {"precision": "fp8"}, {"surplus": 1}, {"outputs": "many"}, {"model": None}]
)
def test_a_manifest_of_another_kind_is_refused(folder: Path, changed: dict[str, object]) -> None:
    rewrite(folder, **changed)
    with pytest.raises(ExportError, match="manifest") as caught:
        read_exported(folder)
    assert caught.value.remedy.startswith(f"delete {folder}")


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b"[]"])
def test_a_manifest_that_is_no_json_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    with pytest.raises(ExportError, match="manifest"):
        read_exported(folder)


def test_another_program_is_refused(folder: Path) -> None:
    (folder / "head.pte").write_bytes(PROGRAM[:-1])
    with pytest.raises(ExportError, match="not the program"):
        read_exported(folder)
