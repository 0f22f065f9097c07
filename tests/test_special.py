"""Special functions of the families: values and derivatives against mpmath's at 50 digits, far out as well."""

from collections.abc import Callable

import mpmath
import numpy as np
import pytest
import torch
from family_cases import CASES, units
from family_cases.positive import CASES as POSITIVE
from torch import Tensor

from deepreg.families.special import exp_or_tangent, log_cloglog, log_ndtr, stirling, trigamma_excess
from deepreg.units import Units

FUNCTIONS: dict[str, tuple[Callable[[Tensor], Tensor], Callable[..., mpmath.mpf], list[float]]] = {
    "log_ndtr": (
        log_ndtr, lambda s: mpmath.log(mpmath.erfc(-s / mpmath.sqrt(2)) / 2),
        [-60, -20, -1, -1e-9, 0, 1e-9, 1, 5, 20, 35],
    ),
    "log_cloglog": (
        log_cloglog, lambda s: mpmath.log(-mpmath.expm1(-mpmath.exp(s))), [-60, -20, -5, -4.7, -4.5, -1, 0, 1, 3, 5]
    ),
    "stirling": (
        stirling, lambda s: mpmath.loggamma(mpmath.exp(s)) - mpmath.exp(s) * (s - 1),
        [-60, -5, 0, 2, 3.3, 3.5, 9, 20, 40],
    ),
    "trigamma_excess": (
        trigamma_excess, lambda s: mpmath.exp(s) ** 2 * mpmath.psi(1, mpmath.exp(s)) - mpmath.exp(s),
        [-60, -5, 0, 2, 3.3, 3.5, 9, 20, 40],
    ),
}  # fmt: skip


def slopes(function: Callable[[Tensor], Tensor], at: Tensor) -> list[Tensor]:
    """The value, and the first and the second derivative."""
    at = at.clone().requires_grad_(True)
    value = function(at)
    (first,) = torch.autograd.grad(value.sum(), at, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), at)
    return [part.detach() for part in (value, first, second)]


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_and_derivatives(name: str) -> None:
    function, exact, places = FUNCTIONS[name]
    orders = 1 if name == "trigamma_excess" else 3  # which is differentiated nowhere
    ours = slopes(function, torch.tensor(places, dtype=torch.float64)) if orders > 1 else [
        function(torch.tensor(places, dtype=torch.float64))
    ]  # fmt: skip
    single = function(torch.tensor(places, dtype=torch.float32))
    with mpmath.workdps(80):
        for order in range(orders):
            theirs = [float(mpmath.diff(exact, mpmath.mpf(place), order)) for place in places]
            np.testing.assert_allclose(ours[order], theirs, rtol=1e-9, atol=1e-9)  # torch's trigamma errs by 3e-10
        theirs = [float(exact(mpmath.mpf(place))) for place in places]
        np.testing.assert_allclose(single, theirs, rtol=2e-5, atol=1e-6)


def test_second_derivatives_in_single_precision() -> None:
    places = [-60.0, -30, -12, -3, 0, 3]
    ours = slopes(log_ndtr, torch.tensor(places, dtype=torch.float32))[2]
    np.testing.assert_allclose(ours, slopes(log_ndtr, torch.tensor(places, dtype=torch.float64))[2], rtol=1e-3)


def test_the_tangent_continues_the_exponential() -> None:
    value, first, second = slopes(exp_or_tangent, torch.tensor([-5.0, 29, 30, 60]))
    edge = np.log(float(torch.finfo(torch.float32).max)) / 3
    np.testing.assert_allclose(value[:2], np.exp([-5, 29]), rtol=1e-5)
    np.testing.assert_allclose(first[2:], np.exp(edge), rtol=1e-5)
    np.testing.assert_allclose(value[2:], np.exp(edge) * (1 + np.array([30, 60]) - edge), rtol=1e-5)
    np.testing.assert_allclose(second[2:], 0)
    assert exp_or_tangent(torch.tensor(100.0, dtype=torch.float64)) == pytest.approx(np.exp(100))


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("kind", [torch.float32, torch.float64])
def test_hessians_are_finite_and_the_expected_one_no_saddle_far_out(name: str, kind: torch.dtype) -> None:
    family = CASES[name].family
    u, theta = units(CASES[name])
    u, at = Units(*(part.to(kind) for part in u)), theta.to(kind) * 0
    for far in (-60.0, 60.0):
        at[:, 0] = far
        assert bool(family.derivatives(u, at)[1].isfinite().all())
        information = family.information(u, at)
        assert bool(information.isfinite().all())
        least = torch.linalg.eigvalsh(information.double())[:, 0]
        assert bool((least >= -1e-5 * information.diagonal(dim1=1, dim2=2).max()).all())


@pytest.mark.parametrize("name", ["beta", "gamma", "inverse_gaussian", "lognormal"])
def test_outcomes_that_single_precision_rounds_away(name: str) -> None:
    family = CASES[name].family
    u, theta = units(CASES[name])
    for value in (1e-60, 1 - 1e-12):
        y = torch.full_like(u.y, value)
        small = Units(*(part.float() for part in u._replace(y=y)))
        assert bool(family.loss(small, theta.float()).isfinite().all())
