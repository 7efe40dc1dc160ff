"""Attacks every cell of a plan that is not on disk yet, one process a core."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict
from multiprocessing.connection import wait
from pathlib import Path

import torch

from analysis.attacks import ATTACKS, Attack, Pairs
from analysis.judging import FAILURES, Judge, collect_pairs, received
from analysis.study.cells import Plan, Specimen, StudyCell, grouped
from analysis.study.photographs import Photographs
from analysis.study.records import StudyJournal, StudyRecord
from analysis.study.specimens import Ready, make
from harness.networks.torch_head import TorchHead
from harness.workstation.memory import keep_freed_memory


def missing(plan: Plan, photographs: Photographs, journal: StudyJournal) -> list[StudyCell]:
    """The cells that are still to be attacked; those that failed are tried again."""
    keys = {cell: cell.key(photographs.sha256) for cell in plan.cells}
    known = journal.read(list(keys.values()))
    return [cell for cell, key in keys.items() if key not in known or known[key].status == "failed"]


def carry_out(
    cells: Sequence[StudyCell], photographs: Photographs, journal: StudyJournal, finished: Callable[[StudyRecord], None]
) -> None:
    """Attack cells; each is on disk as soon as it is finished, so that a killed study goes on where it was.

    Args:
        finished: called for each cell once its specimen is done.

    Raises:
        ResultsError: nothing can be stored any more.
    """
    with _workers(photographs, journal.folder) as pool:
        futures = [pool.submit(_attack_specimen, specimen, todo) for specimen, todo in grouped(cells).items()]
        for future in as_completed(futures):
            for record in future.result():
                finished(record)


def attack_specimen(
    specimen: Specimen, cells: Sequence[StudyCell], photographs: Photographs, journal: StudyJournal
) -> list[StudyRecord]:
    """Attack cells of one specimen, and keep a record of each."""
    records = []
    for record in _records(specimen, cells, photographs):
        journal.append(record)
        records.append(record)
    return records


def _records(specimen: Specimen, cells: Sequence[StudyCell], photographs: Photographs) -> Iterator[StudyRecord]:
    try:
        attackable = _Attackable(make(specimen, photographs), photographs.sha256)
    except FAILURES as exc:
        for cell in cells:
            yield StudyRecord(key=cell.key(photographs.sha256), cell=cell, status="failed", reason=str(exc))
        return
    yield from map(attackable.attack, cells)


class _Attackable:
    """A specimen with the pairs at its cuts: what all attacks on it have in common."""

    def __init__(self, ready: Ready, photographs_sha256: str) -> None:
        self._ready, self._photographs_sha256 = ready, photographs_sha256
        points = list(dict.fromkeys(ready.points))
        self._own = collect_pairs(ready.network, points, ready.pictures)
        self._received = received(ready.network, points, ready.pictures)
        self._judge = Judge(ready.pictures.train.as_float(), ready.pictures.held_out.as_float())

    def attack(self, cell: StudyCell) -> StudyRecord:
        """A cell's record."""
        model = self._ready.network.model
        record = StudyRecord(
            key=cell.key(self._photographs_sha256),
            cell=cell,
            status="ok",
            weights=model.weights,
            input_size=model.input_size,
            at=self._ready.facts(cell.cut),
            fit=self._ready.fit,
        )
        own = self._own[self._ready.points[cell.cut].index]
        try:
            attack = ATTACKS.load(cell.attack)()
            reason = attack.skip(own.activation_shape, own.input_size)
            if reason is not None:
                return record.model_copy(update={"status": "skipped", "reason": reason})
            return record.model_copy(update=self._outcome(attack, own, cell))
        except FAILURES as exc:
            return record.model_copy(update={"status": "failed", "reason": str(exc)})

    def _outcome(self, attack: Attack, own: Pairs, cell: StudyCell) -> dict[str, object]:
        point = self._ready.points[cell.cut]
        began = time.perf_counter()
        attack.fit(own, head=TorchHead(self._ready.network, point))
        rebuilt = attack.rebuild(self._received[point.index])
        return {
            "converged": attack.converged,
            "seconds": time.perf_counter() - began,
            "sources": self._ready.pictures.held_out.sources,
            **asdict(self._judge.scores(rebuilt)),
        }


@contextmanager
def _workers(photographs: Photographs, folder: Path) -> Iterator[ProcessPoolExecutor]:
    """A process a core, each on one thread, so that figures do not depend on their number."""
    os.environ["OMP_NUM_THREADS"] = "1"  # NumPy reads it when it is loaded, in the processes that begin now
    os.environ.setdefault("TORCH_LOGS", "-torch.utils._pytree")  # so does torch; torchao's import warns of its future
    pool = ProcessPoolExecutor(
        len(os.sched_getaffinity(0)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin,
        initargs=(photographs, folder),
    )
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():  # what is unfinished is done again next time
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


_photographs: Photographs
_journal: StudyJournal


def _begin(photographs: Photographs, folder: Path) -> None:
    """Prepare a worker: one thread, deaf to Ctrl-C (its parent ends it), and gone when its parent is."""
    global _photographs, _journal
    _photographs, _journal = photographs, StudyJournal(folder)
    torch.set_num_threads(1)
    keep_freed_memory()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    multiprocessing.set_start_method(
        "fork", force=True
    )  # a lock of tqdm's, inside torch, would outlive a kill otherwise
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _attack_specimen(specimen: Specimen, cells: Sequence[StudyCell]) -> list[StudyRecord]:
    return attack_specimen(specimen, cells, _photographs, _journal)
