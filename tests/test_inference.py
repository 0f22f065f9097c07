"""psi and Lambda(x): identities, orthogonality along directions, invariance, and what a wrong version would do."""

import numpy as np
import pandas as pd
import population
import pytest
import torch
from population import exact, sigmoid

import deepreg
from deepreg import law as treatment_law
from deepreg import targets
from deepreg.curvature import EstimatedLaw, KnownLaw
from deepreg.design import build
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.families import get
from deepreg.influence import Scores
from deepreg.information import invert
from deepreg.nodes import Nodes
from deepreg.structure import Structure

QUICK = {"folds": 2, "members": 1, "rng": 0, "progress": False}


def mean_psi(design, structure, theta, nodes, target):
    psi, plug_in = population.mean_psi(population.Population(design, structure, theta, nodes), theta, target)
    return float(psi[0]), float(plug_in[0])


CASES = [
    (family, kind, target)
    for family in ("linear", "logit", "poisson")
    for kind, found in (
        ("binary", [targets.ATE("t"), targets.ATT("t"), targets.ATU("t"), targets.Coefficient("t"), targets.Mean("t")]),
        (
            "continuous",
            [
                targets.AME("t"),
                targets.AME("t", at=0.4),
                targets.ATE("t", hi=1.0, lo=0.0),
                targets.Coefficient("t"),
                targets.Mean("t", at=0.7),
            ],
        ),
    )
    for target in found
]


def test_an_effect_that_another_regressor_moves_is_averaged_over_its_law():
    """The ATE of t in `y ~ t * q | x` depends on q as observed: an error in theta must still be of second order."""
    rng = np.random.default_rng(4)
    x = np.repeat(rng.normal(size=150), 4)
    t, q = np.tile([0.0, 0.0, 1.0, 1.0], 150), np.tile([0.0, 1.0, 0.0, 1.0], 150)
    e, r = sigmoid(0.5 * x), sigmoid(-0.7 * x)
    p = np.where(t == 1, e, 1 - e) * np.where(q == 1, r, 1 - r)
    theta = np.stack([0.2 * x, 0.5 + 0.3 * x, 0.4 - 0.2 * x, np.cos(x)], 1)
    d = np.stack([np.ones_like(t), t, q, t * q], 1)
    frame = pd.DataFrame({"x": x, "t": t, "q": q, "w": p, "y": (d * theta).sum(1)})
    design = build("y ~ t * q | x", frame, weights="w")
    structure = Structure(get("linear"), design.terms)
    values = {name: np.tile(np.array(v), (1, 600, 1)) for name, v in (("t", [0, 0, 1, 1.0]), ("q", [0, 1, 0, 1.0]))}
    weight = torch.tensor(p.reshape(150, 4)).repeat_interleave(4, 0)[None]
    nodes, at = Nodes(weight, values, design), torch.tensor(theta)[None]
    moved = at + 0.02 * torch.tensor(np.stack([1 + np.cos(x), 0.5 * x, 0.3 + 0 * x, 0.6 - 0.5 * x], 1))
    truth, plain = mean_psi(design, structure, at, nodes, targets.ATE("t"))
    assert truth == pytest.approx(plain, abs=1e-10)
    estimate, plug_in = mean_psi(design, structure, moved, nodes, targets.ATE("t"))
    assert abs(plug_in - truth) > 1e-3 and abs(estimate - truth) < 0.02 * abs(plug_in - truth)


def test_sampling_weights_enter_the_law_of_a_continuous_treatment():
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=(2, 3000))
    frame = pd.DataFrame({"x": x, "t": x + e, "w": np.exp(0.7 * e), "y": rng.normal(size=3000)})
    res = deepreg.structural("y ~ t | x", frame, weights="w").fit(**QUICK)
    nodes = res.scores.nodes
    mean = (nodes.weight[0] * torch.tensor(np.asarray(nodes.values["t"][0]))).sum(1).numpy()
    assert np.average(mean - x, weights=frame.w) == pytest.approx(0.7, abs=0.1)


def test_the_gaussian_family_may_regress_its_information():
    rng = np.random.default_rng(0)
    x, e = rng.normal(size=(2, 600))
    t = rng.integers(0, 2, 600)
    frame = pd.DataFrame({"x": x, "t": t, "y": x + t * (1 + x) + np.exp(0.2 * x) * e})
    res = deepreg.structural("y ~ t | x", frame, "gaussian").fit(
        folds=3, members=1, rng=0, progress=False, hessian="regressed"
    )
    assert (np.abs(res.params - [0, 1, 0]) < 4 * res.bse).all()
    assert (res.bse < [0.1, 0.13, 0.05]).all()  # raw Hessians, which can be indefinite, give two to ten times as much


