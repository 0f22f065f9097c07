"""Group-based trajectories: beside other software, and by identities."""

import json
from typing import Any

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import statsmodels.formula.api as smf
import torch
from outside import outside
from trajectory_data import CURVE, fitted, model, two_curves, unbalanced

from deepreg.errors import OptionError
from deepreg.families import Mixture, get
from deepreg.units import Units

COLUMNS = ("Intercept", "s", "I(s ** 2)")
FITS = {  # log-likelihood by an implementation of its own, and by flexmix where it has the family
    "gaussian": -2235.398487668226,
    "gaussian_risk": -2192.6435844277717,
    "poisson": -3428.289087622226,
    "poisson_risk": -3391.2887217008547,
    "logit": -1128.318265376724,
    "logit_risk": -1091.4311381183793,
    "zip": -4083.4970049206654,
    "zip_risk": -4039.416592179995,
    "cnorm_risk": -3755.740466526816,
}


def block(values: pd.Series, prefix: str, columns: tuple[str, ...], groups: range = range(1, 4)) -> np.ndarray:
    return np.array([[values[prefix.format(k) + one] for one in columns] for k in groups])


# against other software -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", FITS)
def test_the_maximum_is_that_of_an_implementation_of_its_own(name: str) -> None:
    made = fitted(name)
    assert made.llf == pytest.approx(FITS[name], abs=1e-6)
    assert float(made.found.gradient[0]) < 1e-8
    assert float(made.found.smallest[0]) > 1e-4


@pytest.mark.parametrize("name", FITS)
def test_everything_beside_the_reference_implementation(name: str) -> None:
    known = json.loads(outside("classical/gbtm/sim_unbalanced_reference.json").read_text())[name]
    made, robust = fitted(name), fitted(name).vcov("robust")
    order = known["order_by_mean_eta"]
    for column, values in (("beta", made.params), ("beta_se", made.bse), ("beta_rse", robust.bse)):
        np.testing.assert_allclose(block(values, "group {}: ", COLUMNS), np.array(known[column])[order], atol=1e-8)
    if known["nu"]:
        for column, values in (("nu", made.params), ("nu_se", made.bse)):
            ours = block(values, "group {}: zero: ", COLUMNS[:2])
            np.testing.assert_allclose(ours, np.array(known[column])[order], atol=1e-8)
    columns = ("Intercept", "r1", "r2") if "risk" in name else ("Intercept",)
    theirs = np.array(known["gamma"])[order]
    ours = block(made.params, "P(group {}): ", columns, range(2, 4))
    np.testing.assert_allclose(ours, theirs[1:] - theirs[0], atol=1e-8)
    table = made.adequacy().to_frame()
    for column, key in (("pi", "pi_mean"), ("share", "assign_prop"), ("APPA", "appa"), ("OCC", "occ")):
        np.testing.assert_allclose(table[column], np.array(known[key])[order], rtol=1e-7)
    facts = (len(made.params), made.aic, made.bic, made.bic_obs, made.entropy)
    expected = tuple(known[key] for key in ("npar", "aic", "bic_ids", "bic_obs", "rel_entropy"))
    np.testing.assert_allclose(facts, expected, rtol=1e-9)


@pytest.mark.parametrize("name", ["poisson", "poisson_risk", "logit"])
def test_coefficients_and_errors_are_those_of_flexmix(name: str) -> None:
    table = pd.read_csv(outside(f"classical/gbtm/flexmix_{name}.csv"))
    made = fitted(name)
    ours = np.c_[block(made.params, "group {}: ", COLUMNS), block(made.bse, "group {}: ", COLUMNS)]
    groups = table["name"].str.extract(r"Comp\.(\d)_coef")[0]
    theirs = np.array([np.r_[t.coef, t.se] for _, t in table[groups.notna()].groupby(groups[groups.notna()])])
    theirs = theirs[[int(np.abs(theirs[:, :3] - one).sum(1).argmin()) for one in ours[:, :3]]]
    np.testing.assert_allclose(ours[:, :3], theirs[:, :3], atol=6e-6)
    np.testing.assert_allclose(ours[:, 3:], theirs[:, 3:], atol=1.2e-6)


