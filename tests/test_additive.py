"""Functions of the features: their basis, the evidence that smooths and selects them, and what is found in the end."""

import numpy as np
import pytest
import torch
from scipy import interpolate, optimize, stats
from statsmodels.stats.multitest import multipletests

from deepreg import additive, evidence
from deepreg.basis import PAIRED, Basis, Smooth
from deepreg.evidence import Target


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def standardised(v):
    return (v - v.mean(0)) / v.std(0, correction=0)


def residual(of, on):
    """The largest part of the columns that others do not span."""
    return float((of - on @ torch.linalg.lstsq(on, of, driver="gelsd").solution).abs().max())


def line(v):
    return torch.stack([torch.ones_like(v), v], 1)


# the basis

FEATURES = {
    "normal": normal(200),
    "skewed": normal(200).exp(),
    "five levels": torch.arange(200.0, dtype=torch.float64) % 5,
    "many levels": torch.arange(200.0, dtype=torch.float64) % 14,
    "a spike within": torch.cat([torch.zeros(180), normal(20)]).double(),
    "a spike at the edge": torch.cat([torch.zeros(180), normal(20).exp()]).double(),
}


@pytest.mark.parametrize("kind", FEATURES)
def test_a_smooth_is_the_natural_splines_without_lines_at_unit_mean_square(kind):
    v = standardised(FEATURES[kind])
    smooth = Smooth.of(v, 8)
    columns, knots = smooth(v), smooth.knots.numpy()
    assert columns.shape[1] == len(knots) - 2 > 0
    natural = torch.tensor(interpolate.CubicSpline(knots, np.eye(len(knots)), bc_type="natural")(v.numpy()))
    both = torch.cat([line(v), columns], 1)
    assert residual(natural, both) < 1e-8 and residual(both, natural) < 1e-8
    assert torch.linalg.matrix_rank(both) == len(knots)
    assert (line(v).T @ columns).abs().max() < 1e-9 * len(v)
    power = columns.square().mean(0)
    assert abs(power.sum() - 1) < 1e-9 and (power.diff() <= 0).all()


@pytest.mark.parametrize("kind", FEATURES)
def test_the_squared_coefficients_of_a_smooth_are_its_roughness(kind):
    smooth = Smooth.of(standardised(FEATURES[kind]), 8)
    knots = smooth.knots.numpy()
    second = interpolate.CubicSpline(knots, smooth(smooth.knots).numpy(), bc_type="natural")(knots, 2)
    ends, between, width = (second[:-1], second[1:]), (second[:-1] + second[1:]) / 2, np.diff(knots)[:, None] / 6
    gram = sum((width * f).T @ f for f in ends) + 4 * (width * between).T @ between  # Simpson's rule is exact here
    np.testing.assert_allclose(gram, np.eye(len(gram)) * gram[0, 0], atol=1e-6 * gram[0, 0])


def test_beyond_the_outermost_knots_functions_are_lines():
    smooth = Smooth.of(standardised(normal(200)), 8)
    step = torch.arange(5.0, dtype=torch.float64)
    for end, sign in ((smooth.knots[0], -1), (smooth.knots[-1], 1)):
        values = smooth(end + sign * step)
        torch.testing.assert_close(values.diff(dim=0), (values[1] - values[0]).expand(4, -1))
        near = (values[0] - smooth(end[None] - sign * 1e-6)[0]) / 1e-6  # the line goes on with the slope within
        torch.testing.assert_close(near, values[1] - values[0], rtol=1e-4, atol=1e-4)


def test_tails_bend_as_well_as_the_middle():
    v = normal(2000, seed=4)
    both, wave = torch.cat([line(v), Smooth.of(v, 8)(v)], 1), torch.sin(2 * v)[:, None]
    left = (wave - both @ torch.linalg.lstsq(both, wave).solution).square()
    assert left.mean() < 0.04**2 and left[v.abs() > 1.5].mean() < 0.08**2  # with knots at quantiles: .11 and .3


