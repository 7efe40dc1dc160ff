"""A run's tables, made from its journal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import pyarrow as pa

from harness.errors import ResultsError
from harness.results.columns import LEAKAGE, ROUNDS, SAMPLES, Column, arrow_schema
from harness.results.journal import Journal
from harness.results.profiled import profiled_times
from harness.results.schema import LeakageRecord, RoundRecord, RunFile

TableName = Literal["samples", "rounds", "leakage"]
TABLES: Mapping[TableName, tuple[Column, ...]] = {"samples": SAMPLES, "rounds": ROUNDS, "leakage": LEAKAGE}

RowValues = dict[str, object]


def make_table(name: TableName, file: RunFile, journal: Journal) -> pa.Table:
    """One of the tables, from the journal as it stands; nothing is written.

    Raises:
        ResultsError: a record holds a number that no table can hold.
    """
    try:
        return pa.Table.from_pylist(list(_rows(name, file, journal)), schema=arrow_schema(TABLES[name]))
    except OverflowError as exc:
        what = f"the journal of {file.run_id} has a number that no table can hold"
        raise ResultsError(what, remedy="delete the file that was edited, then --resume") from exc


def _rows(name: TableName, file: RunFile, journal: Journal) -> Iterable[RowValues]:
    if name == "leakage":
        records = journal.leakage().values()
        return [row for one in records for row in leakage_rows(one, file.held_out, file.held_out_sources)]
    rounds = journal.rounds().values()
    if name == "rounds":
        return [_round_row(record) for record in rounds if not record.profiled]
    return [row for record in rounds for row in _sample_rows(record, file.held_out)]


def _sample_rows(record: RoundRecord, names: tuple[str, ...]) -> Iterator[RowValues]:
    report = record.report
    if report is None:
        return
    loops = {} if record.profiled else {"warmup": report.warmup_ns, "head": report.run_ns}
    for loop, times in loops.items():
        yield from _timed(record, record.cells[0], loop, times)
    for cell, output in zip(record.cells, report.outputs, strict=True):
        for i, shipment in enumerate(output.shipments):
            row = shipment.model_dump() | {"picture": names[shipment.picture]}
            loop = "survey" if record.profiled else "shipping"
            yield row | {"cell": cell, "round": record.round, "loop": loop, "iteration": i}
    if profiled := profiled_times(report.profile, record.operators, record.maps):
        for place, cell in enumerate(record.cells):
            yield from _timed(record, cell, "profile", profiled.head_ns(place))


def _timed(record: RoundRecord, cell: str, loop: str, times_ns: Iterable[float]) -> Iterator[RowValues]:
    for i, head_ns in enumerate(times_ns):
        yield {"cell": cell, "round": record.round, "loop": loop, "iteration": i, "head_ns": int(head_ns)}


def _round_row(record: RoundRecord) -> RowValues:
    row: RowValues = {"cell": record.work, "round": record.round, "status": record.status, "reason": record.reason}
    if record.report is not None:
        row |= record.report.model_dump(include={"peak_rss_bytes", "timer_resolution_ns", "overhead_ns", "energy_mj"})
        if checked := record.report.outputs[0].verification:
            row |= {"max_abs_err": checked.max_abs_err, "cosine": checked.cosine, "verified": checked.passed}
            row["load_ns"] = record.report.load_ns
    for when, state in (("before", record.state_before), ("after", record.state_after)):
        row |= {f"{key}_{when}": value for key, value in state.model_dump().items()} if state else {}
    return row


def leakage_rows(record: LeakageRecord, names: tuple[str, ...], sources: tuple[str, ...]) -> Iterator[RowValues]:
    """One row for each held-out picture."""
    for i in range(len(record.psnr_db)):
        yield {
            "cell": record.cell,
            "attack": record.attack,
            "picture": names[i],
            "source": sources[i],
            "psnr_db": record.psnr_db[i],
            "ssim": record.ssim[i],
            "floor_psnr_db": record.floor_psnr_db[i],
            "oracle_mean_colour_psnr_db": record.oracle_psnr_db[i],
            "agreement_top1": record.agreement[i],
            "judge_top1": record.judge_top1[i] if record.judge else None,
            "judge_similarity": record.judge_similarity[i] if record.judge else None,
        }
