"""Durations and limited outcomes: constant fits against scipy's densities, and functions against the truth."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
import torch
from family_cases import CASES, units
from scipy import optimize, stats
from scipy.special import gamma, log_ndtr
from statsmodels.duration.survfunc import SurvfuncRight

import deepreg
from deepreg import KnownLaw, censoring, splits, structural
from deepreg.censoring import Censoring
from deepreg.errors import DataError, FormulaError, NotAvailable, OptionError
from deepreg.families import Family, Tobit, Truncated
from deepreg.families.limited import _log_mass, _log_ndtr
from deepreg.networks import MLP
from deepreg.theta import Options
from deepreg.trainers import LBFGS
from deepreg.units import Units


def drawn(n: int = 300, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    x, t = rng.normal(size=n), rng.integers(0, 2, n)
    eta, error = 0.8 + 0.5 * t - 0.4 * x, rng.exponential(size=n)
    time, last = 7 * np.exp(eta + 0.6 * np.log(error)), 30 * rng.exponential(size=n)
    value, bound = 20 + 5 * (eta - np.log(error)), 20 + 15 * rng.exponential(size=n)
    latent = 10 * (eta - 0.7 + rng.normal(size=n))
    return pd.DataFrame({
        "t": t, "x": x, "weeks": np.minimum(time, last), "ended": time <= last, "whole": time,
        "y": np.minimum(value, bound), "seen": value <= bound, "hours": latent.clip(0, 15), "wage": latent.clip(0),
        "latent": latent,
    })  # fmt: skip


DATA = drawn()
D = sm.add_constant(DATA[["t", "x"]].to_numpy(float))
TIME, ENDED, HOURS, WAGE = (DATA[name].to_numpy() for name in ("weeks", "ended", "hours", "wage"))
CUT = (DATA.latent > 0).to_numpy()


def tobit(y: np.ndarray, b: np.ndarray, upper: float) -> np.ndarray:
    law = stats.norm(D @ b[:3], np.exp(b[3]))
    return -np.where(y <= 0, law.logcdf(0), np.where(y >= upper, law.logsf(upper), law.logpdf(y)))


def truncated(b: np.ndarray) -> np.ndarray:
    eta, sigma = D[CUT] @ b[:3], np.exp(b[3])
    return -stats.truncnorm.logpdf(WAGE[CUT], -eta / sigma, np.inf, eta, sigma)


def weibull(b: np.ndarray) -> np.ndarray:
    law = stats.weibull_min(np.exp(-b[3]), scale=np.exp(D @ b[:3]))
    return -np.where(ENDED, law.logpdf(TIME), law.logsf(TIME))


def gumbel(b: np.ndarray) -> np.ndarray:
    law = stats.gumbel_r(D @ b[:3], np.exp(b[3]))
    return -np.where(DATA.seen, law.logpdf(DATA.y), law.logsf(DATA.y))


SIGMA = ["Intercept", "t", "x", "log_sigma"]
FITS = {
    "weibull": ("Surv(weeks, ended) ~ t + x", "weibull", weibull, [2, 0, 0, 0], SIGMA),
    "gumbel": ("Surv(y, seen) ~ t + x", "gumbel", gumbel, [20, 0, 0, 1.5], [*SIGMA[:3], "log_scale"]),
    "tobit": ("wage ~ t + x", "tobit", lambda b: tobit(WAGE, b, np.inf), [5, 0, 0, 2], SIGMA),
    "two limits": ("hours ~ t + x", Tobit(0.0, 15.0), lambda b: tobit(HOURS, b, 15.0), [5, 0, 0, 2], SIGMA),
    "truncated": ("wage ~ t + x", "truncated", truncated, [5, 0, 0, 2], SIGMA),
}


@pytest.mark.parametrize("name", FITS)
def test_constant_fits_are_those_of_other_software(name: str) -> None:
    formula, family, density, start, names = FITS[name]
    res = structural(formula, DATA[CUT] if name == "truncated" else DATA, family, vcov="HC0").fit()
    assert list(res.params.index) == names
    best = optimize.minimize(lambda b: density(b).mean(), start, jac="3-point", options={"gtol": 1e-9})
    np.testing.assert_allclose(res.params, best.x, rtol=1e-5)
    np.testing.assert_allclose(res.llf, -density(res.params.to_numpy()).sum(), rtol=1e-10)
    steps, b = 1e-4 * np.eye(4), res.params.to_numpy()
    score = np.stack([density(b + e) - density(b - e) for e in steps], 1) / 2e-4
    hessian = [[(density(b + e + f) - density(b + e - f) - density(b - e + f) + density(b - e - f)).sum() / 4e-8
                for e in steps] for f in steps]  # fmt: skip
    inverse = np.linalg.inv(hessian)
    np.testing.assert_allclose(res.bse, np.sqrt(np.diag(inverse @ (score.T @ score) @ inverse)), rtol=1e-4)


def test_exponential_is_a_poisson_regression_with_exposure() -> None:
    res = structural("Surv(weeks, ended) ~ t + x", DATA, "exponential", vcov="HC0").fit()
    ref = sm.GLM(ENDED.astype(float), D, family=sm.families.Poisson(), exposure=TIME).fit(cov_type="HC0", tol=1e-12)
    np.testing.assert_allclose(res.params, -ref.params, rtol=1e-7)
    np.testing.assert_allclose(res.bse, ref.bse, rtol=1e-6)
    law = stats.expon(scale=np.exp(D @ res.params))
    np.testing.assert_allclose(res.llf, np.where(ENDED, law.logpdf(TIME), law.logsf(TIME)).sum(), rtol=1e-12)
    alone = ENDED.sum() / TIME.sum()
    np.testing.assert_allclose(res.llnull, ENDED.sum() * (np.log(alone) - 1), rtol=1e-10)
    np.testing.assert_allclose(res.prsquared, 1 - res.llf / res.llnull)
    mean = np.exp(D @ res.params)
    effect = (mean * (np.exp(res.params["t"] * (1 - D[:, 1])) - np.exp(-res.params["t"] * D[:, 1]))).mean()
    np.testing.assert_allclose(res.estimate("ate").value, effect, rtol=1e-8)  # in weeks
    np.testing.assert_allclose(res.estimate("ame").value[-1], (mean * res.params["x"]).mean(), rtol=1e-6)
    with pytest.raises(NotAvailable, match="one number"):
        _ = res.resid


def test_without_limits_in_reach_tobit_and_truncated_are_the_normal_law() -> None:
    plain = structural("latent ~ t + x", DATA, "gaussian").fit()
    for family in (Tobit(-1e3), Tobit(None, 1e3), Truncated(-1e3, 1e3), Truncated(None, 1e3)):
        res = structural("latent ~ t + x", DATA, family).fit()
        np.testing.assert_allclose(res.params, plain.params, rtol=1e-7)
        np.testing.assert_allclose(res.bse, plain.bse, rtol=1e-6)
        np.testing.assert_allclose(res.llf, plain.llf, rtol=1e-10)


def test_units_of_the_outcome_do_not_matter() -> None:
    for formula, family, large in (
        ("wage ~ t + x", Tobit(), "I(wage * 1e6) ~ t + x"),
        ("I(hours + 0) ~ t + x", Tobit(0, 15), "I(hours * 1e-6) ~ t + x"),
    ):
        factor = 1e6 if "e6" in large else 1e-6
        other = family if family.upper is None else Tobit(0, 15 * factor)
        small, moved = structural(formula, DATA, family).fit(), structural(large, DATA, other).fit()
        np.testing.assert_allclose(moved.params.iloc[:3], small.params.iloc[:3] * factor, rtol=1e-7)
        np.testing.assert_allclose(moved.params.iloc[3], small.params.iloc[3] + np.log(factor), rtol=1e-7)


def test_means_observed_and_latent() -> None:
    rng, n = np.random.default_rng(0), 400_000
    for family in (Tobit(0, 15), Tobit(None, 15), Tobit(0), Truncated(0, 15), Truncated(None, 15), Truncated(0)):
        eta, sigma = 6.0, 8.0
        theta = torch.tensor([[eta, np.log(sigma)]])
        u = Units(torch.zeros(1), torch.ones(1, 1).double(), torch.ones(1))
        z = eta + sigma * rng.normal(size=n)
        low, high = family.lower, family.upper
        inside = (z > (-1e9 if low is None else low)) & (z < (1e9 if high is None else high))
        y = z.clip(low, high) if isinstance(family, Tobit) else z[inside]
        np.testing.assert_allclose(float(family.mean(u, theta)), y.mean(), atol=5 * y.std() / len(y) ** 0.5)
        latent = type(family)(low, high, "latent")
        assert float(latent.mean(u, theta)) == pytest.approx(eta)


def test_far_tails_keep_their_digits() -> None:
    x = torch.tensor([-1e3, -60, -5, -1e-3, 0, 1e-3, 3, 60], dtype=torch.float64)
    np.testing.assert_allclose(_log_ndtr(x), log_ndtr(x.numpy()), rtol=1e-13)
    np.testing.assert_allclose(_log_ndtr(x.float()), log_ndtr(x.numpy()), rtol=1e-5, atol=1e-6)
    for low, high in ((2.0, 3.0), (60.0, 61.0), (-61.0, -60.0), (-1.0, 2.0), (1e3, None), (None, -1e3), (-2, None)):
        ends = [None if v is None else torch.tensor([v]).double() for v in (low, high)]
        log_mass, anchor = _log_mass(*ends)
        a, b = -np.inf if low is None else low, np.inf if high is None else high
        if a + b > 0:
            a, b = -b, -a
        want = log_ndtr(b) + np.log1p(-np.exp(log_ndtr(a) - log_ndtr(b)))
        np.testing.assert_allclose(log_mass - anchor**2 / 2, want, rtol=1e-12)
    family = Truncated()
    for at in (-500.0, -50.0, 0.0):  # the information stays positive definite, and near that of an exponential law
        u = Units(torch.zeros(1), torch.ones(1, 1).double(), torch.ones(1))
        info = family.information(u, torch.tensor([[at, 0.0]]).double())
        assert float(torch.linalg.eigvalsh(info)[0, 0]) > 0
    assert float(info[0, 0, 0]) == pytest.approx(1 - 2 / np.pi)


@pytest.mark.parametrize("name", ["exponential", "weibull", "gumbel"])
def test_censored_rows(name: str) -> None:
    """Losses are scipy's survival functions, and the expected Hessian that of draws."""
    case, family = CASES[name], CASES[name].family
    u, theta = units(case)
    u = u._replace(y=torch.stack([u.y[:, 0], torch.arange(len(u.y)) % 2.0], 1).double())
    np.testing.assert_allclose(family.loss(u, theta), case.density(u, theta), rtol=1e-9)
    score, hessian = family.derivatives(u, theta)
    for j, step in enumerate(1e-5 * torch.eye(theta.shape[1], dtype=torch.float64)):
        slope = (family.loss(u, theta + step) - family.loss(u, theta - step)) / 2e-5
        np.testing.assert_allclose(score[:, j], slope, rtol=1e-5, atol=1e-7)
        bend = (family.derivatives(u, theta + step)[0] - family.derivatives(u, theta - step)[0]) / 2e-5
        np.testing.assert_allclose(hessian[:, :, j], bend, rtol=1e-5, atol=1e-7)
    u, theta = units(case, 4, seed=5)
    wide, at = u.d.expand(40_000, 4, 3), theta.expand(40_000, *theta.shape)
    g = torch.Generator().manual_seed(1)
    time = family.simulate(u._replace(d=wide), at, g)[..., 0]
    for last in (1.2, 2 * torch.rand(40_000, 4, generator=g, dtype=torch.float64)):  # at once, or one after another
        last = torch.as_tensor(last).expand_as(time)
        cut = Units(torch.stack([time.minimum(last), (time <= last).double()], -1), wide, u.mask)
        hessian = family.derivatives(cut, at)[1]
        seen = (lambda t: (t <= 1.2).double()) if bool((last == 1.2).all()) else (lambda t: 1 - (t / 2).clamp(0, 1))
        near = 4.5 * hessian.std(0) / 200 + 0.03 * hessian.mean(0).abs().amax((-1, -2), keepdim=True)
        assert bool(((hessian.mean(0) - family.observed(u, theta, seen)).abs() < near).all())
    everything = family.observed(u, theta, torch.ones_like)
    np.testing.assert_allclose(everything, family.information(u, theta), rtol=5e-3, atol=5e-3)
    with pytest.raises(NotAvailable, match="observed"):
        type(family)(censored=True).information(u, theta)