def test_few_levels_bend_as_often_as_they_can():
    rows = torch.arange(120.0, dtype=torch.float64)
    assert Smooth.of(standardised(rows % 2), 8) is None and Smooth.of(0 * rows, 8) is None
    for levels in (3, 4, 6):
        v = standardised(rows % levels)
        columns = Smooth.of(v, 8)(v)
        assert columns.shape == (120, levels - 2)
        dummies = torch.nn.functional.one_hot((rows % levels).long()).double()
        assert residual(dummies, torch.cat([line(v), columns], 1)) < 1e-8
    assert Smooth.of(normal(100), 3)(normal(10)).shape[1] == 3


@pytest.fixture(scope="module")
def mixed():
    """Three continuous features, a binary one, and one of three levels."""
    x = normal(150, 5, seed=2)
    x[:, 3], x[:, 4] = (x[:, 3] > 0).double(), torch.arange(150) % 3
    return standardised(x)


def test_members_are_the_features_that_a_group_reads(mixed):
    basis = Basis.of(mixed)
    groups = torch.arange(basis.groups)
    columns, place = basis.columns(mixed, groups)
    some, where = basis.columns(mixed, torch.tensor([13, 0, 7, 3]))  # in the order asked for
    for i, g in enumerate((13, 0, 7, 3)):
        assert torch.equal(some[:, where == i], columns[:, place == g])
    moved = torch.zeros(basis.groups, 5, dtype=torch.bool)
    for j in range(5):
        other = mixed.clone()
        other[:, j] = other[:, j].roll(1)
        change = (basis.columns(other, groups)[0] - columns).abs().amax(0)
        moved[:, j] = torch.stack([(change[place == g] > 1e-9).any() for g in groups])
    expected = basis.members()
    expected[1 + 5 + 3] = False  # nothing bends in two levels
    assert torch.equal(moved, expected)
    assert basis.mains == 11 and place.bincount()[:11].tolist() == [1, 1, 1, 1, 1, 1, 8, 8, 8, 0, 1]
    assert [tuple(m.nonzero()[:, 0].tolist()) for m in expected[11:]] == [tuple(p) for p in basis.pairs.tolist()]


def test_products_are_products_of_leading_functions(mixed):
    basis = Basis.of(mixed)
    leading, owner = basis.leading(mixed)
    assert owner.bincount().tolist() == [3, 3, 3, 1, 2]
    for i, (j, k) in enumerate(basis.pairs.tolist()):
        found = basis.columns(mixed, torch.tensor([basis.mains + i]))[0]
        sides = [leading[:, owner == j], leading[:, owner == k]]
        if 3 in (j, k):  # beside two levels, all functions of the other
            other = j + k - 3
            sides = [mixed[:, 3:4], basis.columns(mixed, torch.tensor([1 + other, 6 + other]))[0]]
        expected = (sides[0][:, :, None] * sides[1][:, None, :]).flatten(1)
        assert found.shape == expected.shape
        distance = torch.cdist(found.T, expected.T)
        assert distance.amin(0).max() < 1e-9 and distance.amin(1).max() < 1e-9


def test_with_too_many_features_there_are_no_products():
    assert len(Basis((None,) * PAIRED).pairs) == PAIRED * (PAIRED - 1) // 2
    many = Basis((None,) * (PAIRED + 1))
    assert len(many.pairs) == 0 and many.groups == many.mains == len(many.members())


# the evidence


def regression(y, d, weight=None):
    """Least squares of y (n,) or (G, n) on outputs times d (n, P)."""

    def derivatives(out):
        error = (out * d).sum(-1) - y
        return error[..., None] * d, (d[:, :, None] * d[:, None, :]).expand(*out.shape, out.shape[-1])

    weight = torch.ones_like(torch.atleast_2d(y)) if weight is None else weight
    return Target(lambda out: 0.5 * ((out * d).sum(-1) - y) ** 2, derivatives, weight)


def logistic(y, d):
    """The negative log likelihood of y (n,) at log odds that are outputs times d (n, P)."""

    def derivatives(out):
        chance = torch.sigmoid((out * d).sum(-1))
        slope = (chance * (1 - chance))[..., None, None]
        return (chance - y)[..., None] * d, slope * d[:, :, None] * d[:, None, :]

    def value(out):
        odds = (out * d).sum(-1)
        return torch.nn.functional.softplus(odds) - y * odds

    return Target(value, derivatives, torch.ones_like(y)[None])


