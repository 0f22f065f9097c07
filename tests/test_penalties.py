"""Penalties that see all rows: their minima, the errors that count what a row does to them, and what they refuse."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf
import torch
from references import reference

import deepreg
from deepreg import RateGap, Rounding, penalties
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.penalties.rates import RATES, rates

N = 400
RNG = np.random.default_rng(7)
DATA = pd.DataFrame({"x": RNG.normal(size=N), "z": RNG.normal(size=N), "g": RNG.choice(["a", "b", "c"], size=N)})
DATA["b"] = (DATA.g == "b") * 1
DATA["w"], DATA["firm"] = RNG.integers(1, 4, N), RNG.integers(40, size=N)
DATA["y"] = (DATA.x + 0.5 * DATA.z + 0.8 * DATA.b + RNG.logistic(size=N) > 0) * 1
DATA["n"] = RNG.poisson(np.exp(0.3 * DATA.x))
DATA["v"] = 1.8 * DATA.x + 1.2 * DATA.z + 0.4 + RNG.normal(size=N)
FORMULA = "y ~ x + z + b"
NOTHING = penalties.from_function(lambda seen: 0 * seen.loss)


def fit(penalty, start="unpenalised", data=DATA, formula=FORMULA, family="logit", **options):
    return deepreg.structural(formula, data, family, penalty=penalty, **options).fit(start=start)


def false_positives(result, data=DATA, threshold=0.5):
    flagged = (result.predict(data) > threshold)[data.y == 0]
    return flagged.groupby(data.g[data.y == 0]).mean()


# ---- the plain fit


@pytest.mark.parametrize(
    ("family", "options"),
    [("linear", {"vcov": "HC0"}), ("logit", {"weights": "w"}), ("poisson", {"cluster": "firm"})],
    ids=str,
)
def test_of_sums_the_jackknife_is_the_sandwich(family, options):
    formula = {"linear": "v ~ x + z", "logit": "y ~ x + z", "poisson": "n ~ x + z"}[family]
    plain = deepreg.structural(formula, DATA, family, **options).fit()
    ours = fit(NOTHING, None, formula=formula, family=family, **options)
    np.testing.assert_allclose(ours.params, plain.params, rtol=1e-9)
    np.testing.assert_allclose(ours.cov_params(), plain.cov_params(), rtol=1e-8)
    np.testing.assert_allclose(ours.estimate("ame").cov, plain.estimate("ame").cov, rtol=1e-8)


def test_a_gap_of_no_strength_is_the_plain_fit():
    plain = deepreg.structural(FORMULA, DATA, "logit").fit()
    for form in ("squared", "absolute", "nij"):
        ours = fit(RateGap("fpr", "g", strength=0.0, form=form), None)
        np.testing.assert_allclose(ours.params, plain.params, rtol=1e-9)
        np.testing.assert_allclose(ours.bse, plain.bse, rtol=1e-9)


# ---- errors


def test_influence_values_are_what_a_small_change_of_one_weight_does():
    gap, step = RateGap("fdr", "g", strength=2.0, tau=0.1), 1e-4
    result = fit(gap, weights="w")
    psi = result.averages.psi[0].numpy()  # (n, P)
    share = (DATA.w / DATA.w.sum()).to_numpy()
    for row in (0, 5, 11):
        ends = []
        for sign in (1, -1):
            moved = DATA.assign(w=DATA.w * (1.0 + sign * step * (DATA.index == row)))
            ends.append(fit(gap, data=moved, weights="w").params.to_numpy())
        slope = (ends[0] - ends[1]) / (2 * step)
        np.testing.assert_allclose((psi[row] - result.params) * share[row], slope, rtol=2e-4, atol=1e-7)


def test_clusters_sum_what_their_rows_do():
    result = fit(RateGap("fpr", "g", strength=2.0), cluster="firm")
    psi = result.averages.psi[0].numpy() - result.params.to_numpy()
    sums = pd.DataFrame(psi / N).groupby(DATA.firm).sum().to_numpy()
    groups, k = len(sums), len(result.params)
    factor = groups / (groups - 1) * (N - 1) / (N - k)
    np.testing.assert_allclose(result.cov_params(), factor * sums.T @ sums, rtol=1e-9)


def test_a_row_of_weight_two_is_two_rows():
    gap = RateGap("fpr", "g", strength=3.0)
    weighted = fit(gap, weights="w")
    repeated = fit(gap, data=DATA.loc[DATA.index.repeat(DATA.w)].reset_index(drop=True))
    np.testing.assert_allclose(weighted.params, repeated.params, rtol=1e-8)


def test_errors_are_those_of_the_bootstrap_and_not_of_the_scores_of_the_rows_alone():
    data = pd.read_csv(reference("classical", "fair", "NIJRecid.csv")).query("Training_Sample == 1").iloc[:4000]
    known = pd.read_csv(reference("classical", "fair", "ij_vs_bootstrap.csv")).set_index("name")
    names = list(known.index[1:])
    data = data.assign(**(data[names] - data[names].mean()) / data[names].std(), group=data.Race)
    gap = RateGap("fpr", "group", threshold=0.25, tau=0.05)
    formula = "Recidivism_Arrest_Year1 ~ " + " + ".join(names)
    result = deepreg.logit(formula, data, loss="brier", penalty=gap, vcov="HC0").fit(start="unpenalised")
    np.testing.assert_allclose(result.params, known.coef, atol=1e-9)
    np.testing.assert_allclose(result.bse, known.se_ij, rtol=1e-8)
    assert result.bse["Race"] == pytest.approx(known.se_boot200["Race"], rel=0.02)
    assert known.se_ignoring_fair_term_scores["Race"] < 0.62 * result.bse["Race"]


# ---- gaps


def test_rates_are_shares_of_weights():
    s, y = torch.rand(N, generator=torch.Generator().manual_seed(0)).double(), torch.tensor(DATA.y.to_numpy(float))
    w = torch.tensor(DATA.w.to_numpy(float))
    counted = {"false positive": s * (1 - y), "true positive": s * y, "flagged": s, "right": s * y + (1 - s) * (1 - y),
               "false negative": (1 - s) * y, "true negative": (1 - s) * (1 - y), "positive": y, "negative": 1 - y,
               "cleared": 1 - s, "all": 1 + 0 * s}  # fmt: skip
    for name, (above, below) in RATES.items():
        expected = (w * counted[above]).sum() / (w * counted[below]).sum()
        assert float(rates(name, s, y, w[None])[0]) == pytest.approx(float(expected)), name


@pytest.mark.parametrize(("form", "strength"), [("squared", 30.0), ("absolute", 1.0), ("nij", 1.0)])
def test_a_strong_penalty_closes_the_gap_of_three_groups(form, strength):
    before = false_positives(deepreg.structural(FORMULA, DATA, "logit").fit())
    after = false_positives(fit(RateGap("fpr", "g", strength=strength, form=form)))
    assert np.ptp(before) > 0.22 and np.ptp(after) < 0.06


def test_without_a_flag_that_can_be_differentiated_nothing_would_be_learned():
    gap = RateGap("fpr", "g", strength=1.0)
    plain = deepreg.structural(FORMULA, DATA, "logit").fit()
    moved = fit(gap).params - plain.params
    assert moved["b"] < -plain.bse["b"]  # a hard threshold has no gradient, and stays at the plain fit


def test_the_form_of_the_nij_is_one_less_the_product():
    gap = RateGap("fpr", "g", strength=1.0, form="nij", tau=0.05)
    result = deepreg.logit(FORMULA, DATA, loss="brier", penalty=gap).fit(start="unpenalised")
    seen = result.predict(DATA)
    soft = 1 / (1 + np.exp(-(seen - 0.5) / 0.05))[DATA.y == 0]
    soft = soft.groupby(DATA.g[DATA.y == 0]).mean()
    gaps = [np.sqrt((soft[i] - soft[j]) ** 2 + 0.05**4) - 0.05**2 for i, j in ("ab", "ac", "bc")]
    brier = ((seen - DATA.y) ** 2).mean()
    loss, paid = (float(one) for one in dict(result.facts.header)["Mean loss, penalty:"].split(", "))
    assert loss == pytest.approx(brier, rel=1e-5)
    assert 1 - loss - paid == pytest.approx((1 - brier) * (1 - np.mean(gaps)), rel=1e-4)


def test_a_cap_pulls_down_the_groups_above_it_alone():
    plain = deepreg.structural(FORMULA, DATA, "logit").fit()
    equal = false_positives(fit(RateGap("fpr", "g", strength=0.5, cap=0.25)))
    other = false_positives(fit(RateGap("fpr", "g", strength=0.5, cap=0.25, emphasis={"b": 100.0})))
    assert 0.25 < equal["b"] < false_positives(plain)["b"] and other["b"] < equal["b"]
    low = fit(RateGap("fpr", "g", strength=5.0, cap=0.99))
    np.testing.assert_allclose(low.params, plain.params, rtol=1e-6)
    one = fit(RateGap("fpr", "one", strength=50.0, cap=0.1), data=DATA.assign(one="all"))
    assert (one.predict(DATA) > 0.5)[DATA.y == 0].mean() < 0.13


def closed_form(a, y, group, strength):
    """Mohler and Porter (2021): least squares with the squared difference between mean scores of negatives."""
    gap = a[(group == 0) & (y == 0)].mean(0) - a[(group == 1) & (y == 0)].mean(0)
    return np.linalg.solve(a.T @ a / len(a) + strength * np.outer(gap, gap), a.T @ y / len(a))


@pytest.mark.parametrize("strength", [0.1, 1.0, 10.0, 1000.0])
def test_without_a_threshold_the_linear_fit_has_a_closed_form(strength):
    a = np.column_stack([np.ones(N), DATA.x, DATA.z, DATA.b])
    expected = closed_form(a, DATA.y.to_numpy(), DATA.b.to_numpy(), strength)
    gap = RateGap("fpr", "b", threshold=None, strength=strength)
    linear = fit(RateGap("fpr", "b", threshold=None, strength=strength / 2), None, family="linear")  # half the squares
    np.testing.assert_allclose(linear.params, expected, atol=1e-9)
    brier = deepreg.logit(FORMULA, DATA, loss="brier", link="identity", penalty=gap).fit(start="unpenalised")
    np.testing.assert_allclose(brier.params, expected, atol=1e-9)


@pytest.mark.parametrize("strength", ["0.1", "1000"])
def test_the_closed_form_of_the_recidivism_data(strength):
    data = pd.read_csv(reference("classical", "fair", "NIJRecid.csv")).query("Training_Sample == 1")
    known = json.loads(reference("classical", "fair", "fair_reference.json").read_text())["mohler_porter_closed_form"]
    names = list(known[strength])[1:]
    gap = RateGap("fpr", "Race", threshold=None, strength=float(strength) / 2)
    result = deepreg.ols("Recidivism_Arrest_Year1 ~ " + " + ".join(names), data, penalty=gap).fit(start="unpenalised")
    np.testing.assert_allclose(result.params, list(known[strength].values()), atol=1e-9)


def test_the_gap_of_the_recidivism_data_closes_for_a_little_of_the_brier_score():
    data = pd.read_csv(reference("classical", "fair", "NIJRecid.csv"))
    known = json.loads(reference("classical", "fair", "fair_reference.json").read_text())
    names = list(known["logit_mle"]["params"])[1:]
    train, test = data[data.Training_Sample == 1], data[data.Training_Sample == 0]
    gap = RateGap("fpr", "Race", threshold=0.25, strength=10.0, tau=0.01)
    model = deepreg.logit("Recidivism_Arrest_Year1 ~ " + " + ".join(names), train, loss="brier", penalty=gap)
    begin = np.array(known["brier_lbfgs"]["theta_standardized"])
    begin[1:] /= train[names].std()
    begin[0] -= begin[1:] @ train[names].mean()
    result = model.fit(start=dict(zip(["Intercept", *names], begin, strict=True)))
    scaled = np.r_[result.params.iloc[0] + result.params.iloc[1:] @ train[names].mean(),
                   result.params.iloc[1:] * train[names].std()]  # fmt: skip
    smooth, plain = known["smooth_additive_lam10"], known["brier_lbfgs"]["train"]["0.25"]
    np.testing.assert_allclose(scaled, smooth["theta_standardized"], atol=2e-5)  # theirs stopped at 1e-5
    found = deepreg.fairness(result, test, group="Race", thresholds=[0.25, 0.5])
    for sample in ("train", "test"):
        ours = found.parity(0.25, "train" if sample == "train" else "holdout").value
        assert ours["false_positive_rate_difference"] == pytest.approx(smooth[sample]["0.25"]["fpr_diff"], abs=1e-9)
    assert plain["fpr_diff"] == pytest.approx(0.1026, abs=5e-5)
    assert found.parity(0.25, "train").value["false_positive_rate_difference"] < 5e-5
    brier = found.frame().query("metric == 'brier' and sample == 'train'").value.iloc[0]
    assert brier - plain["brier"] == pytest.approx(0.0003, abs=5e-5)


# ---- rounding


def test_rounding_holds_coefficients_at_whole_numbers_and_frees_the_others():
    result = fit(Rounding(0.3), formula="v ~ x + z", family="linear", vcov="HC0")
    np.testing.assert_allclose(result.params[["x", "z"]], [2, 1], atol=1e-12)
    other = smf.ols("I(v - 2 * x - z) ~ 1", DATA).fit(cov_type="HC0")
    assert result.params.Intercept == pytest.approx(other.params.Intercept, rel=1e-12)
    assert result.bse.Intercept == pytest.approx(other.bse.Intercept, rel=1e-9)
    assert result.bse[["x", "z"]].isna().all() and "Held by the penalty, with no error: x, z" in str(result.summary())
    loose = fit(Rounding(0.01), formula="v ~ x + z", family="linear")
    assert not (loose.params[["x", "z"]] % 1 == 0).any() and loose.bse.notna().all()
    plain = deepreg.ols("v ~ x + z", DATA).fit().params
    halves = fit(Rounding(0.3, step=0.5), formula="v ~ x + z", family="linear").params
    np.testing.assert_allclose(halves[["x", "z"]], (plain[["x", "z"]] * 2).round() / 2, atol=1e-12)


def test_the_start_decides_between_whole_numbers_and_both_are_told():
    far = {"Intercept": 0.0, "x": 5.0, "z": -3.0}
    best = fit(Rounding(0.3), None, formula="v ~ x + z", family="linear")
    assert "from the fit without the penalty" in str(best.facts.notes)
    stuck = fit(Rounding(50.0), far, formula="v ~ x + z", family="linear")
    np.testing.assert_allclose(stuck.params[["x", "z"]], [5, -3], atol=1e-12)
    np.testing.assert_allclose(best.params[["x", "z"]], [2, 1], atol=1e-12)


@pytest.mark.parametrize("strength", ["0.05", "0.4"])
def test_from_the_plain_fit_rounding_finds_the_exact_minimum_of_the_doctor_visits(strength):
    place = reference("classical", "ols_glm")
    data = pd.read_csv(next(Path(place).glob("drvisits*.csv")))
    known = json.loads(reference("classical", "integer", "integer_reference.json").read_text())
    names, exact = known["vars"], known[f"penalized_global_lam{strength}"]
    data[names] = (data[names] - data[names].min()) / (data[names].max() - data[names].min())
    formula = "drvisits ~ " + " + ".join(names)
    result = deepreg.ols(formula, data, penalty=Rounding(float(strength) / 2)).fit(start="unpenalised")
    np.testing.assert_allclose(result.params, [exact["intercept"], *exact["coef"]], atol=1e-9)
    assert ((data.drvisits - result.predict()) ** 2).mean() == pytest.approx(exact["mse"], rel=1e-12)


# ---- penalties of one's own


def test_a_ridge_of_ones_own_has_its_closed_form():
    ridge = penalties.from_function(lambda seen: 0.5 * 0.7 * (seen.theta[..., 1:] ** 2).sum(-1))
    result = fit(ridge, formula="v ~ x + z", family="linear")
    a = np.column_stack([np.ones(N), DATA.x, DATA.z])
    expected = np.linalg.solve(a.T @ a / N + 0.7 * np.diag([0, 1, 1]), a.T @ DATA.v / N)
    np.testing.assert_allclose(result.params, expected, rtol=1e-9)


def test_a_penalty_of_ones_own_sees_columns_weights_and_predictions():
    def paid(seen):
        there = torch.tensor((seen.frame["g"] == "c").to_numpy()).to(seen.weight)
        gap = (seen.prediction - seen.y) * there * seen.weight
        return 1e4 * (gap.sum(-1) / (there * seen.weight).sum()) ** 2

    result = fit(penalties.from_function(paid, ["g"]), weights="w")
    inside = DATA.g == "c"
    off = np.average((result.predict(DATA) - DATA.y)[inside], weights=DATA.w[inside])
    plain = np.average((deepreg.logit(FORMULA, DATA, weights="w").fit().predict(DATA) - DATA.y)[inside],
                       weights=DATA.w[inside])  # fmt: skip
    assert abs(off) < 1e-4 < abs(plain)


# ---- what a fit knows of its penalty


def test_bounds_hold_beside_a_penalty():
    free = fit(RateGap("fpr", "g", strength=30.0))
    result = fit(RateGap("fpr", "g", strength=30.0), bounds={"b": (0.5, None)})
    assert free.params["b"] < 0.5 and result.params["b"] == 0.5 and np.isnan(result.bse["b"])
    assert result.certificate.bound == ("b",) and result.certificate.converged


def test_rows_without_a_group_are_left_out_and_counted():
    data = DATA.assign(g=DATA.g.where(DATA.index > 4))
    result = fit(RateGap("fpr", "g"), data=data)
    assert result.nobs == N - 5 and result.design.dropped == {"missing in the penalty": 5}
    with pytest.raises(DataError, match="'g'"):
        deepreg.structural(FORMULA, data, "logit", penalty=RateGap("fpr", "g"), missing="raise")


def test_a_saved_fit_keeps_its_numbers(tmp_path):
    result = fit(RateGap("fpr", "g"))
    for whole in (False, True):
        result.save(tmp_path / "fit.deepreg", data=whole, overwrite=True)
        loaded = deepreg.load(tmp_path / "fit.deepreg")
        np.testing.assert_array_equal(loaded.bse, result.bse)
        assert np.isnan(loaded.aic) and str(loaded.summary()) == str(result.summary())
        with pytest.raises(NotAvailable, match="tradeoff"):
            deepreg.tradeoff(loaded)
    with pytest.raises(NotAvailable, match="infinitesimal jackknife"):
        loaded.vcov("classical")


def test_the_call_can_be_typed_again():
    code = fit(RateGap("fpr", "g", strength=2.0), data=DATA).facts.call.code()
    assert "penalty=deepreg.penalties.RateGap(rate='fpr', group='g', strength=2.0)" in code


REFUSED = {
    "rate": (OptionError, "rate='FPR': allowed are 'fpr'", lambda: RateGap("FPR", "g")),
    "form": (OptionError, "form='max': allowed are 'squared'", lambda: RateGap("fpr", "g", form="max")),
    "strength": (OptionError, "strength=-1: give a number", lambda: RateGap("fpr", "g", strength=-1)),
    "threshold": (OptionError, "threshold='a'", lambda: RateGap("fpr", "g", threshold="a")),
    "tau": (OptionError, "tau=0", lambda: RateGap("fpr", "g", tau=(0.1, 0))),
    "no tau": (OptionError, "tau=''", lambda: RateGap("fpr", "g", tau=())),
    "emphasis": (OptionError, "give cap= too", lambda: RateGap("fpr", "g", emphasis={"a": 2})),
    "group": (OptionError, "name of one column", lambda: RateGap("fpr", ["g"])),
    "step": (OptionError, "step=0", lambda: Rounding(1.0, step=0)),
    "function": (OptionError, "give a function", lambda: penalties.from_function(3)),
    "level": (OptionError, "no level of 'g'", lambda: fit(RateGap("fpr", "g", cap=1, emphasis={"d": 1}))),
    "column": (DataError, "penalty= needs the column 'race'", lambda: fit(RateGap("fpr", "race"))),
    "one level": (DataError, "group='i' has one level, 1", lambda: fit(RateGap("fpr", "i"), data=DATA.assign(i=1))),
    "no negatives": (
        DataError, "group g='b' has no row with outcome 0",
        lambda: fit(RateGap("fpr", "g"), data=DATA.assign(y=DATA.y.where(DATA.g != "b", 1))),
    ),
    "no positives": (
        DataError, "group g='b' has no row with outcome 1",
        lambda: fit(RateGap("fnr", "g"), data=DATA.assign(y=DATA.y.where(DATA.g != "b", 0))),
    ),
    "outcome": (DataError, "0 and 1, but 'v'", lambda: fit(RateGap("fpr", "g"), formula="v ~ x", family="linear")),
    "mean": (
        OptionError, "needs predictions",
        lambda: fit(RateGap("fpr", "g"), family=deepreg.families.from_loss(lambda y, d, t: (y - (d * t).sum(-1)) ** 2)),
    ),
    "means": (OptionError, "one prediction", lambda: fit(RateGap("fpr", "g"), formula="n ~ x", family="multinomial")),
    "number": (OptionError, "L2 penalty on the weights of networks", lambda: fit(1e-3)),
    "class": (OptionError, "deepreg.RateGap", lambda: fit(RateGap)),
    "features": (OptionError, "has features", lambda: fit(Rounding(), formula="y ~ x | z")),
    "fit": (
        OptionError, "given to structural",
        lambda: deepreg.structural("y ~ x | z", DATA, "logit").fit(penalty=RateGap("fpr", "g"), progress=False),
    ),
    "no penalty": (OptionError, "begins at the fit without a penalty", lambda: fit(None)),
    "start": (OptionError, "'elsewhere'", lambda: fit(RateGap("fpr", "g"), "elsewhere")),
    "trainer": (
        OptionError, "trainer= follows",
        lambda: deepreg.logit("y ~ x", DATA, penalty=RateGap("fpr", "g")).fit(trainer=deepreg.Adam()),
    ),
    "classical": (NotAvailable, "infinitesimal jackknife", lambda: fit(RateGap("fpr", "g"), vcov="classical")),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused(case):
    error, message, ask = REFUSED[case]
    with pytest.raises(error, match=message):
        ask()


def test_a_note_says_where_errors_can_be_too_small():
    """First-order errors rest on the rows within tau of the threshold."""
    rough, smooth = (fit(RateGap("fpr", "g", tau=tau), None).facts.notes for tau in (0.02, 0.05))
    assert "with tau=0.02 can be too small" in str(rough) and "too small" not in str(smooth)
    assert "too small" not in str(fit(RateGap("fpr", "g", strength=0.0), None).facts.notes)
