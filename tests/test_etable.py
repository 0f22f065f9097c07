"""Regressions side by side: the numbers are those of the models, the pages are as they were looked at."""

import dataclasses
import io
import re
import sys
import warnings
import zipfile
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf

import deepreg
from deepreg.report.alignment import on_point, siunitx_cell, siunitx_column, tex_cell, widest
from deepreg.report.printing import decimals
from deepreg.targets import AME

HOSTILE = ["a_b%&#$", "<b>bold</b>", "λ", "x" * 60, r"{x} ~ ^ \ |", "*[x](http://y)", "a\nb"]


def data(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"x": rng.normal(size=n), "t": np.resize([0, 1], n), "school": np.resize(range(30), n)})
    frame["y"] = 2 + frame.x - 3 * frame.t + rng.normal(size=n)
    frame["b"] = (frame.y > 0.5) * 1
    frame["k"] = rng.poisson(np.exp(0.3 * frame.x + 0.2 * frame.t))
    frame["dose"] = rng.normal(size=n) + frame.x / 2
    return frame


DATA = data()


@pytest.fixture(scope="module")
def ols():
    return smf.ols("y ~ t + x", DATA).fit(cov_type="HC1")


@pytest.fixture(scope="module")
def logit():
    return smf.logit("b ~ t + x", DATA).fit(disp=0)


@pytest.fixture(scope="module")
def fitted():
    holes = DATA.copy()
    holes.loc[:6, "x"] = np.nan
    model = deepreg.structural("y ~ t | x", holes, cluster="school")
    return model.fit(learners="smooth", folds=2, members=1, rng=0, progress=False)


@pytest.fixture(scope="module")
def odds():
    model = deepreg.structural("b ~ t + dose | x", DATA, family="logit")
    return model.fit(learners="smooth", folds=2, members=1, rng=0, progress=False)


def numbers(table, statistic: str, column: int = 0) -> pd.Series:
    """One statistic of one column, by row, where there is one."""
    return table.to_frame().xs(statistic, level="statistic").iloc[:, column].dropna().astype(float)


def below(table, label: str) -> tuple[str, ...]:
    """The printed cells below a row."""
    rows = table.rows
    i = next(i for i, row in enumerate(rows) if row.label == label and row.kind == "value")
    return rows[i + 1].cells


def same(found: pd.Series, expected) -> None:
    expected = pd.Series(expected, dtype=float)
    assert sorted(found.index) == sorted(expected.index)
    np.testing.assert_array_equal(found[expected.index], expected)


def check(model, params, bse, tvalues, pvalues, interval) -> None:
    """Every number of a one-column table is the library's own, to the last bit."""
    for stat, kind, expected in (("se", "std err", bse), ("t", "t", tvalues), ("p", "P>|t|", pvalues)):
        table = deepreg.etable(model, stat=stat)
        same(numbers(table, "coef"), params)
        same(numbers(table, kind), expected)
    table = deepreg.etable(model, stat="ci", alpha=0.1)
    same(numbers(table, "[0.05"), interval[:, 0])
    same(numbers(table, "0.95]"), interval[:, 1])


def named(values, names) -> dict[str, float]:
    return dict(zip(names, np.asarray(values, dtype=float), strict=True))


def check_named(model, names, params, bse, tvalues, pvalues, interval) -> None:
    interval = np.asarray(interval, dtype=float)
    for stat, kind, expected in (("se", "std err", bse), ("t", "t", tvalues), ("p", "P>|t|", pvalues)):
        table = deepreg.etable(model, stat=stat)
        same(numbers(table, "coef"), named(params, names))
        same(numbers(table, kind), named(expected, names))
    table = deepreg.etable(model, stat="ci", alpha=0.1)
    same(numbers(table, "[0.05"), named(interval[:, 0], names))
    same(numbers(table, "0.95]"), named(interval[:, 1], names))


# ---- numbers are the models' own


@pytest.mark.parametrize(
    "fit",
    [
        lambda: smf.ols("y ~ t + x", DATA).fit(),
        lambda: smf.ols("y ~ t * x", DATA).fit(cov_type="cluster", cov_kwds={"groups": DATA.school}),
        lambda: smf.logit("b ~ t + x", DATA).fit(disp=0),
        lambda: smf.poisson("k ~ t + x", DATA).fit(disp=0),
        lambda: smf.glm("k ~ t + x", DATA, family=sm.families.Poisson()).fit(),
        lambda: smf.quantreg("y ~ t + x", DATA).fit(),
    ],
    ids=["OLS", "clustered", "Logit", "Poisson", "GLM", "QuantReg"],
)
def test_statsmodels(fit):
    m = fit()
    check_named(m, m.params.index, m.params, m.bse, m.tvalues, m.pvalues, m.conf_int(0.1))


def test_statsmodels_without_a_formula():
    m = sm.OLS(DATA.y.to_numpy(), sm.add_constant(DATA[["t", "x"]].to_numpy())).fit()
    check_named(m, ["const", "x1", "x2"], m.params, m.bse, m.tvalues, m.pvalues, m.conf_int(0.1))