def test_toronto_youths_are_those_of_crimcv() -> None:
    data = pd.read_csv(outside("classical/gbtm/TO1adj_long.csv"))
    options = {"within": "age", "inflate": "age", "starts": 1}
    made = model("y ~ poly(age, 2, raw=True)", data, "zip", 2, **options).fit()
    assert made.llf == pytest.approx(-12418.0967098696, abs=1e-6)
    theirs = pd.read_csv(outside("classical/gbtm/crimCV_TO1adj_zip2_posterior.csv")).to_numpy()
    np.testing.assert_allclose(made.membership()[["group 2", "group 1"]], theirs, atol=1e-8)


def test_the_data_are_those_of_the_reference() -> None:
    theirs = pd.read_csv(outside("classical/gbtm/sim_unbalanced.csv"))
    np.testing.assert_allclose(unbalanced(), theirs[unbalanced().columns], atol=1e-12)


def test_two_curves_are_found_and_persons_told_apart() -> None:
    data = two_curves()
    assert ((data.true - data.y) ** 2).sum() == pytest.approx(0.9370665441703778, rel=1e-12)
    made = model(f"y ~ {CURVE}", data, "gaussian", 2).fit()
    assert made.llf == pytest.approx(2259.8636501116675, abs=1e-6)
    ours = block(made.params, "group {}: ", COLUMNS, range(1, 3))
    np.testing.assert_allclose(ours, [[0, 0, 1.5], [1, 0.5, 0]], atol=0.01)
    found = made.membership()
    np.testing.assert_array_equal(found["group"], 2 - data.groupby("id").group.first())
    assert found[["group 1", "group 2"]].max(axis=1).min() > 1 - 1e-9


# the choice of groups -------------------------------------------------------------------------------------------------
def test_every_criterion_takes_three_groups() -> None:
    choice = model(f"y_poisson ~ {CURVE}", unbalanced()).choose(range(2, 5), folds=2)
    assert choice.best == {"bic": 3, "icl": 3, "cv": 3}
    frame = choice.frame()
    np.testing.assert_allclose(
        frame.loc[3, ["llf", "BIC", "ICL"]].astype(float), [-3428.289088, 6919.319782, 6956.386469]
    )
    np.testing.assert_allclose(frame.loc[2, ["BIC", "entropy"]].astype(float), [7737.808769, 0.966655], rtol=1e-6)
    text = choice.as_text()
    assert "BIC 3, ICL 3, CV 3" in text and "given the choice" in text and "AIC" not in text


def test_held_out_persons_are_judged_by_a_fit_without_them() -> None:
    data = unbalanced()
    made = model(f"y_poisson ~ {CURVE}", data[data.id % 3 != 0], groups=3).fit()
    new = data[data.id % 3 == 0]
    assert made.log_likelihood(new).sum() == pytest.approx(-1223.1488477, abs=1e-6)
    theirs = pd.read_csv(outside("classical/gbtm/sim_poisson_heldout_posterior.csv"), index_col=0)
    np.testing.assert_allclose(made.membership(new).loc[theirs.index].iloc[:, :3], theirs, atol=1e-8)


def test_cross_validation_leaves_whole_persons_out() -> None:
    data = unbalanced().query("id < 20")
    choice = model("y_poisson ~ s", data).choose([1], by="cv", folds=20)  # each person on its own
    poisson = sm.families.Poisson()
    held = 0.0
    for one, rows in data.groupby("id"):
        fit = smf.glm("y_poisson ~ s", data[data.id != one], family=poisson).fit()
        held += poisson.loglike(rows.y_poisson, fit.predict(rows))
    assert choice.frame().loc[1, "CV"] == pytest.approx(held, abs=1e-7)


