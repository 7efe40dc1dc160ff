"""A run as DataFrames: the tidy summary, and the raw samples and leakage behind it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from analysis.estimate import (
    Anchor,
    HeadEstimate,
    SurveyResult,
    estimate_head,
    find_anchors,
    measured_ns,
    survey_results,
)
from analysis.link_model import with_modelled_link
from analysis.marks import is_weakly_attacked, search_failed
from device_runner.link import LinkShape
from device_runner.report import Shipment
from harness.results.axes import cell_key, curve_key
from harness.results.columns import ESTIMATES, PROGRESS, SUMMARY, Column
from harness.results.schema import AUTO, Cell, LeakageRecord, RoundRecord, RunConfig, RunFile, TailUse
from harness.results.store import RunStore, find_run
from harness.stats import Array, cluster_interval, is_unstable, percentiles, source_interval

_NS_PER_MS = 1e6
_PANDAS_TYPES = {pa.string(): "string", pa.int64(): "Int64", pa.float64(): "float64", pa.bool_(): "boolean"}


class Run:
    """A run folder, read.

    Args:
        store: the run's folder.

    Attributes:
        file: run.json: what was asked, where, every planned cell, the notices.
    """

    def __init__(self, store: RunStore) -> None:
        self.store = store
        self.file: RunFile = store.file

    def samples(self) -> pd.DataFrame:
        """Every timed sample (columns: harness.results.columns.SAMPLES)."""
        table: pd.DataFrame = self.store.table("samples").to_pandas()
        return table

    def leakage(self) -> pd.DataFrame:
        """PSNR and SSIM of every rebuilt picture (columns: harness.results.columns.LEAKAGE)."""
        table: pd.DataFrame = self.store.table("leakage").to_pandas()
        return table

    def summary(self, *, link: str | None = None) -> pd.DataFrame:
        """The tidy table, one row per cell x attack (columns: harness.results.columns.SUMMARY).

        Args:
            link: fills the `modelled_*` columns for a link such as "40mbit/5ms"; what was measured stays as it is.
        """
        records, leakage = self.store.journal.rounds().values(), self.store.journal.leakage()
        heads, results = _heads(records), survey_results(records)
        anchors = find_anchors(self.file.cells, records, results)
        stronger = self._stronger()
        rows = []
        for cell in sorted(self.file.cells, key=cell_key):
            timing = _timing(cell, heads[cell.hash], self.file)
            if timing.get("head_source") is None and timing.get("status", "skipped") == "skipped":
                timing |= _profiled(results.get(cell.hash), anchors[curve_key(cell)].values(), self.file.config)
            attacks = [*self.file.config.attacks, *stronger[cell.hash]]
            tried = {attack: leakage[cell.hash, attack] for attack in attacks if (cell.hash, attack) in leakage}
            rows += [_row(self.file, cell, timing, attack, tried) for attack in attacks or (None,)]
        table = _table(rows, SUMMARY)
        return with_modelled_link(table, LinkShape.parse(link)) if link else table

    def estimates(self) -> pd.DataFrame:
        """How good a survey's estimates are, one row per head that was surveyed and measured, too.

        Each is estimated from the anchors alone, an anchor from the others (columns:
        harness.results.columns.ESTIMATES); no row without a survey.
        """
        records = self.store.journal.rounds().values()
        heads, results = _heads(records), survey_results(records)
        anchors = find_anchors(self.file.cells, records, results, chosen_only=True)
        rows = []
        for cell in self.file.cells:
            profiled = results[cell.hash].profiled_ns if cell.hash in results else None
            measured = measured_ns(heads[cell.hash])
            others = [anchor for name, anchor in anchors[curve_key(cell)].items() if name != cell.hash]
            estimate = estimate_head(profiled, others) if profiled else None
            if estimate and measured:
                is_anchor = any(record.anchor for record in heads[cell.hash])
                rows.append(_estimate_row(self.file, cell, estimate, measured, is_anchor=is_anchor))
        return _table(rows, ESTIMATES)

    def progress(self) -> pd.DataFrame:
        """PSNR against time spent, of each attack that has a course of its own, at each split.

        What devices shipped is attacked by one attack, so there is one course for all of them (columns:
        harness.results.columns.PROGRESS).
        """
        leakage, stronger = self.store.journal.leakage(), self._stronger()
        courses: dict[tuple[object, ...], tuple[tuple[float, float], ...]] = {}
        for cell in sorted(self.file.cells, key=lambda cell: cell.split_index):
            for attack in (*self.file.config.attacks, *stronger[cell.hash]):
                if judged := leakage.get((cell.hash, attack)):
                    key = (cell.model, cell.precision, attack, cell.split_index, cell.split)
                    courses.setdefault(key, judged.progress)
        names = [column.name for column in PROGRESS]
        rows = [dict(zip(names, (*key, *step), strict=True)) for key, course in courses.items() for step in course]
        return _table(rows, PROGRESS)

    def _stronger(self) -> dict[str, list[str]]:
        """The attacks that `--attack auto` tried at each cell, beside those that all cells have."""
        found: dict[str, list[str]] = defaultdict(list)
        for cell, attack in self.store.journal.leakage():
            if attack not in (AUTO, *self.file.config.attacks):
                found[cell].append(attack)
        return found


def load_run(path: str | Path | None = None) -> Run:
    """The run in a folder; a run's name finds it in ./runs, None is the newest one there.

    Raises:
        ResultsError: there is no such run, it is damaged, or a newer splitbench wrote it.
    """
    return Run(RunStore(find_run(path, Path("runs"))))


def _table(rows: list[dict[str, object]], columns: tuple[Column, ...]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=[column.name for column in columns])
    return table.astype({column.name: _PANDAS_TYPES[column.type] for column in columns})


def _heads(records: Iterable[RoundRecord]) -> dict[str, list[RoundRecord]]:
    """The finished rounds of each cell's own head, in order."""
    heads: dict[str, list[RoundRecord]] = defaultdict(list)
    for record in sorted(records, key=lambda record: record.round):
        if not record.profiled:
            heads[record.work].append(record)
    return heads


