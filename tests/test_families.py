"""What every family promises: losses, derivatives, means and draws that agree with each other and with textbooks."""

import warnings
from collections.abc import Callable

import numpy as np
import pytest
import statsmodels.api as sm
import torch
from scipy import stats
from torch import Tensor

from deepreg import families
from deepreg.errors import DataError, NotAvailable, OptionError
from deepreg.families import Family
from deepreg.families.nuisance import Multinomial, Precision
from deepreg.structure import Structure, score_of
from deepreg.units import Units

every = pytest.mark.parametrize("name", families.names())
N, K = 40, 3


def units(family: Family, n: int = N, seed: int = 2) -> tuple[Units, Tensor]:
    """Units drawn at theta (n, P)."""
    g = torch.Generator().manual_seed(seed)
    d = torch.cat([torch.ones(n, 1), torch.randn(n, K - 1, generator=g)], 1).double()
    size = len(family.names(("Intercept", "a", "b")))
    theta = 0.4 * torch.randn(n, size, generator=g, dtype=torch.float64)
    empty = Units(torch.zeros(n, dtype=torch.float64), d, torch.ones(n, dtype=torch.float64))
    return empty._replace(y=family.simulate(empty, theta, g)), theta


def numpy_parts(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    d, y, t = u.d.numpy(), u.y.numpy(), theta.numpy()
    return y, d, (d * t[:, : d.shape[1]]).sum(1), t


def outer(d: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return d[:, :, None] * d[:, None, :] * weight[:, None, None]


def linear(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, d, eta, _ = numpy_parts(u, theta)
    return -stats.norm.logpdf(y, eta), -(y - eta)[:, None] * d, outer(d, np.ones_like(y))


def gaussian(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, d, eta, t = numpy_parts(u, theta)
    precision, e = np.exp(-2 * t[:, -1]), y - eta
    score = np.c_[-(e * precision)[:, None] * d, 1 - e**2 * precision]
    hessian = np.zeros((len(y), K + 1, K + 1))
    hessian[:, :K, :K] = outer(d, precision)
    hessian[:, :K, K] = hessian[:, K, :K] = 2 * (e * precision)[:, None] * d
    hessian[:, K, K] = 2 * e**2 * precision
    return -stats.norm.logpdf(y, eta, np.exp(t[:, -1])), score, hessian


def logit(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, d, eta, _ = numpy_parts(u, theta)
    p = 1 / (1 + np.exp(-eta))
    return -stats.bernoulli.logpmf(y.astype(int), p), (p - y)[:, None] * d, outer(d, p * (1 - p))


def poisson(u: Units, theta: Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    y, d, eta, _ = numpy_parts(u, theta)
    mu = np.exp(eta)
    return -stats.poisson.logpmf(y.astype(int), mu), (mu - y)[:, None] * d, outer(d, mu)


TEXTBOOK: dict[str, Callable[[Units, Tensor], tuple[np.ndarray, np.ndarray, np.ndarray]]] = {
    "linear": linear, "gaussian": gaussian, "logit": logit, "poisson": poisson,
}  # fmt: skip
# what no family can have drawn, and words that the error says besides the name of the column
CONSTANT = [
    ([2.5, 2.5, 2.5], ["an outcome that varies", "is 2.5 in all 3 rows", "subset"]),
    ([2.0**62, 2.0**62 + 1024, 2.0**62], ["to 12 digits", "subtract a constant"]),
    ([1e200, 2e200, 0], ["as large as 2.0e+200", "other units"]),
    ([1e-200, 2e-200, 0], ["a range of 2.0e-200", "other units"]),
]
IMPOSSIBLE: dict[str, list[tuple[list[float], list[str]]]] = {
    "linear": CONSTANT,
    "gaussian": CONSTANT,
    "logit": [
        ([0.0, 1, 2], ["3 distinct values (0, 1, 2)", "I((wage > 1) * 1)", "family='linear'"]),
        ([0.0, 0.5, 1], ["0 and 1"]),
        ([-1.0, 1, 1], ["0 and 1"]),
        ([1.0, 1, 1], ["both 0 and 1", "every row is 1"]),
        ([0.0, 0, 0], ["every row is 0"]),
    ],
    "poisson": [
        ([1.0, -1, -3], ["2 negative values (smallest -3)", "subset='wage >= 0'", "family='linear'"]),
        ([0.0, 0, 0], ["every row is 0", "subset"]),
    ],
}


def test_the_tables_of_this_file_hold_every_family() -> None:
    assert sorted(TEXTBOOK) == sorted(IMPOSSIBLE) == families.names()


@every
def test_loss_score_and_hessian_are_those_of_the_textbook(name: str) -> None:
    family = families.get(name)
    u, theta = units(family)
    loss, score, hessian = TEXTBOOK[name](u, theta)
    elsewhere = theta + 0.3
    change = (family.loss(u, elsewhere) - family.loss(u, theta)).numpy()  # terms free of theta may be left out
    np.testing.assert_allclose(change, TEXTBOOK[name](u, elsewhere)[0] - loss, rtol=1e-9, atol=1e-10)
    ours = family.derivatives(u, theta)
    np.testing.assert_allclose(ours[0], score, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(ours[1], hessian, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(score_of(family, u, theta), score, rtol=1e-10, atol=1e-12)


@every
def test_derivatives_by_finite_differences(name: str) -> None:
    family = families.get(name)
    u, theta = units(family)
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
    family = families.get(name)
    u, theta = units(family)
    whole = (family.loss(u, theta), family.mean(u, theta), *family.derivatives(u, theta))
    for i in range(N):
        one, at = Units(*(part[i : i + 1] for part in u)), theta[i : i + 1]
        row = (family.loss(one, at), family.mean(one, at), *family.derivatives(one, at))
        for a, b in zip(whole, row, strict=True):
            np.testing.assert_allclose(a[i], b[0], rtol=1e-12, atol=1e-14)
    mapped = torch.vmap(lambda y, d, mask, at: family.loss(Units(y, d, mask), at))(*u, theta)
    np.testing.assert_allclose(mapped, whole[0], rtol=1e-12)


@every
def test_leading_axes_broadcast(name: str) -> None:
    """Replicates, then units, then quadrature nodes."""
    family = families.get(name)
    u, theta = units(family)
    many = torch.stack([theta, theta - 0.2, theta * 0])  # (3, n, P) against units (n, ...)
    nodes = Units(u.y[:, None], u.d[:, None] + torch.tensor([0.0, 0.5])[:, None], u.mask[:, None])  # (n, 2, K)
    for value in (family.loss, family.mean):
        got = value(u, many)
        assert got.shape == (3, N)
        for layer, expected in zip(got, many, strict=True):
            np.testing.assert_allclose(layer, value(u, expected), rtol=1e-12)
        inside = value(nodes, many[:, :, None])
        assert inside.shape == (3, N, 2)
        np.testing.assert_allclose(inside[..., 0], got, rtol=1e-12)
    size = theta.shape[1]
    assert family.derivatives(u, many)[1].shape == (3, N, size, size)
    expanded = nodes._replace(d=nodes.d.expand(3, N, 2, K))
    information = family.information(expanded, many[:, :, None].expand(3, N, 2, size))
    assert information.shape == (3, N, 2, size, size)
    np.testing.assert_allclose(information[1, :, 0], family.information(u, many[1]), rtol=1e-12)


@every
def test_draws_have_the_mean_and_the_information(name: str) -> None:
    family = families.get(name)
    rows, draws = 4, 40_000
    u, theta = units(family, rows, seed=5)
    wide, at = u.d.expand(draws, rows, K), theta.expand(draws, *theta.shape)
    drawn = Units(u.y, wide, u.mask)
    drawn = drawn._replace(y=family.simulate(drawn, at, torch.Generator().manual_seed(1)))
    error = drawn.y.std(0) / draws**0.5
    assert bool(((drawn.y.mean(0) - family.mean(u, theta)).abs() < 4 * error).all())
    hessian = family.derivatives(drawn, at)[1]
    error = hessian.std(0) / draws**0.5 + 1e-9
    assert bool(((hessian.mean(0) - family.information(u, theta)).abs() < 4.5 * error).all())
    if name != "linear":  # a likelihood: the score has mean zero and the information for its variance
        score = family.derivatives(drawn, at)[0]
        variance = (score[..., :, None] * score[..., None, :]).mean(0)
        np.testing.assert_allclose(variance, family.information(u, theta), rtol=0.1, atol=0.1)


@every
def test_the_homogeneous_fit_recovers_what_was_drawn(name: str) -> None:
    family, n = families.get(name), 20_000
    structure = Structure(family, ("Intercept", "a", "b"))
    u, _ = units(family, n)
    truth = torch.tensor([0.3, -0.5, 0.4, 0.2], dtype=torch.float64)[: len(structure.names)]
    u = u._replace(y=family.simulate(u, truth.expand(n, -1), torch.Generator().manual_seed(3)))
    weight = torch.stack([torch.ones(n), (torch.arange(n) % 2) * 2.0]).double()
    fit = structure.pooled(u, weight)
    for theta, score, hessian, share in zip(fit.theta, fit.score, fit.hessian, (1, 0.5), strict=True):
        inverse = torch.linalg.inv(hessian)
        error = (inverse @ score @ inverse).diagonal().sqrt() / (n * share) ** 0.5
        assert bool(((theta - truth).abs() < 4 * error).all())
        assert float(error.max()) < 0.03
    half = structure.pooled(Units(u.y[1::2], u.d[1::2], u.mask[1::2]), weight[:1, 1::2])
    np.testing.assert_allclose(fit.theta[1], half.theta[0], rtol=1e-8)
    gradient = (family.derivatives(u, fit.theta[0].expand(n, -1))[0]).mean(0)
    np.testing.assert_allclose(gradient, 0, atol=1e-9)


@every
def test_a_standardised_outcome_is_mapped_back(name: str) -> None:
    family = families.get(name)
    u, theta = units(family)
    y, shift, scale = family.standardise(u)
    np.testing.assert_allclose(y * scale + shift, u.y, rtol=1e-12, atol=1e-12)
    back = family.unstandardise(theta.clone(), shift, scale, 0)
    np.testing.assert_allclose(family.mean(u, back), family.mean(u, theta) * scale + shift, rtol=1e-10, atol=1e-10)
    small, large = family.loss(u._replace(y=y), theta), family.loss(u, back)
    change = family.loss(u._replace(y=y), theta * 0.5) - small
    moved = family.loss(u, family.unstandardise(theta * 0.5, shift, scale, 0)) - large
    unit = {"linear": scale**2, "poisson": scale}.get(name, 1.0)  # least squares and counts have units
    np.testing.assert_allclose(moved, change * unit, rtol=1e-9, atol=1e-9)
    np.testing.assert_allclose(family.unstandardise_loss(u._replace(y=y), small, scale), large, rtol=1e-9, atol=1e-9)


@every
def test_far_out_in_single_precision(name: str) -> None:
    """Losses and scores stay finite at an index of 60, where naive forms overflow or cancel."""
    family = families.get(name)
    u, theta = units(family)
    u = Units(*(part.float() for part in u))
    for far in (-60.0, 60.0):
        at = theta.float() * 0
        at[:, 0] = far
        assert bool(family.loss(u, at).isfinite().all()) and bool(score_of(family, u, at).isfinite().all())


@every
def test_check_refuses_what_cannot_be_and_passes_what_can(name: str) -> None:
    family = families.get(name)
    u, _ = units(family)
    family.check(u, "wage")
    for values, words in IMPOSSIBLE[name]:
        with pytest.raises(DataError, match=f"family='{name}'") as caught:
            family.check(u._replace(y=torch.tensor(values, dtype=torch.float64)), "wage")
        for word in ("'wage'", *words):
            assert word in str(caught.value)


@every
def test_families_are_found_by_name_class_and_object(name: str) -> None:
    family = families.get(name)
    assert family.name == name and families.get(type(family)) == families.get(family) == family
    assert family.names(("a", "b")) == ("a", "b", *family.extra)
    assert isinstance(hash(family), int)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("logitt", "family='logitt' is not known; allowed are 'gaussian'.* Did you mean family='logit'"),
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

    u, theta = units(families.get("linear"))
    with pytest.raises(NotAvailable, match=r"'cubic' depends on the outcome.*hessian='regressed'"):
        Cubic().information(u, theta)


# families of the nuisance regressions


def test_multinomial_equals_statsmodels() -> None:
    rng = np.random.default_rng(8)
    label = rng.choice(4, size=300, p=[0.4, 0.3, 0.2, 0.1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        ref = sm.MNLogit(label, np.ones((300, 1))).fit(disp=0)
    family = Multinomial(4)
    u = Units(torch.tensor(label, dtype=torch.float64), torch.zeros(300, 0).double(), torch.ones(300).double())
    fit = Structure(family, ()).pooled(u, torch.ones(1, 300, dtype=torch.float64))
    np.testing.assert_allclose(fit.theta[0], np.ravel(ref.params), rtol=1e-8)
    np.testing.assert_allclose(float(fit.loss) * 300, -ref.llf, rtol=1e-10)
    np.testing.assert_allclose(np.linalg.inv(fit.hessian[0]) / 300, ref.cov_params(), rtol=1e-6)
    np.testing.assert_allclose(family.mean(u, fit.theta)[0], np.bincount(label) / 300, rtol=1e-8)
    assert family.names(()) == ("class 1", "class 2", "class 3")


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
