"""The architecture, held by the import statements themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import deepreg

ROOT = Path(__file__).parent.parent
LAYERS = (
    {"constant", "scoring", "storage", "terrain", "trajectory"},  # packages whose modules are listed one by one
    {"units", "errors", "version", "call", "constant.certificate", "progress"},
    {"seeds", "threads", "terrain.hotspots"},
    {"families", "design", "networks", "splits", "datasets", "report.render", "hypotheses", "multiple", "sampling"}
    | {"files", "wald", "plots", "minimise", "basis", "evidence", "stacking", "storage.document", "tables"}
    | {"report.style", "report.word", "report.printed", "report.covariance", "level"},
    {"structure", "trainers", "nodes", "report.table", "report.alignment", "report.tidy", "additive", "curve"}
    | {"pointwise", "arrays"},
    {
        "instruments",
        "constant.classical",
        "constant.bounds",
        "constant.track",
        "penalties",
        "scoring.rules",
        "submodels",
    },
    {"coordinates", "goodness", "specification", "prediction", "covariance", "equivalence", "report.regression_table"}
    | {"charts", "trajectory.panels", "trajectory.mixing"},
    {"theta", "report.summary", "report", "penalised", "parity", "terrain.dropout"},
    {"law", "censoring", "projection", "spread", "searching", "scoring.card"},
    {"choicesets", "terrain.factors", "scoring.lattice"},
    {"information", "terrain.reselection"},
    {"curvature", "targets", "estimates"},
    {"influence", "summary", "comparison", "asked", "best", "heterogeneity", "treatments"},
    {"storage.kept", "reading", "rows"},
    {"repeats"},
    {"validation", "trajectory.tables"},
    {"storage.portable", "figures", "robustness", "trajectory.fitted"},
    {"storage.shapes", "page", "effects", "trajectory.number", "trajectory.learned"},
    {"storage.persist"},
    {"measures"},
    {"results", "diagnostics"},
    {"constant.fit"},
    {"model", "interop", "report.column", "population", "fair", "terrain.fitted"},
    {"tradeoffs"},
    {"api", "report.printing", "report.notes", "terrain.model", "scoring.model"},
    {"constant.aliases", "storage.loading", "report.etable", "estimator", "trajectory.model"},
    {"structural_model"},
    {"simulate"},
    {"cli"},
)
STEP = (
    "columns",
    "expression",
    "formula",
    "packing",
    "readers",
    "recipe",
    "refusals",
    "sample",
    "variables",
)  # one step of the pipeline
SAME = dict.fromkeys(STEP, "design")
LEVEL = {name: level for level, names in enumerate(LAYERS) for name in names}
DOORS = {
    "formulaic": {"formula.py", "recipe.py"}, "jinja2": {"render.py"}, "matplotlib": {"plots.py"}, "docx": {"word.py"},
    "sklearn": {"estimator.py"},
}  # fmt: skip
FILES = sorted(path for path in (ROOT / "deepreg").rglob("*.py") if path != ROOT / "deepreg" / "__init__.py")


def imports(tree: ast.AST, package: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Every imported module and name as an absolute dotted path."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {tuple(alias.name.split(".")) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            found |= {(*base, *(node.module or "").split("."), alias.name) for alias in node.names}
    return {tuple(part for part in path if part) for path in found}


def layer_name(path: tuple[str, ...]) -> str | None:
    """`report.table` for ("report", "table", "Table"), `families` for ("families", "base"); None where unlisted."""
    names = (".".join(path[:depth]) for depth in (2, 1))
    return next((SAME.get(name, name) for name in names if SAME.get(name, name) in LEVEL), None)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_imports_go_strictly_downwards(file: Path) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    me = layer_name(tuple(part for part in parts[1:] if part != "__init__"))
    assert me is not None, f"{file.relative_to(ROOT)} belongs to no layer: add it to LAYERS"
    text = file.read_text(encoding="utf-8")
    assert text.count("\n") <= 400, "split the file by noun"
    for path in imports(ast.parse(text), parts[:-1]):
        if path[0] == "deepreg" and (other := layer_name(path[1:])) != me:
            assert other is not None, f"{me} imports {'.'.join(path)}, which belongs to no layer"
            assert LEVEL[other] < LEVEL[me], f"{me} (layer {LEVEL[me]}) imports {other} (layer {LEVEL[other]})"
        assert file.name in DOORS.get(path[0], {file.name}), f"only {DOORS[path[0]]} may import {path[0]}"


def test_importing_the_package_is_cheap() -> None:
    heavy = {"sklearn", "torch", "statsmodels", "matplotlib", "pandas", "numpy", "formulaic"}
    code = "import sys, deepreg; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "deepreg.errors" in loaded
    assert not heavy & loaded


@pytest.mark.parametrize("name", deepreg.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert name in dir(deepreg)
    assert getattr(deepreg, name) is not None


def test_a_misspelt_name_is_answered_with_the_allowed_ones() -> None:
    with pytest.raises(AttributeError, match="structural"):
        deepreg.structurall  # noqa: B018
