"""What every family promises: losses, derivatives, means and draws that agree with each other and with textbooks."""

import warnings
from operator import itemgetter

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from family_cases import CASES, N, units

from deepreg import families
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.families import Family
from deepreg.families.categorical import Multinomial
from deepreg.families.nuisance import Precision
from deepreg.structure import Structure, score_of
from deepreg.units import Units

every = pytest.mark.parametrize("name", sorted(CASES))


def test_there_is_a_case_for_every_family() -> None:
    assert sorted(name for name in CASES if ":" not in name) == families.names()
    for name, case in CASES.items():
        assert case.family.name == name.split(":")[0]


@every
def test_the_loss_is_that_of_other_software(name: str) -> None:
    case = CASES[name]
    u, theta = units(case)
    elsewhere = theta + 0.3
    change = (case.family.loss(u, elsewhere) - case.family.loss(u, theta)).numpy()  # what is free of theta may be left
    np.testing.assert_allclose(change, case.density(u, elsewhere) - case.density(u, theta), rtol=1e-8, atol=1e-9)
    likelihood = case.family.log_likelihood(u, theta, torch.ones(N, dtype=torch.float64))
    if case.likelihood:
        np.testing.assert_allclose(likelihood, -case.density(u, theta).sum(), rtol=1e-9)