def _estimate_row(
    file: RunFile, cell: Cell, estimate: HeadEstimate, measured_ns: float, *, is_anchor: bool
) -> dict[str, object]:
    return _facts(file, cell, ESTIMATES) | {
        "anchor": is_anchor,
        "profiled_ms": estimate.p50 / _NS_PER_MS,
        "low_ms": estimate.low / _NS_PER_MS,
        "high_ms": estimate.high / _NS_PER_MS,
        "measured_ms": measured_ns / _NS_PER_MS,
        "error": estimate.p50 / measured_ns - 1,
    }


def _facts(file: RunFile, cell: Cell, columns: Sequence[Column]) -> dict[str, object]:
    """What is known of a cell before it is measured, as far as a table has columns for it."""
    shapes = {name: "x".join(map(str, getattr(cell, name))) for name in ("input_size", "activation_shape")}
    facts = cell.model_dump() | shapes
    facts |= {"run_id": file.run_id, "cell": cell.hash, "emulated": file.is_emulated(cell)}
    return {column.name: facts[column.name] for column in columns if column.name in facts}


def _row(
    file: RunFile, cell: Cell, timing: dict[str, object], attack: str | None, tried: Mapping[str, LeakageRecord]
) -> dict[str, object]:
    row = _facts(file, cell, SUMMARY)
    record = tried.get(attack) if attack else None
    leakage = _leakage(record, file.held_out_sources) if record else {}
    if leakage:
        leakage["weakly_attacked"] = is_weakly_attacked(tried.values())
    status, reason = timing.get("status", "ok"), timing.get("reason", "")
    if status == "ok" and attack is not None and (record is None or record.status != "ok"):
        status = record.status if record else "skipped"
        reason = record.reason if record else "not attacked yet: bench run --resume"
    return row | timing | leakage | {"attack": attack, "status": status, "reason": reason or None}


