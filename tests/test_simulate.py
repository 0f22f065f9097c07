"""Simulated data are what their documentation says, and a study measures what it says."""

from functools import partial
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from scipy.special import expit
from scipy.stats import norm

from deepreg import OptionError, datasets, simulate
from deepreg.simulate import processes

INVERSE_LINK = {"linear": lambda eta: eta, "logit": expit, "poisson": np.exp}
MANY = 200_000
# Of the row that rng=0 draws: intercept, slope, mean and sd of the treatment, outcome.
FIRST_ROW = {
    "friedman": (13.5859, 3.06109, 0.279707, 0.448855, 16.6883),
    "heteroskedastic": (-0.185755, 0.780271, -0.0688558, 1.06488, 1.36497),
    "highdim": (0.22322, 1.12573, 0.560926, 0.496274, -0.985099),
    "irm": (0, 0.643574, 0.564738, 0.495791, 2.01004),
    "linear_const": (0.339126, 1, 0.532636, 0.498934, 0.380452),
    "logit_continuous": (-0.255135, 0.39959, 0.0628651, 1, 1),
    "no_effect": (0.0696543, 0, 0.498789, 0.499999, 1.37365),
    "poisson_confounded": (0.548111, 0.232284, 0.499203, 0.499999, 5),
    "price": (-0.00670564, -0.330444, 10.1257, 1, -2.16818),
    "tutorial": (-0.118925, 2.1326, 0.5, 0.5, 3.31768),
    "tutorial_confounded": (-0.118925, 2.1326, 0.409618, 0.491763, 3.31768),
    "tutoring": (51.3432, 9.06579, 0.5, 0.5, 48.6648),
    "tutoring_confounded": (51.3432, 9.06579, 0.784726, 0.411013, 57.7306),
}


@pytest.fixture(scope="module", params=simulate.names())
def large(request: pytest.FixtureRequest) -> simulate.Simulation:
    return simulate.get(request.param)(n=MANY, rng=20)


def parts(sim: simulate.Simulation) -> tuple[np.ndarray, np.ndarray, pd.DataFrame, str]:
    """Outcome, treatment, features, and the treatment's name."""
    outcome, treatment = sim.formula.split("|")[0].split("~")
    treatment = treatment.strip()
    features = sim.frame.drop(columns=[outcome.strip(), treatment])
    return sim.frame[outcome.strip()].to_numpy(), sim.frame[treatment].to_numpy(), features, treatment


def close_to_zero(moments: np.ndarray, sds: float = 5.0) -> None:
    """Each column of moments (n, k) has mean zero, up to `sds` standard errors."""
    error = moments.std(0) / len(moments) ** 0.5
    assert (np.abs(moments.mean(0)) <= sds * error + 1e-12).all(), moments.mean(0) / error


# ---- the simulations


def test_the_parts_fit_together(large: simulate.Simulation) -> None:
    y, t, features, treatment = parts(large)
    assert list(large.theta.columns) == ["Intercept", treatment]
    assert len(large.frame) == len(large.theta) == len(large.law) == len(y) == MANY
    assert all(name in large.formula for name in features)
    assert not large.frame.isna().any(axis=None)
    assert set(large.truth) <= {"ate", "ame", treatment}
    assert all(type(value) is float for value in large.truth.values())
    assert list(large.law.columns) == ["mean", "sd"]
    if set(np.unique(t)) == {0, 1}:
        assert large.propensity.min() > 0
        assert large.propensity.max() < 1
        np.testing.assert_allclose(large.law.sd, np.sqrt(large.propensity * (1 - large.propensity)))


def test_the_law_of_the_treatment_is_the_one_stated(large: simulate.Simulation) -> None:
    _, t, features, _ = parts(large)
    z = (t - large.propensity) / large.law.sd.to_numpy()  # (n,) mean 0 and variance 1 given x
    x = (features - features.mean()) / features.std()
    probes = np.column_stack([np.ones(MANY), x, x**2])
    close_to_zero(z[:, None] * probes)
    # A squared standardised 0/1 treatment has fourth moments that explode near p = 0; weigh it down there.
    close_to_zero(((z**2 - 1) * large.law.sd.to_numpy() ** 2)[:, None] * probes)