def likelihood(logs, y, columns, own, fixed):
    """Restricted log likelihood of y ~ N(fixed a, phi I + sum_g tau_g Z_g Z_g'); logs are those of phi and the tau."""
    scale = sum(np.exp(t) * columns[:, own == g] @ columns[:, own == g].T for g, t in enumerate(logs[1:], 1))
    root = np.linalg.cholesky(np.exp(logs[0]) * np.eye(len(y)) + scale)
    *r, left = np.abs(np.linalg.qr(np.linalg.solve(root, np.c_[fixed, y]), mode="r").diagonal())
    return -np.log(root.diagonal()).sum() - np.log(r).sum() - 0.5 * left**2


def highest(y, columns, own, fixed):
    """The logarithms that maximise it, and the maximum."""
    count = own.max()
    found = optimize.minimize(
        lambda logs: -likelihood(logs, y, columns, own, fixed), np.zeros(1 + count), method="L-BFGS-B",
        bounds=[(-8, 5)] + [(-16, 5)] * count, options={"ftol": 1e-10},
    )  # fmt: skip
    return found.x, -found.fun


def grouped(seed, n=200):
    """Three groups of columns after the constant, of 4, 3 and 5, and an outcome."""
    columns = torch.cat([torch.ones(n, 1), normal(n, 12, seed=seed)], 1)
    columns[:, 5:8] += 0.5 * columns[:, 1:4]
    place = torch.tensor([0, *[1] * 4, *[2] * 3, *[3] * 5])
    size = torch.tensor([1.0, *[0.8] * 4, *[0.3] * 3, *[0.15] * 5]).double()
    return columns, place, columns @ (size * normal(13, seed=seed + 100)) + 1.3 * normal(n, seed=seed + 200)


def everywhere(place, outputs=1):
    return torch.ones(1, int(place.max()) + 1, outputs, dtype=torch.bool)


@pytest.mark.parametrize("seed", range(3))
def test_variances_maximise_the_likelihood_and_coefficients_follow_from_them(seed):
    columns, place, y = grouped(seed)
    one = torch.ones(len(y), 1).double()
    fit = evidence.maximise(regression(y, one), columns, place, everywhere(place))
    z, own, outcome = columns.numpy(), place.numpy(), y.numpy()
    precision, coefficient = fit.precision[0, :, 0].numpy(), fit.coefficient[0, :, 0].numpy()
    penalised = z.T @ z + np.diag(precision[own])
    np.testing.assert_allclose(coefficient, np.linalg.solve(penalised, z.T @ outcome), rtol=0, atol=1e-10)
    assert abs((outcome - z @ coefficient).mean()) < 1e-6  # nothing holds the constant
    taken = len(own) - (precision[own] * np.linalg.inv(penalised).diagonal()).sum()
    noise = ((outcome - z @ coefficient) ** 2).sum() / (len(y) - taken)
    mine, (best, most) = np.log(noise / np.r_[1, precision[1:]]), highest(outcome, z, own, one)
    reached = likelihood(mine, outcome, z, own, one)
    assert abs(mine[0] - best[0]) < 0.02 and most - reached < 0.03
    clear = best > -4  # the others are free to be anything small
    np.testing.assert_allclose(mine[clear], best[clear], atol=0.2)
    for g in (1, 2, 3):
        without = likelihood(np.where(np.arange(4) == g, -80.0, mine), outcome, z, own, one)
        np.testing.assert_allclose(fit.gain[0, g, 0], 2 * (reached - without), rtol=0.02, atol=0.02)


def two_outputs(n=150):
    """Two groups of 20 columns after the constant, a level and a slope for each, and one outcome."""
    columns = torch.cat([torch.ones(n, 1), normal(n, 40)], 1)
    d = line(torch.where(normal(n, seed=1) > 0, 1.0, -1.0).double())
    coefficient = normal(41, 2, seed=2) * torch.tensor([0.2, 0.15])
    y = ((columns @ coefficient) * d).sum(1) + normal(n, seed=3)
    return columns, torch.tensor([0, *[1] * 20, *[2] * 20]), d, y