def test_margins_of_statsmodels(logit):
    m = logit.get_margeff()
    check_named(m, ["t", "x"], m.margeff, m.margeff_se, m.tvalues, m.pvalues, m.conf_int(0.1))
    table = deepreg.etable(m)
    assert table.heads == ("Logit, average marginal effects",)
    assert "by the delta method" in table.notes[0]


def test_deepreg_coefficients_effects_and_estimates(fitted, odds):
    check_named(
        fitted, fitted.params.index, fitted.params, fitted.bse, fitted.tvalues, fitted.pvalues, fitted.conf_int(0.1)
    )
    estimates = odds.estimate("ame", AME("t"))
    check_named(
        estimates, estimates.names, estimates.value, estimates.std_error, estimates.zvalues, estimates.pvalues,
        estimates.interval(0.1),
    )  # fmt: skip
    table = deepreg.etable(odds, effects=True)
    expected = odds.estimate("ate", "ame")
    same(numbers(table, "coef"), named(expected.value, expected.names))
    assert set(expected.names) == {"ATE t: 1 vs 0", "AME dose"}


def test_constant_coefficients_of_deepreg_are_those_of_statsmodels(ols):
    constant = deepreg.structural("y ~ t + x", DATA).fit()
    frame = deepreg.etable([ols, constant], stats=["n", "family"]).to_frame().iloc[:-1].astype(float)
    np.testing.assert_allclose(frame.iloc[:, 0], frame.iloc[:, 1], rtol=1e-8)
    assert "(Farrell" not in deepreg.etable(constant).notes[0]