# identities -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("family", "theirs"), [("poisson", sm.families.Poisson()), ("logit", sm.families.Binomial())])
def test_one_group_is_the_regression_with_errors_by_person(family: str, theirs: Any) -> None:
    data = unbalanced().assign(u=lambda d: np.sin(7 * d.s + d.id))
    glm = smf.glm(f"y_{family} ~ s + I(s**2) + u", data, family=theirs)
    made = model(f"y_{family} ~ s + I(s**2) + u", data, family, 1).fit()
    plain = glm.fit()
    clustered = glm.fit(cov_type="cluster", cov_kwds={"groups": data.id, "use_correction": False})
    names = [f"group 1: {one}" for one in ("Intercept", "s", "I(s ** 2)", "u")]
    assert list(made.params.index) == names
    np.testing.assert_allclose(made.params, plain.params, atol=1e-7)
    np.testing.assert_allclose(made.bse, plain.bse, rtol=1e-5)
    np.testing.assert_allclose(made.vcov("robust").bse, clustered.bse, rtol=1e-5)
    assert made.llf == pytest.approx(plain.llf, abs=1e-7)


def test_curves_and_their_intervals_are_predictions_of_the_regression() -> None:
    data = unbalanced()
    glm = smf.glm("y_poisson ~ s", data, family=sm.families.Poisson()).fit()
    made = model("y_poisson ~ s", data, groups=1).fit()
    frame = glm.get_prediction(pd.DataFrame({"s": [-1.0, 0.4]})).summary_frame(alpha=0.1)
    ours = made.curves([-1.0, 0.4], alpha=0.1)
    np.testing.assert_allclose(ours, frame[["mean", "mean_ci_lower", "mean_ci_upper"]], rtol=1e-5)
    forecast = made.forecast(data.query("id == 5"), within=[-1.0, 0.4], alpha=0.1)
    np.testing.assert_allclose(forecast, ours, rtol=1e-9)


def test_without_structural_zeros_zip_is_poisson() -> None:
    u = Units(
        torch.tensor([[0.0, 2.0, 1.0]]).double(), torch.ones(1, 3, 3).double(), torch.tensor([[1.0, 1, 0]]).double()
    )
    zip_ = Mixture(get("zip"), 2, (1, 1), ((True, True),) * 2, 1)
    poisson = Mixture(get("poisson"), 2, (1,), ((True,),) * 2, 1)
    theta = torch.tensor([0.3, -60.0, -0.5, -60.0, 0.4]).double()
    without = u._replace(d=u.d[..., :2])
    ours = poisson.loss(without, theta[[0, 2, 4]]) + poisson.normaliser(without)
    torch.testing.assert_close(zip_.loss(u, theta) + zip_.normaliser(u), ours)


def test_the_order_of_rows_is_irrelevant() -> None:
    data = unbalanced().query("id < 80")
    one = model("y_poisson ~ s | r1", data).fit()
    other = model("y_poisson ~ s | r1", data.sample(frac=1, random_state=1)).fit()
    pd.testing.assert_series_equal(one.params, other.params, rtol=1e-12)
    pd.testing.assert_series_equal(one.bse, other.bse, rtol=1e-12)
    pd.testing.assert_frame_equal(one.membership(), other.membership(), rtol=1e-9)


@pytest.mark.parametrize("family", ["poisson", "negbin", "zip", "zinb", "gaussian", "logit", "probit", "tobit"])
def test_the_derivatives_of_a_mixture_are_those_of_automatic_differentiation(family: str) -> None:
    g = torch.Generator().manual_seed(0)
    component = get(family)
    widths = (2, *(1 for _ in component.prefixes[1:]), *(1 for _ in component.extra))
    uses = ((True,) * sum(widths), (True, False, *(True for _ in widths[1:])))
    mixture = Mixture(component, 2, widths, uses, 2, common=True)
    d = torch.randn(12, 4, sum(widths) + 2, generator=g).double()
    d[..., -2:] = d[:, :1, -2:]
    y = torch.randint(0, 2, (12, 4), generator=g).double()
    mask = (torch.rand(12, 4, generator=g) < 0.7).double()
    u = Units(y, d, mask, torch.randn(12, 4, generator=g).double() * 0.1)
    theta = 0.3 * torch.randn(3, len(mixture.places), generator=g).double()
    weight = torch.rand(3, 12, generator=g).double()
    gradient, hessian = mixture.summed(u, theta, weight)
    score, each = mixture.derivatives(u, theta[:, None].expand(3, 12, -1))
    torch.testing.assert_close(gradient, (score * weight[..., None]).sum(1))
    torch.testing.assert_close(hessian, (each * weight[..., None, None]).sum(1))


