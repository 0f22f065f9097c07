"""The uncertainty of theta(x) at single rows."""

import numpy as np
import pytest
import torch

from deepreg import evidence, simulate, spread, structural
from deepreg.theta import Uncentred


def fitted(sim, **options):
    return structural(sim.formula, data=sim.frame, family=sim.family).fit(rng=0, progress=False, **options)


def deviation(result, repeats=1):
    """The standard deviations of theta(x) at the rows of the fit; (n, P)."""
    x, slopes = result.design.inputs, result.structure.slopes
    centre = result.law.centre(x, slopes) if result.structure.movable else None
    return spread.covariance(result.fitted, x, repeats, centre).diagonal(dim1=1, dim2=2).sqrt().numpy()


def test_the_posterior_of_a_regression_is_the_textbooks():
    generator = torch.Generator().manual_seed(0)
    columns = torch.randn(120, 5, generator=generator, dtype=torch.float64)
    columns[:, 0], place = 1.0, torch.tensor([0, 1, 1, 2, 2])
    y = columns @ torch.tensor([1.0, 0.8, -0.5, 0.0, 0.1]).double() + torch.randn(120, generator=generator).double()

    def derivatives(out):
        return out - y[:, None], torch.ones(1, 120, 1, 1).double()

    target = evidence.Target(lambda out: 0.5 * (out[..., 0] - y) ** 2, derivatives, torch.ones(1, 120).double())
    fit = evidence.maximise(target, columns, place, torch.ones(1, 3, 1, dtype=torch.bool))
    ridge = torch.diag(fit.precision[0, place, 0])
    bread = torch.linalg.inv(columns.T @ columns + ridge)
    residual = y - columns @ fit.coefficient[0, :, 0]
    noise = residual @ residual / (120 - torch.trace(bread @ columns.T @ columns))
    order = fit.posterior.index[0].argsort()
    found = fit.posterior.covariance[0][order][:, order]
    torch.testing.assert_close(found, noise * bread, rtol=2e-3, atol=1e-9)
    variance = torch.einsum("nq,qr,nr->n", columns, found, columns)
    torch.testing.assert_close(fit.posterior.of_outputs(columns)[0, :, 0, 0], variance)


@pytest.mark.parametrize(
    "design",
    [
        "tutorial",
        pytest.param("price", marks=pytest.mark.slow),
        pytest.param("logit_continuous", marks=pytest.mark.slow),
    ],
)
def test_intervals_of_rows_cover_on_average_over_x(design):
    inside, wide, wrong = [], [], []
    for rng in range(2):
        sim = simulate.get(design)(n=600, rng=rng)
        result = fitted(sim)
        slope = sim.theta.columns[1]
        error, sd = (result.theta()[slope] - sim.theta[slope]).to_numpy(), deviation(result)[:, 1]
        inside.append((np.abs(error) < 1.96 * sd).mean())
        wide.append((sd**2).mean())
        wrong.append((error**2).mean())
    assert np.mean(inside) > 0.9
    assert np.mean(wide) < 6 * np.mean(wrong)


def test_they_follow_the_units_of_the_outcome_and_the_treatment():
    sim = simulate.get("price")(n=300, rng=0)
    learners = ("constant", "smooth", "additive", "uncentred")
    before = deviation(fitted(sim, learners=learners, folds=2))
    sim.frame["y"], sim.frame["t"] = 1000 * sim.frame.y + 5, sim.frame.t / 10 - 3
    after = deviation(fitted(sim, learners=learners, folds=2))
    np.testing.assert_allclose(after[:, 1], 10_000 * before[:, 1], rtol=1e-3)


def test_a_surface_around_the_same_origin_keeps_its_uncertainty():
    sim = simulate.get("price")(n=200, rng=0)
    result = fitted(sim, learners=("additive", "uncentred"), folds=2)
    learner, x = result.fitted.learners["uncentred"], result.design.inputs
    assert isinstance(learner, Uncentred)
    same = Uncentred(learner.surface, learner.own, learner.own)
    centre = learner.own.centre.expand(2, len(x), -1)
    torch.testing.assert_close(spread._of_learner(same, x, 2, centre), learner.surface.spread(x))


def test_the_jackknife_is_that_of_groups_left_out():
    values = torch.randn(6, 4, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = spread._jackknife(values, 3)
    for repeat in range(2):
        each = values[3 * repeat : 3 * repeat + 3]
        expected = 2 * torch.stack([torch.cov(each[:, i].T, correction=0) for i in range(4)])
        torch.testing.assert_close(found[repeat], expected)
    sim = simulate.get("tutorial")(n=200, rng=0)
    once = deviation(fitted(sim, learners=("smooth",), folds=2))
    twice = deviation(fitted(sim, learners=("smooth",), folds=2, repeats=2), repeats=2)
    assert 0.5 < np.median(twice / once) < 2


def test_a_saved_law_keeps_no_uncertainty_of_its_functions():
    result = fitted(simulate.get("heteroskedastic")(n=200, rng=0), learners=("smooth",), folds=2)
    for law, kept in ((result.law, True), (result.law.on(result.design), False)):
        assert (law.moments[0].learners["additive"].posterior is not None) is kept
