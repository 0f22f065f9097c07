"""Learners of theta(x): what smooth functions find in it, how learners are weighted, and how a user chooses them."""

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import optimize

import deepreg
from deepreg import additive, units
from deepreg import nodes as nodes_of
from deepreg import splits as cross_fitting
from deepreg import theta as surface
from deepreg.coordinates import Standardised
from deepreg.errors import OptionError
from deepreg.families import Gaussian, Linear, Logit, Multinomial, Poisson
from deepreg.networks import MLP
from deepreg.splits import Splits
from deepreg.stacking import stack
from deepreg.structure import Structure
from deepreg.theta import LEARNERS
from deepreg.trainers import LBFGS
from deepreg.units import Units

FAST: dict[str, Any] = {"folds": 2, "members": 1, "rng": 3, "progress": False, "trainer": LBFGS(steps=15)}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=torch.float64)


# weights


def candidates(seed, rows=200):
    """Four candidates of two outputs, regressors, and an outcome that two or three of them explain."""
    each, share = normal(4, 2, rows, 2, seed=seed), torch.tensor([[0.5, 0], [0.3, 0.9], [-0.2, 0.3], [0, -0.5]])
    d = torch.stack([torch.ones(rows, dtype=torch.float64), normal(rows, seed=seed + 1)], 1)
    y = ((each * share[:, None, None]).sum(0) * d).sum(-1) + 0.5 * normal(2, rows, seed=seed + 2)
    return each, lambda out: 0.5 * ((y - (out * d).sum(-1)) ** 2).mean()


@pytest.mark.parametrize("seed", range(3))
def test_weights_are_the_best_on_the_simplex(seed):
    each, loss = candidates(seed)

    def at(flat):
        return float(loss((torch.as_tensor(flat).reshape(4, 2)[:, None, None] * each).sum(0)))

    reference = optimize.minimize(
        at, np.full(8, 0.25), method="SLSQP", bounds=[(0, 1)] * 8, options={"ftol": 1e-14, "maxiter": 500},
        constraints={"type": "eq", "fun": lambda flat: flat.reshape(4, 2).sum(0) - 1},
    )  # fmt: skip
    weight = stack(each, loss)
    assert (reference.x < 1e-6).any() and (weight >= 0).all()
    torch.testing.assert_close(weight.sum(0), torch.ones(2, dtype=torch.float64))
    assert at(weight.numpy().ravel()) <= reference.fun * (1 + 1e-6)
    np.testing.assert_allclose(weight.numpy(), reference.x.reshape(4, 2), atol=2e-3)


def test_a_candidate_that_is_right_has_nearly_all_weight():
    truth = normal(1, 300, 2)
    each = torch.stack([torch.zeros_like(truth), truth, truth + normal(1, 300, 2, seed=1)])
    weight = stack(each, lambda out: (out - truth).square().mean())
    assert (weight[1] > 0.999).all()


# theta(x)


class Found(NamedTuple):
    fit: surface.Theta
    splits: Splits
    units: Units
    family: Any
    theta: torch.Tensor  # (n, P) the truth

    def loss(self, theta):
        return float(self.family.loss(self.units, theta).mean())

    def held_out(self, x, homogeneous=False):
        values = self.fit.coordinates.values(0 * self.fit.outputs(x)) if homogeneous else self.fit.values(x)
        return surface.held_out(values, self.splits.held_out)[0]


def features(n, p):
    x = normal(n, p, seed=13)
    return (x - x.mean(0)) / x.std(0, correction=0)


def fitted(x, *functions, family=None, reads=None, change=lambda y, splits: y, learners=("additive",)):
    """theta.fit on an outcome that is drawn at theta(x), the values of `functions`."""
    n, g, family = len(x), generator(12), family or Linear()
    theta = torch.stack([f(x) + torch.zeros(n) for f in functions], 1)
    one, size = torch.ones(n, dtype=torch.float64), theta.shape[1] - len(family.extra)
    d = torch.stack([one, torch.bernoulli(0.5 * one, generator=g)], 1)[:, :size]
    if isinstance(family, Multinomial):
        d = d[:, :1]
    y = family.simulate(Units(one, d, one), theta, g)
    splits = cross_fitting.make(n, folds=3, members=1, repeats=1, generator=generator())
    u = Units(change(y, splits), d, one)
    options = surface.Options(learners, MLP((6,)), LBFGS(steps=10), 1e-3, torch.device("cpu"), generator())
    structure = Structure(family, ("Intercept", "t")[: d.shape[1]])
    return Found(surface.fit(structure, u, x, one, splits, options, reads=reads), splits, u, family, theta)


