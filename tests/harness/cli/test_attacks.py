"""bench attacks lists every attack and what a user must know to choose one."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from analysis.attacks import ATTACKS
from harness.cli import bench


@pytest.fixture(scope="module")
def listed() -> list[str]:
    done = CliRunner().invoke(bench, ["attacks"])
    assert done.exit_code == 0, done.output
    return done.output.splitlines()


def test_it_lists_every_attack_in_the_registrys_order(listed: list[str]) -> None:
    headings, *rows = listed
    assert headings.split() == ["attack", "access", "knows", "cost", "a", "split", "what", "it", "does"]
    assert [row.split()[0] for row in rows if not row.startswith("  ")] == list(ATTACKS)


@pytest.mark.parametrize("name", list(ATTACKS))
def test_it_says_of_each_what_it_needs_what_it_costs_and_what_it_does(name: str, listed: list[str]) -> None:
    kind = ATTACKS.load(name)
    first = next(index for index, row in enumerate(listed) if row.split()[0] == name)
    after = (index for index in range(first + 1, len(listed)) if not listed[index].startswith("  "))
    words = set(" ".join(listed[first : next(after, None)]).split())
    assert kind.access in words
    for text in (kind.knows, kind.cost, (kind.__doc__ or "").splitlines()[0]):
        assert set(text.split()) <= words


def test_a_row_stays_whole_in_a_pipe(listed: list[str]) -> None:
    assert len(listed) == 1 + len(list(ATTACKS))