def truth(family: str) -> tuple[pd.DataFrame, str, str | Family, float]:
    """Data with a binary randomised t and functions of x, and the ATE on the mean."""
    rng, n = np.random.default_rng(4), 1600
    x, t = rng.uniform(-1, 1, n), rng.integers(0, 2, n)
    b, sigma = 0.4 + 0.4 * x, np.exp(-0.4 + 0.3 * x)
    eta, error = 1 + 0.8 * np.sin(3 * x) + b * t, rng.exponential(size=n)
    if family == "exponential":
        sigma = np.ones(n)
    extra = {"exponential": np.exp, "weibull": lambda e: np.exp(e) * gamma(1 + sigma), "gumbel": lambda e: e}
    if family in extra:
        y = eta - sigma * np.log(error) if family == "gumbel" else np.exp(eta + sigma * np.log(error))
        last = rng.exponential(size=n) + 1.5 if family == "gumbel" else 12 * rng.exponential(size=n)
        data = pd.DataFrame({"y": np.minimum(y, last), "ended": y <= last, "t": t, "x": x})
        mean = extra[family]
        return data, "Surv(y, ended) ~ t | x", family, float((mean(eta - b * t + b) - mean(eta - b * t)).mean())
    latent = eta - 0.5 + sigma * rng.normal(size=n)
    if family == "tobit":
        data = pd.DataFrame({"y": latent.clip(0), "t": t, "x": x})
        low, high = ((eta - 0.5 - b * t + move) / sigma for move in (0, b))
        means = [sigma * (z * stats.norm.cdf(z) + stats.norm.pdf(z)) for z in (low, high)]
        return data, "y ~ t | x", "tobit", float((means[1] - means[0]).mean())
    data = pd.DataFrame({"y": latent, "t": t, "x": x, "b": b})[latent > 0]
    return data, "y ~ t | x", Truncated(mean_of="latent"), float(data.b.mean())