def test_two_outputs_are_penalised_and_gain_each_by_its_own():
    columns, place, d, y = two_outputs()
    active = everywhere(place, 2)
    active[0, 1, 1] = False
    fit = evidence.maximise(regression(y, d), columns, place, active)
    free, own = active[0, place].flatten(), (2 * place[:, None] + torch.arange(2)).flatten()
    design, own = (columns[:, :, None] * d[:, None, :]).flatten(1)[:, free], own[free]
    precision, gain = fit.precision.flatten(), fit.gain.flatten()
    inverse = torch.linalg.inv(design.T @ design + torch.diag(precision[own]))
    expected = inverse @ design.T @ y
    torch.testing.assert_close(fit.coefficient.flatten()[free], expected, rtol=0, atol=1e-10)
    assert (fit.coefficient.flatten()[~free] == 0).all() and gain[3] == 0
    noise = []  # in the gain of each group
    for g in (0, 1, 2, 4, 5):
        block, value = inverse[own == g][:, own == g], expected[own == g]
        rest = gain[g] - len(value) * precision[g].log() - torch.logdet(block)
        noise.append(float(value @ torch.linalg.solve(block, value) / rest))
    np.testing.assert_allclose(noise, noise[0], rtol=1e-6)
    assert 0.3 < noise[0] < 2


def test_one_outcome_a_row_is_one_observation_whatever_the_outputs():
    columns, place, d, y = two_outputs()
    fit = evidence.maximise(regression(y, d), columns, place, everywhere(place, 2))
    design = (columns[:, 1:, None] * d[:, None, :]).flatten(1).numpy()
    data = y.numpy(), design, (2 * place[1:, None] - 1 + torch.arange(2)).flatten().numpy(), d.numpy()
    precision = fit.precision[0, 1:].flatten().log().numpy()
    reached = max(likelihood(np.r_[s, s - precision], *data) for s in np.linspace(-1.5, 1, 26))  # at any noise
    assert highest(*data)[1] - reached < 1.0


def test_sets_fitted_together_equal_each_fitted_alone_on_its_rows():
    columns, place, d, y = two_outputs()
    active = everywhere(place, 2).repeat(3, 1, 1)
    active[1, 1, 0] = active[1, 2, 1] = active[2, 1:, 0] = False
    weight = torch.ones(3, 150, dtype=torch.float64)
    weight[1, :30] = weight[2, 100:] = 0.0
    outcome = y + torch.tensor([[0.0], [1.0], [2.0]])
    together = evidence.maximise(regression(outcome, d, weight), columns, place, active, steps=3)
    for g in range(3):
        rows = weight[g] > 0
        target = regression(outcome[g, rows], d[rows])
        alone = evidence.maximise(target, columns[rows], place, active[g : g + 1], steps=3)
        for one, every in zip(alone[:3], together[:3], strict=True):
            torch.testing.assert_close(one[0], every[g], rtol=1e-8, atol=1e-9)


def test_a_logistic_fit_is_the_penalised_maximum():
    columns, place, index = grouped(0)
    y = (index - index.mean() > 1.5 * normal(200, seed=9)).double()
    fit = evidence.maximise(logistic(y, torch.ones_like(y)[:, None]), columns, place, everywhere(place))
    coefficient, penalty = fit.coefficient[0, :, 0], fit.precision[0, place, 0]
    chance = torch.sigmoid(columns @ coefficient)
    gradient = columns.T @ (chance - y) + penalty * coefficient
    hessian = (columns.T * (chance * (1 - chance))) @ columns + torch.diag(penalty)
    assert gradient @ torch.linalg.solve(hessian, gradient) < 0.02  # twice what is left to gain
    assert (coefficient[1:5].abs() > 0.2).any()


@pytest.mark.parametrize(("seed", "n"), [(64, 250), (120, 150)])
def test_variances_do_not_run_away_where_the_loss_is_far_from_quadratic(seed, n):
    x, generator = standardised(normal(n, 3, seed=seed)), torch.Generator().manual_seed(seed)
    t = torch.randn(n, generator=generator, dtype=torch.float64)
    odds = 2 * x[:, 0] + (1.5 + 2 * x[:, 1] * x[:, 2] + x[:, 1] ** 2) * t
    y = (torch.rand(n, generator=generator, dtype=torch.float64) < torch.sigmoid(odds)).double()
    target, basis = logistic(y, torch.stack([torch.ones_like(t), t], 1)), Basis.of(x)
    found = additive.fit(target, basis, x, torch.ones(basis.groups, 2, dtype=torch.bool))["additive"].outputs(x)
    assert target.value(found).mean() < 0.4 and found.abs().max() < 20


