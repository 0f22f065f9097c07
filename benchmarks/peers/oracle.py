"""The efficient estimator that knows the truth: no method can be expected to do better on average."""

import numpy as np
from scipy.special import expit

from deepreg.simulate import Simulation

from .problem import Answer, Array, problem


def _inverse_link(family: str, eta: Array) -> tuple[Array, Array, Array]:
    """g(eta) and its first two derivatives."""
    if family == "linear":
        return eta, np.ones_like(eta), np.zeros_like(eta)
    if family == "logit":
        g = expit(eta)
        return g, g * (1 - g), g * (1 - g) * (1 - 2 * g)
    if family == "poisson":
        return np.exp(eta), np.exp(eta), np.exp(eta)
    raise ValueError(f"the oracle does not know family={family!r}; it knows linear, logit and poisson")


def _average_effect(sim: Simulation, y: Array, t: Array) -> Array:
    """psi (n,) = m1 - m0 + t (y - m1)/p - (1 - t)(y - m0)/(1 - p) at the true means m1, m0 and propensity p."""
    alpha, beta = sim.theta.to_numpy().T
    high, low = _inverse_link(sim.family, alpha + beta)[0], _inverse_link(sim.family, alpha)[0]
    p = sim.propensity
    return high - low + t * (y - high) / p - (1 - t) * (y - low) / (1 - p)


def _average_slope(sim: Simulation, y: Array, t: Array) -> Array:
    """psi (n,) = h(theta, t) + E[dh/dtheta | x]' Lambda(x)^-1 (1, t)' (y - g) with h = beta g'(alpha + beta t).

    Lambda(x) = E[g' (1, t)'(1, t) | x]; means over the treatment, which is normal given x, by quadrature.
    """
    alpha, beta = sim.theta.to_numpy().T
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    law = sim.law.to_numpy()
    at = law[:, :1] + law[:, 1:] * nodes  # (n, nodes)
    _, steep, bend = _inverse_link(sim.family, alpha[:, None] + beta[:, None] * at)

    def mean(values: Array) -> Array:
        return values @ weights / weights.sum()  # (n,) over the law of t

    gradient = np.stack([mean(beta[:, None] * bend), mean(steep + beta[:, None] * at * bend)], -1)  # (n, 2)
    a, b, c = mean(steep), mean(steep * at), mean(steep * at**2)
    curvature = np.stack([np.stack([a, b], -1), np.stack([b, c], -1)], -2)  # (n, 2, 2)
    direction = np.linalg.solve(curvature, gradient[..., None])[..., 0]  # (n, 2)
    g, slope, _ = _inverse_link(sim.family, alpha + beta * t)
    return beta * slope + (direction[:, 0] + direction[:, 1] * t) * (y - g)


def oracle(sim: Simulation, seed: int) -> Answer:
    """The mean of the influence function at the true theta(x) and law of the treatment; beta(x) is the truth."""
    data = problem(sim)
    psi = (_average_effect if data.binary else _average_slope)(sim, data.y, data.t)
    return Answer(float(psi.mean()), float(psi.std(ddof=1) / len(psi) ** 0.5), sim.theta.iloc[:, 1].to_numpy())