@pytest.mark.parametrize("family", ["exponential", "weibull", "gumbel", "tobit", "truncated"])
def test_functions_of_x(family: str) -> None:
    data, formula, chosen, effect = truth(family)
    # those who are left are no longer a coin's throw apart
    law = KnownLaw(probability=0.5) if family != "truncated" else None
    res = structural(formula, data, chosen, assignment=law).fit(
        learners=("constant", "smooth"), folds=2, rng=0, progress=False
    )
    ate = res.estimate("ate")
    assert abs(ate.value[0] - effect) < 4 * ate.std_error[0] and ate.std_error[0] < 0.3 * effect
    assert res.facts.goodness.llf > structural(formula.split("|")[0], data, chosen).fit().llf
    if family in ("weibull", "tobit"):  # what integrates over the observed treatment can be had, censored or not
        att = res.estimate("att")
        assert abs(att.value[0] - effect) < 4 * att.std_error[0]


@pytest.mark.parametrize("last", [3, 60])
def test_few_censored_rows_and_the_end_of_a_study(last: int) -> None:
    """All that are censored were last seen at the same time, which no smooth law of that could say."""
    data = drawn(300, 1)
    end = data.whole.nlargest(last).iloc[-1]
    data["weeks"], data["ended"] = data.whole.clip(upper=end), data.whole < end
    assert (~data.ended).sum() == last
    res = structural("Surv(weeks, ended) ~ t | x", data, "weibull", assignment=KnownLaw(probability=0.5)).fit(
        learners="smooth", folds=2, rng=0, progress=False
    )
    ate, mean = res.estimate("ate"), 7 * np.exp(0.8 - 0.4 * data.x) * gamma(1.6)
    truth = (mean * (np.exp(0.5) - 1)).mean()
    assert abs(ate.value[0] - truth) < 3 * ate.std_error[0] < truth