@pytest.mark.parametrize("ask", ["att", "fixed", "map"])
def test_groups_of_what_is_no_average_over_rows_are_refused(ask):
    sim = deepreg.simulate.tutorial(300, rng=2)
    res = deepreg.structural("y ~ treatment | x0", sim.frame).fit(**QUICK)
    found = {
        "att": lambda: res.estimate("att"),
        "fixed": lambda: res.estimate("ate", sample="fixed"),
        "map": lambda: res.ate().map(lambda v: v**2, ["squared"]),
    }[ask]()
    with pytest.raises(OptionError, match="averages over all rows"):
        found.by(sim.frame.x0 > 0)


def test_the_plug_in_of_two_repeats_is_their_midpoint():
    sim = deepreg.simulate.tutorial(300, rng=2)
    res = deepreg.structural("y ~ treatment | x0", sim.frame).fit(**QUICK, repeats=2)
    each = res.scores.psi(targets.Coefficient("treatment"))[1]
    assert res.estimate(targets.Coefficient("treatment")).plug_in[0] == pytest.approx(float(each.mean()))


@pytest.mark.parametrize(("family", "kind", "target"), CASES)
def test_an_error_in_theta_that_depends_on_x_moves_psi_only_in_second_order(family, kind, target):
    design, structure, theta, nodes = exact(family, kind)
    x = torch.tensor(design.frame.x.to_numpy())
    truth, plain = mean_psi(design, structure, theta, nodes, target)
    assert truth == pytest.approx(plain, abs=1e-10)
    direction = torch.stack([1 + torch.cos(x), 0.4 * x - 0.6], 1)
    errors = {}
    for c in (0.01, 0.005):
        estimate, plug_in = mean_psi(design, structure, theta + c * direction, nodes, target)
        errors[c] = (estimate - truth, plug_in - truth)
    assert abs(errors[0.005][1]) > 5e-4  # the direction matters to the plug-in
    assert abs(errors[0.005][0]) < 0.05 * abs(errors[0.005][1])
    if abs(errors[0.01][0]) > 1e-9:
        assert errors[0.01][0] / errors[0.005][0] == pytest.approx(4, rel=0.25)


@pytest.mark.parametrize("target", [targets.AME("t"), targets.ATT("t")])
def test_the_gradient_at_the_observed_treatment_would_leave_a_first_order_error(target, monkeypatch):
    """What the correction is for: with H_theta at the observed t the error is of the order of the plug-in's."""
    kind = "continuous" if isinstance(target, targets.AME) else "binary"
    design, structure, theta, nodes = exact("logit", kind)
    x = torch.tensor(design.frame.x.to_numpy())
    truth = mean_psi(design, structure, theta, nodes, target)[0]
    moved = theta + 0.02 * torch.stack([1 + torch.cos(x), 0.4 * x - 0.6], 1)
    right = mean_psi(design, structure, moved, nodes, target)[0] - truth

    def observed_only(self, target):
        at = self._evaluate(target, self.u, self._scenarios(target), self.theta, 0)
        weight = self._weights(target, self.design.frame)
        return at.gradient * weight[:, None, None]

    monkeypatch.setattr(Scores, "_given_x", observed_only)
    wrong = mean_psi(design, structure, moved, nodes, target)[0] - truth
    assert abs(wrong) > 10 * abs(right)


def test_with_a_binary_treatment_the_linear_family_is_augmented_inverse_probability_weighting():
    sim = deepreg.simulate.tutorial(600, confounded=True, rng=1)
    res = deepreg.structural("y ~ treatment | x0 + x1 + x2 + x3 + x4", sim.frame).fit(
        **QUICK, hessian=EstimatedLaw(trim=0.1)
    )
    alpha, beta = res.theta().to_numpy().T
    nodes = res.scores.nodes
    e = nodes.weight[0, :, 1].numpy()
    t, y = sim.frame.treatment.to_numpy(), sim.frame.y.to_numpy()
    aipw = beta + t / e * (y - alpha - beta) - (1 - t) / (1 - e) * (y - alpha)
    ate = res.ate()
    np.testing.assert_allclose(ate.psi[0, :, 0].numpy(), aipw, rtol=1e-9, atol=1e-9)
    assert ate.value[0] == pytest.approx(aipw.mean())
    assert ate.std_error[0] == pytest.approx(aipw.std(ddof=1) / len(y) ** 0.5)
    assert 0.09 < e.min() < 0.1001 and res.law.overlap(res.design.x, res.splits).trimmed > 0
    means = res.estimate("mean")
    np.testing.assert_allclose(
        means.psi[0], np.c_[alpha + (1 - t) / (1 - e) * (y - alpha), alpha + beta + t / e * (y - alpha - beta)]
    )
    value, error = aipw_att(y, t, alpha, beta, e)
    assert res.estimate("att").value[0] == pytest.approx(value, rel=1e-9)
    assert res.estimate("att").std_error[0] == pytest.approx(error, rel=1e-9)