def reads_of(learner, output):
    """The features that move an output of some group."""
    place = learner.basis.columns(torch.zeros(1, learner.basis.features).double(), learner.groups)[1]
    used = place[(learner.coefficient[..., output] != 0).any(0)].unique()
    return learner.basis.members()[learner.groups[used]].any(0).nonzero()[:, 0].tolist()


CASES = {
    "linear": (Linear(), lambda x: 2 * torch.sin(2 * x[:, 0]), lambda x: 1 + x[:, 1]),
    "logit": (Logit(), lambda x: 1.5 * x[:, 0], lambda x: 1 + 1.5 * x[:, 1]),
    "poisson": (Poisson(), lambda x: 0.5 * x[:, 0], lambda x: 0.5 + 0.5 * x[:, 1]),
    "gaussian": (Gaussian(), lambda x: x[:, 0], lambda x: 1 + x[:, 1], lambda x: 0.5 * x[:, 2]),
    "multinomial": (Multinomial.of(3), lambda x: 1.5 * x[:, 0], lambda x: x[:, 1] ** 2 - 1),
    "one feature": (Linear(), lambda x: 2 * torch.sin(2 * x[:, 0]), lambda x: 1 + x[:, 0]),
}


@pytest.mark.parametrize("case", ["linear", "logit", "poisson", "gaussian", "multinomial"])
def test_what_learners_solve_is_the_problem_of_the_data_in_units_of_order_one(case):
    family, *functions = CASES[case]
    found = fitted(features(200, 3), *functions, family=family, learners=("constant",))
    splits, u, weight, structure = found.splits, found.units, found.units.mask, found.fit.coordinates.structure
    problem, rows = Standardised.of(structure, u, weight, splits.fitted, None, False), splits.fitted.double()
    target = problem.target(torch.arange(200))
    torch.testing.assert_close(target.weight, rows)
    first, second = 0.3 * normal(2, 3, 200, found.theta.shape[1], seed=3)
    score, curvature = target.derivatives(first)
    at = first.clone().requires_grad_(True)
    torch.testing.assert_close(torch.autograd.grad(target.value(at).sum(), at)[0], score)
    if family.outcome_free:
        change = target.derivatives(first + 1e-5 * second)[0] - target.derivatives(first - 1e-5 * second)[0]
        torch.testing.assert_close((curvature @ second[..., None])[..., 0], change / 2e-5, rtol=1e-5, atol=1e-6)
    score, curvature = target.derivatives(torch.zeros_like(first))
    if family.outcome_free:
        average = (curvature * rows[..., None, None]).sum(1) / rows.sum(1)[:, None, None]
        torch.testing.assert_close(average, torch.eye(score.shape[-1]).double().expand_as(average))
    square = (score.square().mean(-1) * rows).sum(1) / rows.sum(1)
    torch.testing.assert_close(square, torch.ones_like(square))
    loss = problem.held_out_loss(splits.held_out, torch.arange(len(weight)))

    def ratio(out):
        at, own = found.fit.coordinates, splits.held_out
        there = [found.loss(surface.held_out(at.values(o), own)) for o in (out, 0 * out)]
        here = [loss(surface.held_out(o, own)) for o in (out, 0 * out)]
        return (here[0] - here[1]) / (there[0] - there[1])

    torch.testing.assert_close(ratio(first), ratio(second))


@pytest.mark.parametrize("case", CASES)
def test_held_out_rows_are_predicted_better_than_by_constants(case):
    family, *functions = CASES[case]
    x = features(400, 1 if case == "one feature" else 3)
    found = fitted(x, *functions, family=family)
    ours, constant = found.held_out(x), found.held_out(x, homogeneous=True)
    truth, mine, worst = (found.loss(theta) for theta in (found.theta, ours, constant))
    assert truth - 0.02 < mine < truth + 0.3 * (worst - truth)
    assert ((ours - found.theta).square().mean(0) < 0.5 * (constant - found.theta).square().mean(0)).all()


def test_slopes_vary_with_no_control():
    x = features(300, 3)
    slope = (lambda x: x[:, 0] + x[:, 1] * x[:, 2]), (lambda x: 1 + x[:, 0] + x[:, 1] + x[:, 2] ** 2)
    found = fitted(x, *slope, reads=((0,), (1, 2)), learners=("smooth", "additive"))
    moved = x.clone()
    moved[:, 1:] = moved[:, 1:].roll(1, 0)
    change = (found.fit.values(moved) - found.fit.values(x)).abs().amax((0, 1))
    assert change[0] > 0.5 and change[1] < 1e-12
    for learner in found.fit.learners.values():
        assert reads_of(learner, 0) == [0, 1, 2] and reads_of(learner, 1) == [0]