def test_theta_is_the_mean_outcome(large: simulate.Simulation) -> None:
    y, t, features, treatment = parts(large)
    mean = INVERSE_LINK[large.family]((large.theta["Intercept"] + large.theta[treatment] * t).to_numpy())
    x = ((features - features.mean()) / features.std()).to_numpy()
    probes = np.column_stack([np.ones(MANY), x, x**2, np.sin(2 * x), t, t[:, None] * x])
    close_to_zero((y - mean)[:, None] * probes)


def test_the_truth_is_the_mean_of_the_target(large: simulate.Simulation) -> None:
    _, t, _, treatment = parts(large)
    alpha, beta = large.theta["Intercept"].to_numpy(), large.theta[treatment].to_numpy()
    g = INVERSE_LINK[large.family]
    targets = {
        treatment: beta,
        "ate": g(alpha + beta) - g(alpha),
        "ame": (g(alpha + beta * t + 1e-5) - g(alpha + beta * t - 1e-5)) / 2e-5 * beta,
    }
    for name, truth in large.truth.items():
        drawn = targets[name]
        if drawn.std() < 1e-6:
            np.testing.assert_allclose(drawn, truth, rtol=1e-6)
        else:
            close_to_zero((drawn - truth)[:, None])


@pytest.mark.parametrize("name", simulate.names())
def test_draws_depend_on_the_generator_alone(name: str) -> None:
    draw = simulate.get(name)
    state = np.random.get_state()[1].copy()
    pd.testing.assert_frame_equal(draw(n=50, rng=3).frame, draw(n=50, rng=np.random.default_rng(3)).frame)
    assert (np.random.get_state()[1] == state).all()
    assert not draw(n=50, rng=3).frame.equals(draw(n=50, rng=4).frame)


@pytest.mark.parametrize("name", simulate.names())
def test_a_seed_keeps_its_draws(name: str) -> None:
    sim = simulate.get(name)(n=1, rng=0)
    y, *_ = parts(sim)
    np.testing.assert_allclose([*sim.theta.iloc[0], *sim.law.iloc[0], y[0]], FIRST_ROW[name], rtol=1e-5)


def test_the_noise_has_the_stated_size(large: simulate.Simulation) -> None:
    y, t, _, treatment = parts(large)
    mean = INVERSE_LINK[large.family]((large.theta["Intercept"] + large.theta[treatment] * t).to_numpy())
    if treatment == "tutoring":  # far from the bounds, where nothing is clipped
        inside = np.abs(mean - 50) < 20
        variance, y, mean = np.full(inside.sum(), 25.0), y[inside], mean[inside]
    else:
        variance = {"linear": np.ones(MANY), "logit": mean * (1 - mean), "poisson": mean}[large.family]
    close_to_zero(((y - mean) ** 2 - variance)[:, None])


@pytest.mark.parametrize("name", ["tutorial", "tutoring"])
def test_confounding_biases_the_difference_in_means_and_assignment_by_lot_does_not(name: str) -> None:
    errors = []
    for confounded in (False, True):
        sim = getattr(simulate, name)(n=50_000, confounded=confounded, rng=1)
        y, t, _, _ = parts(sim)
        se = (y[t == 1].var() / (t == 1).sum() + y[t == 0].var() / (t == 0).sum()) ** 0.5
        errors.append(abs(y[t == 1].mean() - y[t == 0].mean() - sim.truth["ate"]) / se)
    assert errors[0] < 4
    assert errors[1] > 10


def test_the_tutoring_effect_by_quadrature() -> None:
    """By brute force over the noise, piece by piece between the kinks over prior_grade."""
    noise = np.linspace(-9, 9, 4001)
    density = norm.pdf(noise) * (noise[1] - noise[0])
    nodes, weights = np.polynomial.legendre.leggauss(8)
    low, high = np.array(list(pairwise([0, 20, 40, 53, 57, 65, 72, 77, 87, 93, 100]))).T[..., None]
    priors = np.append(((low + high + (high - low) * nodes) / 2).ravel(), [0.0, 100.0])  # (pieces * 8 + 2,)
    steps = ((high - low) / 2 * weights).ravel()
    total = 0.0
    for struggling, share in ((0, 0.6), (1, 0.4)):
        centre = 70 - 12 * struggling
        edges = [norm.cdf(-centre / 10), norm.sf((100 - centre) / 10)]  # the shares clipped to 0 and to 100
        law = np.append(norm.pdf(priors[:-2], centre, 10) * steps, edges)
        for level in (7, 8, 9):
            mean, effect = datasets.tutoring_means(np.array(struggling), priors, np.array(level))
            with_it, without = (np.clip(m[:, None] + 5 * noise, 0, 100) @ density for m in (mean + effect, mean))
            total += share / 3 * law @ (with_it - without)
    assert total == pytest.approx(processes.TUTORING_EFFECT, abs=1e-5)