def aipw_att(y, t, alpha, beta, e):
    """mean[t beta + t (y - alpha - beta) - (1 - t) e / (1 - e) (y - alpha)] / mean t, and its standard error."""
    part = t * beta + t * (y - alpha - beta) - (1 - t) * e / (1 - e) * (y - alpha)
    value = part.mean() / t.mean()
    return value, ((part - t * value) / t.mean()).std(ddof=1) / len(y) ** 0.5


SHIFTS = {
    "t around 10": (lambda f: f.assign(t=f.t + 10), 1.0),
    "t in thousandths": (lambda f: f.assign(t=f.t * 1000), 1000.0),
    "a price of 10,000": (lambda f: f.assign(t=f.t * 5 + 10_000), 5.0),
    "x an income of 500,000": (lambda f: f.assign(x0=f.x0 * 1e5 + 5e5), 1.0),
}


@pytest.mark.parametrize("family", ["linear", "logit"])
@pytest.mark.parametrize("change", SHIFTS)
def test_neither_the_origin_nor_the_unit_of_a_variable_matters(family, change):
    rng = np.random.default_rng(5)
    x = rng.normal(size=(500, 2))
    t = 0.5 * x[:, 0] + rng.normal(size=500)
    eta = 0.3 * x[:, 1] + (0.5 + 0.4 * np.tanh(x[:, 0])) * t
    y = eta + rng.normal(size=500) if family == "linear" else (rng.random(500) < sigmoid(eta)).astype(float)
    frame = pd.DataFrame({"y": y, "t": t, "x0": x[:, 0], "x1": x[:, 1]})
    edit, factor = SHIFTS[change]
    plain = deepreg.structural("y ~ t | x0 + x1", frame, family=family).fit(**QUICK)
    moved = deepreg.structural("y ~ t | x0 + x1", edit(frame), family=family).fit(**QUICK)
    for target in (targets.Coefficient("t"), targets.AME("t")):
        one, two = plain.estimate(target), moved.estimate(target)
        assert two.value[0] * factor == pytest.approx(one.value[0], abs=0.15 * one.std_error[0])
        assert two.std_error[0] * factor == pytest.approx(one.std_error[0], rel=0.05)


def test_shifting_and_scaling_the_outcome_shifts_and_scales_the_estimates():
    sim = deepreg.simulate.tutorial(500, rng=2)
    formula = "y ~ treatment | x0 + x1 + x2"
    plain = deepreg.structural(formula, sim.frame).fit(**QUICK)
    moved = deepreg.structural(formula, sim.frame.assign(y=1e6 + 1e3 * sim.frame.y)).fit(**QUICK)
    assert moved.params["treatment"] / 1e3 == pytest.approx(
        plain.params["treatment"], abs=0.15 * plain.bse["treatment"]
    )
    assert (moved.params["Intercept"] - 1e6) / 1e3 == pytest.approx(
        plain.params["Intercept"], abs=0.15 * plain.bse.iloc[0]
    )
    np.testing.assert_allclose(moved.bse / 1e3, plain.bse, rtol=0.05)


def test_relabelled_levels_give_the_same_effect():
    sim = deepreg.simulate.tutorial(500, rng=2)
    words = sim.frame.assign(treatment=np.where(sim.frame.treatment == 1, "yes", "no"))
    plain = deepreg.structural("y ~ treatment | x0 + x1", sim.frame).fit(**QUICK).ate()
    named = deepreg.structural("y ~ treatment | x0 + x1", words).fit(**QUICK).ate()
    assert named.names == ("ATE treatment: yes vs no",)
    assert named.value[0] == pytest.approx(plain.value[0], abs=0.1 * plain.std_error[0])