def test_pyfixest():
    pf = pytest.importorskip("pyfixest", reason="pyfixest is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        m = pf.feols("y ~ t + x | school", DATA, vcov={"CRV1": "school"})
        p = pf.fepois("k ~ t + x", DATA, vcov="HC1")
    for one in (m, p):
        names = one.coef().index
        check_named(one, names, one.coef(), one.se(), one.tstat(), one.pvalue(), one.confint(alpha=0.1))
    table = deepreg.etable([m, p])
    assert table.heads == ("OLS", "Poisson")
    assert table.groups == ("y", "k")
    fit = {row.label: row.cells for row in table.fit}
    assert fit["Observations"] == ("300", "300")
    assert fit["Fixed effects"] == ("school", "")
    assert fit["R²"] == (decimals(float(m._r2), 3), "")
    assert fit["Pseudo R²"] == ("", decimals(float(p._pseudo_r2), 3))
    assert "standard errors clustered by school (30 clusters) in column 1" in table.notes[0]


def test_linearmodels():
    iv = pytest.importorskip("linearmodels.iv", reason="linearmodels is not installed")
    panel = pytest.importorskip("linearmodels.panel", reason="linearmodels is not installed")
    m = iv.IV2SLS.from_formula("y ~ 1 + x + [dose ~ t]", DATA).fit(cov_type="robust")
    rows = DATA.assign(year=DATA.index // 30).set_index(["school", "year"])
    p = panel.PanelOLS.from_formula("y ~ x + EntityEffects", rows).fit(cov_type="clustered", cluster_entity=True)
    for one in (m, p):
        names = one.params.index
        check_named(one, names, one.params, one.std_errors, one.tstats, one.pvalues, one.conf_int(level=0.9))
    table = deepreg.etable([m, p])
    assert table.heads == ("Two-stage least squares", "OLS")
    assert table.groups == ("y", "y")
    fit = {row.label: row.cells for row in table.fit}
    assert fit["Fixed effects"] == ("", "Entity")
    dummies = smf.ols("y ~ x + C(school)", DATA).fit()
    assert float(table.to_frame().loc[("R²", "")].iloc[1]) == pytest.approx(dummies.rsquared, abs=1e-10)
    assert "clustered standard errors in column 2" in table.notes[0]


def test_fit_statistics_are_the_models_own(ols, logit, fitted):
    table = deepreg.etable([ols, logit, fitted], stats=["n", "r2", "pseudo_r2", "family", "covariance", "folds"])
    frame = table.to_frame().xs("", level="statistic")
    assert frame.loc["Observations"].tolist() == [300.0, 300.0, 293.0]
    assert frame.loc["R²"].iloc[0] == ols.rsquared
    assert frame.loc["Pseudo R²"].iloc[1] == logit.prsquared
    shown = {row.label: row.cells for row in table.fit}
    assert shown["R²"] == (decimals(ols.rsquared, 3), "", decimals(fitted.rsquared, 3))
    assert shown["Family"] == ("linear", "logit", "linear")
    assert shown["Covariance"] == ("HC1", "classical", "clustered: school (30)")
    assert shown["Folds"] == ("", "", "2")


def test_a_pseudo_r2_is_mcfaddens_for_glm_too(logit):
    glm = smf.glm("b ~ t + x", DATA, family=sm.families.Binomial()).fit()
    frame = deepreg.etable([logit, glm]).to_frame()
    left, right = frame.loc[("Pseudo R²", "")]
    assert left == pytest.approx(right, abs=1e-8)


def test_an_r2_without_a_constant_has_its_own_row(ols):
    bare = smf.ols("y ~ t + x - 1", DATA).fit()
    shown = {row.label: row.cells for row in deepreg.etable([ols, bare]).fit}
    assert shown["R²"][1] == "" and shown["R², uncentred"] == ("", decimals(bare.rsquared, 3))


# ---- printing


@pytest.mark.parametrize(
    ("x", "digits", "printed"),
    [
        (0.12345, 3, "0.123"), (-0.5, 2, "-0.50"), (1234567.891, 1, "1,234,567.9"), (0.00012345, 3, "0.00012"),
        (-0.0004, 3, "-0.00040"), (0.0, 3, "0.000"), (-0.0, 2, "0.00"), (1.5e-12, 3, "1.5e-12"), (0.3, 0, "0.30"),
        (2.6, 0, "3"), (np.nan, 3, ""), (np.inf, 3, "inf"), (-0.0006, 3, "-0.001"),
    ],
)  # fmt: skip
def test_decimals(x, digits, printed):
    assert decimals(x, digits) == printed


class Fit:
    """The least a model offers to be read as one of statsmodels."""

    class model:
        exog_names = ("a", "b", "c", "d", "e")
        endog_names = "y"

    def __init__(self, pvalues=(0.2, 0.09, 0.04, 0.0005, np.nan), names=("a", "b", "c", "d", "e")) -> None:
        count = len(names)
        self.params = pd.Series([1.0, 2.0, -3.0, 4.0, 5.0][:count], index=list(names))
        self.bse = pd.Series([0.5, 0.5, 0.5, 0.5, np.nan][:count], index=list(names))
        self.tvalues = self.params / self.bse
        self.pvalues = pd.Series(list(pvalues)[:count], index=list(names))

    def conf_int(self, alpha):
        return np.stack([self.params - 2 * self.bse, self.params + 2 * self.bse], 1)


def test_stars_and_their_legend():
    table = deepreg.etable(Fit())
    assert [row.cells[0] for row in table.rows if row.kind == "value"] == [
        "1.000", "2.000*", "-3.000**", "4.000***", "5.000",
    ]  # fmt: skip
    for text in (table.as_text(), table.as_html(), table.as_markdown().replace("\\", "")):
        plain = re.sub("<[^>]*>", "", text).replace("&lt;", "<")
        assert "* p < 0.10, ** p < 0.05, *** p < 0.01." in plain
    assert r"${^{*}\,p<0.10}$, ${^{**}\,p<0.05}$, ${^{***}\,p<0.01}$." in table.as_latex()
    own = deepreg.etable(Fit(), stars=(0.05, 0.001), style="plain")
    assert [row.cells[0] for row in own.rows if row.kind == "value"] == [
        "1.000", "2.000", "-3.000*", "4.000**", "5.000",
    ]  # fmt: skip
    assert "* p < 0.05, ** p < 0.001." in own.as_text()
    assert own.as_text() != deepreg.etable(Fit(), stars=(), style="econ").as_text()
    assert "*" not in deepreg.etable(Fit(), stars=()).as_text()


def test_p_values_below_a_thousandth_and_missing_errors():
    assert below(deepreg.etable(Fit(), stat="p"), "d") == ("(<0.001)",)
    assert below(deepreg.etable(Fit(), stat="p"), "c") == ("(0.040)",)
    for stat in ("se", "t", "p", "ci"):
        assert below(deepreg.etable(Fit(), stat=stat), "e") == ("",)
    assert below(deepreg.etable(Fit(), stat="ci"), "c") == ("[-4.000, -2.000]",)
    assert "nan" not in deepreg.etable(Fit()).as_latex().lower()
    without = deepreg.etable(Fit(), stat=None)
    assert {row.kind for row in without.rows} <= {"value", "fit"}
    assert without.notes[0].startswith("Stars are based on")


def test_styles(ols, fitted):
    aer = deepreg.etable([ols, fitted], style="aer")
    assert "*" not in aer.as_text() and "(1)" in aer.as_text()
    assert "(1)" not in deepreg.etable([ols, fitted], style="plain").as_text()
    qje = deepreg.etable(ols, style="qje", title="A title")
    assert r"\toprule\toprule" in qje.as_latex() and r"\caption{\textsc{A title}}" in qje.as_latex()
    with pytest.warns(deepreg.DeepregWarning, match="at most 9 columns, and there are 10"):
        deepreg.etable([ols] * 10, style="aer")
    deepreg.etable([ols] * 10, style="econ")
    deepreg.etable([ols] * 9, style="aer")
    assert not re.search(r"\||\\hline|\\cline", aer.as_latex())


def test_notes_say_how_errors_were_computed(ols, fitted):
    (first, second) = deepreg.etable(fitted).notes[:2]
    assert first == (
        "Influence-function standard errors (Farrell, Liang and Misra), clustered by school (30 clusters), "
        "in parentheses."
    )
    assert "2-fold cross-fitting" in second
    assert "n = 293 after dropping 7 rows with missing values." in deepreg.etable(fitted).notes
    both = deepreg.etable([ols, ols, fitted], notes=["Read me."]).notes
    assert both[0].startswith(
        "In parentheses: heteroskedasticity-robust (HC1) standard errors in columns 1 and 2; influence-function"
    )
    assert both[-1] == "Read me."
    assert deepreg.etable(ols, stat="t").notes == (
        "t statistics in parentheses, from heteroskedasticity-robust (HC1) standard errors.",
    )
    assert deepreg.etable(ols, stat="ci", alpha=0.1).notes[0].startswith("90% confidence intervals in brackets, from")


def test_a_null_other_than_zero_is_noted(fitted):
    table = deepreg.etable(fitted.t_test("t = -3"))
    assert any("t = -3" in note for note in table.notes)


# ---- which rows, and what they are called


def labels_of(table) -> list[str]:
    return [row.label for row in table.rows if row.kind == "value"]


def test_rows_appear_in_order_with_the_intercept_last(ols, logit):
    inter = smf.ols("y ~ t * x", DATA).fit()
    assert labels_of(deepreg.etable([ols, inter])) == ["t", "x", "t:x", "Intercept"]
    assert labels_of(deepreg.etable([ols, inter], order=["Intercept", "t:x"])) == ["Intercept", "t:x", "t", "x"]


def test_a_string_is_a_whole_name_and_a_pattern_matches_anywhere(ols):
    assert labels_of(deepreg.etable(ols, keep="t")) == ["t"]
    assert labels_of(deepreg.etable(ols, keep=re.compile("t"))) == ["t", "Intercept"]
    assert labels_of(deepreg.etable(ols, drop=["t", re.compile("^Int")])) == ["x"]


def test_different_names_are_different_rows_unless_labelled_alike(fitted, logit):
    ate = fitted.ate()
    table = deepreg.etable([logit, ate])
    assert labels_of(table) == ["t", "x", "ATE t: 1 vs 0", "Intercept"]
    merged = deepreg.etable([logit, ate], labels={"t": "Tutored", "ATE t: 1 vs 0": "Tutored"})
    assert labels_of(merged) == ["Tutored", "x", "Intercept"]
    same(numbers(merged, "coef", 1), {"Tutored": ate.value[0]})
    same(numbers(merged, "coef", 0)[["Tutored"]], {"Tutored": logit.params["t"]})
    with pytest.raises(deepreg.OptionError, match="'t' and 'x' of the model 'Logit' would share the row 'z'"):
        deepreg.etable(logit, labels={"t": "z", "x": "z"})
    with pytest.raises(deepreg.OptionError, match="'t' and 'x'"):
        deepreg.etable(logit, labels={"t": "x"})


def test_two_rows_of_one_name_are_refused():
    with pytest.raises(deepreg.OptionError, match="two rows called 'a'"):
        deepreg.etable(Fit(names=("a", "b", "a")))


def test_series_in_another_order_are_refused():
    fit = Fit()
    fit.bse = fit.bse[::-1]
    with pytest.raises(deepreg.OptionError, match="disagree"):
        deepreg.etable(fit)


def test_heads_and_groups(ols, logit):
    table = deepreg.etable([ols, ols, logit], heads=["a", "b", "c"], groups=["One", "One", ""])
    assert table.heads == ("a", "b", "c")
    assert table.spans == (("One", 0, 1),)
    assert r" & \multicolumn{2}{c}{One} & \\" in table.as_latex()
    assert deepreg.etable([ols, logit]).groups == ("y", "b")
    assert deepreg.etable([ols, logit], labels={"y": "Grade"}).groups == ("Grade", "b")
    assert deepreg.etable([ols, logit], groups=[]).spans == ()


def test_panels_of_models(ols, logit):
    inter = smf.ols("y ~ t * x", DATA).fit()
    table = deepreg.etable(panels={"Panel A": [ols, inter], "Panel B": [logit, logit]}, drop="t:x")
    assert [panel.title for panel in table.panels] == ["Panel A", "Panel B"]
    assert [row.label for row in table.panels[1].fit] == ["Observations", "Pseudo R²"]
    frame = table.to_frame()
    assert frame.loc[("Panel B", "t", "coef")].tolist() == [logit.params["t"]] * 2
    assert frame.loc[("Panel A", "t", "coef")].tolist() == [ols.params["t"], inter.params["t"]]
    assert "Panel A, column 1" in table.notes[0]
    with pytest.raises(deepreg.OptionError, match="same columns"):
        deepreg.etable(panels={"A": [ols], "B": [ols, ols]})
    with pytest.raises(deepreg.OptionError, match="first argument"):
        deepreg.etable(ols, panels={"A": [ols]})


def test_panels_of_rows(ols):
    table = deepreg.etable(ols, panels={"Panel A": ["t"], "Panel B": [re.compile("x|Int")]})
    assert [[row.label for row in p.rows if row.kind == "value"] for p in table.panels] == [["t"], ["x", "Intercept"]]
    assert table.to_frame().loc[("Panel A", "t", "coef")].tolist() == [ols.params["t"]]
    assert table.panels[0].fit == () and table.fit
    with pytest.raises(deepreg.OptionError, match="'x' is in no panel"):
        deepreg.etable(ols, panels={"Panel A": ["t", "Intercept"]})
    with pytest.raises(deepreg.OptionError, match="'t' is in several"):
        deepreg.etable(ols, panels={"A": ["t", "x", "Intercept"], "B": ["t"]})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"style": "jpe"}, "'jpe'.*'econ', 'aer', 'qje', 'plain'"),
        ({"stat": "z"}, "'z'.*'se', 't', 'p', 'ci' and None"),
        ({"digits": -1}, "digits=-1"),
        ({"alpha": 5}, "alpha=5"),
        ({"keep": "tt"}, "no row is called 'tt'; there are Intercept, t, x"),
        ({"drop": re.compile("q")}, "no row matches 'q'"),
        ({"drop": re.compile("")}, "leave no row"),
        ({"order": 3}, "compiled pattern"),
        ({"keep": [3]}, "compiled pattern"),
        ({"groups": 3}, "list of strings"),
        ({"labels": ["t"]}, "mapping"),
        ({"panels": ["t"]}, "mapping"),
        ({"labels": {"tt": "T"}}, "labels= names 'tt'"),
        ({"labels": {"t": " "}}, "not empty"),
        ({"heads": ["a", "b"]}, "heads= has 2 entries, but the table has 1"),
        ({"heads": "a"}, "list of strings"),
        ({"groups": ["a", "b"]}, "groups= has 2"),
        ({"stats": ["rmse"]}, "'rmse'.*'?n, r2"),
        ({"stats": "n"}, "list of strings"),
        ({"stars": (0.01, 0.05)}, "falling"),
        ({"stars": 0.05}, "falling"),
        ({"style": "aer", "stars": (0.05,)}, "no stars"),
        ({"notes": "one"}, "list of strings"),
        ({"effects": True}, "results of deepreg"),
        ({"panels": {"A": []}}, "none empty"),
    ],
    ids=str,
)
def test_a_wrong_option_is_answered_with_what_is_allowed(options, message, ols):
    with pytest.raises(deepreg.OptionError, match=message):
        deepreg.etable(ols, **options)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (object(), r"builtins.object: it lacks .*Give fitted models of deepreg, statsmodels"),
        ("ols", "builtins.str"),
        (pd.DataFrame({"a": [1]}), "pandas"),
        (deepreg.structural("y ~ t", DATA), r"Model: it lacks .*params.*Call .fit\(\) first"),
        (smf.ols("y ~ t", DATA), "Call .fit"),
    ],
    ids=["object", "str", "frame", "model", "unfitted"],
)
def test_what_cannot_be_read_is_named(model, message):
    with pytest.raises(deepreg.OptionError, match=message):
        deepreg.etable([model])