def test_a_group_that_was_out_comes_in_as_if_it_had_never_been_seen():
    columns, place, y = grouped(1)
    target, active = regression(y, torch.ones(200, 1).double()), everywhere(place)
    fresh = evidence.maximise(target, columns, place, active)
    without = evidence.maximise(target, columns, place, active & (torch.arange(4) != 1)[:, None])
    after = evidence.maximise(target, columns, place, active, without)
    torch.testing.assert_close(after.coefficient, fresh.coefficient, rtol=0, atol=0.05)
    torch.testing.assert_close(after.gain, fresh.gain, rtol=0.05, atol=0.5)


# tests of functions


def test_under_the_null_p_values_are_uniform_whatever_the_variance(mixed):
    basis, draws = Basis.of(mixed), 2000
    columns, place = basis.columns(mixed, torch.arange(basis.mains))
    score = normal(draws, 150, 1, seed=4) * (0.3 + mixed[:, 0].abs() ** 2)[:, None]
    weight = torch.ones(draws, 150, dtype=torch.float64)
    mains = evidence.surprise(columns, place, basis.mains, score, weight)
    products = evidence.surprise_of_products(*basis.leading(mixed), basis.pairs, score, weight)
    assert mains.shape == (draws, 11, 1) and products.shape == (draws, 10, 1)
    assert (mains[:, 1 + 5 + 3] == 1).all()  # no columns, no surprise
    for p in torch.cat([mains[:, [*range(1, 9), 10]], products], 1)[..., 0].T.numpy():
        assert stats.kstest(p, "uniform").statistic < 0.12
        assert 0.06 < (p < 0.1).mean() < 0.14 and (p < 0.01).mean() < 0.03


def test_products_are_judged_as_their_columns_would_be(mixed):
    basis = Basis.of(mixed)
    leading, owner = basis.leading(mixed)
    score, weight = normal(3, 150, 2, seed=6), normal(3, 150, seed=7).abs()
    found = evidence.surprise_of_products(leading, owner, basis.pairs, score, weight)
    pieces = [(leading[:, owner == j, None] * leading[:, None, owner == k]).flatten(1) for j, k in basis.pairs.tolist()]
    place = torch.cat([torch.full((piece.shape[1],), i) for i, piece in enumerate(pieces)])
    one_by_one = evidence.surprise(torch.cat(pieces, 1), place, len(pieces), score, weight)
    torch.testing.assert_close(found, one_by_one, rtol=1e-5, atol=1e-7)  # products are judged in single precision


@pytest.mark.parametrize("share", [1.0, 0.5, pytest.param(0.02)])
def test_discoveries_are_those_of_benjamini_and_hochberg_among_the_tested(share):
    p = torch.special.ndtr(normal(4, 200, 3, seed=8)) ** 3
    p[:, 10:20] = p[:, 20:30]  # ties
    tested = torch.special.ndtr(normal(4, 200, 3, seed=9)) < share
    tested[0, :, 0] = False
    found = evidence.discoveries(p, tested, 0.1)
    for chance, among, mine in zip(*(t.mT.flatten(0, 1).numpy() for t in (p, tested, found)), strict=True):
        assert not mine[~among].any()
        if among.any():
            np.testing.assert_array_equal(mine[among], multipletests(chance[among], 0.1, method="fdr_bh")[0])


def test_the_tail_of_a_variance_at_its_edge_is_half_of_chi_squared():
    gain = np.array([-3.0, 0.0, 0.5, 4.0, 30.0])
    np.testing.assert_allclose(evidence.tail(torch.tensor(gain)), stats.chi2.sf(gain.clip(0), 1) / 2, rtol=1e-9)


# what is found


def names(found):
    """The functions that are used in each set: "x0" linear, "s0" smooth, "x0*x1" a product."""
    basis = found.basis
    p = basis.features
    labels = ["1", *(f"x{j}" for j in range(p)), *(f"s{j}" for j in range(p)), *(f"x{j}*x{k}" for j, k in basis.pairs)]
    place = basis.columns(torch.zeros(1, p, dtype=torch.float64), found.groups)[1]
    return [{labels[found.groups[i]] for i in place[mine != 0]} - {"1"} for mine in found.coefficient[..., 0]]


