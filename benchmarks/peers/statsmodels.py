"""Linear and logit regressions of statsmodels, without and with interactions of the treatment and the features."""

import numpy as np
import statsmodels.api as sm

from deepreg.simulate import Simulation

from .problem import Answer, Array, Problem, problem

_FAMILIES = {"linear": sm.families.Gaussian, "logit": sm.families.Binomial, "poisson": sm.families.Poisson}


def _answer(sim: Simulation, data: Problem, slopes: Array) -> Answer:
    """Regress on (1, t, x, t times slopes); the target is a mean of effects, its error from the delta method.

    The variance is that of the coefficients, robust (HC1), plus that of a mean of effects over n rows drawn from the
    population, which a table of coefficients leaves out: an exception from the library's defaults in its favour. The
    factor n / (n - k) of HC1 is written out, because GLM, unlike OLS, leaves it out of what it calls HC1.
    """
    n, p, q = len(data.y), data.x.shape[1], slopes.shape[1]
    base = np.column_stack([np.ones(n), np.zeros(n), data.x, np.zeros((n, q))])  # (n, 2 + p + q) without treatment
    unit = np.column_stack([np.zeros(n), np.ones(n), np.zeros((n, p)), slopes])  # (n, 2 + p + q) of one unit of it
    design = base + data.t[:, None] * unit
    fitted = sm.GLM(data.y, design, family=_FAMILIES[sim.family]()).fit(cov_type="HC0")
    cate, link = unit @ fitted.params, fitted.family.link
    if data.binary:
        high, low = (base + unit) @ fitted.params, base @ fitted.params
        effect = link.inverse(high) - link.inverse(low)  # (n,)
        gradient = link.inverse_deriv(high)[:, None] * (base + unit) - link.inverse_deriv(low)[:, None] * base
    else:
        index = design @ fitted.params
        steep, bend = link.inverse_deriv(index), link.inverse_deriv2(index)
        effect = cate * steep
        gradient = steep[:, None] * unit + (cate * bend)[:, None] * design  # (n, 2 + p + q)
    moved = gradient.mean(0)
    variance = moved @ fitted.cov_params() @ moved * n / (n - design.shape[1]) + effect.var() / n
    return Answer(float(effect.mean()), float(variance**0.5), cate)


def ols(sim: Simulation, seed: int) -> Answer:
    """y on t and x (a GLM where the outcome is not linear); beta(x) is one number."""
    data = problem(sim)
    return _answer(sim, data, np.empty((len(data.y), 0)))


def ols_interacted(sim: Simulation, seed: int) -> Answer:
    """y on t, x, and t times centred x (a GLM where the outcome is not linear); beta(x) is linear in x."""
    data = problem(sim)
    return _answer(sim, data, data.x - data.x.mean(0))
