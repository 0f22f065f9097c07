"""Ancillary parameters are fitted with the coefficients of the regression integrated out."""

import numpy as np
import pandas as pd
import pytest
import torch

from deepreg import evidence, structural
from deepreg.basis import Basis
from deepreg.coordinates import Standardised
from deepreg.families import get
from deepreg.structure import Structure
from deepreg.units import Units


def draws(n, seed):
    rng = np.random.default_rng(seed)
    x, t = rng.normal(size=(n, 3)), rng.binomial(1, 0.5, n)
    log_sigma = -0.5 + 0.4 * x[:, 2]
    y = 1 + np.sin(1.5 * x[:, 0]) + t * (0.5 + 0.5 * x[:, 1]) + np.exp(log_sigma) * rng.normal(size=n)
    return pd.DataFrame({"y": y, "t": t, "a": x[:, 0], "b": x[:, 1], "c": x[:, 2]}), log_sigma


@pytest.mark.parametrize("seed", [0, 4, 5])
def test_a_scale_does_not_follow_residuals_that_a_flexible_mean_has_shrunk(seed):
    frame, log_sigma = draws(400, seed)
    result = structural("y ~ t | a + b + c", data=frame, family="gaussian").fit(
        learners=("additive",), rng=seed, progress=False
    )
    found = result.theta()["log_sigma"]
    assert np.sqrt(np.mean((found - log_sigma) ** 2)) < 0.15
    assert abs(result.params["log_sigma"] + 0.5) < 4 * result.bse["log_sigma"] < 0.25


@pytest.mark.parametrize("family", ["gaussian", "negbin"])
def test_the_score_of_an_ancillary_parameter_is_that_of_the_restricted_likelihood(family):
    """The gradient of the loss plus half the log determinant of the coefficients' Hessian, at fixed penalties."""
    rng = np.random.default_rng(2)
    n = 300
    x, t = torch.tensor(rng.normal(size=(n, 2))), torch.tensor(rng.binomial(1, 0.5, n)).double()
    d, one = torch.stack([torch.ones(n).double(), t], 1), torch.ones(n, dtype=torch.float64)
    structure = Structure(get(family), ("Intercept", "t"))
    mean = 0.5 + torch.sin(x[:, 0])
    noise = torch.tensor(rng.normal(size=n)) if family == "gaussian" else None
    y = mean + noise if noise is not None else torch.tensor(rng.negative_binomial(2, 2 / (2 + mean.exp()))).double()
    u = Units(y, d, one)
    problem = Standardised.of(structure, u, one, torch.ones(1, n, dtype=torch.bool), None, False)
    basis = Basis.of(x)
    columns, place = basis.columns(x, torch.arange(basis.mains))
    active = torch.ones(1, basis.mains, 3, dtype=torch.bool)
    target = problem.target(torch.arange(n))
    assert target.restriction is not None
    fit = evidence.maximise(target, columns, place, active)
    out = evidence.outputs_of(columns, fit.coefficient)
    at = problem.coordinates
    theta, inner, unit = at.around(out)[0], structure.family, at.unit[0]
    assert fit.restriction is not None

    # the covariances of the outputs at each row, from the whole Hessian at once
    curvature = target.derivatives(out)[1][0]
    penalty = torch.diag(fit.precision[0, place].flatten())
    full = torch.einsum("nq,npr,ns->qpsr", columns, curvature, columns).reshape(penalty.shape) + penalty
    inverse = torch.linalg.inv(full).reshape(len(place), 3, len(place), 3)
    covariance = torch.einsum("nq,qpsr,ns->npr", columns, inverse, columns)
    around = (at.transform[0] @ covariance @ at.transform[0].T)[:, :2, :2]

    log_scale = theta[:, 2].clone().requires_grad_(True)
    moved = torch.cat([theta[:, :2], log_scale[:, None]], 1)
    bent = inner.information(problem.units._replace(d=problem.units.d[0]), moved)[:, :2, :2]
    (slope,) = torch.autograd.grad(0.5 * (bent * around).sum(), log_scale)
    expected = slope[:, None] * at.transform[0, 2] / unit**2
    torch.testing.assert_close(target.restriction(out, covariance[None], slice(n))[0], expected, rtol=1e-5, atol=1e-7)
    assert (fit.restriction[0] - expected).square().sum(1).mean() < 1e-4  # of the score's 1: it is one step behind
    if family == "gaussian":  # no row says less than nothing of its own scale
        assert (expected[:, 2] <= 0).all() and expected[:, 2].min() > -at.transform[0, 2, 2] / unit


def test_covariances_of_outputs_are_those_of_the_functions_that_each_set_uses():
    generator = torch.Generator().manual_seed(3)
    columns, root = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((50, 4), (8, 8)))
    place, active = torch.tensor([0, 1, 1, 2]), torch.ones(2, 3, 2, dtype=torch.bool)
    active[1, 1, 0] = active[1, 2, 1] = False
    chosen = evidence._Chosen.of(active, place)
    precision = torch.linspace(0.5, 2, 6, dtype=torch.float64).expand(2, 6)
    whole = root @ root.T  # of the coefficients (q, P), flat
    both = chosen.real[:, :, None] & chosen.real[:, None, :]
    gram = whole[chosen.index[:, :, None], chosen.index[:, None, :]] * both
    gram = gram + torch.diag_embed((~chosen.real).double())
    found = []
    evidence._restriction(
        lambda out, covariance, rows: found.append(covariance) or out,
        columns, chosen, gram, precision, torch.zeros(2, 50, 2, dtype=torch.float64),
    )  # fmt: skip
    for g in range(2):
        used = active[g][place].flatten()
        ridge = precision[g].reshape(3, 2)[place].flatten()[used]
        inverse = torch.zeros_like(whole)
        inverse[used.nonzero(), used.nonzero().T] = torch.linalg.inv(whole[used][:, used] + ridge.diag())
        expected = torch.einsum("nq,qpsr,ns->npr", columns, inverse.reshape(4, 2, 4, 2), columns)
        torch.testing.assert_close(torch.cat(found, 1)[g], expected)
