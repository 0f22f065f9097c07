"""Short stacking: weights on the simplex for each column of outputs, and constants, that minimise a held-out loss."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

_ROUNDING = 1e-9  # of a weight, below which it is 0


def stack(candidates: Tensor, loss: Callable[[Tensor], Tensor], steps: int = 200) -> Tensor:
    """Weights (C, P), each column summing to 1, of held-out outputs (C, R, n, P) under a mean loss (R, n, P) -> ().

    Ahrens, Hansen, Schaffer and Wiemann (2025). By sequential quadratic programming from equal weights, which reaches a
    weight of 0; of a convex loss it is the minimum.
    """
    shape, device = (len(candidates), candidates.shape[-1]), candidates.device

    def value(flat: np.ndarray) -> tuple[float, np.ndarray]:
        with torch.enable_grad():
            share = torch.tensor(flat, device=device).reshape(shape).requires_grad_(True)
            mean = loss((share[:, None, None, :] * candidates).sum(0))
            (slope,) = torch.autograd.grad(mean, share)
        return float(mean.detach()), slope.flatten().cpu().numpy()

    sums = np.tile(np.eye(shape[1]), shape[0])  # (P, C P)
    found = minimize(
        value, np.full(sums.shape[1], 1 / shape[0]), jac=True, method="SLSQP", bounds=[(0.0, 1.0)] * sums.shape[1],
        constraints={"type": "eq", "fun": lambda flat: sums @ flat - 1, "jac": lambda flat: sums},
        options={"maxiter": steps, "ftol": 1e-14},
    )  # fmt: skip
    share = torch.tensor(found.x, device=device).reshape(shape)
    share = torch.where(share > _ROUNDING, share, 0.0)
    return share / share.sum(0)


def newton(loss: Callable[[Tensor], Tensor], start: Tensor, steps: int = 50) -> Tensor:
    """The constants (C,) at which a smooth loss (C,) -> () is least, by Newton steps that are halved until it falls."""
    at, value = start, loss(start)
    for _ in range(steps):
        with torch.enable_grad():
            there = at.detach().requires_grad_(True)
            (slope,) = torch.autograd.grad(loss(there), there, create_graph=True)
            rows = [torch.autograd.grad(one, there, retain_graph=True, materialize_grads=True)[0] for one in slope]
        gradient, hessian = slope.detach(), torch.stack(rows)
        unit = hessian.diagonal().abs().clamp_min(1e-300).rsqrt()
        eigenvalues, vectors = torch.linalg.eigh(hessian * unit[:, None] * unit)
        size = eigenvalues.abs().clamp_min(1e-10)  # descends where not convex
        step = -unit * (vectors @ ((vectors.T @ (unit * gradient)) / size))
        fall = -float(gradient @ step)
        if fall < 1e-20 * (1 + abs(float(value))):
            break
        for _ in range(60):
            trial = loss(at + step)
            if bool(trial <= value - 1e-4 * fall + 1e-14 * (1 + value.abs())):
                break
            step, fall = 0.5 * step, 0.5 * fall
        at, value = at + step, trial
    return at