def test_a_known_law_is_used_as_given_and_agrees_with_the_estimated_one():
    sim = deepreg.simulate.tutorial(800, rng=4)
    formula = "y ~ treatment | x0 + x1 + x2"
    known = deepreg.structural(formula, sim.frame, assignment=KnownLaw(probability=0.5)).fit(**QUICK)
    assert (known.scores.nodes.weight == 0.5).all()
    estimated = deepreg.structural(formula, sim.frame).fit(**QUICK)
    assert known.ate().value[0] == pytest.approx(estimated.ate().value[0], abs=1.0 * known.ate().std_error[0])
    frame = sim.frame.assign(chance=0.5)
    column = deepreg.structural(formula, frame, assignment=KnownLaw(probability={0: "chance", 1: 0.5})).fit(**QUICK)
    assert column.ate().value[0] == known.ate().value[0]
    assert column.theta(sim.frame.head(3)).shape == (3, 2)  # other rows need no law


def test_a_known_continuous_law_has_its_mean_and_variance_exactly():
    sim = deepreg.simulate.price(400, rng=1)
    frame = sim.frame.assign(m=10 + sim.frame.x0)
    res = deepreg.structural("y ~ t | x0 + x1 + x2", frame, assignment=KnownLaw(mean="m", sd=1.0)).fit(**QUICK)
    nodes = res.scores.nodes
    mean = (nodes.weight[0] * torch.tensor(nodes.values["t"][0])).sum(1)
    second = (nodes.weight[0] * torch.tensor(nodes.values["t"][0]) ** 2).sum(1)
    np.testing.assert_allclose(mean.numpy(), frame.m, rtol=1e-10)
    np.testing.assert_allclose((second - mean**2).numpy(), 1.0, rtol=1e-8)


@pytest.mark.parametrize(
    ("law", "words"),
    [
        (lambda: KnownLaw(), "probability="),
        (lambda: KnownLaw(mean=1.0), "mean=1.0"),
        (lambda: KnownLaw(probability=1.2), "between 0 and 1"),
        (lambda: EstimatedLaw(trim="a"), "trim='a'"),
        (lambda: KnownLaw(probability=0.5, mean=1.0, sd=1.0), "either"),
        (lambda: EstimatedLaw(trim=0.7), "trim=0.7"),
        (lambda: deepreg.Regressed(floor=-1), "floor=-1"),
    ],
)
def test_laws_that_make_no_sense_are_refused(law, words):
    with pytest.raises(OptionError, match=words):
        law()


@pytest.mark.parametrize(
    ("law", "error", "words"),
    [
        (KnownLaw(probability={0: 0.6, 1: 0.6}), DataError, "outside"),
        (KnownLaw(probability="nowhere"), DataError, "nowhere"),
        (KnownLaw(probability={0: 0.5}), OptionError, "levels"),
        (KnownLaw(mean=0.0, sd=1.0), OptionError, "continuous"),
    ],
)
def test_a_known_law_that_does_not_fit_the_treatment_says_so(law, error, words):
    sim = deepreg.simulate.tutorial(100, rng=4)
    with pytest.raises(error, match=words):
        deepreg.structural("y ~ treatment | x0", sim.frame, assignment=law).fit(**QUICK)


def test_the_regressed_hessian_approaches_the_integrated_one_and_refuses_observed_targets():
    sim = deepreg.simulate.tutorial(1500, rng=4)
    fit = deepreg.structural("y ~ treatment | x0 + x1 + x2", sim.frame).fit
    res = fit(folds=3, members=2, rng=0, progress=False, hessian="regressed")
    truth = np.array([[1, 0.5], [0.5, 0.5]])
    average = np.linalg.inv(res.curvature.inverse.mean((0, 1)).numpy())
    np.testing.assert_allclose(average, truth, rtol=0.15)
    assert abs(res.ate().value[0] - 2.0) < 4 * res.ate().std_error[0]
    assert res.ate().std_error[0] < 0.2
    with pytest.raises(NotAvailable, match="assignment="):
        res.estimate("att")


def test_gauss_nodes_of_a_sample_have_its_moments():
    sample = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64).exp()
    points, mass = treatment_law.representative(sample[:, None], torch.ones(500).double(), torch.Generator())
    for power in range(1, 10):
        assert float(mass @ points[:, 0] ** power) == pytest.approx(float((sample**power).mean()), rel=1e-8)