def test_the_logit_marginal_effect_by_quadrature() -> None:
    """Given x1 and x2, alpha + beta t is normal: mean -.2 + .5 sin(2 x1), variance (.6 + beta/2)^2 + beta^2."""
    z, wz = np.polynomial.hermite_e.hermegauss(80)
    nodes, weights = np.polynomial.legendre.leggauss(80)
    x1, w1 = 12 * nodes, 12 * weights * norm.pdf(12 * nodes)
    x2, w2 = 6 * (nodes + 1), 12 * weights * norm.pdf(6 * (nodes + 1))  # |x2|
    beta = 0.5 + 0.4 * np.tanh(x1)[:, None] + 0.3 * (x2 - 0.8)  # (x1, x2)
    index = (-0.2 + 0.5 * np.sin(2 * x1))[:, None, None] + np.hypot(0.6 + beta / 2, beta)[..., None] * z
    slope = (expit(index) * expit(-index)) @ (wz / wz.sum())
    assert w1 @ (beta * slope) @ w2 == pytest.approx(processes.LOGIT_AME, abs=2e-7)


def test_the_closed_forms_by_quadrature() -> None:
    u, wu = np.polynomial.legendre.leggauss(20)
    u, wu = (u + 1) / 2, wu / 2
    mean_sine = wu @ np.sin(np.pi * np.outer(u, u)) @ wu
    assert simulate.friedman(n=1).truth["ate"] == pytest.approx(3 + 2 * mean_sine, abs=1e-12)

    fine = np.linspace(-9, 9, 20_001)
    mean_abs = np.abs(fine) @ norm.pdf(fine) * (fine[1] - fine[0])
    assert simulate.highdim(n=1).truth["ate"] == pytest.approx(1 + 0.7 * mean_abs / 2, abs=1e-6)
    assert simulate.logit_continuous(n=1).truth["t"] == pytest.approx(0.5 + 0.3 * (mean_abs - 0.8), abs=1e-6)

    z, w = np.polynomial.hermite_e.hermegauss(40)
    x0, x1, x2 = np.meshgrid(z, z, z, indexing="ij")
    alpha, beta = 0.5 + 0.4 * x0 - x1**2 / 8, 0.4 + 0.3 * x1 - 0.2 * x2
    effect = np.einsum("ijk,i,j,k", np.exp(alpha + beta) - np.exp(alpha), w, w, w) / w.sum() ** 3
    assert simulate.poisson_confounded(n=1).truth["ate"] == pytest.approx(effect, abs=1e-9)


def test_the_interactive_model_has_the_published_overlap() -> None:
    """With u = pi v / sqrt(3) normal: E[1/p] = 1 + exp(Var(u)/2), and the same for 1 - p."""
    sim = simulate.irm(n=MANY, rng=2)
    beta, p = sim.theta["t"].to_numpy(), sim.propensity
    assert (beta * p).mean() / p.mean() == pytest.approx(1.080, abs=0.01)  # the effect on the treated
    efficient = (1 + 2 * (1 + np.exp(np.pi**2 / 6))) ** 0.5 / 500**0.5
    assert efficient == pytest.approx(0.1635, abs=5e-5)
    assert ((beta.var() + (1 / p + 1 / (1 - p)).mean()) / 500) ** 0.5 == pytest.approx(efficient, rel=0.01)


def test_errors_name_the_argument_and_what_is_allowed() -> None:
    with pytest.raises(OptionError, match=r"'tutorail'.*tutorial_confounded"):
        simulate.get("tutorail")
    for wrong in (0, -3, 2.5, True):
        with pytest.raises(OptionError, match=f"n={wrong}"):
            simulate.friedman(n=wrong)


