"""What a run says of heads that were surveyed: estimates that are marked, and how good these were."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
import pytest

from analysis.estimate import Accuracy
from analysis.run import Run
from device_runner.report import OutputReport, RunnerReport
from harness.results.columns import ESTIMATES, PROGRESS
from harness.results.schema import AUTO, DeviceEntry, LeakageRecord, RoundRecord, RunConfig, RunFile
from harness.results.store import RunStore
from tests.parts.cells import head_round, tiny_cell
from tests.parts.surveys import VERIFIED, survey_report, survey_shipment

SPLITS = 4
# One operator a split: up to each, the profile has 100 us, 200 us, 400 us, 800 us.
OPERATOR_NS = [100_000, 100_000, 200_000, 400_000]
ANCHORS = {1: 110_000, 4: 880_000}  # both a tenth above their profiled time


def surveyed(**apart_ns: int) -> RoundRecord:
    shipment = survey_shipment(0, 2_000_000, 3_000_000, 100, **apart_ns)
    operators = [f"Convolution (NHWC, F32) #{i}" for i in range(SPLITS)]
    report = survey_report(SPLITS, operators, [OPERATOR_NS], shipment)
    return RoundRecord(
        work="s",
        round=0,
        status="ok",
        cells=tuple(f"c{i}" for i in range(1, SPLITS + 1)),
        operators=tuple({"product": i} for i in range(1, SPLITS + 1)),
        maps=(False,) * SPLITS,
        report=report,
    )


def measured(index: int, head_ns: int, *, anchor: bool) -> RoundRecord:
    report = RunnerReport(
        load_ns=1,
        outputs=[OutputReport(dtype="F32", shape=(1, 2), verification=VERIFIED, shipments=[])],
        warmup_ns=[],
        run_ns=[head_ns],
        peak_rss_bytes=1,
        threads=1,
    )
    return head_round(f"c{index}", report=report, anchor=anchor)


def make_run(folder: Path, heads: Mapping[int, int], *, surveys: Sequence[RoundRecord] = (), **config: object) -> Run:
    """A run of one round; heads: split -> its measured time, beside those of the anchors."""
    asked = {"models": ("tiny",), "split": "all", "devices": ("local",), "precisions": ("fp32",), "rounds": 1}
    rest = {"input_size": None, "attacks": (), "pictures": "builtin", "weights": "random", "seed": 0}
    file = RunFile(
        run_id="run",
        created="2026-01-01T00:00:00+00:00",
        config=RunConfig.model_validate(asked | rest | config),
        environment={},
        pictures="one",
        pictures_sha256="00",
        held_out=("000-cat",),
        held_out_sources=("cat",),
        notices=(),
        devices=(DeviceEntry(address="local", label="local", emulated=False, link="loopback"),),
        cells=tuple(tiny_cell(i) for i in range(1, SPLITS + 1)),
    )
    store = RunStore.create(folder / "run", file)
    for record in surveys:
        store.journal.keep_round(record)
    for index, head_ns in {**ANCHORS, **heads}.items():
        store.journal.keep_round(measured(index, head_ns, anchor=index in ANCHORS))
    return Run(store)


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({}, "not measured yet: bench run --resume"),
        ({"survey": "only"}, "not measured: only a survey was asked for"),
        ({"split": "finest"}, "not measured: of finest, only the heads of all are"),
    ],
)
def test_a_profiled_row_says_so_has_an_interval_and_what_to_do(
    tmp_path: Path, config: dict[str, object], reason: str
) -> None:
    table = make_run(tmp_path, {}, surveys=[surveyed()], **config).summary().set_index("split_index")
    assert table["head_source"].tolist() == ["measured", "profiled", "profiled", "measured"]
    assert table["reason"].tolist()[1:3] == [reason] * 2
    assert table["reason"].isna().tolist() == [True, False, False, True]
    row = table.loc[2]
    assert row["status"] == "ok"
    assert row["head_p50_ms"] == pytest.approx(0.22)
    assert row["head_ci95_low_ms"] < 0.22 < row["head_ci95_high_ms"]
    assert row["end_to_end_p50_ms"] == pytest.approx(0.22 + 2 + 3)


def test_encoding_and_decoding_are_parts_of_a_profiled_rows_end_to_end(tmp_path: Path) -> None:
    survey = surveyed(encode_ns=500_000, decode_ns=40_000)
    row = make_run(tmp_path, {}, surveys=[survey]).summary().set_index("split_index").loc[2]
    parts = [row[f"{part}_p50_ms"] for part in ("head", "encode", "transfer", "decode", "tail")]
    assert parts == pytest.approx([0.22, 0.5, 2, 0.04, 3])
    assert row["end_to_end_p50_ms"] == pytest.approx(sum(parts))


def test_a_run_that_did_not_tell_encoding_and_decoding_apart_has_none(tmp_path: Path) -> None:
    table = make_run(tmp_path, {}, surveys=[surveyed()]).summary()
    assert table[["encode_p50_ms", "decode_p50_ms"]].isna().all(axis=None)


def test_a_measured_head_replaces_its_estimate(tmp_path: Path) -> None:
    table = make_run(tmp_path, {2: 300_000}, surveys=[surveyed()]).summary().set_index("split_index")
    assert table.loc[2, "head_source"] == "measured"
    assert table.loc[2, "head_p50_ms"] == pytest.approx(0.3)


def test_a_head_is_held_against_its_estimate_from_the_anchors_alone(tmp_path: Path) -> None:
    found = make_run(tmp_path, {2: 200_000, 3: 440_000}, surveys=[surveyed()]).estimates().set_index("split_index")
    assert found["anchor"].tolist() == [True, False, False, True]
    assert found.loc[2, "profiled_ms"] == pytest.approx(0.22)
    assert found.loc[2, "measured_ms"] == pytest.approx(0.2)
    assert found.loc[2, "error"] == pytest.approx(0.1)
    assert found.loc[3, "error"] == pytest.approx(0.0)  # though split 2, measured, would say otherwise
    assert (found["low_ms"] < found["profiled_ms"]).all()
    assert (found["profiled_ms"] < found["high_ms"]).all()


def test_an_anchor_is_held_against_an_estimate_from_the_others(tmp_path: Path) -> None:
    run = make_run(tmp_path, {1: 100_000, 4: 880_000}, surveys=[surveyed()])
    found = run.estimates().set_index("split_index")
    assert found.index.tolist() == [1, 4]
    assert found["anchor"].all()
    assert found.loc[1, "profiled_ms"] == pytest.approx(0.11)
    assert found.loc[4, "profiled_ms"] == pytest.approx(0.8)
    assert Accuracy.of(found) is None


@pytest.mark.parametrize("surveys", [[], [surveyed().model_copy(update={"status": "failed", "report": None})]])
def test_without_a_survey_there_are_no_estimates(tmp_path: Path, surveys: list[RoundRecord]) -> None:
    found = make_run(tmp_path, {2: 200_000}, surveys=surveys).estimates()
    assert found.empty
    assert list(found.columns) == [column.name for column in ESTIMATES]
    assert Accuracy.of(found) is None


def test_progress_has_a_row_for_each_look_of_each_attack_at_each_split(tmp_path: Path) -> None:
    run = make_run(tmp_path, {}, attacks=("linear", "spectral"))
    for index, looks in ((3, ((1.0, 20.0), (2.0, 24.0))), (2, ((1.5, 30.0),))):
        run.store.journal.keep_leakage(LeakageRecord(cell=f"c{index}", attack="spectral", status="ok", progress=looks))
        run.store.journal.keep_leakage(LeakageRecord(cell=f"c{index}", attack="linear", status="ok"))
    found = run.progress()
    assert list(found.columns) == [column.name for column in PROGRESS]
    assert found["attack"].unique().tolist() == ["spectral"]
    assert found[["split_index", "split", "seconds", "psnr_db"]].to_numpy().tolist() == [
        [2, "layer2", 1.5, 30.0],
        [3, "layer3", 1.0, 20.0],
        [3, "layer3", 2.0, 24.0],
    ]


def test_a_row_says_which_attack_the_best_was(tmp_path: Path) -> None:
    run = make_run(tmp_path, {}, surveys=[surveyed()], attacks=("best",))
    judged = dict.fromkeys(("psnr_db", "ssim", "floor_psnr_db", "oracle_psnr_db"), (20.0,))
    record = LeakageRecord.model_validate(
        {"cell": "c2", "attack": "best", "status": "ok", "agreement": (True,), "chosen": "refine"} | judged
    )
    run.store.journal.keep_leakage(record)
    assert run.summary().set_index("split_index")["chosen"].to_dict() == {1: None, 2: "refine", 3: None, 4: None}


def test_the_marks_of_a_row_follow_from_what_was_kept(tmp_path: Path) -> None:
    run = make_run(tmp_path, {}, surveys=[surveyed()], attacks=("linear", "spectral"))
    judged = dict.fromkeys(("psnr_db", "ssim", "floor_psnr_db", "oracle_psnr_db"), (20.0,))
    known = {"status": "ok", "agreement": (True,)} | judged
    said = {"judge": "other", "judge_top1": (True,), "judge_similarity": (0.6,)}
    of_spectral = {"search_residual": (0.2,), "cut_short": True} | said
    for values in (
        {"cell": "c2", "attack": "linear"},
        {"cell": "c3", "attack": "linear"},
        {"cell": "c3", "attack": "spectral", **of_spectral},
    ):
        run.store.journal.keep_leakage(LeakageRecord.model_validate(known | values))
    table = run.summary().set_index(["split_index", "attack"])
    marks = ["search_failed", "cut_short", "weakly_attacked", "judge", "judge_top1"]
    rows = {key: table.loc[key, marks].astype(object).where(table.loc[key, marks].notna(), None) for key in table.index}
    assert rows[2, "linear"].tolist() == [None, None, True, None, None]
    assert rows[3, "linear"].tolist() == [None, None, False, None, None]
    assert rows[3, "spectral"].tolist() == [False, True, False, "other", 1.0]
    assert rows[2, "spectral"].tolist() == [None] * 5
    assert table.loc[(3, "spectral"), "search_residual"] == pytest.approx(0.2)
    assert table.loc[(3, "spectral"), "judge_similarity"] == pytest.approx(0.6)


def test_accuracy_counts_no_anchor() -> None:
    table = pd.DataFrame(
        {
            "anchor": [True, False, False, False],
            "error": [9.0, -0.02, 0.04, 0.06],
            "low_ms": [0.0, 0.9, 0.9, 0.9],
            "high_ms": [0.1, 1.1, 1.1, 1.1],
            "measured_ms": [5.0, 1.0, 1.1, 1.2],
        }
    ).astype({"anchor": "boolean"})
    found = Accuracy.of(table)
    assert found is not None
    assert found.heads == 3
    assert found.median_error == pytest.approx(0.04)
    assert found.p95_error == pytest.approx(0.058)
    assert found.inside == pytest.approx(2 / 3)
    assert str(found).endswith(
        "within 4.0 % (median; 95th percentile 6 %; 67 % inside their intervals) of those measured, 3 heads"
    )


def test_a_stronger_attack_has_rows_where_it_was_tried_alone_and_why_not_has_none(tmp_path: Path) -> None:
    run = make_run(tmp_path, {}, surveys=[surveyed()], attacks=("linear",), attack_total_s=60.0)
    judged = dict.fromkeys(("psnr_db", "ssim", "floor_psnr_db", "oracle_psnr_db"), (20.0,))
    known: dict[str, object] = {"status": "ok", "agreement": (True,), **judged}
    tried: list[dict[str, object]] = [{"cell": "c2", "attack": "linear"}, {"cell": "c3", "attack": "linear"}]
    tried.append({"cell": "c3", "attack": "spectral", "progress": ((1.0, 20.0),)})
    for values in tried:
        run.store.journal.keep_leakage(LeakageRecord.model_validate(known | values))
    run.store.journal.keep_leakage(LeakageRecord(cell="c2", attack=AUTO, status="skipped", reason="no time left"))
    table = run.summary()
    rows = table[["split_index", "attack"]].itertuples(index=False, name=None)
    assert list(rows) == [(1, "linear"), (2, "linear"), (3, "linear"), (3, "spectral"), (4, "linear")]
    weakly = table.set_index(["split_index", "attack"])["weakly_attacked"]
    assert weakly[2, "linear"]
    assert not weakly[3, "linear"]
    assert "no time left" not in set(table["reason"])
    assert run.progress()["attack"].tolist() == ["spectral"]