def test_joint_nodes_of_several_residuals_have_their_mean_and_covariance():
    g = torch.Generator().manual_seed(0)
    sample = torch.randn(400, 2, generator=g, dtype=torch.float64) @ torch.tensor([[1.0, 0.5], [0.0, 1.0]]).double()
    points, mass = treatment_law.representative(sample, torch.ones(400).double(), g)
    torch.testing.assert_close(mass @ points, sample.mean(0))
    centred = points - mass @ points
    torch.testing.assert_close((centred.T * mass) @ centred, sample.T.cov(correction=0))


def test_flooring_happens_in_units_that_do_not_depend_on_the_data_and_is_counted():
    g = torch.Generator().manual_seed(0)
    root = torch.randn(1, 50, 2, 2, generator=g, dtype=torch.float64)
    value = root @ root.mT + 0.1 * torch.eye(2)
    turn = torch.tensor([[1.0, 0.0], [1e4, 1e3]], dtype=torch.float64)
    plain, moved = invert(value, 0.1), invert(turn @ value @ turn.T, 0.1)
    assert 0 < int(plain.floored.sum()) < 50 and torch.equal(plain.floored, moved.floored)
    torch.testing.assert_close(turn.T @ moved.inverse @ turn, plain.inverse, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(invert(value, 0.0).inverse, torch.linalg.inv(value))
    whitened = torch.linalg.inv(plain.inverse @ value.mean((0, 1)))  # its eigenvalues are those relative to the mean
    assert float(torch.linalg.eigvals(whitened).real.min()) == pytest.approx(0.1, rel=1e-6)
    with pytest.raises(DataError, match="next to nothing"):
        invert(value, 0.45)


def test_a_floor_does_not_depend_on_an_origin_of_the_regressors_that_moves_with_the_features():
    """The mean of d given x can lie as far from that of d as it likes: what is floored is the variance given x."""
    g = torch.Generator().manual_seed(0)
    root = torch.randn(2, 1, 50, 2, 2, generator=g, dtype=torch.float64)
    level, slope = root @ root.mT + 0.05 * torch.eye(2)
    value = torch.zeros(1, 50, 4, 4, dtype=torch.float64)
    value[..., :2, :2], value[..., 2:, 2:] = level, slope
    turn = torch.eye(4, dtype=torch.float64).repeat(1, 50, 1, 1)
    turn[..., 2:, :2] = torch.randn(1, 50, 2, 2, generator=g, dtype=torch.float64)
    moved = turn @ value @ turn.mT
    place = torch.tensor([2, 0, 3, 1])  # levels are columns 1 and 3
    found = invert(moved[..., place[:, None], place], 0.04, [1, 3])
    alone = [invert(part, 0.04) for part in (level, slope)]
    assert torch.equal(found.floored, alone[0].floored | alone[1].floored)
    assert 0 < int(found.floored.sum()) < 25
    with pytest.raises(DataError, match="next to nothing"):  # as one block most rows would be floored
        invert(moved, 0.04)
    whole = turn.mT @ found.inverse[..., place.argsort()[:, None], place.argsort()] @ turn
    kept = ~found.floored
    torch.testing.assert_close(whole[0, kept][:, 2:, 2:], alone[1].inverse[0, kept])
    torch.testing.assert_close(whole[0, kept][:, :2, :2], alone[0].inverse[0, kept])
    exact = invert(moved, 0.0, [0, 1]).inverse
    torch.testing.assert_close(exact, torch.linalg.inv(moved))


def test_a_feature_that_decides_the_treatment_is_refused():
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    frame = pd.DataFrame({"y": rng.normal(size=400), "t": (x > 0).astype(int), "x": x})
    model = deepreg.structural("y ~ t | x", frame)
    with pytest.raises(DataError, match=r"all but decide t.*not identified"):
        model.fit(**QUICK)


def test_a_treatment_that_is_rare_for_everyone_is_not_trimmed():
    rng = np.random.default_rng(0)
    x = rng.normal(size=3000)
    frame = pd.DataFrame({"y": rng.normal(size=3000), "t": (rng.random(3000) < 0.012).astype(int), "x": x})
    res = deepreg.structural("y ~ t | x", frame).fit(**QUICK)
    assert res.law.overlap(res.design.x, res.splits).trimmed < 60


@pytest.mark.parametrize("family", ["linear", "gaussian"])
def test_controls_move_the_intercept_and_never_a_slope(family):
    sim = deepreg.simulate.tutorial(600, confounded=True, rng=3)
    res = deepreg.structural("y ~ treatment | x0 | x1 + x2", sim.frame, family).fit(**QUICK)
    other = res.theta(sim.frame.assign(x1=sim.frame.x1 + 1.0))
    base = res.theta(sim.frame)
    np.testing.assert_allclose(other.treatment, base.treatment, rtol=0, atol=1e-6)
    assert np.abs(other.Intercept - base.Intercept).mean() > 0.1


def test_fitting_several_treatments_and_interactions_estimates_each_contrast():
    rng = np.random.default_rng(0)
    x, n = rng.normal(size=1500), 1500
    arm = rng.choice(["a", "b", "c"], size=n)
    dose = 0.5 * x + rng.normal(size=n)
    y = x + np.select([arm == "b", arm == "c"], [1.0 + x, 2.0]) + 0.5 * dose + rng.normal(size=n)
    frame = pd.DataFrame({"y": y, "arm": arm, "dose": dose, "x": x})
    res = deepreg.structural("y ~ arm + dose | x", frame).fit(**QUICK)
    assert list(res.params.index) == ["Intercept", "arm[T.b]", "arm[T.c]", "dose"]
    found = res.estimate("ate", "ame")
    assert found.names == ("ATE arm: b vs a", "ATE arm: c vs a", "AME dose")
    assert (np.abs(found.value - [1.0, 2.0, 0.5]) < 4 * found.std_error).all()
    assert (found.std_error < 0.12).all()


def test_a_term_without_a_value_beyond_the_observed_treatment_is_integrated_within_it():
    rng = np.random.default_rng(0)
    x, t = rng.normal(size=800), rng.uniform(0.005, 9, 800)
    frame = pd.DataFrame({"x": x, "t": t, "y": np.log(t) * (1 + x) + rng.normal(size=800)})
    res = deepreg.structural("y ~ np.log(t) | x", frame).fit(**QUICK)
    logged = deepreg.structural("y ~ lt | x", frame.assign(lt=np.log(t))).fit(**QUICK)
    assert res.params.iloc[1] == pytest.approx(logged.params.iloc[1], abs=1.0 * logged.bse.iloc[1])
    assert res.scores.nodes.values["t"].min() >= t.min()
    assert np.isfinite(res.estimate("ame").value).all()


def test_effects_are_measured_against_the_base_level_of_the_regression():
    rng = np.random.default_rng(0)
    arm = rng.choice(["a", "b", "c"], size=300)
    frame = pd.DataFrame({"arm": arm, "y": (arm == "b") * 1.0 + (arm == "c") * 3.0 + rng.normal(size=300)})
    res = deepreg.structural("y ~ C(arm, Treatment('b'))", frame).fit()
    assert res.ate().names == ("ATE arm: a vs b", "ATE arm: c vs b")
    np.testing.assert_allclose(res.ate().value, res.params.iloc[1:])
    assert deepreg.structural("y ~ arm", frame).fit().ate().names == ("ATE arm: b vs a", "ATE arm: c vs a")


def test_hessians_are_compared_with_lambda() -> None:
    """For least squares and a binary treatment the eigenvalues are the means of t / p and (1 - t) / (1 - p)."""
    data = deepreg.simulate.irm(n=400, rng=0).frame
    result = deepreg.structural("y ~ t | x0 + x1", data.assign(w=1.0 + (data.x0 > 0)), weights="w").fit(
        learners="smooth", folds=2, rng=0, progress=False
    )
    probability = result.overlap.probability.numpy().clip(result.overlap.floor.numpy())
    p = (probability / probability.sum(1, keepdims=True))[:, 1]
    w, t = 1.0 + (data.x0 > 0), data.t
    wanted = sorted([np.average(t / p, weights=w), np.average((1 - t) / (1 - p), weights=w)])
    shown = dict(result.facts.diagnostics)["Lambda^-1 Hessian:"]
    assert shown == f"{wanted[0]:.2f} to {wanted[1]:.2f}"
    assert not any("Lambda^-1" in note for note in result.facts.notes)


def test_a_law_that_does_not_describe_the_data_is_noted() -> None:
    data = deepreg.simulate.tutorial(n=400, rng=0).frame
    wrong = deepreg.structural("y ~ treatment | x0", data, assignment=deepreg.KnownLaw(probability=0.8))
    result = wrong.fit(learners="smooth", folds=2, rng=0, progress=False)
    share = data.treatment.mean()
    least, most = sorted([share / 0.8, (1 - share) / 0.2])
    assert dict(result.facts.diagnostics)["Lambda^-1 Hessian:"] == f"{least:.2f} to {most:.2f}"
    assert any("where it should be 1" in note for note in result.facts.notes)