def test_no_models_and_several_outcomes_are_refused():
    for nothing in (None, [], ()):
        with pytest.raises(deepreg.OptionError, match="needs models"):
            deepreg.etable(nothing)
    several = smf.mnlogit("arm ~ x", DATA.assign(arm=np.resize([0, 1, 2], len(DATA)))).fit(disp=0)
    with pytest.raises(deepreg.OptionError, match=r"shape \(2, 2\)"):
        deepreg.etable(several)
    with pytest.raises(deepreg.OptionError, match="one outcome"):
        deepreg.etable(several.get_margeff())


# ---- formats

TEXT = """
                             A table
=================================================================
                                     One
                                  ---------
                                     OLS       Logit       Bare
                                     (1)        (2)        (3)
-----------------------------------------------------------------
Treated                           -3.003***  -5.028***  1,234.500
                                  (0.115)    (0.548)
C(county)[T.Los Angeles County,    1.025***   1.818***
  California]                     (0.055)    (0.270)
-----------------------------------------------------------------
Observations                         300        300
R²                                  0.763
=================================================================
Notes: In parentheses: heteroskedasticity-robust (HC1) standard errors in
column 1; classical standard errors in column 2; standard errors in column 3.
* p < 0.10, ** p < 0.05, *** p < 0.01.
"""
LATEX = r"""
% Requires: \usepackage{array,booktabs,threeparttable}
\begin{table}[htbp]
\centering
\setlength{\tabcolsep}{13pt}
\begin{threeparttable}
\caption{A table}
\label{tab:a_b}
\begin{tabular}{@{}>{\raggedright\arraybackslash}p{0.30\linewidth}ccc@{\hspace{1em}}}
\toprule
 & \multicolumn{1}{c}{One} & & \\
\cmidrule(lr){2-2}
 & OLS & Logit & Bare \\
 & (1) & (2) & (3) \\
\midrule
Treated & \llap{$-$}3.003\rlap{$^{***}$} & \llap{$-$}5.028\rlap{$^{***}$} & 1,234.500 \\
 & (0.115) & (0.548) &  \\
\addlinespace
C(county)\allowbreak{}{[}T.Los Angeles County, California] & 1.025\rlap{$^{***}$} & 1.818\rlap{$^{***}$} &  \\
 & (0.055) & (0.270) &  \\
\midrule
Observations & 300 & 300 &  \\
$R^{2}$ & 0.763 &  &  \\
\bottomrule
\end{tabular}
\begin{tablenotes}[flushleft]
\footnotesize\setlength{\labelsep}{0pt}
\item \textit{Notes:} In parentheses: heteroskedasticity-robust (HC1) standard errors in column 1; \
classical standard errors in column 2; standard errors in column 3. \
${^{*}\,p<0.10}$, ${^{**}\,p<0.05}$, ${^{***}\,p<0.01}$.
\end{tablenotes}
\end{threeparttable}
\end{table}
"""
CELL = 'scope="col" style="padding:.2em .7em;font-weight:normal;vertical-align:bottom"'
NAME = 'scope="row" style="text-align:left;font-weight:normal;padding-right:1em"'
STARS = '<sup style="line-height:0;vertical-align:.3em">***</sup></td>'
HTML = f"""
<table class="deepreg" style="border-collapse:collapse;border:solid;border-width:2px 0;margin:0 0 1em;\
text-align:center;font-variant-numeric:tabular-nums">
<caption style="caption-side:top;padding:.4em">A table</caption>
<thead>
<tr><td></td><th scope="colgroup" colspan="1" style="border-bottom:1px solid;font-weight:normal">One</th>\
<td colspan="2"></td></tr>
<tr><td></td><th {CELL}>OLS</th><th {CELL}>Logit</th><th {CELL}>Bare</th></tr>
<tr><td></td><th scope="col" style="font-weight:normal">(1)</th><th scope="col" style="font-weight:normal">(2)</th>\
<th scope="col" style="font-weight:normal">(3)</th></tr>
</thead>
<tbody style="border-top:1px solid">
<tr><th {NAME}>Treated</th><td>-3.003{STARS}<td>-5.028{STARS}<td>1,234.500</td></tr>
<tr><td></td><td>(0.115)</td><td>(0.548)</td><td></td></tr>
<tr><th {NAME}>C(county)[T.Los Angeles County, California]</th><td>1.025{STARS}\
<td>1.818{STARS}<td></td></tr>
<tr><td></td><td>(0.055)</td><td>(0.270)</td><td></td></tr>
</tbody>
<tbody style="border-top:1px solid">
<tr><th {NAME}>Observations</th><td>300</td><td>300</td><td></td></tr>
<tr><th {NAME}>R²</th><td>0.763</td><td></td><td></td></tr>
</tbody>
</table>
<p style="font-size:smaller;margin:.3em 0;max-width:50em"><i>Notes:</i> In parentheses: heteroskedasticity-robust \
(HC1) standard errors in column 1; classical standard errors in column 2; standard errors in column 3. \
<sup>*</sup> p &lt; 0.10, <sup>**</sup> p &lt; 0.05, <sup>***</sup> p &lt; 0.01.</p>
"""


