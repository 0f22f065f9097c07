"""The committed study of the diagnostics: curves cover, tests have the size that the documentation says."""

import importlib.util
import sys
from pathlib import Path

import pandas as pd
import pytest

PLACE = Path(__file__).parent.parent / "benchmarks"
BANDS = pd.read_csv(PLACE / "heterogeneity-bands.csv")
TESTS = pd.read_csv(PLACE / "heterogeneity-tests.csv")


def test_curves_and_rates_are_covered_as_often_as_stated() -> None:
    share = BANDS.drop(columns=["draw", "n"]).mean()
    error = (0.05 * 0.95 / len(BANDS)) ** 0.5
    assert len(BANDS) >= 400 and share.drop("all pointwise").between(0.95 - 3 * error, 0.95 + 3 * error).all()
    assert share["all pointwise"] < 0.75  # what a band is for


@pytest.mark.parametrize("n, unguarded", [(600, 0.11), (2000, 0.08)])
@pytest.mark.parametrize("learners", ["network", "smooth"])
def test_tests_reject_as_often_as_the_documentation_says(learners: str, n: int, unguarded: float) -> None:
    null = TESTS[(TESTS["learners"] == learners) & (TESTS["beta"] == 0) & (TESTS["n"] == n)]
    size = (null.drop(columns="learners").abs() > 1.96).mean()
    error = (0.05 * 0.95 / len(null)) ** 0.5
    assert len(null) >= 800 and (size[["AUTOC of folds, guarded", "slope, guarded"]] <= 0.05 + 2 * error).all()
    assert (size[["AUTOC of folds, unguarded", "AUTOC, pooled"]] > unguarded).all()
    assert abs(size["projection on covariates"] - 0.05) < 2 * error
    assert size["projection, chi-squared"] > size["projection on covariates"]


def test_no_draw_is_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(PLACE)])
    spec = importlib.util.spec_from_file_location("study", PLACE / "heterogeneity.py")
    study = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(study)
    out = tmp_path / "bands.csv"
    study.main(["bands", "--draws", "2", "--n", "80", "--out", str(out)])
    before = out.read_text()
    study.main(["bands", "--draws", "2", "--n", "80", "--out", str(out)])
    assert out.read_text() == before
    study.main(["bands", "--draws", "3", "--n", "80", "--out", str(out)])
    assert out.read_text().startswith(before) and pd.read_csv(out)["draw"].tolist() == [0, 1, 2]
    assert out.with_suffix(".json").exists() and "draws: [3]" in capsys.readouterr().out
    row = study.tests(0, 200, 0.3, "smooth")
    assert set(TESTS.columns[4:]) == set(row) and all(isinstance(z, float) for z in row.values())
