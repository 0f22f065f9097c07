"""The comparison with other libraries: same data for all, nothing run twice, and figures that are what they say."""

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm

from deepreg import simulate

sys.path.append(str(Path(__file__).parent.parent / "benchmarks"))  # last: its coverage.py must hide nothing
import compare
import compare_report
from peers import METHODS, load, problem

OPTIONS = ["--designs", "price", "linear_const", "--n", "60", "--draws", "2"]


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No time is spent on the product that times are divided by."""
    monkeypatch.setattr(compare, "product", lambda: 0.1)


def run(table: Path, *more: str) -> pd.DataFrame:
    compare.main([*OPTIONS, "--out", str(table), *more])
    return pd.read_csv(table)


# ---- the table


def test_rows_are_there_once_and_come_in_the_order_asked_for(tmp_path: Path) -> None:
    rows = run(tmp_path / "new" / "a.csv", "--methods", "oracle", "ols")
    assert tuple(rows.columns) == compare.Row._fields
    assert rows.method.tolist() == ["oracle"] * 4 + ["ols"] * 4
    assert rows.design.tolist() == ["price", "price", "linear_const", "linear_const"] * 2
    assert rows.truth.tolist() == [-0.5, -0.5, 1, 1] * 2
    assert (rows.cate_rmse[:4] == 0).all() and (rows.cate_rmse[4:] > 0).all()
    assert (rows[["se", "wall", "matmul"]] > 0).all(axis=None)
    assert rows.failed.isna().all()
    again = run(tmp_path / "new" / "a.csv", "--methods", "ols", "oracle")
    pd.testing.assert_frame_equal(again, rows)


def test_a_killed_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    rows = run(tmp_path / "a.csv", "--methods", "oracle", "ols")
    lines = (tmp_path / "a.csv").read_text().splitlines(keepends=True)
    (tmp_path / "a.csv").write_text("".join(lines[:5]) + lines[5][:20])  # killed while writing the fifth row
    mended = run(tmp_path / "a.csv", "--methods", "oracle", "ols")
    assert mended.run.tolist() == [1] * 4 + [2] * 4
    same = ["design", "draw", "method", "estimate", "se", "cate_rmse"]
    pd.testing.assert_frame_equal(mended[same], rows[same])


@pytest.mark.parametrize("left", ["", "design,n,r"])
def test_a_header_that_was_never_finished_is_written_again(tmp_path: Path, left: str) -> None:
    (tmp_path / "a.csv").write_text(left)
    assert len(run(tmp_path / "a.csv", "--methods", "oracle")) == 4


def test_a_table_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit, match="other columns"):
        run(tmp_path / "a.csv", "--methods", "oracle")
    assert (tmp_path / "a.csv").read_text() == "a,b\n1,2\n"


def test_redo_replaces_the_rows_of_a_method_and_no_others(tmp_path: Path) -> None:
    rows = run(tmp_path / "a.csv", "--methods", "oracle", "ols")
    wrong = (tmp_path / "a.csv").read_text().replace(",ols,", ",ols,9")
    (tmp_path / "a.csv").write_text(wrong)
    redone = run(tmp_path / "a.csv", "--redo", "ols", "--designs", "price")
    assert redone.method.tolist() == ["oracle"] * 4 + ["ols"] * 4
    assert redone.run.tolist() == [1] * 6 + [2] * 2
    np.testing.assert_array_equal(redone.estimate[6:], rows.estimate[4:6])  # those of price are right again
    assert (redone.estimate[4:6].to_numpy() != rows.estimate[6:].to_numpy()).all()  # the others are not touched


def test_a_method_that_raises_is_a_row_and_not_the_end() -> None:
    def broken(sim: simulate.Simulation, seed: int) -> problem.Answer:
        raise ValueError("no,\n\nreally")

    row = compare.measure(compare.Key("price", 30, 0, 0, "broken"), broken, 1)
    assert row.failed == "ValueError: no, really"
    assert np.isnan([row.estimate, row.se, row.cate_rmse]).all() and row.truth == -0.5


def test_draws_are_the_same_whatever_else_is_run() -> None:
    (sim, seed), (again, same) = (compare.draw("irm", 50, 3, 1) for _ in range(2))
    pd.testing.assert_frame_equal(sim.frame, again.frame)
    assert seed == same < 2**31
    for other in (("irm", 50, 3, 2), ("irm", 50, 4, 1), ("irm", 51, 3, 1)):
        assert compare.draw(*other)[0].frame.y[0] != sim.frame.y[0] and compare.draw(*other)[1] != seed
    assert compare.draw("tutorial", 50, 0, 0)[1] != compare.draw("tutorial_confounded", 50, 0, 0)[1]


def test_a_missing_library_says_what_to_install() -> None:
    with pytest.raises(ImportError, match=r"no_such_library.*peers-requirements\.txt"):
        problem.need("no_such_library")


# ---- the report


def test_the_summary_by_hand(tmp_path: Path) -> None:
    shared = {"design": "irm", "n": 10, "rng": 0, "truth": 1.0, "wall": 1.0, "rss_mb": 0.0, "run": 1}
    oracle = [1.0, 1.2, 0.8, 1.4]
    ours = [1.1, 1.2, 0.5, 1.0]
    rows = [
        {**shared, "draw": k, "method": "oracle", "estimate": b, "se": 0.2, "cate_rmse": 0, "cpu": 1, "matmul": 0.1}
        for k, b in enumerate(oracle)
    ]
    for k, (b, rmse, cpu) in enumerate(zip(ours, [0.1, 0.2, 0.9, 0.4], [1, 2, 30, 4], strict=True)):
        measured = {"estimate": b, "se": 0.1 * (k + 1), "cate_rmse": rmse, "cpu": cpu, "matmul": 0.1 * (k + 1)}
        rows.append({**shared, "draw": k, "method": "deepreg", **measured})
    rows.append({**shared, "draw": 4, "method": "deepreg", "cpu": 0.1, "matmul": 0.1, "failed": "ValueError: no"})
    pd.DataFrame(rows).to_csv(tmp_path / "a.csv", index=False)
    table = compare_report.summarise(compare_report.read(tmp_path / "a.csv")).loc[(10, "irm", "deepreg")]
    assert (table.draws, table.failures) == (4, 1)
    assert table.bias == pytest.approx(-0.05)
    assert table.rmse == pytest.approx((0.30 / 4) ** 0.5)
    assert table.coverage == 1.0
    assert table.se_ratio == pytest.approx(0.25 / np.std(ours, ddof=1))
    assert table.distance == pytest.approx(((0.1**2 + 0 + 0.3**2 + 0.4**2) / 4) ** 0.5 / 0.2)
    assert (table.cate_median, table.cate_mean) == (pytest.approx(0.3), pytest.approx(0.4))
    assert (table.cpu, table.products) == (3, pytest.approx(10))
    text = compare_report.report(tmp_path / "a.csv", None)
    assert (tmp_path / "a.md").read_text(encoding="utf-8") == text
    assert "| deepreg | 4 | -0.050 | 0.274 | 1.00 | 0.80 | 1.27 | 0.300 | 0.400 | 3.00 | 10.0 | 1 |" in text
    assert "- deepreg: ValueError: no (irm n=10: 1)" in text


def test_an_interval_covers_up_to_its_edge(tmp_path: Path) -> None:
    rows = pd.DataFrame({"n": 9, "design": "d", "method": "m", "failed": "", "error": [1.95, -1.95, 1.97, -3], "se": 1})
    nothing = {"estimate": rows.error, **dict.fromkeys(["off", "cate_rmse", "cpu", "matmul"], 1.0)}
    assert compare_report.summarise(rows.assign(**nothing)).coverage.item() == 0.5


# ---- the methods that need no other library


@pytest.mark.parametrize("design", ["tutorial_confounded", "logit_continuous", "price"])
def test_the_oracle_is_unbiased_and_knows_its_error(design: str) -> None:
    answers = []
    for number in range(30):
        sim, seed = compare.draw(design, 300, 5, number)
        answers.append(load("oracle")(sim, seed)[:2])
    estimates, errors = np.array(answers).T
    truth = sim.truth[problem.target(sim)]
    assert abs(estimates.mean() - truth) < 4 * estimates.std() / 30**0.5
    assert errors.mean() / estimates.std() == pytest.approx(1, abs=0.3)


def test_the_oracle_of_a_randomised_treatment_by_hand() -> None:
    sim = simulate.tutorial(n=500, rng=0)
    alpha, beta = sim.theta.to_numpy().T
    t, y = sim.frame.treatment, sim.frame.y
    psi = beta + 2 * (2 * t - 1) * (y - alpha - beta * t)
    found = load("oracle")(sim, 0)
    assert found.estimate == pytest.approx(psi.mean()) and found.se == pytest.approx(psi.std() / 500**0.5)
    np.testing.assert_array_equal(found.cate, beta)


@pytest.mark.parametrize("design", ["linear_const", "price", "tutoring"])
def test_ordinary_least_squares_is_that_of_statsmodels(design: str) -> None:
    sim = simulate.get(design)(n=400, rng=0)
    data = problem.problem(sim)
    plain = sm.OLS(data.y, np.column_stack([data.t, np.ones(400), data.x])).fit(cov_type="HC1")
    found = load("ols")(sim, 0)
    assert found.estimate == pytest.approx(plain.params[0]) and found.se == pytest.approx(plain.bse[0])
    np.testing.assert_allclose(found.cate, plain.params[0])
    centred = data.x - data.x.mean(0)
    crossed = np.column_stack([data.t, np.ones(400), centred, data.t[:, None] * centred])
    full = sm.OLS(data.y, crossed).fit(cov_type="HC1")
    found = load("ols_interacted")(sim, 0)
    cate = full.params[0] + centred @ full.params[-data.x.shape[1] :]
    assert found.estimate == pytest.approx(full.params[0])
    assert found.se == pytest.approx((full.bse[0] ** 2 + cate.var() / 400) ** 0.5)
    np.testing.assert_allclose(found.cate, cate)


def test_the_effect_in_a_logit_is_that_of_statsmodels() -> None:
    sim = simulate.logit_continuous(n=400, rng=0)
    data = problem.problem(sim)
    fitted = sm.GLM(data.y, np.column_stack([np.ones(400), data.t, data.x]), family=sm.families.Binomial())
    effects = fitted.fit(cov_type="HC0").get_margeff()
    found = load("ols")(sim, 0)
    assert found.estimate == pytest.approx(effects.margeff[0])
    fixed = effects.margeff_se[0] * (400 / 393) ** 0.5  # for the features in hand
    assert fixed < found.se < 1.1 * fixed


def test_categories_become_indicators_and_treatments_are_told_apart() -> None:
    tutoring = problem.problem(simulate.tutoring(n=50, rng=0))
    assert tutoring.x.shape == (50, 4) and tutoring.binary
    price = simulate.price(n=50, rng=0)
    assert not problem.problem(price).binary
    with pytest.raises(problem.NotApplicable, match="DRLearner needs a binary treatment"):
        problem.binary(price, "DRLearner")


def test_every_design_and_method_of_the_study_exists() -> None:
    assert set(compare.DESIGNS) <= set(simulate.names())
    for name in ("oracle", "ols", "ols_interacted", "deepreg"):
        assert callable(load(name))
    for place in METHODS.values():
        module, function = place.split(":")
        text = (Path(problem.__file__).parent / f"{module}.py").read_text(encoding="utf-8")
        assert f"\ndef {function}(sim: Simulation, seed: int) -> Answer:" in text