class Bare(Fit):
    def __init__(self) -> None:
        super().__init__(pvalues=(np.nan,), names=("t",))
        self.params = pd.Series([1234.5], index=["t"])
        self.bse = pd.Series([np.nan], index=["t"])


@pytest.fixture
def table(ols, logit):
    """Long names, a group, a column without errors, commas."""
    return deepreg.etable(
        [ols, logit, Bare()],
        drop="Intercept",
        labels={"t": "Treated", "x": "C(county)[T.Los Angeles County, California]"},
        heads=["OLS", "Logit", "Bare"],
        groups=["One", "", ""],
        stats=["n", "r2"],
        title="A table",
    )


def test_the_text_is_as_it_was_looked_at(table):
    assert str(table) == repr(table) == table.as_text() == TEXT.strip("\n")


def test_the_latex_is_as_it_was_looked_at(table):
    assert table.as_latex(label="tab:a_b") == LATEX.strip("\n").replace(" \\\n", " ")
    assert table._repr_latex_() == table.as_latex()


def test_the_html_is_as_it_was_looked_at(table):
    assert table.as_html() == table._repr_html_() == HTML.strip("\n")


def test_every_format_is_the_same_twice(ols, logit, tmp_path):
    """Byte for byte, from fits made anew."""

    def pages(folder):
        folder.mkdir()
        fit = deepreg.structural("y ~ t | x", DATA).fit(learners="smooth", folds=2, members=1, rng=0, progress=False)
        table = deepreg.etable([smf.ols("y ~ t + x", DATA).fit(), fit], title="Twice")
        made = [table.as_text(), table.as_markdown(), table.as_csv(), table.as_latex(siunitx=True)]
        files = [table.to_latex(folder / "a.tex"), table.to_html(folder / "a.html")]
        if "docx" in sys.modules or _has_docx():
            files.append(table.to_docx(folder / "a.docx"))
        return [*made, *(file.read_bytes() for file in files)]

    assert pages(tmp_path / "one") == pages(tmp_path / "two")