# ---- the data sets


def test_the_tutoring_data_are_those_of_the_source() -> None:
    data = datasets.tutoring()
    head = [
        [0, 61.2, 7, 0, 2.000, 69.4],
        [1, 49.7, 7, 0, 6.000, 38.0],
        [1, 55.7, 8, 0, 8.279, 53.3],
        [0, 73.7, 7, 1, 2.000, 85.3],
        [0, 79.1, 8, 1, 2.000, 81.1],
    ]
    columns = ["struggling", "prior_grade", "grade_level", "tutoring", "true_cate", "final_grade"]
    pd.testing.assert_frame_equal(data.head(), pd.DataFrame(head, columns=columns), check_dtype=False)
    described = data.final_grade.describe()
    assert described.round(6).tolist() == [2000, 70.962, 14.422361, 27.8, 61, 72.2, 81.6, 100]
    assert data.groupby("struggling").final_grade.mean().round(6).tolist() == [78.981826, 59.349449]


def test_the_tutoring_data_leave_the_global_generator_alone() -> None:
    before = np.random.get_state()[1].copy()
    datasets.tutoring()
    assert (np.random.get_state()[1] == before).all()


def test_the_tutorial_data_are_the_draws_of_the_global_seed() -> None:
    data = datasets.tutorial()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3005)
        x = torch.randn(10_000, 5)
        alpha = 1 / 5 * x[:, 0] - 4 / 3 * x[:, 1] - 1 / 2 * x[:, 2]
        beta = 2 - x[:, 1] + 1 / 4 * x[:, 0] ** 3
        treatment = 1 * (torch.randn(10_000) > 0)
        y = alpha + beta * treatment + torch.randn(10_000)
    assert (data[[f"x{j}" for j in range(5)]].to_numpy() == x.double().numpy()).all()
    assert (data.treatment.to_numpy() == treatment.numpy()).all()
    assert (data.true_cate.to_numpy() == beta.double().numpy()).all()
    assert (data.y.to_numpy() == y.double().numpy()).all()
    assert beta.mean().item() == pytest.approx(1.978830099105835, abs=1e-7)
    assert data.treatment.mean() == pytest.approx(0.498, abs=1e-12)


def test_the_tutorial_data_leave_the_global_generator_alone() -> None:
    before = torch.get_rng_state()
    datasets.tutorial(n=10, seed=1)
    assert torch.equal(torch.get_rng_state(), before)


# ---- studies


def ols(frame: pd.DataFrame, formula: str, family: str, seed: int) -> dict[str, tuple[float, float]]:
    fitted = sm.OLS(frame.y, sm.add_constant(frame.drop(columns="y"))).fit(cov_type="HC1")
    return {"ate": (fitted.params["t"], fitted.bse["t"])}


def seed_only(frame: pd.DataFrame, formula: str, family: str, seed: int) -> dict[str, tuple[float, float]]:
    return {"ate": (float(seed), frame.y.iloc[0])}


def small_price(n: int, rng: np.random.Generator) -> simulate.Simulation:
    return simulate.price(n=n, rng=rng)


def test_ordinary_least_squares_covers_where_it_is_efficient() -> None:
    rows = simulate.study("linear_const", draws=200, n=300, fit=ols, rng=0)
    assert list(rows.columns[:6]) == ["draw", "target", "truth", "estimate", "se", "seconds"]
    assert rows.draw.tolist() == list(range(200))
    table = simulate.tabulate(rows).loc["ate"]
    assert abs(table.bias) < 4 * table.sd / 200**0.5
    assert abs(table.se_ratio - 1) < 0.2
    assert abs(table.coverage - 0.95) < 0.05
    assert np.isnan(table["theta_rmse[t]"])


def test_an_inconsistent_estimator_is_found_out() -> None:
    def naive(frame: pd.DataFrame, formula: str, family: str, seed: int) -> dict[str, tuple[float, float]]:
        fitted = sm.OLS(frame.y, sm.add_constant(frame.t)).fit()
        return {"ate": (fitted.params["t"], fitted.bse["t"])}

    table = simulate.tabulate(simulate.study("linear_const", draws=30, n=300, fit=naive, rng=0)).loc["ate"]
    assert table.bias > 0.3
    assert table.coverage < 0.5


