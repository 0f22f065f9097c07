"""Results in other libraries' tables and tests, against those libraries."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
from statsmodels.iolib.summary2 import summary_col

import deepreg
from deepreg import interop
from deepreg.errors import NotAvailable

SIM = deepreg.simulate.get("friedman")(n=400, rng=0)


@pytest.fixture(scope="module")
def result():
    model = deepreg.structural("y ~ t | x0 + x1 + x2 + x3", SIM.frame)
    return model.fit(folds=2, learners="smooth", rng=0, progress=False)


@pytest.fixture(scope="module")
def ols():
    return smf.ols("y ~ t + x0", SIM.frame).fit(cov_type="HC1")


def test_statsmodels_summary_col(result, ols):
    table = summary_col([ols, result], float_format="%.6f", stars=False, model_names=["ols", "ours"]).tables[0]
    for name in ("Intercept", "t"):
        at = list(table.index).index(name)
        assert float(table["ours"].iloc[at]) == pytest.approx(result.params[name], abs=1e-6)
        assert float(table["ours"].iloc[at + 1].strip("()")) == pytest.approx(result.bse[name], abs=1e-6)
    assert float(table["ours"]["R-squared"]) == pytest.approx(result.rsquared, abs=1e-6)
    assert table["ours"].iloc[list(table.index).index("x0")] == ""


def test_maketables(result, ols):
    maketables = pytest.importorskip("maketables", reason="maketables is not installed (extra 'interop')")
    table = maketables.ETable([ols, result], coef_fmt="b:.6f \n (se:.6f)").df
    cell = table.loc[("coef", "t")].iloc[1]
    assert [float(v.strip(" *()")) for v in cell.split("\n")] == pytest.approx(
        [result.params.t, result.bse.t], abs=1e-6
    )
    assert table.loc[("stats", "Observations")].iloc[1] == "400"
    assert float(table.loc[("stats", "R²")].iloc[1]) == pytest.approx(result.rsquared, abs=1e-3)
    assert "y" in str(table.columns[1])


def test_stargazer(result, ols):
    stargazer = pytest.importorskip("stargazer.stargazer", reason="stargazer is not installed (extra 'interop')")
    interop.register_stargazer()
    table = stargazer.Stargazer([ols, result])
    table.significant_digits(6)
    html = table.render_html()
    assert f"{result.params.t:.6f}" in html and f"({result.bse.t:.6f})" in html
    assert f"{result.rsquared:.6f}" in html and "nan" not in html


def test_marginaleffects(result):
    other = pytest.importorskip("marginaleffects", reason="marginaleffects is not installed (extra 'interop')")
    model = interop.marginaleffects_model(result)
    for text in ("t = 3", "t/Intercept = 0.3", "t*Intercept**0.5 = 1"):
        theirs, ours = other.hypotheses(model, hypothesis=text).data, result.t_test(text)
        assert theirs["estimate"][0] == pytest.approx(ours.value[0] - float(text.split("=")[1]), rel=1e-8)
        assert theirs["std_error"][0] == pytest.approx(ours.std_error[0], rel=1e-4)  # their derivative is numerical
    theirs = other.hypotheses(model, equivalence=(3.5, 4.5)).data
    np.testing.assert_allclose(theirs["p_value_equiv"], result.averages.equivalence(3.5, 4.5).to_frame()["P outside"])


@pytest.mark.parametrize("missing", ["stargazer.translators", "marginaleffects.classes.model"])
def test_what_is_not_installed_is_named(result, monkeypatch, missing):
    import sys

    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(NotAvailable, match=f"{missing.split('.')[0]} is not installed; pip install"):
        interop.register_stargazer() if "stargazer" in missing else interop.marginaleffects_model(result)


def test_data_from_polars_and_results_to_polars(result):
    polars = pytest.importorskip("polars")
    again = deepreg.structural("y ~ t | x0 + x1 + x2 + x3", polars.from_pandas(SIM.frame))
    again = again.fit(folds=2, learners="smooth", rng=0, progress=False)
    pd.testing.assert_series_equal(again.params, result.params)
    assert polars.from_pandas(result.tidy("broom"))["std.error"].to_list() == result.bse.tolist()


# ---- effects in the tools of EconML, and in shap


@pytest.fixture(scope="module")
def effects():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    y = t * (1 + x[:, 0]) + x[:, 1] + rng.normal(size=400) / 2
    model = deepreg.StructuralModel(discrete_treatment=True, learners="smooth", folds=2, rng=0)
    return model.fit(y, t, x), y, t, x


def of_econml(module):
    return pytest.importorskip(f"econml.{module}", reason="econml is not installed (extra 'interop')")


def test_trees_of_econml_read_a_model(effects):
    model, _, _, x = effects
    tree = of_econml("cate_interpreter").SingleTreeCateInterpreter(max_depth=1, include_model_uncertainty=True)
    nodes = tree.interpret(model, x).node_dict_
    assert nodes[0]["mean"] == pytest.approx(model.const_marginal_effect(x).mean(0))
    assert nodes[1]["mean"] < 1 < nodes[2]["mean"] and tree.tree_model_.tree_.feature[0] == 0
    low, high = nodes[1]["ci"]
    assert low < nodes[1]["mean"] < high


def test_policy_trees_of_econml_read_a_model(effects):
    model, y, t, x = effects
    tree = of_econml("cate_interpreter").SingleTreePolicyInterpreter(max_depth=1, random_state=0)
    value = model.const_marginal_effect(x)[:, 0]
    chosen = tree.interpret(model, x).treat(x)
    assert tree.tree_model_.tree_.feature[0] == 0 and (chosen == (value > 0)).mean() > 0.9
    np.testing.assert_allclose(tree.always_treat_value_, value.mean())
    dear = tree.interpret(model, x, sample_treatment_costs=1.0).treat(x)
    assert (dear == (value > 1)).mean() > 0.9 and dear.mean() < chosen.mean()
    np.testing.assert_array_equal(model.const_marginal_effect(x)[:, 0], value)  # costs are taken off a copy
    both = deepreg.StructuralModel(discrete_treatment=True, learners="smooth", folds=2, rng=0)
    both.fit(np.c_[y, -y], t, x)  # of several outcomes the mean, here of an effect and its negative
    two = tree.interpret(both, x).always_treat_value_
    np.testing.assert_allclose(two, both.const_marginal_effect(x).mean(), atol=1e-12)


def test_scores_of_econml_read_a_model(effects):
    from sklearn.linear_model import LinearRegression, LogisticRegression

    model, y, t, x = effects
    plain = {"discrete_treatment": True, "cv": 2, "random_state": 0}
    scorer = of_econml("score").RScorer(model_y=LinearRegression(), model_t=LogisticRegression(), **plain)
    scorer.fit(y, t, X=x)
    useless = deepreg.StructuralModel(discrete_treatment=True, learners="constant", folds=2, rng=0).fit(y, t, x)
    assert scorer.score(model) > scorer.score(useless) + 0.2
    tester = of_econml("validate").DRTester(
        model_regression=LinearRegression(), model_propensity=LogisticRegression(), cate=model, cv=2
    )
    found = tester.fit_nuisance(x, t, y, x, t, y).evaluate_blp(x, x)
    assert found.params[0] == pytest.approx(1, abs=0.25)  # the doubly robust outcome on the effects


def test_shap_explains_a_model(effects):
    shap = pytest.importorskip("shap", reason="shap is not installed (extra 'interop')")
    model, _, _, x = effects
    found = shap.Explainer(lambda rows: model.const_marginal_effect(rows)[:, 0], x[:20])(x[:10])
    np.testing.assert_allclose(found.values.sum(1) + found.base_values, model.const_marginal_effect(x[:10])[:, 0])
    assert np.abs(found.values[:, 0]).mean() > 5 * np.abs(found.values[:, 1]).mean()
