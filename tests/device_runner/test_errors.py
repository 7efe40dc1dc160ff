"""The error trees drawn in the docstrings are the ones that exist."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from device_runner.errors import SplitbenchError

ROOT = Path(__file__).parents[2]


def drawn_parents(tree: str) -> dict[str, str]:
    """Read a drawn tree: the name of each class below the root, and the name that it hangs under."""
    parents, above = {}, {0: SplitbenchError.__name__}
    for branch, name in re.findall(r"^([│ ]*[├└]── )(\w+)", tree, flags=re.MULTILINE):
        depth = len(branch) // 4
        parents[name], above[depth] = above[depth - 1], name
    return parents


def defined_parents(package: Path) -> dict[str, str]:
    """Find the error classes of a package, and what each derives from, without running anything."""
    classes = [
        node
        for source in sorted(package.rglob("*.py"))
        for node in ast.walk(ast.parse(source.read_text()))
        if isinstance(node, ast.ClassDef) and node.name.endswith("Error") and node.name != SplitbenchError.__name__
    ]
    return {node.name: ast.unparse(node.bases[0]) for node in classes}


@pytest.mark.parametrize("package", ["device_runner", "harness", "analysis"])
def test_the_drawn_tree_holds_every_error_of_its_package_beneath_its_parent(package: str) -> None:
    drawn = drawn_parents(ast.get_docstring(ast.parse((ROOT / package / "errors.py").read_text())) or "")
    assert drawn == defined_parents(ROOT / package)
    assert drawn


def test_a_message_is_followed_by_its_remedy() -> None:
    assert str(SplitbenchError("no g++", remedy="apt-get install g++")) == "no g++; apt-get install g++"
    assert str(SplitbenchError("no g++")) == "no g++"
