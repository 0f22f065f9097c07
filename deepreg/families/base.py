"""The Family protocol: a loss per unit, a mean, and derivatives by automatic differentiation."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import NotAvailable
from ..units import Units


def index(u: Units, theta: Tensor) -> Tensor:
    """The linear index d'theta over the first K columns of theta; (..., K), (..., P) -> (...)."""
    terms = [d * b for d, b in zip(u.d.unbind(-1), theta.unbind(-1), strict=False)]
    return torch.stack(terms).sum(0) if len(terms) > 4 else sum(terms[1:], terms[0])  # reducing a short axis is slow


@dataclass(frozen=True)
class Family:
    """A loss l(y, d, theta) per unit; theta is (..., P) and every method broadcasts over the leading axes.

    `loss` is a negative log (quasi-)likelihood, up to terms free of theta. The sign matters: the score is its
    gradient and the curvature its Hessian (Farrell, Liang and Misra 2021, section 2).
    """

    name: ClassVar[str]
    extra: ClassVar[tuple[str, ...]] = ()  # ancillary parameters, after the K coefficients
    indexed: ClassVar[bool] = True  # whether d enters through d'theta alone, so that the origin of d is free
    identity: ClassVar[bool] = False  # whether mean(u, theta) is the index itself
    outcome_free: ClassVar[bool] = True  # whether the Hessian is free of y, given d and theta
    binary: ClassVar[bool] = False  # whether outcomes are 0 and 1, so that the mean is the probability of 1

    def names(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the P columns of theta: one per structural term, then the ancillary parameters."""
        return (*terms, *self.extra)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        """Loss of each unit; (..., P) -> (...)."""
        raise NotImplementedError

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """Log-likelihood of the units at theta (n, P), each counted `weight` (n,) times; NaN where there is none.

        For families whose loss is the whole negative log-likelihood.
        """
        return -float((self.loss(u, theta) * weight).sum())

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[y | d, x] at theta; (..., P) -> (...)."""
        raise NotImplementedError

    def check(self, u: Units, outcome: str) -> None:
        """Raise DataError when the outcome cannot come from this family."""

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        """(y - shift) / scale with the shift and the scale, for families closed under them; else y, 0, 1."""
        return u.y, 0.0, 1.0

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        """Theta for y, given theta for (y - shift) / scale."""
        return theta

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        """The loss of the outcome, linear in the given one of the standardised outcome u.y; (...)."""
        return loss

    def start(self, u: Units) -> Tensor:
        """Where Newton's method starts; (P,)."""
        return torch.zeros(u.d.shape[-1] + len(self.extra), dtype=torch.float64, device=u.d.device)

    def derivatives(self, u: Units, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Score (..., P) and Hessian (..., P, P) of the loss with respect to theta, by automatic differentiation."""
        theta = theta.detach().requires_grad_(True)
        with torch.enable_grad():
            total = self.loss(u, theta).sum()
            (score,) = torch.autograd.grad(total, theta, create_graph=True)
            columns = [
                torch.autograd.grad(score[..., j].sum(), theta, retain_graph=True, materialize_grads=True)[0]
                for j in range(theta.shape[-1])
            ]
        return score.detach(), torch.stack(columns, -1)

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """E[Hessian | d, x] at theta, free of y; (..., P) -> (..., P, P)."""
        if not self.outcome_free:
            raise NotAvailable(
                f"The Hessian of family {self.name!r} depends on the outcome, so it has no closed-form expectation; "
                "use fit(hessian='regressed')."
            )
        return self.derivatives(u, theta)[1]

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """One outcome drawn at theta for each unit; (..., P) -> (...)."""
        raise NotImplementedError
