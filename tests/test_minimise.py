"""Newton's method with bounds: minima held against scipy's, and what is said of problems without one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize, nnls
from torch import Tensor

from deepreg.minimise import Minimum, State, minimise


def problem(loss: Callable[[Tensor], Tensor], start: Tensor, **options: Tensor | int) -> Minimum:
    """The minima of loss (G, P) -> (G,), with derivatives by autograd."""

    def derivatives(theta: Tensor) -> tuple[Tensor, Tensor]:
        theta = theta.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(loss(theta).sum(), theta, create_graph=True)
        rows = [torch.autograd.grad(one.sum(), theta, retain_graph=True)[0] for one in gradient.unbind(1)]
        return gradient.detach(), torch.stack(rows, 1)

    return minimise(loss, derivatives, start, **options)  # type: ignore[arg-type]


def draw(groups: int, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    rng = np.random.default_rng(3)
    a = rng.normal(size=(groups, rows, columns)) + rng.normal(size=(groups, rows, 1))  # correlated columns
    return torch.from_numpy(a), torch.from_numpy(rng.normal(size=(groups, rows)))


def test_non_negative_least_squares_are_scipys() -> None:
    a, b = draw(40, 30, 8)
    found = problem(
        lambda theta: ((a @ theta[:, :, None])[:, :, 0] - b).square().sum(1), torch.ones(40, 8).double(),
        lower=torch.zeros(8).double(),
    )  # fmt: skip
    expected = np.stack([nnls(one.numpy(), other.numpy())[0] for one, other in zip(a, b, strict=True)])
    assert (found.state == State.DONE).all()
    np.testing.assert_allclose(found.theta.numpy(), expected, atol=1e-12)
    assert ((found.theta == 0) == ~found.free).all()  # exactly on the bound, or free
    assert 0.1 < float(found.free.double().mean()) < 0.9
    assert (found.gradient[~found.free] > 0).all()
    assert float(found.gradient[found.free].abs().max()) < 1e-9


def test_a_poisson_likelihood_in_a_box_is_scipys() -> None:
    a, _ = draw(6, 200, 5)
    a = a / 2
    y = torch.poisson(a.sum(2).exp().clamp_max(20), generator=torch.Generator().manual_seed(0))

    def loss(theta: Tensor) -> Tensor:
        index = (a @ theta[:, :, None])[:, :, 0]
        return (index.exp() - y * index).mean(1)

    low, high = torch.tensor([-0.2, 0.9, -1, 0.5, -9]).double(), torch.tensor([0.7, 1.3, 0, 0.6, 9]).double()
    start = ((low + high) / 2).clamp(-1, 1).expand(6, -1)
    found = problem(loss, start, lower=low, upper=high)
    for g in range(6):

        def one(theta: np.ndarray, g: int = g) -> float:
            return float(loss(torch.from_numpy(theta).expand(6, -1))[g])

        box = list(zip(low.tolist(), high.tolist(), strict=True))
        best = minimize(one, start[g].numpy(), bounds=box, method="L-BFGS-B", options={"ftol": 1e-15, "gtol": 1e-9})
        np.testing.assert_allclose(found.theta[g].numpy(), best.x, atol=2e-5)
        assert float(found.value[g]) <= best.fun + 1e-12
    assert 0 < int((~found.free).sum()) < 30
    assert (found.decrement < 1e-18).all()
    assert (found.smallest > 0).all()


def test_each_start_finds_the_minimum_of_its_valley() -> None:
    found = problem(lambda theta: ((theta**2 - 1) ** 2).sum(1), torch.tensor([[0.1], [-3.0], [0.4]]).double())
    assert found.theta[:, 0].tolist() == pytest.approx([1, -1, 1], abs=1e-9)


def test_a_problem_without_a_minimum_does_not_keep_the_others_from_theirs() -> None:
    sign = torch.tensor([1.0, 0.0]).double()

    def loss(theta: Tensor) -> Tensor:  # the second falls for ever, ever more slowly
        x, y = theta.unbind(1)
        return sign * (x + y - 4).square() + (1 - sign) * (-x - y).exp() + (x - y).square()

    found = problem(loss, torch.zeros(2, 2).double())
    assert found.state.tolist() == [State.DONE, State.FLAT]
    assert found.theta[0].tolist() == pytest.approx([2, 2])
    assert found.direction[1].abs().tolist() == pytest.approx([0.5**0.5] * 2)


def test_derivatives_that_are_no_numbers_are_lost_and_few_steps_are_too_few() -> None:
    lost = problem(lambda theta: (theta[:, 0] - 1).sqrt(), torch.zeros(1, 1).double())
    assert lost.state.tolist() == [State.LOST]
    short = problem(lambda theta: (theta[:, 0] - 9).cosh(), torch.zeros(1, 1).double(), steps=1)
    assert short.state.tolist() == [State.RUNNING]


def test_a_bound_in_the_way_is_left_again() -> None:
    """The path to the minimum runs along a bound that it ends away from."""

    def loss(theta: Tensor) -> Tensor:
        x, y = theta.unbind(1)
        return (1 - x) ** 2 + 20 * (y - x**2) ** 2  # a curved valley

    low = torch.tensor([-2.0, 0.5]).double()
    found = problem(loss, torch.tensor([[-1.5, 0.5]]).double(), lower=low)
    assert found.theta[0].tolist() == pytest.approx([1, 1], abs=1e-8)
    assert found.free.all()


def test_bounds_that_block_a_step_are_met_in_few_of_them() -> None:
    """Bending a step along the bounds can climb; halving it instead would approach them for ever."""
    draws = torch.Generator().manual_seed(0)
    a, b, u = (torch.randn(4000, 3, k, generator=draws).double() for k in (3, 1, 1))
    hessian, start = a @ a.mT + 1e-3 * torch.eye(3), torch.special.ndtr(u[:, :, 0]) ** 6

    def loss(theta: Tensor) -> Tensor:
        return (theta[:, None] @ (hessian @ theta[:, :, None] / 2 - b))[:, 0, 0]

    def derivatives(theta: Tensor) -> tuple[Tensor, Tensor]:
        return (hessian @ theta[:, :, None] - b)[:, :, 0], hessian

    found = minimise(loss, derivatives, start, lower=torch.zeros(3).double())
    assert (found.state == State.DONE).all()
    assert found.steps <= 8  # 19 by halving alone


def test_a_parameter_between_equal_bounds_is_held_though_the_loss_is_free_of_it() -> None:
    bounds = {"lower": torch.tensor([-9.0, 2.0]).double(), "upper": torch.tensor([9.0, 2.0]).double()}
    found = problem(lambda theta: (theta[:, 0] - 1).square(), torch.tensor([[0.0, 2.0]]).double(), **bounds)
    assert found.state.tolist() == [State.DONE]
    assert found.theta.tolist() == [[1.0, 2.0]]
    assert found.free.tolist() == [[True, False]]