def _has_docx() -> bool:
    try:
        import docx  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def test_latex_fragment_and_caption(table):
    fragment = table.as_latex(fragment=True, caption="no", label="no")
    lines = fragment.splitlines()
    assert lines[0] == r"% Requires: \usepackage{array,booktabs}"
    assert lines[1].startswith(r"\begin{tabular}") and lines[-1] == r"\end{tabular}"
    assert r"\caption{50\% \& more}" in table.as_latex(caption="50% & more")
    assert r"\caption" not in table.as_latex(caption="")
    assert fragment.count(r"\begin{tabular}") == table.as_latex().count(r"\begin{tabular}") == 1
    with pytest.raises(deepreg.OptionError, match="a}b"):
        table.as_latex(label="a}b")


def test_siunitx_is_asked_for_and_its_format_is_computed(table):
    tex = table.as_latex(siunitx=True)
    assert "siunitx" not in table.as_latex()
    assert tex.splitlines()[0] == r"% Requires: \usepackage{array,booktabs,siunitx,threeparttable}"
    assert "S[table-format=-1.3,table-space-text-pre={(}," in tex and "S[table-format=4.3," in tex
    assert "{(}0.115{)}" in tex and "-3.003{$^{***}$}" in tex and "& 1234.500" in tex and "& {300} &" in tex