# groups and persons ---------------------------------------------------------------------------------------------------
def test_groups_are_numbered_by_their_mean_outcome() -> None:
    for name in ("poisson", "gaussian_risk"):
        curves = fitted(name).curves(np.linspace(-1, 1, 21)).coef.unstack("group").mean()
        assert list(curves.sort_values().index) == ["group 1", "group 2", "group 3"]


def test_a_group_may_have_a_lower_order() -> None:
    data = unbalanced()
    parabolas = fitted("poisson")
    made = model(f"y_poisson ~ {CURVE}", data, groups=3, orders=(2, 1, 0), starts=8).fit()
    each = [sum(name.startswith(f"group {k}: ") for name in made.params.index) for k in (1, 2, 3)]
    assert each == [1, 3, 2]  # the flat one, the one that bends, and the one that hardly does
    assert parabolas.llf - 10 < made.llf < parabolas.llf
    assert len(made.params) == len(parabolas.params) - 3


def test_membership_of_new_persons_by_what_is_known_of_them() -> None:
    made, data = fitted("zip_risk"), unbalanced()
    known = made.membership()
    some = data[data.id.isin([3, 7, 11])]
    pd.testing.assert_frame_equal(made.membership(some), known.loc[[3, 7, 11]], rtol=1e-12)
    nothing = made.membership(some[["id", "r1", "r2"]].drop_duplicates())
    np.testing.assert_allclose(nothing.iloc[:, :3], made.shares[[3, 7, 11]])
    assert list(nothing["waves"]) == [0, 0, 0]
    hidden = some.assign(y_zip=some.y_zip.where(some.id != 7))  # an outcome that is not known yet
    mixed = made.membership(hidden)
    np.testing.assert_allclose(mixed.loc[7].iloc[:3].astype(float), nothing.loc[7].iloc[:3].astype(float))
    pd.testing.assert_frame_equal(mixed.loc[[3, 11]], known.loc[[3, 11]], rtol=1e-12)


def test_forecasts_are_curves_weighed_by_membership() -> None:
    made, data = fitted("poisson_risk"), unbalanced()
    new = data[data.id.isin([3, 7]) & (data.s < 0)]
    curves = made.curves([0.6, 0.8]).coef.unstack("group")
    expected = made.membership(new).iloc[:, :3].to_numpy() @ curves.to_numpy().T
    frame = made.forecast(new, within=[0.6, 0.8])
    np.testing.assert_allclose(frame.coef.unstack(), expected, rtol=1e-9)
    assert (frame.lower < frame.coef).all() and (frame.coef < frame.upper).all()


def test_exposure_and_a_covariate_that_changes_over_time() -> None:
    data = unbalanced().assign(days=lambda d: 10.0 + d.id % 7, u=lambda d: np.cos(5 * d.s + d.id))
    glm = smf.glm("y_poisson ~ s + u", data, family=sm.families.Poisson(), exposure=data.days).fit()
    made = model("y_poisson ~ s + u", data, groups=1, exposure="days").fit()
    np.testing.assert_allclose(made.params, glm.params, atol=1e-7)
    last = data.groupby("id").last().reset_index().assign(s=1.5)
    forecast = made.forecast(within=[1.5]).coef
    np.testing.assert_allclose(forecast, glm.predict(last, exposure=last.days), rtol=1e-7)
    curve = made.curves([1.5]).coef.iloc[0]
    assert curve == pytest.approx(glm.predict(last, exposure=np.ones(len(last))).mean(), rel=1e-7)