@every
def test_score_and_hessian_are_those_of_the_textbook(name: str) -> None:
    case = CASES[name]
    if case.derivatives is None:  # finite differences have to do
        return
    u, theta = units(case)
    score, hessian = case.derivatives(u, theta)
    ours = case.family.derivatives(u, theta)
    np.testing.assert_allclose(ours[0], score, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours[1], hessian, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(score_of(case.family, u, theta), score, rtol=1e-10, atol=1e-12)


@every
def test_derivatives_by_finite_differences(name: str) -> None:
    family = CASES[name].family
    u, theta = units(CASES[name])
    score, hessian = family.derivatives(u, theta)
    for j, step in enumerate(1e-5 * torch.eye(theta.shape[1], dtype=torch.float64)):
        slope = (family.loss(u, theta + step) - family.loss(u, theta - step)) / 2e-5
        np.testing.assert_allclose(score[:, j], slope, rtol=1e-5, atol=1e-7)
        bend = (family.derivatives(u, theta + step)[0] - family.derivatives(u, theta - step)[0]) / 2e-5
        np.testing.assert_allclose(hessian[:, :, j], bend, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(hessian, hessian.mT)
    assert not score.requires_grad and not hessian.requires_grad


@every
def test_a_batch_is_its_rows(name: str) -> None:
    family = CASES[name].family
    u, theta = units(CASES[name])
    whole = (family.loss(u, theta), family.mean(u, theta), *family.derivatives(u, theta))
    for i in range(N):
        one, at = u.each(itemgetter(slice(i, i + 1))), theta[i : i + 1]
        row = (family.loss(one, at), family.mean(one, at), *family.derivatives(one, at))
        for a, b in zip(whole, row, strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-12, atol=1e-14)
    mapped = torch.vmap(lambda y, d, mask, at: family.loss(Units(y, d, mask), at))(*u[:3], theta)
    np.testing.assert_allclose(mapped, whole[0], rtol=1e-12)


@every
def test_leading_axes_broadcast(name: str) -> None:
    """Replicates, then units, then quadrature nodes."""
    family = CASES[name].family
    u, theta = units(CASES[name])
    many = torch.stack([theta, theta - 0.2, theta * 0])  # (3, n, P) against units (n, ...)
    factor = torch.tensor([1.0, 1.5]).reshape(2, *[1] * (u.d.dim() - 1))
    nodes = Units(u.y[:, None], u.d[:, None] * factor, u.mask[:, None])  # (n, 2, ..., K)
    for value in (family.loss, family.mean):
        got = value(u, many)
        assert got.shape[:2] == (3, N)
        for layer, expected in zip(got, many, strict=True):
            np.testing.assert_allclose(layer, value(u, expected), rtol=1e-12)
        inside = value(nodes, many[:, :, None])
        assert inside.shape[:3] == (3, N, 2)
        np.testing.assert_allclose(inside[:, :, 0], got, rtol=1e-12)
    size = theta.shape[1]
    assert family.derivatives(u, many)[1].shape == (3, N, size, size)
    expanded = nodes._replace(d=nodes.d.expand(3, *nodes.d.shape))
    information = family.information(expanded, many[:, :, None].expand(3, N, 2, size))
    assert information.shape == (3, N, 2, size, size)
    np.testing.assert_allclose(information[1, :, 0], family.information(u, many[1]), rtol=1e-12)


@every
def test_draws_have_the_mean_and_the_information(name: str) -> None:
    case = CASES[name]
    family, rows, draws = case.family, 4, 40_000
    u, theta = units(case, rows, seed=5)
    wide, at = u.d.expand(draws, *u.d.shape), theta.expand(draws, *theta.shape)
    drawn = Units(u.y, wide, u.mask)
    drawn = drawn._replace(y=family.simulate(drawn, at, torch.Generator().manual_seed(1)))
    y = drawn.y
    if family.labels and family.outcome != "several":
        y = (y[..., None] == torch.arange(len(family.labels))).double()
    if family.outcome == "durations":  # times, of which all have ended
        y = y[..., 0]
    assert bool(((y.mean(0) - family.mean(u, theta)).abs() <= 4 * y.std(0) / draws**0.5).all())
    score, hessian = family.derivatives(drawn, at)
    error = hessian.std(0) / draws**0.5 + 1e-9
    assert bool(((hessian.mean(0) - family.information(u, theta)).abs() < 4.5 * error).all())
    if case.likelihood:  # the score has mean zero and the information for its variance
        variance = (score[..., :, None] * score[..., None, :]).mean(0)
        np.testing.assert_allclose(variance, family.information(u, theta), rtol=0.1, atol=0.1)


@every
def test_the_curvature_of_the_coefficients_is_a_part_of_the_information(name: str) -> None:
    family = CASES[name].family
    u, theta = units(CASES[name])
    size = theta.shape[-1] - len(family.extra)
    whole = family.information(u, theta) if family.closed else family.derivatives(u, theta)[1]
    np.testing.assert_allclose(family.curvature(u, theta), whole[..., :size, :size], rtol=1e-12, atol=1e-14)


@every
def test_the_homogeneous_fit_recovers_what_was_drawn(name: str) -> None:
    case, n = CASES[name], 20_000
    family = case.family
    structure = Structure(family, ("Intercept", "a", "b"))
    u, _ = units(case, n)
    truth = torch.tensor(case.truth, dtype=torch.float64)
    assert len(truth) == len(structure.names)
    u = u._replace(y=family.simulate(u, truth.expand(n, -1), torch.Generator().manual_seed(3)))
    fit = structure.pooled(u, torch.ones(1, n).double())
    inverse = torch.linalg.inv(fit.hessian[0])
    error = (inverse @ fit.score[0] @ inverse).diagonal().sqrt() / n**0.5
    assert bool(((fit.theta[0] - truth).abs() < 4 * error).all())
    assert float((error / truth.abs().clamp_min(1)).max()) < 0.03
    few = u.each(lambda part: part[:4000])  # rows without weight are not there
    weight = torch.stack([torch.ones(4000), (torch.arange(4000) % 2) * 2.0]).double()
    both, half = structure.pooled(few, weight), structure.pooled(few.each(lambda part: part[1::2]), weight[:1, 1::2])
    np.testing.assert_allclose(both.theta[1], half.theta[0], rtol=1e-8)
    gradient = (family.derivatives(u, fit.theta[0].expand(n, -1))[0]).mean(0)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


@every
def test_a_standardised_outcome_is_mapped_back(name: str) -> None:
    family = CASES[name].family
    u, theta = units(CASES[name])
    y, shift, scale = family.standardise(u)
    if family.outcome == "durations":  # the event stays as it is
        np.testing.assert_array_equal(y[:, 1], u.y[:, 1])
        np.testing.assert_allclose(y[:, 0] * scale + shift, u.y[:, 0], rtol=1e-12, atol=1e-12)
    else:
        np.testing.assert_allclose(y * scale + shift, u.y, rtol=1e-12, atol=1e-12)
    back = family.unstandardise(theta.clone(), shift, scale, 0)
    np.testing.assert_allclose(family.mean(u, back), family.mean(u, theta) * scale + shift, rtol=1e-10, atol=1e-10)
    small, large = family.loss(u._replace(y=y), theta), family.loss(u, back)
    change = family.loss(u._replace(y=y), theta * 0.5) - small
    moved = family.loss(u, family.unstandardise(theta * 0.5, shift, scale, 0)) - large
    unit = CASES[name].unit(scale)
    np.testing.assert_allclose(moved, change * unit, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(family.unstandardise_loss(u._replace(y=y), small, scale), large, rtol=1e-9, atol=1e-9)


@every
def test_far_out_in_single_precision(name: str) -> None:
    """Losses and scores stay finite at an index of 60, where naive forms overflow or cancel."""
    family = CASES[name].family
    u, theta = units(CASES[name])
    u = Units(*(part.float() for part in u))
    for far in (-60.0, 60.0):
        at = theta.float() * 0
        at[:, 0] = far
        assert bool(family.loss(u, at).isfinite().all()) and bool(score_of(family, u, at).isfinite().all())


@every
def test_check_refuses_what_cannot_be_and_passes_what_can(name: str) -> None:
    family = CASES[name].family
    u, _ = units(CASES[name])
    family.check(u, "wage")
    for values, words in CASES[name].impossible:
        with pytest.raises(DataError, match=f"family='{family.name}'") as caught:
            family.check(u._replace(y=torch.tensor(values, dtype=torch.float64)), "wage")
        for word in ("'wage'", *words):
            assert word in str(caught.value)


@every
def test_families_are_found_by_name_class_and_object(name: str) -> None:
    family = CASES[name].family
    plain = families.get(family.name)
    assert plain.name == family.name and families.get(type(family)) == plain and families.get(plain) is plain
    assert families.get(family) is family
    blocks = max(len(family.prefixes), 1)  # a family without an index has a parameter for each term all the same
    assert len(family.names(("Intercept", "b"))) - len(family.names(())) == 2 * blocks
    assert isinstance(hash(family), int)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("logitt", "family='logitt' is not known; allowed are .*'gaussian'.* Did you mean family='logit'"),
        ("Poisson", "Did you mean family='poisson'"),
        ("probits", "family='probits' is not known"),
        (3, "family=3"), (None, "family=None"), (Units, "Units"), ([], r"family=\[\]"),
    ],
)  # fmt: skip
def test_an_unknown_family(asked: object, words: str) -> None:
    with pytest.raises(OptionError, match=words):
        families.get(asked)  # type: ignore[arg-type]


def test_a_family_without_a_closed_information_says_what_to_type() -> None:
    class Cubic(Family):
        name = "cubic"
        outcome_free = False

    u, theta = units(CASES["linear"])
    with pytest.raises(NotAvailable, match=r"'cubic' depends on the outcome.*hessian='regressed'"):
        Cubic().information(u, theta)


@every
def test_a_stated_law_is_that_of_the_draws(name: str) -> None:
    """cdf and variance, where a family has them; NotAvailable with words where it does not."""
    case, rows, draws = CASES[name], 4, 40_000
    family = case.family
    u, theta = units(case, rows, seed=5)
    wide, at = Units(u.y, u.d.expand(draws, *u.d.shape), u.mask), theta.expand(draws, *theta.shape)
    y = family.simulate(wide, at, torch.Generator().manual_seed(1))
    if type(family).variance is Family.variance:
        with pytest.raises(NotAvailable, match=f"'{family.name}' does not say the variance"):
            family.variance(u, theta)
    else:
        np.testing.assert_allclose(family.variance(u, theta), y.var(0), rtol=0.05)
    if type(family).cdf is Family.cdf:
        with pytest.raises(NotAvailable, match=f"'{family.name}' does not say how likely"):
            family.cdf(u, theta, u.y)
        return
    for cut in (-1.0, 0.0, 0.4, 1.0, 2.0):
        below = family.cdf(u, theta, torch.full((rows,), cut, dtype=torch.float64))
        np.testing.assert_allclose(below, (y <= cut).double().mean(0), atol=0.012)
    if type(family).quantile is not Family.quantile:
        p = torch.full((rows,), 0.3, dtype=torch.float64)
        np.testing.assert_allclose(family.cdf(u, theta, family.quantile(u, theta, p)), p, rtol=1e-9)


# families of the nuisance regressions


def test_multinomial_equals_statsmodels() -> None:
    rng = np.random.default_rng(8)
    x = rng.normal(size=300)
    label = rng.choice(4, size=300, p=[0.4, 0.3, 0.2, 0.1])
    for d in (np.ones((300, 1)), np.c_[np.ones(300), x]):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ref = sm.MNLogit(label, d).fit(disp=0)
        family = Multinomial.of(4)
        u = Units(torch.tensor(label).double(), torch.tensor(d), torch.ones(300).double())
        fit = Structure(family, ("Intercept", "x")[: d.shape[1]]).pooled(u, torch.ones(1, 300, dtype=torch.float64))
        np.testing.assert_allclose(fit.theta[0], np.ravel(ref.params, "F"), rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(float(fit.loss) * 300, -ref.llf, rtol=1e-10)
        np.testing.assert_allclose(np.linalg.inv(fit.hessian[0]) / 300, ref.cov_params(), rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(family.mean(u, fit.theta[0].expand(300, -1)).mean(0), np.bincount(label) / 300)
    assert family.names(("Intercept", "x"))[:3] == ("1: Intercept", "1: x", "2: Intercept")


def test_precision_is_minimal_at_the_inverse_of_the_mean() -> None:
    g = torch.Generator().manual_seed(4)
    root = torch.randn(500, 3, 3, generator=g, dtype=torch.float64) @ torch.diag(torch.tensor([1.0, 30, 0.1])).double()
    y = root.mT @ root
    family = Precision(3)
    u = Units(y, torch.zeros(500, 0).double(), torch.ones(500).double())
    fit = Structure(family, ()).pooled(u, torch.ones(1, 500, dtype=torch.float64))
    np.testing.assert_allclose(family.mean(u, fit.theta)[0], torch.linalg.inv(y.mean(0)), rtol=1e-6)
    assert family.names(()) == ("L[0,0]", "L[1,0]", "L[1,1]", "L[2,0]", "L[2,1]", "L[2,2]")
    factor = family.factor(torch.randn(7, 2, 6, generator=g, dtype=torch.float64))
    assert factor.shape == (7, 2, 3, 3) and bool((factor.diagonal(dim1=-2, dim2=-1) > 0).all())
    np.testing.assert_array_equal(factor, factor.tril())