@pytest.mark.parametrize(
    ("cell", "tex", "si"),
    [
        ("-0.5*", r"\llap{$-$}0.5\rlap{$^{*}$}", "-0.5{$^{*}$}"),
        ("(0.5)", "(0.5)", "{(}0.5{)}"),
        ("(-0.5)", r"\llap{($-$}0.5\rlap{)}", "{(}-0.5{)}"),
        ("(<0.001)", r"\llap{($<$}0.001\rlap{)}", "{($<$}0.001{)}"),
        ("[-1.0, 2.0]", "{[}$-$1.0, 2.0]", "{{[}$-$1.0, 2.0]}"),
        ("1.5e-12**", r"1.5$\times 10^{-12}$\rlap{$^{**}$}", r"{1.5$\times 10^{-12}$\rlap{$^{**}$}}"),
        ("1,234.5", "1,234.5", "1234.5"),
        ("", "", ""),
    ],
)
def test_cells_of_latex(cell, tex, si):
    assert tex_cell(cell) == tex
    assert siunitx_cell(cell) == si


def test_digits_stand_below_digits():
    cells = ["1,234.50**", "(5.5)", "-12.000", "[0, 1]", ""]
    assert on_point(cells) == ["1,234.50**", "   (5.5)   ".removesuffix(" "), "  -12.000 ", "[0, 1]", ""]
    need = widest(cells)
    assert tex_cell("(5.5)", need) == r"\phantom{1,23}(5.5)\phantom{00}"
    assert siunitx_column(cells).startswith("S[table-format=-4.3,")


def test_html_is_small_and_pandas_reads_it_back(ols, logit):
    pytest.importorskip("lxml", reason="lxml is not installed")
    table = deepreg.etable([ols, logit], title="Grades", groups=[], stars=())
    html = table.as_html()
    assert len(html.encode()) < 3000
    assert "<caption" in html and 'scope="col"' in html and 'scope="row"' in html
    read = pd.read_html(io.StringIO(html), index_col=0)[0]
    assert float(read.loc["t"].iloc[0]) == round(ols.params["t"], 3)
    assert read.iloc[1, 1] == f"({logit.bse['t']:.3f})"
    assert float(read.loc["Observations"].iloc[1]) == 300


def test_csv_and_frame_are_unrounded_and_copies(table, ols):
    read = pd.read_csv(io.StringIO(table.as_csv()), index_col=[0, 1])
    assert read.loc[("Treated", "coef"), "(1) OLS"] == ols.params["t"]
    frame = table.to_frame()
    frame.iloc[0, 0] = 99.0
    assert table.to_frame().iloc[0, 0] == ols.params["t"]


