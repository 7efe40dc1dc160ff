"""What "package.module:Object" names is found, or one line says what is wrong and where."""

from __future__ import annotations

from pathlib import Path

import pytest

from device_runner.errors import BroughtCodeError, UsageError
from device_runner.raised import in_one_line
from device_runner.registry import import_object


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))


def write(folder: Path, name: str, text: str) -> None:
    (folder / f"{name}.py").write_text(text)


@pytest.mark.parametrize(
    ("name", "text", "said", "remedy"),
    [
        (
            "lacks",
            "import os\nimport nobody_has_this\n",
            "ModuleNotFoundError: .* (lacks.py:2)",
            "install nobody_has_this",
        ),
        ("halved", "def f(:\n", "SyntaxError: .* (halved.py:1)", "mend that line"),
        ("leaves", "import sys\n\nsys.exit(3)\n", "SystemExit: it ended with status 3 (leaves.py:3)", "mend that line"),
        ("picks", "{}['key']\n", "KeyError: 'key' (picks.py:1)", "mend that line"),
        ("opens", "import json\njson.loads('{')\n", "JSONDecodeError: .* (opens.py:2)", "mend that line"),
    ],
)
def test_what_an_import_raises_names_the_users_own_line(
    tmp_path: Path, name: str, text: str, said: str, remedy: str
) -> None:
    write(tmp_path, name, text)
    pattern = said.replace("(", r"\(").replace(")", r"\)")
    with pytest.raises(BroughtCodeError, match=pattern) as caught:
        import_object(f"{name}:factory", "model")
    assert caught.value.remedy.startswith(remedy)
    assert len(str(caught.value).splitlines()) == 1


def test_only_what_is_not_found_is_a_matter_of_spelling(tmp_path: Path) -> None:
    write(tmp_path, "spelled", "def factory(): ...\n")
    with pytest.raises(UsageError, match="no module 'speled'; check the spelling and PYTHONPATH"):
        import_object("speled:factory", "model")
    with pytest.raises(UsageError, match="spelled has no 'factroy'; did you mean factory"):
        import_object("spelled:factroy", "model")
    for wrong in ("spelled:", ":factory", "spelled:a:b", "../spelled:factory", "spelled:\x1b[31m"):
        with pytest.raises(UsageError, match=r"write it as package\.module:Object"):
            import_object(wrong, "model")


def test_ctrl_c_during_an_import_is_ctrl_c(tmp_path: Path) -> None:
    write(tmp_path, "stopped", "raise KeyboardInterrupt\n")
    with pytest.raises(KeyboardInterrupt):
        import_object("stopped:factory", "model")


def test_an_error_is_told_in_one_printable_line_that_is_not_long() -> None:
    told = in_one_line(ValueError("a\x1b[2Jb\nsecond line"))
    assert told == "ValueError: a\\x1b[2Jb"
    assert len(in_one_line(ValueError("x" * 5000))) < 250
    assert in_one_line(ValueError()) == "ValueError"
