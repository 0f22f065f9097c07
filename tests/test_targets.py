"""What every target promises, over the registry: derivatives, orthogonality, names, files; and their closed forms."""

import numpy as np
import pytest
import torch
from population import exact, mean_psi, scores

import deepreg
from deepreg import targets
from deepreg.targets import Target

X = 40  # values of x in a population, each with nine prices
ROWS = tuple(np.repeat(0.5 + np.random.default_rng(5).uniform(size=X), 9).tolist())


def above(frame):
    return np.where(frame.x > 0, 2.0, 1.0)


def lower(frame):
    return frame.t - 0.3 * (frame.x > 0)


CASES: dict[str, list[tuple[str, Target]]] = {
    "coefficient": [("binary", targets.Coefficient()), ("price", targets.Coefficient("t"))],
    "mean": [("binary", targets.Mean("t")), ("price", targets.Mean("t", at=(2, 3)))],
    "ate": [("binary", targets.ATE("t")), ("price", targets.ATE("t", hi=3, lo=2))],
    "att": [("binary", targets.ATT("t"))],
    "atu": [("binary", targets.ATU("t"))],
    "ame": [("price", targets.AME("t")), ("price", targets.AME("t", at=2.0))],
    "contrast": [
        ("binary", targets.Contrast({"t": 1}, {"t": 0})),
        ("price", targets.Contrast({"t": "cost"}, {"t": lower})),
        ("price", targets.Contrast({"t": ROWS}, {"t": 0.5})),
    ],
    "elasticity": [
        ("price", targets.Elasticity("t")),
        ("price", targets.Elasticity("t", at=2.0)),
        ("price", targets.Elasticity("t", semi=True)),
    ],
    "wtp": [("price", targets.WTP("Intercept", per="t")), ("price", targets.WTP("Intercept", per="t", of="averages"))],
    "revenue": [
        ("price", targets.Revenue("t")),
        ("price", targets.Revenue("t", at=3.0)),
        ("price", targets.Revenue("t", at=lower)),
    ],
    "profit": [
        ("price", targets.Profit("t", cost="cost")),
        ("price", targets.Profit("t", cost=1.0, at=3.0)),
        ("price", targets.Profit("t", cost="cost", at=ROWS)),
    ],
    "optimal_price": [
        ("price", targets.OptimalPrice("t", cost="cost", lo=0.1, hi=12.0)),
        ("price", targets.OptimalPrice("t", cost=0.8, lo=0.5, hi=12.0)),
    ],
    "consumer_surplus": [("price", targets.ConsumerSurplus("t", lo=1.0, hi=3.0))],
    "policy_value": [
        ("binary", targets.PolicyValue(lambda frame: (frame.x > 0) * 1)),
        ("price", targets.PolicyValue(lower)),
        ("price", targets.PolicyValue("cost")),
    ],
    "policy_difference": [
        ("binary", targets.PolicyDifference(lambda frame: (frame.x > 0) * 1)),
        ("price", targets.PolicyDifference(above, other=2.5)),
        ("price", targets.PolicyDifference(lower)),
    ],
}
FAMILIES = ("linear", "logit", "poisson")
EVERY = [
    pytest.param(family, kind, target, id=f"{family}-{name}-{i}")
    for name, found in CASES.items()
    for i, (kind, target) in enumerate(found)
    for family in FAMILIES
]


def test_there_is_a_case_for_every_target():
    assert sorted(CASES) == targets.names()
    for name, found in CASES.items():
        assert {target.label for _, target in found} == {name}


@pytest.mark.parametrize(("family", "kind", "target"), EVERY)
def test_an_error_in_theta_that_depends_on_x_moves_psi_only_in_second_order(family, kind, target):
    population = exact(family, kind, X)
    x, theta = torch.tensor(population.design.frame.x.to_numpy()), population.theta
    truth, plain = mean_psi(population, theta, target)
    np.testing.assert_allclose(truth, plain, rtol=1e-8, atol=1e-10)
    direction = torch.stack([1 + torch.cos(x), 0.15 * x + 0.2], 1)
    c = 0.002
    found = [mean_psi(population, theta + by * direction, target) for by in (c, c / 2)]
    (error, plug_in), (half, plug_half) = ((one - truth, plug - truth) for one, plug in found)
    moved = np.abs(plug_half) > 1e-5 * np.abs(truth)  # the direction matters to the plug-in
    assert moved.any()
    assert (np.abs(half[moved]) < 0.05 * np.abs(plug_half[moved])).all()
    quadratic = np.abs(error) > 1e-9 * (1 + np.abs(truth))
    np.testing.assert_allclose(error[quadratic] / half[quadratic], 4, rtol=0.25)


@pytest.mark.parametrize(("family", "kind", "target"), EVERY)
def test_gradients_by_finite_differences(family, kind, target):
    population = exact(family, kind, X)
    target, theta = target.bind(population.design), population.theta
    found = scores(population, theta)
    frame = population.design.frame
    at = found._evaluate(target, frame, found.u, theta)
    assert at.h.shape == (1, len(frame), at.gradient.shape[2]) and bool(at.h.isfinite().all())
    if target.averaged:
        assert len(target.names(population.structure, population.design)) == at.h.shape[-1]
    for j, step in enumerate(1e-5 * torch.eye(theta.shape[-1], dtype=torch.float64)):
        up, down = (found._evaluate(target, frame, found.u, theta + by * step).h for by in (1, -1))
        np.testing.assert_allclose(at.gradient[..., j], (up - down) / 2e-5, rtol=1e-4, atol=1e-6)
    mean = at.h.mean((0, 1))
    turn = torch.autograd.functional.jacobian(target.combine, mean)
    assert turn.shape == (len(target.names(population.structure, population.design)), len(mean))
    for j, step in enumerate(1e-6 * torch.eye(len(mean), dtype=torch.float64)):
        slope = (target.combine(mean + step) - target.combine(mean - step)) / 2e-6
        np.testing.assert_allclose(turn[:, j], slope, rtol=1e-5, atol=1e-8)
