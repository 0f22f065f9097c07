"""What tables say of their standard errors is true, of every library and of every kind of estimate."""

import warnings

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import deepreg
from deepreg import targets
from deepreg.report.covariance import Covariance
from deepreg.results import Results

N = 240
FLM = "Influence-function standard errors (Farrell, Liang and Misra)"


def data() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    x, noise = rng.normal(size=(2, N))
    t, firm, year = np.resize([0, 1], N), np.resize(range(40), N), np.arange(N) // 24
    y = 1 + x + t * (2 + x) + noise
    return pd.DataFrame({"x": x, "t": t, "firm": firm, "year": year, "y": y, "b": (y > 1) * 1})


DATA = data()


def fit(formula: str, family: str = "linear", **kwargs: object) -> Results:
    model = deepreg.structural(formula, DATA, family, **kwargs)
    return model.fit(learners="smooth", folds=2, members=1, rng=0, progress=False)


@pytest.fixture(scope="module")
def structural() -> Results:
    return fit("y ~ t | x", cluster=("firm", "year"))


@pytest.fixture(scope="module")
def constant() -> Results:
    return fit("b ~ t + x", "logit", cluster="firm")


def note(model: object, **options: object) -> str:
    return deepreg.etable(model, stars=(), **options).notes[0].removesuffix(" in parentheses.").removesuffix(",")


def header(model: object) -> str:
    return deepreg.etable(model, stats=["covariance"]).fit[0].cells[0]


def test_estimates_say_what_their_fit_says(structural: Results, constant: Results) -> None:
    two = f"{FLM}, clustered by firm (40 clusters) and by year (10 clusters)"
    one = "Standard errors clustered by firm (40 clusters)"
    for model, phrase, short in (
        (structural, two, "clustered: firm (40) and year (10)"),
        (structural.vcov("robust"), FLM, "robust"),
        (structural.vcov({"CRV1": "year"}, DATA), f"{FLM}, clustered by year (10 clusters)", "clustered: year (10)"),
        (constant, one, "clustered: firm (40)"),
        (constant.vcov("HC0"), "Heteroskedasticity-robust (HC0) standard errors", "HC0"),
        (constant.vcov("robust"), "Heteroskedasticity-robust (HC1) standard errors", "HC1"),
    ):
        for shown in (model, model.averages, model.ate(), model.averages.select(["t"]), model.t_test("t = 1")):
            assert note(shown) == phrase
            assert header(shown) == short
        assert note(model, effects=True) == phrase
        assert dict(model.summary().header)["Covariance:"] == short


def test_the_variance_of_a_fixed_sample_and_functions_of_estimates_are_named(
    structural: Results, constant: Results
) -> None:
    robust, hetero = structural.vcov("robust"), constant.vcov("robust")
    assert note(robust.ate(sample="fixed")) == f"{FLM} given the features"
    assert note(hetero.get_margeff()) == "Heteroskedasticity-robust (HC1) standard errors given the regressors"
    assert note(constant.get_margeff()) == "Standard errors given the regressors, clustered by firm (40 clusters)"
    ratio = structural.vcov("robust").t_test("t/Intercept = 1")
    assert note(ratio) == f"{FLM} by the delta method"
    assert note(constant.averages.map(lambda v: v[:1] ** 2, ["s"])) == (
        "Standard errors by the delta method, clustered by firm (40 clusters)"
    )
    both = constant.get_margeff().map(lambda v: v[:1] ** 2, ["s"]).linear(np.eye(1), np.zeros(1), ["s"])
    assert note(both) == "Standard errors given the regressors by the delta method, clustered by firm (40 clusters)"


def test_a_loaded_result_says_the_same(structural: Results, constant: Results, tmp_path) -> None:  # type: ignore[no-untyped-def]
    for i, model in enumerate((structural, constant, structural.vcov("robust"))):
        for rows in (False, True):
            place = tmp_path / f"{i}{rows}.deepreg"
            model.save(place, data=rows)
            again = deepreg.load(place)
            for ask in (
                lambda r: r, lambda r: r.ate(), lambda r: r.ate(sample="fixed"), lambda r: r.get_margeff(),
                lambda r: r.t_test("t/Intercept = 1"),
            ):  # fmt: skip
                assert note(ask(again)) == note(ask(model))
                assert header(ask(again)) == header(ask(model))


GROUPS = DATA[["firm", "year"]]


