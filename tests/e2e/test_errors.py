"""What users get wrong and machines lack: one clear line, a status that is not 0, nothing stored that isn't true."""

from __future__ import annotations

import pickle
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis import load_run
from tests.e2e.command import TINY, Bench, assert_one_line

SMALL = ("--input-size", "32", "--iterations", "1", "--warmup", "0", "--attack", "linear")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "resnet81"), ("unknown model 'resnet81'", "resnet18")),
        (("run", TINY, "--input-size", "32", "--split", "99"), ("no split 99", "0 to")),
        (
            ("run", "resnet18", "--input-size", "32", "--split", "layer9", "--weights", "random"),
            ("layer9", "did you mean"),
        ),
        (("run", TINY, "--attack", "linaer"), ("unknown attack 'linaer'", "did you mean linear")),
        pytest.param(("run", TINY, "--attack", "os:path"), ("'os:path' is no attack",), marks=pytest.mark.slow),
        pytest.param(("run", TINY, "--device", "locl"), ("unknown device 'locl'", "local"), marks=pytest.mark.slow),
        pytest.param(("run", "no_such_module:factory"), ("cannot be loaded",), marks=pytest.mark.slow),
        pytest.param(("run", TINY, "--pictures", "/no/such/folder"), ("/no/such/folder",), marks=pytest.mark.slow),
        pytest.param(
            ("run", "resnet18", "--weights", "/no/such/file.pth"), ("no weights file",), marks=pytest.mark.slow
        ),
        (("run", "--resume", "nothing"), ("no run 'nothing'",)),
        (("report",), ("no run", "bench run")),
        pytest.param(("splits", "vgg61"), ("unknown model", "did you mean"), marks=pytest.mark.slow),
    ],
)
def test_wrong_requests_get_one_line(bench: Bench, arguments: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert_one_line(bench(*arguments), *words)
    assert not (bench.folder / "runs").exists()


def test_wrong_usage_names_the_option(bench: Bench) -> None:
    done = bench("run", "--precision", "fp23")
    assert done.returncode == 2
    assert "fp23" in done.stderr
    assert "fp32, int8" in done.stderr


class Hostile:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (Path.touch, (Path("pwned"),))  # type: ignore[return-value]


def test_a_hostile_pickle_is_refused_and_never_run(bench: Bench) -> None:
    (bench.folder / "weights.pth").write_bytes(pickle.dumps({"weight": Hostile()}))
    done = bench("run", "resnet18", "--input-size", "32", "--weights", "weights.pth")
    assert_one_line(done, "weights.pth", "nothing in it was run")
    assert not (bench.folder / "pwned").exists()


def test_a_missing_compiler_is_one_line_with_the_remedy(bench: Bench, tmp_path: Path) -> None:
    empty = tmp_path / "bin"
    empty.mkdir()
    done = bench("run", TINY, *SMALL, "--split", "5", PATH=str(empty), SPLITBENCH_CACHE_DIR=str(tmp_path / "cache"))
    assert_one_line(done, "compiler", "apt-get install g++")


def test_a_truncated_program_is_refused_before_anything_is_timed(used_bench: Bench) -> None:
    (program,) = used_bench.exported_models.glob("*/005-*/*/head.pte")
    program.write_bytes(program.read_bytes()[:-100])
    done = used_bench("run", TINY, *SMALL, "--split", "5")
    assert_one_line(done, "head.pte", "delete")
    assert not list(used_bench.only_run.glob("journal/*/*"))
    shutil.rmtree(program.parent)  # as it was told
    assert used_bench("run", "--resume").returncode == 0
    assert set(load_run(used_bench.only_run).summary()["status"]) == {"ok"}


def test_a_head_that_computes_something_else_gets_no_latency(used_bench: Bench) -> None:
    (reference,) = used_bench.exported_models.glob("*/005-*/*/reference.safetensors")
    content = bytearray(reference.read_bytes())
    content[-400:] = bytes(400)  # the last hundred expected values become 0
    reference.write_bytes(content)
    done = used_bench("run", TINY, *SMALL, "--split", "5")
    assert_one_line(done, f"{TINY} could not be measured", "say why")
    table = load_run(used_bench.only_run).summary()
    assert list(table["status"]) == ["failed"]
    assert table["head_p50_ms"].isna().all()
    assert table["psnr_db"].isna().all()
    assert (table["max_abs_err"] > 0).all()


def test_a_full_disk_ends_the_run_with_one_line_and_it_goes_on_later(used_bench: Bench) -> None:
    run = used_bench.folder / "small"
    run.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(run)], capture_output=True, check=False
    )
    assert mounted.returncode == 0, "this test needs to be root: it mounts a small disk"
    try:
        done = used_bench("run", TINY, *SMALL, "--out", "small")
        assert_one_line(done, "No space left", "free disk space")
        subprocess.run(["mount", "-o", "remount,size=100m", str(run)], check=True)
        done = used_bench("run", "--resume", "small")
        assert done.returncode == 0, done.stderr
        assert set(load_run(run).summary()["status"]) == {"ok"}
    finally:
        subprocess.run(["umount", str(run)], check=True)


def test_a_network_that_cannot_be_measured_holds_up_no_other(used_bench: Bench) -> None:
    broken = ("tiny_network:of_the_batch", "tiny_network:unfinished")
    asked = ("run", broken[0], TINY, broken[1], *SMALL, "--split", "5")
    done = used_bench(*asked)
    assert_one_line(done, *broken, "could not be measured")
    assert "takes the statistics of the batch" in done.stderr
    assert "KeyError: 'backbone' (tiny_network.py:" in done.stderr
    run = load_run(used_bench.only_run)
    assert [set(run.summary()[column]) for column in ("model", "status")] == [{TINY}, {"ok"}]
    assert [notice.split()[0] for notice in run.file.notices if "left out" in notice] == list(broken)
    resumed = used_bench("run", "--resume")
    assert_one_line(resumed, *broken, "could not be measured")
    assert "cannot go on" not in resumed.stderr


@pytest.mark.slow
def test_a_dry_run_says_which_network_cannot_be_measured(bench: Bench) -> None:
    done = bench("run", "tiny_network:unfinished", TINY, *SMALL, "--dry-run")
    assert_one_line(done, "tiny_network:unfinished could not be measured")
    assert TINY in done.stdout


def test_debug_shows_the_traceback(bench: Bench) -> None:
    done = bench("run", "resnet81", "--debug")
    assert "Traceback" in done.stderr
    assert "UsageError" in done.stderr
