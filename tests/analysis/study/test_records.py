"""What is finished is on disk; what was torn by a kill is not a record, and hides none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from analysis.study.records import StudyJournal, StudyRecord
from harness.errors import ResultsError

RecordMaker = Callable[..., StudyRecord]


@pytest.fixture
def journal(tmp_path: Path) -> StudyJournal:
    return StudyJournal(tmp_path / "study")


def path(journal: StudyJournal) -> Path:
    return journal.folder / "cells.jsonl"


def test_what_is_appended_is_read_by_its_key(journal: StudyJournal, record: RecordMaker) -> None:
    one, other = record(seed=0), record(seed=1)
    journal.append(one)
    journal.append(other)
    assert StudyJournal(journal.folder).read([one.key]) == {one.key: one}


def test_the_newest_record_of_a_cell_counts(journal: StudyJournal, record: RecordMaker) -> None:
    failed, done = record(status="failed"), record()
    journal.append(failed)
    journal.append(done)
    assert journal.read([done.key]) == {done.key: done}


def test_a_torn_last_line_is_no_record(journal: StudyJournal, record: RecordMaker) -> None:
    one, torn = record(seed=0), record(seed=1)
    journal.append(one)
    with path(journal).open("ab") as stream:
        stream.write(torn.model_dump_json().encode()[:100])
    assert journal.read([one.key, torn.key]) == {one.key: one}


def test_what_follows_a_torn_line_is_read(journal: StudyJournal, record: RecordMaker) -> None:
    one, torn, later = record(seed=0), record(seed=1), record(seed=2)
    journal.append(one)
    with path(journal).open("ab") as stream:
        stream.write(torn.model_dump_json().encode()[:100])
    journal.append(later)
    assert journal.read([one.key, torn.key, later.key]) == {one.key: one, later.key: later}


def test_a_second_study_in_the_same_folder_is_refused(journal: StudyJournal) -> None:
    with journal.locked(), pytest.raises(ResultsError, match="another study"), StudyJournal(journal.folder).locked():
        pass


def test_a_folder_that_cannot_be_made_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ResultsError, match="--out") as error:
        StudyJournal(tmp_path / "file" / "study")
    assert "\n" not in str(error.value)