def _timing(cell: Cell, records: list[RoundRecord], file: RunFile) -> dict[str, object]:
    """What the rounds say of a cell. A cell that never passed verification has no latency."""
    facts = _verification(records) | _state(records)
    if cell.unavailable is not None:
        return {"status": "failed", "reason": cell.unavailable, "rounds": 0}
    failed = [record for record in records if record.status == "failed"]
    if failed:
        return facts | {"status": "failed", "reason": failed[0].reason, "rounds": len(records) - len(failed)}
    if len(records) < file.config.rounds:
        missing = f"{len(records)} of {file.config.rounds} rounds are done: bench run --resume"
        facts |= {"status": "skipped", "reason": missing}
    reports = [record.report for record in records if record.report is not None]
    if not reports:
        return facts | {"rounds": 0}
    heads = _milliseconds(r.run_ns for r in reports) if cell.split_index else [np.zeros(1) for _ in reports]
    shipped = [s for r in reports for s in r.outputs[0].shipments]
    interval = cluster_interval(heads, "median") if cell.split_index else None
    p50, p90, p99 = percentiles(heads, 50, 90, 99)
    return facts | {
        "load_ms": float(np.median([r.load_ns for r in reports])) / _NS_PER_MS if cell.split_index else None,
        "head_source": "measured",
        "head_p50_ms": p50,
        "head_p90_ms": p90,
        "head_p99_ms": p99,
        "head_ci95_low_ms": interval[0] if interval else None,
        "head_ci95_high_ms": interval[1] if interval else None,
        "rounds": len(records),
        "iterations": sum(len(r.run_ns) for r in reports),
        "peak_rss_bytes": max(r.peak_rss_bytes for r in reports),
        **_shipping(shipped),
        **_tail([use for record in records for use in record.tails]),
        "end_to_end_p50_ms": _median_ms(s.end_to_end_ns for s in shipped if s.end_to_end_ns is not None),
        "unstable": is_unstable(heads) if cell.split_index else None,
        **_energy(records),
    }


def _profiled(result: SurveyResult | None, anchors: Iterable[Anchor], config: RunConfig) -> dict[str, object]:
    """What a survey says of a cell that was not measured alone."""
    if result is None:
        return {}
    facts: dict[str, object] = {
        "verified": result.verification.passed if result.verification else None,
        "max_abs_err": result.verification.max_abs_err if result.verification else None,
        "cosine": result.verification.cosine if result.verification else None,
        **_shipping(result.shipments),
        **_tail([result.tail] if result.tail else []),
    }
    estimate = estimate_head(result.profiled_ns, anchors) if result.profiled_ns else None
    if estimate is None:
        reason = result.reason or "no head was measured that its profiled time could be scaled by"
        return facts | {"status": "skipped", "reason": f"head not timed: {reason}"}
    # An older splitbench did not tell encoding and decoding apart: they are in the two others.
    parts = [_median_ms(times) for times in _parts_ns(result.shipments).values()]
    return facts | {
        "status": "ok",
        "reason": _why_not_measured(config),
        "head_source": "profiled",
        "head_p50_ms": estimate.p50 / _NS_PER_MS,
        "head_ci95_low_ms": estimate.low / _NS_PER_MS,
        "head_ci95_high_ms": estimate.high / _NS_PER_MS,
        "end_to_end_p50_ms": sum([estimate.p50 / _NS_PER_MS, *_known(parts)]) if result.shipments else None,
    }


def _shipping(shipments: Sequence[Shipment]) -> dict[str, object]:
    sizes = [s.wire_bytes for s in shipments]
    return {
        "wire_bytes": float(np.mean(sizes)) if sizes else None,
        "wire_bytes_max": max(sizes, default=None),
        **{f"{part}_p50_ms": _median_ms(times) for part, times in _parts_ns(shipments).items()},
    }


