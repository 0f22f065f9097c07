"""Every Python block of README and documentation runs, page by page, and so does every example of a docstring."""

import doctest
import pkgutil
import re
from importlib import import_module
from pathlib import Path

import pytest

import deepreg

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MODULES = ["deepreg", *(found.name for found in pkgutil.walk_packages(deepreg.__path__, "deepreg."))]
BLOCK = re.compile(r"^```python[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def python_of(text: str) -> str:
    """The Python blocks of a page at the lines where they stand, all other lines empty."""
    kept = [""] * (text.count("\n") + 1)
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        lines = block[1].splitlines()
        kept[first : first + len(lines)] = lines
    return "\n".join(kept)


def test_blocks_keep_their_line_numbers() -> None:
    page = "# Title\n\n```python\na = 1\n```\ntext\n```console\nls\n```\n```python title='x'\nb = 2\n\nc = 3\n```\n"
    assert python_of(page).splitlines() == ["", "", "", "a = 1", "", "", "", "", "", "", "b = 2", "", "c = 3", ""]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(python_of(page.read_text(encoding="utf-8")), page, "exec"), {"__name__": "docs"})


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example.name)
def test_an_example_runs_and_is_short(example: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = example.read_text(encoding="utf-8")
    assert text.count("\n") <= 60
    exec(compile(text, example, "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of_the_docstrings_run(name: str) -> None:
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    failed, _ = doctest.testmod(import_module(name), optionflags=flags)
    assert failed == 0