def test_a_slope_that_may_vary_with_little_is_still_judged():
    found = fitted(features(300, 12), lambda x: x[:, 1], lambda x: 1.0, reads=((0,), tuple(range(1, 12))))
    assert reads_of(found.fit.learners["additive"], 1) == []


def test_held_out_rows_do_not_touch_the_functions_that_are_judged_on_them():
    x = features(300, 3)

    def other(y, splits):  # other outcomes there, with the same mean and scale
        out = splits.fold[0] == 0
        return y.masked_scatter(out, y[out].roll(1))

    truth = (lambda x: torch.sin(2 * x[:, 0])), (lambda x: 1 + x[:, 1])
    one = fitted(x, *truth).fit.outputs(x)
    two = fitted(x, *truth, change=other).fit.outputs(x)
    assert (one[0] - two[0]).abs().max() < 0.02  # the number of steps is all they share
    assert (one[1:] - two[1:]).abs().max() > 0.1


def test_where_there_are_many_rows_functions_are_chosen_on_some_and_fitted_to_more(monkeypatch):
    monkeypatch.setattr(additive, "SELECTION", 200)
    x, error = features(2000, 2), []
    for most in (200, 2000):
        monkeypatch.setattr(additive, "ESTIMATION", most)
        found = fitted(x, lambda x: 2 * x[:, 0], lambda x: 1 + x[:, 1])
        error.append((found.held_out(x) - found.theta).square().mean(0).sum())
    assert error[1] < 0.5 * error[0] < 0.1


def test_a_stack_of_learners_loses_no_more_than_any_of_them():
    x = features(300, 3)
    found = fitted(x, lambda x: x[:, 0] + x[:, 1] * x[:, 2], lambda x: 1 + torch.sin(2 * x[:, 1]), learners=LEARNERS)
    parts, mix = found.fit.learners, found.fit.mix
    assert list(mix) == ["constant", *parts] and list(parts) == ["smooth", "additive", "network"]
    total = sum(mix[name] * parts[name].outputs(x) for name in parts)
    for same in (x, x.clone()):
        torch.testing.assert_close(found.fit.outputs(same), total)
    torch.testing.assert_close(sum(mix.values()), torch.ones(2, dtype=torch.float64))
    at, mine = found.fit.coordinates, found.loss(found.held_out(x))
    for outputs in (0 * total, *(part.outputs(x) for part in parts.values())):
        alone = surface.held_out(at.values(outputs), found.splits.held_out)[0]
        assert mine <= found.loss(alone) + 1e-6


# a user's choice


@pytest.fixture(scope="module")
def frame():
    rng = np.random.default_rng(0)
    x, z, noise = rng.normal(size=(3, 300))
    d = (rng.uniform(size=300) < 0.5) * 1
    return pd.DataFrame({"y": np.sin(2 * x) + d * (1 + z) + 0.5 * noise, "d": d, "x": x, "z": z})


def fit(frame, **options):
    return deepreg.structural("y ~ d | x + z", frame).fit(**{**FAST, **options})


@pytest.mark.parametrize("name", ["constant", "additive", "network"])
def test_a_single_learner_carries_all_weight(frame, name):
    res = fit(frame, learners=(name,))
    assert list(res.fitted.mix) == [name] and res.fitted.mix[name].tolist() == [1.0, 1.0]
    text = str(res.summary())
    assert f"Learners: {name}" in " ".join(text.split()) and "Stack" not in text
    assert ("Network:" in text) == (name == "network") == (res.history is not None)
    values = res.fitted.outputs(res.design.x)
    assert (values.std(1) > 0.1).any() == (name != "constant")
    np.testing.assert_allclose(fit(frame, learners=name).params, res.params, rtol=1e-9)


@pytest.mark.parametrize("given", ["tree", ("additive", "tree"), (), ("network", "network")])
def test_learners_that_do_not_exist_are_refused(frame, given):
    with pytest.raises(OptionError) as caught:
        fit(frame, learners=given)
    assert repr(given) in str(caught.value) and all(repr(name) in str(caught.value) for name in LEARNERS)


def test_the_summary_shows_the_weights_and_rng_repeats_them(frame):
    res = fit(frame, learners=("network", "additive", "constant"))
    assert dict(res.facts.header)["Learners:"] == "constant, additive, network" == ", ".join(res.fitted.mix)
    for j, name in enumerate(("Intercept", "d")):
        shares = {learner: float(share[j]) for learner, share in res.fitted.mix.items()}
        shown = ", ".join(f"{learner} {share:.2f}" for learner, share in shares.items() if share > 0.005)
        assert dict(res.facts.diagnostics)[f"Stack, {name}:"] == shown and abs(sum(shares.values()) - 1) < 1e-9
        text = str(res.summary())
        assert f"Stack, {name}:" in text and all(word in text for word in shown.split())
    again, other = fit(frame, learners=tuple(res.fitted.mix)), fit(frame, learners=tuple(res.fitted.mix), rng=4)
    np.testing.assert_allclose([again.params, again.bse], [res.params, res.bse], rtol=1e-9)
    assert (abs(other.params - res.params) > 1e-6).all()
    assert (abs(res.params - [np.sin(2 * frame.x).mean(), 1 + frame.z.mean()]) < 4 * res.bse).all()