@pytest.mark.parametrize("kind", ["ols", "logit", "margins"])
@pytest.mark.parametrize(
    ("groups", "short", "long"),
    [
        (DATA.firm, "clustered: firm (40)", "clustered by firm (40 clusters)"),
        (DATA[["firm"]], "clustered: firm (40)", "clustered by firm (40 clusters)"),
        (DATA.firm.to_numpy(), "clustered (40)", "clustered (40 clusters)"),
        (DATA.firm.rename(3), "clustered (40)", "clustered (40 clusters)"),
        (
            GROUPS, "clustered: firm (40) and year (10)",
            "clustered by firm (40 clusters) and by year (10 clusters)",
        ),
        (GROUPS.to_numpy(), "clustered two ways (40 and 10)", "clustered two ways (40 and 10 clusters)"),
        ([DATA.firm, DATA.year], "clustered two ways (40 and 10)", "clustered two ways (40 and 10 clusters)"),
        (GROUPS.set_axis([0, 1], axis=1), "clustered two ways (40 and 10)", "clustered two ways (40 and 10 clusters)"),
    ],
    ids=["Series", "one column", "array", "nameless", "DataFrame", "two columns", "list", "numbered"],
)  # fmt: skip
def test_clusters_of_statsmodels(kind: str, groups: object, short: str, long: str) -> None:
    model = smf.ols("y ~ t + x", DATA) if kind == "ols" else smf.logit("b ~ t + x", DATA)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = model.fit(**({} if kind == "ols" else {"disp": 0}), cov_type="cluster", cov_kwds={"groups": groups})
    shown = found.get_margeff() if kind == "margins" else found
    assert header(shown) == short
    assert note(shown) == (
        f"Standard errors by the delta method, {long}" if kind == "margins" else f"Standard errors {long}"
    )


def test_other_covariances_of_statsmodels() -> None:
    model = smf.ols("y ~ t + x", DATA)
    for options, short, long in (
        ({}, "classical", "Classical standard errors"),
        ({"cov_type": "HC3"}, "HC3", "Heteroskedasticity-robust (HC3) standard errors"),
        ({"cov_type": "HAC", "cov_kwds": {"maxlags": 2}}, "HAC", "HAC standard errors"),
    ):
        assert (header(model.fit(**options)), note(model.fit(**options))) == (short, long)


def test_clusters_of_linearmodels() -> None:
    iv = pytest.importorskip("linearmodels.iv", reason="linearmodels is not installed")
    panel = pytest.importorskip("linearmodels.panel", reason="linearmodels is not installed")
    model = iv.IV2SLS.from_formula("y ~ 1 + x + [t ~ firm]", DATA)
    for options, short, long in (
        ({"cov_type": "unadjusted"}, "classical", "Classical standard errors"),
        ({"cov_type": "robust"}, "robust", "Heteroskedasticity-robust standard errors"),
        ({"cov_type": "kernel"}, "kernel", "Kernel standard errors"),
        ({"cov_type": "clustered", "clusters": DATA.firm}, "clustered (40)", "Standard errors clustered (40 clusters)"),
        (
            {"cov_type": "clustered", "clusters": GROUPS}, "clustered two ways (40 and 10)",
            "Standard errors clustered two ways (40 and 10 clusters)",
        ),
    ):  # fmt: skip
        assert (header(model.fit(**options)), note(model.fit(**options))) == (short, long)
    rows = DATA.set_index(["firm", "year"])
    pooled = panel.PooledOLS.from_formula("y ~ 1 + x", rows).fit(cov_type="clustered", cluster_entity=True)
    assert (header(pooled), note(pooled)) == ("clustered", "Clustered standard errors")


def test_words_of_a_covariance() -> None:
    assert Covariance("").phrase() == "standard errors" and Covariance("").header() == ""
    many = Covariance("cluster", (("", 1234),), structural=True)
    assert (many.header(), many.phrase()) == (
        "clustered (1,234)",
        "influence-function standard errors (Farrell, Liang and Misra), clustered (1,234 clusters)",
    )
    assert Covariance("cluster", (), True).phrase().endswith("(Farrell, Liang and Misra), clustered")


def test_a_difference_between_fits_and_one_target_among_others(structural: Results) -> None:
    ols = smf.ols("y ~ t", DATA).fit()
    assert note(structural.vcov("robust").compare(ols).difference) == FLM
    assert note(structural.vcov("robust").estimate(targets.ATE("t"), "coefficient")) == FLM