def test_draws_and_seeds_do_not_depend_on_the_number_of_processes() -> None:
    run = partial(simulate.study, "linear_const", draws=3, n=50, fit=seed_only)
    alone, together = (run(rng=7, n_jobs=jobs).drop(columns="seconds") for jobs in (1, 2))
    pd.testing.assert_frame_equal(alone, together)
    assert alone.estimate.nunique() == alone.se.nunique() == 3
    assert alone.estimate.max() < 2**31
    longer = run(rng=7, draws=5).drop(columns="seconds")
    pd.testing.assert_frame_equal(longer.head(3), alone)
    assert not run(rng=8).estimate.isin(alone.estimate).any()


def test_the_default_estimator_reads_every_target() -> None:
    rows = simulate.study(small_price, draws=2, n=400, rng=0, fit_options={"folds": 2, "members": 1})
    assert rows.target.tolist() == ["t", "ame"] * 2
    np.testing.assert_allclose(rows.estimate, rows.truth, atol=0.5)
    assert (rows.se > 0).all()
    assert (rows["theta_rmse[t]"] < 2).all()
    again = simulate.study(small_price, draws=2, n=400, rng=0, fit_options={"folds": 2, "members": 1})
    np.testing.assert_array_equal(rows.estimate, again.estimate)


def test_a_table_of_a_study_by_hand() -> None:
    rows = pd.DataFrame(
        {
            "target": ["ate"] * 4 + ["ame"] * 2,
            "truth": [1.0] * 4 + [0.0] * 2,
            "estimate": [1.0, 1.5, 0.5, 4.0, 0.0, np.nan],
            "se": [0.5, 0.2, 0.5, 0.8, 1.0, 1.0],
            "seconds": [1.0, 2.0, 3.0, 2.0, 1.0, 1.0],
            "theta_rmse[t]": [0.1, 0.1, 0.3, 0.3, 0.2, 0.2],
        }
    )
    table = simulate.tabulate(rows)
    ate = table.loc["ate"]
    assert ate.bias == pytest.approx(0.75)
    assert ate.rmse == pytest.approx((9.5 / 4) ** 0.5)
    assert ate.sd == pytest.approx(np.std([1, 1.5, 0.5, 4], ddof=1))
    assert ate.mean_se == pytest.approx(0.5)
    assert ate.se_ratio == pytest.approx(0.5 / ate.sd)
    assert ate.coverage == 0.5
    assert ate.coverage_error == 0.25
    assert ate.length == pytest.approx(2 * 1.959963984540054 * 0.5)
    assert (ate.draws, ate.seconds, ate["theta_rmse[t]"]) == (4, 2, pytest.approx(0.2))
    assert np.isnan(table.loc["ame", "bias"])
    assert table.loc["ame", "coverage"] == 0.5
    assert simulate.tabulate(rows, level=0.999).loc["ate", "coverage"] == 0.75


def test_a_study_refuses_what_it_cannot_do() -> None:
    for name in ("draws", "n_jobs"):
        with pytest.raises(OptionError, match=f"{name}=0"):
            simulate.study("price", **{"draws": 2, "n": 50, "fit": ols, name: 0})
    with pytest.raises(OptionError, match="prices"):
        simulate.study("prices", draws=2, n=50)
    with pytest.raises(OptionError, match="either fit or fit_options"):
        simulate.study("price", draws=2, n=50, fit=ols, fit_options={"folds": 2})
    with pytest.raises(OptionError, match="top level of a module"):
        simulate.study("price", draws=2, n=50, fit=lambda *_: {}, n_jobs=2)
    with pytest.raises(OptionError, match=r"\['ate'\].*\['ame', 't'\]"):
        simulate.study("price", draws=2, n=50, fit=ols)
    with pytest.raises(OptionError, match="level=95"):
        simulate.tabulate(pd.DataFrame(), level=95)


@pytest.mark.parametrize("rng", [-1, "a", 1.5])
def test_seeds_that_are_none_are_named(rng) -> None:
    for draw in (simulate.tutorial, lambda n, rng: simulate.study("tutorial", draws=n, n=n, rng=rng)):
        with pytest.raises(OptionError, match=r"rng=.*whole number or a numpy Generator"):
            draw(n=10, rng=rng)