def test_the_uncentred_learner_is_the_same_function_in_either_coordinates():
    sim = deepreg.simulate.get("tutorial_confounded")(n=400, rng=3)
    fit = deepreg.structural(sim.formula, sim.frame).fit(learners=("uncentred", "constant"), folds=2, rng=0)
    theta, x = fit.fitted, fit.design.x
    learner, centre = theta.learners["uncentred"], fit.law.centre(x, torch.tensor([0.0, 1.0], dtype=torch.float64))
    there = theta.coordinates.values(learner.outputs(x, centre), centre)
    here = learner.own.values(learner.surface.outputs(x))
    torch.testing.assert_close(there, here)
    assert here[..., 0].std() > 0.1 and centre[..., 1].std() > 0.1


def test_without_confounding_the_uncentred_learner_is_the_additive_one():
    sim = deepreg.simulate.tutorial(n=400, rng=3)
    model = deepreg.structural(sim.formula, sim.frame)
    assert list(model.fit(learners=("uncentred", "additive"), folds=2, rng=0).fitted.mix) == ["additive"]
    alone = model.fit(learners="uncentred", folds=2, rng=0)
    assert list(alone.fitted.mix) == ["uncentred"] and alone.theta()["treatment"].std() > 0.5


# rows in blocks


@pytest.mark.parametrize("case", ["known", "discrete", "continuous", "regressed"])
def test_results_do_not_depend_on_how_rows_are_cut_into_blocks(frame, monkeypatch, case):
    formula = "y ~ x | z" if case == "continuous" else "y ~ d | x + z"
    curvature = {"hessian": "regressed"} if case == "regressed" else {}
    known = {"assignment": deepreg.KnownLaw(probability=0.5)} if case == "known" else {}
    # sums in another order move the last digit, and networks stopped early by it more than that
    learners = None if case == "regressed" else ("constant", "smooth", "additive", "uncentred")
    error = {"known": 1e-9, "regressed": 2e-3}.get(case, 1e-5)

    def fit():
        model = deepreg.structural(formula, frame, **known)
        res = model.fit(folds=3, members=1, rng=0, progress=False, learners=learners, **curvature)
        return res, res.theta(frame.head(70))

    whole, new = fit()
    monkeypatch.setattr(units.blocks, "__defaults__", (64,))
    monkeypatch.setattr(surface, "_ROWS", 41)
    monkeypatch.setattr(nodes_of, "BLOCK", 64)
    cut, new_cut = fit()
    for one, two in ((whole.params, cut.params), (whole.bse, cut.bse), (whole.theta(), cut.theta()), (new, new_cut)):
        np.testing.assert_allclose(one, two, rtol=0, atol=error)


def test_nodes_of_some_rows_are_those_of_the_whole(frame, monkeypatch):
    nodes = deepreg.structural("y ~ d | x + z", frame).fit(folds=2, members=1, rng=0, progress=False).scores.nodes
    monkeypatch.setattr(nodes_of, "BLOCK", 64)
    parts = list(nodes.parts())
    assert len(parts) > 5
    pd.testing.assert_frame_equal(pd.concat([some.frame() for _, some in parts]), nodes.frame())
    torch.testing.assert_close(torch.cat([some.weight for _, some in parts], 1), nodes.weight)


def test_stacks_are_judged_on_some_rows_and_used_on_all(frame, monkeypatch):
    whole = deepreg.structural("y ~ d | x + z", frame).fit(folds=3, learners=("smooth", "constant"), rng=0)
    monkeypatch.setattr(additive, "SELECTION", 200)
    monkeypatch.setattr(additive, "ESTIMATION", 250)
    some = deepreg.structural("y ~ d | x + z", frame).fit(folds=3, learners=("smooth", "constant"), rng=0)
    fitted = some.fitted
    centre = some.law.centre(some.design.x, torch.tensor([0.0, 1.0], dtype=torch.float64))
    again = surface.held_out(fitted.values(some.design.x, centre), some.splits.held_out)
    torch.testing.assert_close(some.scores.theta, again)  # every row has its own, judged or not
    assert abs(some.params["d"] - whole.params["d"]) < 2 * whole.bse["d"]