def discover(signal, x, sets=12, noise=1.0, **options):
    """Additive fits of `sets` outcomes with the same signal."""
    y, basis = signal + noise * normal(sets, len(x), seed=11), Basis.of(x)
    target = regression(y, torch.ones_like(x[:, :1]))
    return additive.fit(target, basis, x, torch.ones(basis.groups, 1, dtype=torch.bool), **options)


@pytest.fixture(scope="module")
def many():
    x = standardised(normal(300, PAIRED + 1, seed=10))
    return names(discover(x[:, 7] + x[:, 8] + x[:, 9] ** 2 / 2, x, sets=2, noise=0.7)["additive"])


def test_an_additive_truth_is_found_with_little_else():
    x = standardised(normal(300, 6, seed=10))
    truth = x[:, 0] + torch.sin(2.5 * x[:, 1]) + 0.7 * x[:, 2].abs()
    found = discover(truth, x, noise=0.7)
    assert set(found) == {"smooth", "additive"}
    assert all({"x0", "s1", "s2"} <= mine for mine in names(found["additive"]))
    extra = [len(mine - {"x0", "x1", "s1", "s2"}) for mine in names(found["additive"])]
    assert max(extra) <= 3 and np.mean(extra) < 1
    for learner in found.values():
        assert (learner.outputs(x)[..., 0] - truth).square().mean() < 0.06


def test_a_product_without_main_effects_is_found():
    x = standardised(normal(300, 6, seed=10))
    found = discover(x[:, 0] * x[:, 4], x, noise=1.5)
    assert all("x0*x4" in mine and len(mine) < 4 for mine in names(found["additive"]))
    assert not any("*" in name for mine in names(found["smooth"]) for name in mine)


@pytest.fixture(scope="module")
def twice():
    x = standardised(normal(300, 6, seed=10))
    truth = x[:, 5] + torch.sin(2.5 * x[:, 1]) + x[:, 4] * x[:, 5] + 0.6 * x[:, 0] * x[:, 2]
    return truth, x, discover(truth, x)["additive"]


def test_selection_begins_with_what_another_fit_selected(twice, monkeypatch):
    truth, x, first = twice
    monkeypatch.setattr(additive, "_ROUNDS", 1)  # nothing enters
    monkeypatch.setattr(additive, "LEVEL", 1.0)  # nothing leaves
    again = discover(truth, x, near=first)
    assert set(again) == {"additive"}
    assert len({tuple(sorted(mine)) for mine in names(first)}) > 1  # the sets differ, so that mixing them up would show
    torch.testing.assert_close(again["additive"].groups, first.groups)
    torch.testing.assert_close(again["additive"].active, first.active)
    assert (again["additive"].outputs(x) - first.outputs(x)).square().mean() < 1e-3  # variances settle to some digits


def test_selection_that_begins_elsewhere_ends_with_what_is_there(twice):
    truth, x, _ = twice
    elsewhere = discover(x[:, 3] + x[:, 0] * x[:, 3], x)["additive"]
    found = discover(truth, x, near=elsewhere)["additive"]
    for mine in names(found):
        assert {"x5", "s1", "x4*x5", "x0*x2"} <= mine and len(mine) < 8
    assert (found.outputs(x)[..., 0] - truth).square().mean() < 0.2


def test_nothing_is_selected_where_nobody_asks(twice):
    truth, x, _ = twice
    alone, both = discover(truth, x, select=False), discover(truth, x)
    assert set(alone) == {"smooth"}
    torch.testing.assert_close(alone["smooth"].coefficient, both["smooth"].coefficient, rtol=0, atol=0)


def test_in_noise_next_to_nothing_is_found():
    x = standardised(normal(200, 5, seed=20))
    chosen = names(discover(torch.zeros(200), x, sets=40)["additive"])
    assert np.mean([len(mine) > 0 for mine in chosen]) < 0.15


@pytest.mark.parametrize("name", ["x7", "x8", pytest.param("s9")])
def test_in_more_features_than_are_paired_lines_and_what_bends_are_found(many, name):
    assert all(name in mine and len(mine) < 10 for mine in many)