def test_the_law_of_censoring() -> None:
    """Nelson and Aalen's hazard, times what d and x make of it."""
    times, hazard = torch.tensor([1.0, 2, 4]).double(), torch.tensor([0.0, 0.5, 0.5]).double()
    law = Censoring(times, hazard, torch.tensor([[[0.0, 1.0]]]).double())
    d = torch.tensor([[1.0, 0.0], [1.0, np.log(2)]]).double()[None, None]  # (1, 1, 2, 2)
    at = torch.tensor([0.5, 1, 1.9, 2, 3, 4, 4.1]).double()[:, None, None, None].expand(-1, 1, 1, 2)
    seen = law.seen(d, slice(0, 1))(at)[:, 0, 0]
    np.testing.assert_allclose(seen[:, 0], [1, 1, 1, *[np.exp(-0.5)] * 3, 0])
    np.testing.assert_allclose(seen[:, 1], [1, 1, 1, *[np.exp(-0.25)] * 3, 0])
    res = structural("Surv(weeks, ended) ~ t | x", DATA, "weibull", assignment=KnownLaw(probability=0.5))
    u, n = res.design.units, 300
    g = torch.Generator().manual_seed(0)
    options = Options(("smooth",), MLP(), LBFGS(), 1e-3, torch.device("cpu"), g)
    parts = splits.make(n, folds=2, members=1, repeats=1, generator=options.generator)
    found = censoring.learn(res.design.terms, u, res.design.x, torch.ones(n).double(), parts, options)
    other = SurvfuncRight(TIME, 1 - ENDED)
    at = torch.from_numpy(other.surv_times)
    np.testing.assert_allclose(found.until(at), np.cumsum(other.n_events / other.n_risk), rtol=1e-10)
    assert found.gamma.shape == (1, n, 2) and float(found.gamma.abs().mean()) < 0.5  # of a law that nothing moves


