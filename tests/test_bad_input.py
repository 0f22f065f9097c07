"""What a user may get wrong: each mistake has an error of the package that names it and says what to type instead."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

import deepreg
from deepreg import targets
from deepreg.errors import DataError, DeepregError, DeepregWarning, FormulaError, NotAvailable, OptionError

N = 80
FAST: dict[str, Any] = {"folds": 2, "members": 1, "rng": 0, "progress": False}


def frame(**changes: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    x, u = rng.normal(size=(2, N))
    d = (rng.uniform(size=N) < 0.5) * 1
    y = 1 + x + d * (1 + x) + rng.normal(size=N)
    data = {
        "y": y, "d": d, "t": rng.normal(3, 1, N), "x": x, "u": u, "b": (y > 1) * 1, "c": rng.poisson(2, N),
        "g": np.arange(N) % 20, "arm": np.resize(["a", "b", "c"], N), "w": rng.uniform(0.5, 2, N), "one": 1.0,
        "s": "text",
    }  # fmt: skip
    return pd.DataFrame(data).assign(**changes)


def fit(formula: str = "y ~ d | x", data: Any = None, options: dict[str, Any] | None = None, **kwargs: Any) -> Any:
    return deepreg.structural(formula, frame() if data is None else data, **kwargs).fit(**{**FAST, **(options or {})})


def at(row: int, column: str, value: float) -> pd.DataFrame:
    return frame(**{column: lambda f: f[column].astype(float).where(f.index != row, value)})


def refuses(error: type[DeepregError], words: tuple[str, ...], call: Callable[[], object]) -> None:
    with pytest.raises(error) as caught:
        call()
    assert type(caught.value) is error
    for word in words:
        assert word in str(caught.value), f"{word!r} is not in: {caught.value}"


DATA: dict[str, tuple[type[DeepregError], tuple[str, ...], dict[str, Any]]] = {
    "a missing value": (DataError, ("'x' in 1", "missing='drop'"), {"data": at(3, "x", np.nan), "missing": "raise"}),
    "an infinite value": (DataError, ("'x' in 1", "missing='drop'"), {"data": at(3, "x", np.inf), "missing": "raise"}),
    "no such feature": (DataError, ("'z'", "no such column", "'arm'"), {"formula": "y ~ d | z"}),
    "no such outcome": (DataError, ("'z'", "no such column"), {"formula": "z ~ d | x"}),
    "a text outcome": (DataError, ("'s' is text", "I(s == 'text')"), {"formula": "s ~ d | x"}),
    "three classes": (DataError, ("'c' has", "family='linear'"), {"formula": "c ~ d | x", "family": "logit"}),
    "one class": (DataError, ("both 0 and 1 in 'one'", "is 1"), {"formula": "one ~ d | x", "family": "logit"}),
    "negative counts": (DataError, ("'y' has", "subset='y >= 0'"), {"family": "poisson"}),
    "all counts 0": (DataError, ("'c' above 0", "subset"), {
        "formula": "c ~ d | x", "family": "poisson", "data": frame(c=0)}),
    "a constant outcome": (DataError, ("'one' is 1 in all 80 rows", "subset"), {"formula": "one ~ d | x"}),
    "digits lost": (DataError, ("'c' is", "to 12 digits", "subtract"), {
        "formula": "c ~ d | x", "data": frame(c=2**62 + np.arange(N))}),
    "a huge outcome": (DataError, ("'y' has values as large as", "other units"), {"data": frame(y=frame().y * 1e200)}),
    "a constant treatment": (DataError, ("'one'", "only one value in the 80 rows"), {"formula": "y ~ one | x"}),
    "constant features": (DataError, ("features", "(one)", "drop the bar"), {"formula": "y ~ d | one"}),
    "a level once": (DataError, ("arm=z occurs in 1 rows", "Merge rare levels"), {
        "formula": "y ~ arm | x", "data": frame(arm=["z", *frame().arm[1:]])}),
    "too many terms": (DataError, ("C(g) + x + t", "make 17 columns, but only 15 rows"), {
        "formula": "y ~ C(g) + x + t", "data": frame().iloc[:15]}),
    "as many terms as rows": (DataError, ("4 rows are used for the 4 coefficients Intercept, d, x, t", "fewer terms"), {
        "formula": "y ~ d + x + t", "data": frame().iloc[:4]}),
    "collinear terms": (DataError, ("collinear", "'I(2 * t)'", "'t'"), {"formula": "y ~ t + I(2 * t)"}),
    "a zero weight": (DataError, ("'w'", "1 are zero", "subset='w > 0'"), {"data": at(3, "w", 0), "weights": "w"}),
    "a negative weight": (DataError, ("'w'", "1 negative", "'w > 0'"), {"data": at(3, "w", -1), "weights": "w"}),
    "weights of text": (DataError, ("'s' are not numbers",), {"weights": "s"}),
    "no such weights": (DataError, ("weights='nope'", "Known: 'y'"), {"weights": "nope"}),
    "no such cluster": (DataError, ("cluster='nope'", "Known: 'y'"), {"cluster": "nope"}),
    "one cluster": (DataError, ("cluster='one' has one cluster in the 80 rows", "vcov='robust'"), {"cluster": "one"}),
    "fewer clusters than folds": (DataError, ("2 folds need at least 4 clusters, but there are 3", "folds="), {
        "cluster": "arm"}),
    "separation": (DataError, ("family='logit'", "separated", "x", "Drop"), {
        "formula": "b ~ x", "family": "logit", "data": frame(b=(frame().x > 0) * 1)}),
    "a treatment among the features": (FormulaError, ("'d' stands on both sides",), {"formula": "y ~ d | d + x"}),
    "a treatment its features decide": (DataError, ("decide sign", "of 80 rows", "subset="), {
        "formula": "y ~ sign | x", "data": frame(sign=(frame().x > 0) * 1)}),
    "no rows": (DataError, ("No rows are left of 80", "80 subset"), {"subset": "x > 99"}),
    "more folds than rows": (DataError, ("100 folds need at least 200 rows", "80"), {"options": {"folds": 100}}),
    "five folds of eight rows": (DataError, ("5 folds need at least 10 rows", "8"), {
        "data": frame().iloc[:8], "options": {"folds": 5}}),
    "no table": (DataError, ("type list", "pandas or polars"), {"data": [1, 2]}),
}  # fmt: skip

OPTIONS: dict[str, tuple[type[DeepregError], tuple[str, ...], dict[str, Any]]] = {
    "a misspelt family": (OptionError, ("family='logitt'", "Did you mean family='logit'"), {"family": "logitt"}),
    "an unknown covariance": (OptionError, ("vcov='HC7'", "'robust', 'HC1', 'HC0'"), {"vcov": "HC7"}),
    "a list of covariances": (OptionError, ("vcov=['g']", "'robust'"), {"vcov": ["g"]}),
    "another clustering": (OptionError, ("{'CRV3': 'g'}", "{'CRV1': 'column'}"), {"vcov": {"CRV3": "g"}}),
    "clusters twice": (OptionError, ("cluster= and vcov=",), {"vcov": {"CRV1": "g"}, "cluster": "g"}),
    "clusters not given": (OptionError, ("vcov='cluster' needs clusters", "cluster="), {"vcov": "cluster"}),
    "equal variances": (NotAvailable, ("vcov='iid'", "functions of features", "vcov='robust'"), {"vcov": "iid"}),
    "three clusterings": (OptionError, ("['g', 'arm', 'c']", "('firm', 'year')"), {"cluster": ["g", "arm", "c"]}),
    "missing=": (OptionError, ("missing='keep'", "missing='drop'"), {"missing": "keep"}),
    "assignment=": (OptionError, ("assignment=0.5", "KnownLaw(probability=...)"), {"assignment": 0.5}),
    "one fold": (OptionError, ("folds=1", "at least 2"), {"options": {"folds": 1}}),
    "half a fold": (OptionError, ("folds=2.5", "whole number"), {"options": {"folds": 2.5}}),
    "no member": (OptionError, ("members=0", "at least 1"), {"options": {"members": 0}}),
    "no repeat": (OptionError, ("repeats=0", "at least 1"), {"options": {"repeats": 0}}),
    "a negative penalty": (OptionError, ("penalty=-1", "0 or more"), {"options": {"penalty": -1}}),
    "an unknown device": (OptionError, ("device='gpu'", "'auto', 'cpu'"), {"options": {"device": "gpu"}}),
    "an unknown Hessian": (OptionError, ("hessian='exact'", "'regressed'"), {"options": {"hessian": "exact"}}),
    "two thirds of a split": (OptionError, ("folds=2", "folds=3"), {"options": {"hessian": "regressed"}}),
}


@pytest.mark.parametrize("case", DATA | OPTIONS)
def test_a_fit_refuses(case: str) -> None:
    error, words, kwargs = (DATA | OPTIONS)[case]
    refuses(error, words, lambda: fit(**kwargs))


ASKED: dict[str, tuple[type[DeepregError], tuple[str, ...], str, Callable[[Any], object]]] = {
    "a misspelt target": (OptionError, ("'atte'", "Did you mean 'att'"), "d", lambda r: r.estimate("atte")),
    "no target": (OptionError, ("needs a target", "estimate('ate')"), "d", lambda r: r.estimate()),
    "another sample": (OptionError, ("sample='fix'", "'fixed'"), "d", lambda r: r.ate(sample="fix")),
    "levels of a number": (OptionError, ("t is continuous", "ATE('t', hi="), "t", lambda r: r.ate()),
    "levels of a named number": (DataError, ("'t' is continuous", "AME('t')"), "t",
                                 lambda r: r.estimate(targets.ATE("t"))),
    "slope of a category": (OptionError, ("arm has levels", "estimate('ate')"), "arm", lambda r: r.estimate("ame")),
    "slope of a named one": (OptionError, ("'arm' is not a number", "ATE('arm')"), "arm",
                             lambda r: r.estimate(targets.AME("arm"))),
    "an unknown variable": (OptionError, ("ATE('z')", "are 'd'"), "d", lambda r: r.estimate(targets.ATE("z"))),
    "half a contrast": (OptionError, ("ATE('d', hi=1, lo=None)", "lo="), "d",
                        lambda r: r.estimate(targets.ATE("d", hi=1))),
    "no contrast": (OptionError, ("hi=1, lo=1", "different"), "d", lambda r: r.estimate(targets.ATE("d", 1, 1))),
    "an unseen level": (DataError, ("'arm' has level 'q'", "'a', 'b', 'c'"), "arm",
                        lambda r: r.estimate(targets.ATE("arm", "q", "a"))),
    "text for a number": (DataError, ("'t' was a number", "'a'"), "t", lambda r: r.estimate(targets.ATE("t", "a", 0))),
    "NaN for a number": (DataError, ("finite", "'t'"), "t", lambda r: r.estimate(targets.ATE("t", np.nan, 0))),
    "a slope at text": (OptionError, ("AME('t', at='a')", "a number"), "t",
                        lambda r: r.estimate(targets.AME("t", at="a"))),  # type: ignore[arg-type]
    "a mean at no level": (DataError, ("'t' is continuous", "Mean('t', at=[...])"), "t",
                           lambda r: r.estimate(targets.Mean("t"))),
    "means of a number": (OptionError, ("t is continuous", "Mean('t', at="), "t", lambda r: r.estimate("mean")),
    "a mean at nothing": (OptionError, ("at=[]", "one value of t"), "t",
                          lambda r: r.estimate(targets.Mean("t", at=[]))),
    "a mean of nothing": (OptionError, ("Mean(at=[1])", "name"), "t", lambda r: r.estimate(targets.Mean(at=[1]))),
    "a mean at an unseen level": (DataError, ("'arm' has level 'q'",), "arm",
                                  lambda r: r.estimate(targets.Mean("arm", at=["a", "q"]))),
    "no step": (OptionError, ("step=0", "above 0"), "t", lambda r: r.estimate(targets.AME("t", step=0))),
    "three levels treated": (DataError, ("ATT('arm')", "ATT('arm', hi='b', lo='a')"), "arm",
                             lambda r: r.estimate("att")),
    "nobody treated": (DataError, ("no row has d = 2",), "d", lambda r: r.estimate(targets.ATT("d", 2, 0))),
    "an unknown coefficient": (OptionError, ("'q'", "Intercept, d"), "d",
                               lambda r: r.estimate(targets.Coefficient("q"))),
    "a hypothesis": (OptionError, ("'q = 1' cannot be read", "Intercept, d"), "d", lambda r: r.t_test("q = 1")),
    "redundant hypotheses": (OptionError, ("2 restrictions are linearly dependent",), "d",
                             lambda r: r.wald_test("d = 0, 2*d = 0")),
    "alpha": (OptionError, ("alpha=5", "0.05"), "d", lambda r: r.conf_int(5)),
    "alpha of a summary": (OptionError, ("alpha=95", "0.05"), "d", lambda r: r.summary(alpha=95)),
    "margins at": (OptionError, ("at='means'", "'overall'", "'mean'"), "d", lambda r: r.get_margeff(at="means")),
    "a covariance": (OptionError, ("needs clusters", "cluster='column'"), "d", lambda r: r.vcov("cluster")),
    "a missing column": (DataError, ("the column 'x'", "Known: 'd'"), "d", lambda r: r.predict(frame()[["d"]])),
    "groups": (OptionError, ("groups has 1 labels", "80 rows"), "d", lambda r: r.ate().by([1])),
}  # fmt: skip


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    return {name: fit(f"y ~ {name} | x") for name in ("d", "t", "arm")}


@pytest.mark.parametrize("case", ASKED)
def test_results_refuse(case: str, fitted: dict[str, Any]) -> None:
    error, words, treatment, call = ASKED[case]
    refuses(error, words, lambda: call(fitted[treatment]))


@pytest.mark.parametrize("ask", ["ate", "cate", "get_margeff"])
def test_effects_without_a_treatment(ask: str) -> None:
    res = deepreg.structural("y ~ 1", frame()).fit()
    refuses(OptionError, ("'y ~ 1' has no variable", "'y ~ t'"), lambda: getattr(res, ask)())
    assert "Intercept" in res.summary().as_text()


# odd, but not wrong


def test_dropped_rows_are_counted() -> None:
    data = at(3, "x", np.nan).assign(y=lambda f: f.y.where(f.index != 5, -np.inf))
    res = fit(data=data)
    assert res.nobs == N - 2 and dict(res.design.dropped) == {"missing outcome": 1, "missing regressors": 1}
    assert "Dropped rows:" in res.summary().as_text()


def test_a_duplicated_index() -> None:
    data = frame().set_index(pd.Index(np.zeros(N, dtype=int), name="id"))
    pd.testing.assert_index_equal(fit(data=data).cate().index, data.index)


def test_equal_weights_are_no_weights() -> None:
    a, b = fit(), fit(weights="one")
    np.testing.assert_allclose(b.params, a.params, rtol=1e-6)
    np.testing.assert_allclose(b.bse, a.bse, rtol=1e-6)


@pytest.mark.parametrize(
    "changes",
    [
        {"y": (frame().y * 10).astype("int8"), "d": frame().d.astype("int8"), "x": (frame().x * 40).astype("int8")},
        {"d": frame().d.astype("uint8")},
        {"x": 2**53 + frame().c.astype("int64") * 2**45},
        {"x": frame().x.where(frame().index != 3, 1e9)},
        {"x": (np.arange(N) == 0) * 1},
    ],
    ids=["small integers", "unsigned", "large integers", "an outlier", "constant in a fold"],
)
def test_odd_columns_give_finite_tables(changes: dict[str, Any]) -> None:
    res = fit(data=frame(**changes))
    assert np.isfinite(res.params).all() and (res.bse > 0).all() and np.isfinite(res.cate()).all().all()
    effect = res.cate()["d"]
    plain = fit(data=frame(**{k: np.asarray(v).astype(float) for k, v in changes.items()}))
    np.testing.assert_allclose(effect, plain.cate()["d"], rtol=1e-6, atol=1e-8)


def test_unsigned_treatments_do_not_wrap_around() -> None:
    res = deepreg.structural("y ~ k", frame(k=(frame().c % 3).astype("uint8"))).fit()
    wide = deepreg.structural("y ~ k", frame(k=(frame().c % 3).astype("int64"))).fit()
    np.testing.assert_allclose(res.ate().value, wide.ate().value, rtol=1e-12)


def test_a_handful_of_rows() -> None:
    res = fit(data=frame().iloc[:8])
    assert res.nobs == 8 and (res.bse > 0).all() and np.isfinite(res.conf_int()).all().all()


def test_new_rows_of_an_unseen_level_are_said() -> None:
    res = fit("y ~ d | C(arm)")
    with pytest.warns(DeepregWarning, match="'arm' has level 'z' not seen in training"):
        got = res.predict(frame(arm=["z", *frame().arm[1:]]))
    assert np.isnan(got.iloc[0]) and got.iloc[1:].notna().all()