def test_persons_with_one_time_are_kept_and_counted() -> None:
    data = unbalanced().query("id < 150")
    short = data[(data.id % 3 != 0) | (data.groupby("id").cumcount() == 0)]
    made = model("y_poisson ~ s", short).fit()
    assert made.persons == 150
    text = made.summary().as_text()
    assert "Persons with one:" in text and " 50" in text and "1 to 10" in text


def test_hypotheses_about_curves_and_risk_factors() -> None:
    made = fitted("poisson_risk")
    names = ["P(group 2): r1", "P(group 3): r1"]
    q, v = made.params[names], made.cov_params().loc[names, names]
    test = made.wald_test("P(group 2): r1 = 0, P(group 3): r1 = 0")
    assert test.df == 2 and test.statistic == pytest.approx(q @ np.linalg.solve(v, q))
    apart = made.t_test("group 1: s = group 2: s")
    assert apart.value[0] == pytest.approx(made.params["group 1: s"] - made.params["group 2: s"])


def test_membership_is_learned_where_it_is_no_logit() -> None:
    rng = np.random.default_rng(0)
    n = 240
    r = rng.normal(size=n)
    odds = 3 * np.cos(2 * r)
    group = rng.random(n) < 1 / (1 + np.exp(-odds))
    data = pd.DataFrame({"id": np.repeat(np.arange(n), 4), "s": np.tile([-1.0, 0, 1, 2], n)})
    data["r"] = r[data.id]
    data["y"] = rng.poisson(np.where(group[data.id], np.exp(1 + 0.3 * data.s), np.exp(-0.3 - 0.2 * data.s)))
    whole = model("y ~ s | r", data)
    learned = whole.learn(folds=2, learners="smooth")
    assert learned.likelihood["functions"] > learned.likelihood["multinomial logit"] + 20
    shares = learned.shares()
    assert np.corrcoef(np.log(shares["group 2"] / shares["group 1"]), odds)[0, 1] > 0.85
    curves = learned.theta[:, :4]
    torch.testing.assert_close(curves, curves[:1].expand_as(curves))  # one value for all persons
    np.testing.assert_allclose(curves[0], [-0.3, -0.2, 1.0, 0.3], atol=0.15)
    new = data[data.id < 3]
    alone = learned.membership(new[["id", "r"]].drop_duplicates())
    pd.testing.assert_frame_equal(alone, learned.shares(new))
    assert ((learned.membership()["group 2"] > 0.5) == group).mean() > 0.9
    assert "Held-out persons" in learned.summary().as_text()
    with pytest.raises(OptionError, match="has none"):
        model("y ~ s", data).learn()
    with pytest.raises(OptionError, match="learners='forest'"):
        whole.learn(learners="forest")


# output ---------------------------------------------------------------------------------------------------------------
def test_the_summary_says_what_a_reader_needs() -> None:
    made = fitted("zip_risk")
    text = made.summary().as_text()
    for part in ("Group 1 (31.8%)", "zero: s", "Membership of group 3", "-4,039.417", "BIC (persons)", "4 to 10"):
        assert part in text
    assert "2 of 2" in text and "nan" not in text.lower()
    assert "robust, by person" in made.vcov("robust").summary().as_text()
    assert r"\begin{tabular}" in made.summary().as_latex()
    assert "Relative entropy" in made.adequacy().as_text()


def test_the_plot_has_a_curve_for_each_group_and_lines_of_persons() -> None:
    made = fitted("poisson")
    ax = made.plot(ci=True, spaghetti=20)
    curves = [line for line in ax.lines if len(line.get_xdata()) == 50]
    assert len(curves) == 3
    assert sum(2 < len(line.get_xdata()) < 50 for line in ax.lines) == 20
    assert len(ax.collections) == 3  # bands
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("s", "y_poisson")
    bare = made.plot(ci=False)
    assert not bare.collections
    assert "group 1 (31%)" in [text.get_text() for text in bare.figure.legends[0].get_texts()]