class Text(HTMLParser):
    """The texts between the tags of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)

    def handle_data(self, data):
        self.found.append(data)


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_are_shown_as_they_are(name):
    fit = Fit(names=(name, "b"))
    table = deepreg.etable(
        fit, title=name, heads=[name], groups=[name], notes=[name], panels={name: [name, "b"]}, stats=["n"]
    )
    page = Text(table.as_html())
    assert page.tags <= {"table", "caption", "thead", "tbody", "tr", "th", "td", "p", "i", "sup"}
    assert page.found.count(name) == 5
    shown = " ".join(name.split())
    assert all(len(line) <= 78 for line in table.as_text().splitlines())
    flat = table.as_text().replace("\n", "").replace(" ", "")
    assert flat.count(shown.replace(" ", "")) >= 2
    tex = table.as_latex()
    assert not re.search(r"(?<!\\)[%#](?!\sRequires)", tex.split("\n", 1)[1])
    assert table.to_frame().index.get_level_values("row")[0] == name
    for cells in table.as_markdown().splitlines():
        assert cells.count("|") - cells.count(r"\|") in (0, 3)


def test_everything_is_frozen(table):
    with pytest.raises(dataclasses.FrozenInstanceError):
        table.title = "other"


def test_files_are_replaced_whole_or_not_at_all(table, tmp_path, monkeypatch):
    path = tmp_path / "table.tex"
    assert table.to_latex(path, label="a") == path
    assert path.read_text(encoding="utf-8") == table.as_latex(label="a") + "\n"
    assert table.to_html(tmp_path / "table.html").read_text(encoding="utf-8") == table.as_html() + "\n"
    before = path.read_bytes()

    def broken(*args):
        raise OSError("disk full")

    monkeypatch.setattr("deepreg.files.os.replace", broken)
    with pytest.raises(OSError, match="disk full"):
        table.to_latex(path)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["table.html", "table.tex"]


def test_a_word_document_holds_the_table(table, tmp_path):
    docx = pytest.importorskip("docx", reason="python-docx is not installed")
    path = table.to_docx(tmp_path / "table.docx")
    page = docx.Document(str(path))
    (found,) = page.tables
    rows = [[cell.text for cell in row.cells] for row in found.rows]
    assert rows[1] == ["", "OLS", "Logit", "Bare"]
    assert rows[3] == ["Treated", "−3.003***", "−5.028***", "1,234.500"]
    assert rows[4] == ["", "(0.115)", "(0.548)", ""]
    assert rows[-1] == ["R²", "0.763", "", ""]
    assert page.paragraphs[0].text == "A table"
    assert page.paragraphs[-1].text.endswith("*** p < 0.01.")
    assert {info.date_time[0] for info in zipfile.ZipFile(path).infolist()} == {1980}


def test_only_numbers_of_a_word_document_have_a_minus_sign(tmp_path):
    docx = pytest.importorskip("docx", reason="python-docx is not installed")
    from deepreg.report.word import document

    numbers = ["-1,234.5**", "(-0.5)", "[-1.0, -0.5]", "-1.5e-12", "(1.5e-12)", "-inf", "(<0.001)", "-.5", "12"]
    words = ["(non-linear)", "[two-stage]", "-not a number-", "Estimates (non-linear)", "e-e", "(2) two-way", "1-2", ""]
    cells = [*numbers, *words]
    heads = [["(log-linear)", *cells[1:]]]
    (tmp_path / "a.docx").write_bytes(document("", (), heads, [[("first-stage", cells)]], "", ()))
    (found,) = docx.Document(str(tmp_path / "a.docx")).tables
    assert found.rows[0].cells[1].text == "(log-linear)"
    name, *shown = (cell.text for cell in found.rows[1].cells)
    assert name == "first-stage"
    assert shown == [*(text.replace("-", "−") for text in numbers), *words]


def test_without_python_docx_the_extra_is_named(table, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "docx", None)
    monkeypatch.delitem(sys.modules, "deepreg.report.word", raising=False)
    with pytest.raises(deepreg.NotAvailable, match=r"deepreg-structural\[docx\]"):
        table.to_docx(tmp_path / "table.docx")


def test_columns_that_do_not_fit_continue_below(ols):
    text = deepreg.etable([ols] * 12).as_text()
    assert max(map(len, text.splitlines())) <= 78
    assert all(f"({i})" in text for i in range(1, 13))
    assert text.count("Observations") == 2


def test_a_part_has_the_rows_of_its_own_columns():
    last = Fit(names=("a", "alone"))
    last.bse = pd.Series([0.5, np.nan], index=last.bse.index)  # no error, so an empty cell below
    models = [Fit(names=("a", "b"))] * 11 + [last]
    for options in ({}, {"panels": {"Panel A": ["a"], "Panel B": ["b"], "Panel C": ["alone"]}}):
        text = deepreg.etable(models, **options).as_text()
        parts = re.split(r"^=+$", text, flags=re.MULTILINE)[1:-1]
        assert len(parts) > 1
        for i, part in enumerate(parts):
            final = i == len(parts) - 1
            assert ("alone" in part) == ("Panel C" in part if options else final) == final
            assert re.search("^a ", part, re.MULTILINE)
            assert final or not re.search(r"^ *$", part.strip("\n"), re.MULTILINE)
    assert "Panel B" in parts[0]


def test_the_callers_templates_come_first(table, tmp_path):
    (tmp_path / "etable.html.j2").write_text("<b>{{ table.title }}</b>", encoding="utf-8")
    assert table.as_html(templates=tmp_path) == "<b>A table</b>"


def test_the_page_shows_the_table_it_prints(tmp_path, monkeypatch):
    page = (Path(__file__).parent.parent / "docs" / "how-to" / "tables-for-papers.md").read_text(encoding="utf-8")
    shown = re.search(r"<!-- etable: begin -->\n```text\n(.*?)\n```\n<!-- etable: end -->", page, re.DOTALL)
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)[:2]
    names = {}
    monkeypatch.chdir(tmp_path)
    exec("\n".join(blocks), names)
    assert shown[1] == str(names["table"])


def test_rows_left_out_on_purpose_are_not_called_missing():
    chosen = deepreg.structural("y ~ t", DATA, subset="x > 0").fit()
    assert not [note for note in deepreg.etable(chosen).notes if "missing" in note]
    assert deepreg.etable(chosen).fit[0].cells == (f"{(DATA.x > 0).sum()}",)


def test_what_all_models_remark_is_said_once_and_names_no_column(fitted):
    notes = deepreg.etable([fitted, fitted]).notes
    assert "n = 293 after dropping 7 rows with missing values." in notes
    assert not any("olumn" in note for note in notes)
