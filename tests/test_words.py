"""One meaning a word: the page names what is there, public classes share no name; what was given up stays away."""

from __future__ import annotations

import ast
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("device_runner", "harness", "analysis")
WORDS = (ROOT / "docs" / "words.md").read_text()

# Word -> what took its place. It comes back in no name, neither alone ("surveyed") nor within one ("_is_surveyed");
# "Class.field" is one field alone.
GIVEN_UP = {
    "experiment": "chart (what tells charts apart: harness.results.axes)",
    "experiments": "charts",
    "imitated": "shaped, of links",
    "jury": "validation",
    "kept_back": "validation",
    "planar": "maps",
    "rehearse": "out_of_fold",
    "RoundRecord.before": "operators",
    "series": "curve",
    "survey_job": "Job",
    "survey_manifest": "Manifest",
    "survey_report": "RunnerReport",
    "surveyed": "by_survey, results or profiled",
    "unseen": "out_of_fold, of training pictures; held_out, of the user's",
    "unsurveyed": "what_surveys_lack",
}


def sources() -> dict[str, ast.Module]:
    """The syntax tree of every module, by its dotted name."""
    paths = [path for package in PACKAGES for path in (ROOT / package).rglob("*.py")]
    return {_dotted(path.relative_to(ROOT)): ast.parse(path.read_text()) for path in paths}


def _dotted(path: Path) -> str:
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


def places(modules: Mapping[str, ast.Module]) -> set[str]:
    """Every module, and every public name of one or of a class in it, dotted."""
    return {
        *modules,
        *(f"{module}.{name}" for module, tree in modules.items() for name in _public(tree.body)),
    }


def _public(body: Iterable[ast.stmt]) -> Iterator[str]:
    for statement in body:
        for name in _defined(statement):
            if not name.startswith("_"):
                yield name
        if isinstance(statement, ast.ClassDef):
            yield from (f"{statement.name}.{name}" for name in _public(statement.body))


def _defined(node: ast.AST) -> Iterator[str]:
    """The names that one node of a syntax tree gives to something."""
    match node:
        case ast.ClassDef(name=name) | ast.FunctionDef(name=name) | ast.arg(arg=name):
            yield name
        case ast.Assign(targets=targets):
            yield from (name for target in targets for name in _defined(target))
        case ast.AnnAssign(target=target):
            yield from _defined(target)
        case ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name


def shared(modules: Mapping[str, ast.Module]) -> list[str]:
    """Public classes, and public names for types, of which there are several."""
    names = Counter(
        name
        for tree in modules.values()
        for name in _public(tree.body)
        if re.fullmatch("[A-Z][A-Za-z0-9]*[a-z][A-Za-z0-9]*", name)
    )
    return sorted(name for name, count in names.items() if count > 1)


def returned(modules: Mapping[str, ast.Module]) -> list[str]:
    """Names in which a word is back that was given up, and what took its place."""
    given = [name for tree in modules.values() for node in ast.walk(tree) for name in _defined(node)]
    fields = [name for tree in modules.values() for name in _public(tree.body)]
    return sorted(
        f"{name}: {instead}"
        for name in {*given, *fields}
        for word, instead in GIVEN_UP.items()
        if name == word or f"_{word}_" in f"_{_snake(name)}_"
    )


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


@pytest.fixture(scope="module")
def modules() -> dict[str, ast.Module]:
    return sources()


def test_every_word_has_one_row_and_is_where_the_page_says(modules: dict[str, ast.Module]) -> None:
    rows = re.findall(r"^\| (?!word|---)(.+?) \| .+ \| `(.+)` \|$", WORDS, re.MULTILINE)
    assert len(rows) == len(re.findall(r"^\| ", WORDS, re.MULTILINE)) - WORDS.count("| word |")
    words = [word for row, _ in rows for word in re.sub(r" \(.+\)", "", row).split(", ")]
    assert [word for word, count in Counter(words).items() if count > 1] == []
    assert sorted({place for _, place in rows} - places(modules)) == []


def test_no_two_public_classes_share_a_name(modules: dict[str, ast.Module]) -> None:
    assert shared(modules) == []


def test_words_that_were_given_up_stay_away(modules: dict[str, ast.Module]) -> None:
    assert returned(modules) == []


@pytest.mark.parametrize(
    "planted",
    ["class Series: ...", "def is_surveyed(): ...", "def learn(kept_back): ...", "self.unseen = 1", "planar: bool",
     "class RoundRecord:\n before: int", "class SurveyReport: ..."],
)  # fmt: skip
def test_a_word_that_comes_back_is_seen(planted: str) -> None:
    assert len(returned({"planted": ast.parse(planted)})) == 1


def test_a_second_class_of_a_name_is_seen(modules: dict[str, ast.Module]) -> None:
    planted = ast.parse("class Cell: ...\nclass _Frame: ...\nMAPS = 1\nRow = dict[str, object]")
    assert shared(modules | {"planted": planted}) == ["Cell", "Row"]


def test_a_place_that_is_gone_is_seen(modules: dict[str, ast.Module]) -> None:
    known = places(modules)
    assert {"harness.results.schema.Cell", "harness.results.schema.Cell.split", "harness.workstation"} <= known
    assert not known & {"harness.results.schema.Gone", "harness.results.schema.Cell.gone", "harness.gone"}