def test_surv_in_a_formula() -> None:
    base = structural("Surv(weeks, ended) ~ t + x", DATA, "weibull")
    assert base.structure.family.censored and base.design.units.y.shape == (300, 2)
    for event in (DATA.ended.astype(int), DATA.ended.astype("boolean"), DATA.ended.astype(float)):
        other = structural("Surv(weeks, ended) ~ t + x", DATA.assign(ended=event), "weibull")
        assert torch.equal(other.design.units.y, base.design.units.y)
    coded = DATA.assign(status=DATA.ended + 1)
    other = structural("Surv(weeks, status == 2) ~ t + x", coded, "weibull")
    assert torch.equal(other.design.units.y, base.design.units.y)
    with pytest.raises(DataError, match=r"2 distinct values \(1, 2\).*Surv\(weeks, status == 2\)"):
        structural("Surv(weeks, status) ~ t + x", coded, "weibull")
    with pytest.raises(DataError, match=r"3 that are not .*subset='weeks > 0'"):
        structural("Surv(weeks, ended) ~ t", DATA.assign(weeks=DATA.weeks.where(DATA.index > 2, 0)), "weibull")
    with pytest.raises(DataError, match="every event is 0"):
        structural("Surv(weeks, ended) ~ t", DATA.assign(ended=False), "weibull")
    with pytest.raises(DataError, match=r"2 columns.*Families of durations"):
        structural("Surv(weeks, ended) ~ t", DATA, "poisson")
    with pytest.raises(FormulaError):
        structural("Surv(weeks) ~ t", DATA, "weibull")
    event = DATA.ended.astype("boolean").where(DATA.index % 5 > 0)
    holes = DATA.assign(weeks=DATA.weeks.where(DATA.index % 7 > 0), ended=event)
    some = structural("Surv(weeks, ended) ~ t", holes, "weibull")
    assert some.design.dropped == {"missing outcome": 94} and some.design.units.y.shape == (206, 2)
    plain = structural("whole ~ t", DATA, "weibull")
    assert not plain.structure.family.censored and bool((plain.design.units.y[:, 1] == 1).all())


def test_saved_and_loaded(tmp_path) -> None:  # type: ignore[no-untyped-def]
    res = structural("Surv(weeks, ended) ~ t | x", DATA, "weibull", assignment=KnownLaw(probability=0.5)).fit(
        learners="smooth", folds=2, rng=0, progress=False
    )
    limited = structural("hours ~ t + x", DATA, Tobit(0.0, 15.0, "latent")).fit()
    for one in (res, limited):
        for data in (False, True):
            one.save(tmp_path / "fit.deepreg", data=data, overwrite=True)
            back = deepreg.load(tmp_path / "fit.deepreg")
            assert back.structure.family == one.structure.family
            np.testing.assert_array_equal(back.bse, one.bse)
            np.testing.assert_array_equal(back.estimate("ate").value, one.estimate("ate").value)
    new = DATA[["t", "x"]].head()
    np.testing.assert_array_equal(deepreg.load(tmp_path / "fit.deepreg").predict(new), limited.predict(new))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"lower": None}, "no limit"), ({"lower": 2.0, "upper": 1.0}, "below upper="), ({"lower": "0"}, "is a number"),
        ({"lower": float("inf")}, "is a number"), ({"mean_of": "both"}, "'observed' or 'latent'"),
        ({"upper": True}, "is a number"),
    ],
)  # fmt: skip
def test_limits_are_checked(given: dict[str, object], words: str) -> None:
    for kind in (Tobit, Truncated):
        with pytest.raises(OptionError, match=words) as caught:
            kind(**given)  # type: ignore[arg-type]
        assert kind.__name__ in str(caught.value)