def _parts_ns(shipments: Sequence[Shipment]) -> dict[str, list[int]]:
    """What follows the head, part after part; one that was not told apart has no times."""
    return {
        "encode": [s.encode_ns for s in shipments if s.encode_ns is not None],
        "transfer": [s.transfer_ns for s in shipments],
        "decode": [s.decode_ns for s in shipments if s.decode_ns is not None],
        "tail": [s.tail_ns for s in shipments],
    }


def _tail(uses: Sequence[TailUse]) -> dict[str, object]:
    return {
        "tail_engine": ", ".join(dict.fromkeys(use.engine for use in uses)) or None,
        "tail_threads": max((use.threads for use in uses), default=None),
        "tail_reason": "; ".join(dict.fromkeys(use.reason for use in uses if use.reason)) or None,
    }


def _why_not_measured(config: RunConfig) -> str:
    if config.survey == "only":
        return "not measured: only a survey was asked for"
    if config.split == "finest":
        return "not measured: of finest, only the heads of all are"
    return "not measured yet: bench run --resume"


def _verification(records: list[RoundRecord]) -> dict[str, object]:
    outputs = [output for r in records if r.report for output in r.report.outputs]
    checks = [output.verification for output in outputs if output.verification is not None]
    return {
        "verified": all(check.passed for check in checks) if checks else None,
        "max_abs_err": _worst((check.max_abs_err for check in checks), max),
        "cosine": _worst((check.cosine for check in checks), min),
    }


def _energy(records: list[RoundRecord]) -> dict[str, object]:
    energy = _median_of(record.report.energy_mj for record in records if record.report is not None)
    reasons = {record.energy_reason: None for record in records if record.energy_reason}
    return {"energy_mj": energy, "energy_reason": None if energy is not None else "; ".join(reasons) or None}


def _state(records: list[RoundRecord]) -> dict[str, object]:
    states = [state for r in records for state in (r.state_before, r.state_after) if state is not None]
    throttled = [state.throttled for state in states if state.throttled is not None]
    return {
        "temperature_c": _worst((state.temperature_c for state in states), max),
        "throttled": any(throttled) if throttled else None,
    }


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]


def _worst(values: Iterable[float | None], choose: Callable[[list[float]], float]) -> float | None:
    known = _known(values)
    return choose(known) if known else None


def _median_of(values: Iterable[float | None]) -> float | None:
    known = _known(values)
    return float(np.median(known)) if known else None


def _milliseconds(rounds: Iterable[list[int]]) -> list[Array]:
    return [np.asarray(times, dtype=np.float64) / _NS_PER_MS for times in rounds if times]


def _median_ms(times_ns: Iterable[int]) -> float | None:
    known = list(times_ns)
    return float(np.median(known)) / _NS_PER_MS if known else None


def _leakage(record: LeakageRecord, sources: tuple[str, ...]) -> dict[str, object]:
    if record.status != "ok":
        return {}
    psnr = np.asarray(record.psnr_db)
    interval = source_interval(record.psnr_db, sources)
    return {
        "budget_s": record.budget_s,
        "train_pictures": record.train_pictures,
        "train_seconds": record.train_seconds,
        "pictures": len(psnr),
        "psnr_db": float(psnr.mean()),
        "psnr_worst_db": float(psnr.max()),
        "psnr_ci95_low_db": interval[0] if interval else None,
        "psnr_ci95_high_db": interval[1] if interval else None,
        "ssim": float(np.mean(record.ssim)),
        "floor_psnr_db": float(np.mean(record.floor_psnr_db)),
        "oracle_mean_colour_psnr_db": float(np.mean(record.oracle_psnr_db)),
        "feature_residual": float(np.mean(record.residual)) if record.residual else None,
        "search_residual": float(np.mean(record.search_residual)) if record.search_residual else None,
        "search_failed": search_failed(record),
        "converged": record.converged,
        "cut_short": record.cut_short,
        "chosen": record.chosen,
        "agreement_top1": float(np.mean(record.agreement)),
        "judge": record.judge,
        "judge_top1": float(np.mean(record.judge_top1)) if record.judge else None,
        "judge_similarity": float(np.mean(record.judge_similarity)) if record.judge else None,
    }
