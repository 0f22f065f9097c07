"""A family made of a plain loss function."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from ..errors import NotAvailable, OptionError
from ..units import Units
from .base import Family

Function: TypeAlias = Callable[..., Tensor]


def from_loss(
    loss: Function, *, mean: Function | None = None, extra: tuple[str, ...] = (), start: tuple[float, ...] | None = None
) -> "FromLoss":
    """The family whose loss is a function of your own, loss(y, d, theta).

    theta has a column for each structural term and one for each name in `extra`; y is (...), d (..., K), theta (..., P)
    and the loss (...), over any leading axes, in torch, and in single precision while networks train. As nothing is
    known of the law of the outcome, Lambda(x) is a regression of Hessians; d is not taken around E[d | x], as it may
    enter in any way. `mean`, a function of (d, theta), is needed for effects and predictions, and `start` (P,) where
    the loss has no finite value and derivatives at theta = 0. structural() raises OptionError where the loss has
    another shape, or no finite values at the start.

    >>> import torch
    >>> from deepreg import families
    >>> def upper(y, d, theta):  # a smooth check function: about the 90% quantile
    ...     error = y - (d * theta).sum(-1)
    ...     return torch.nn.functional.softplus(20 * error) / 20 - 0.1 * error
    >>> families.from_loss(upper).names(("Intercept", "t"))
    ('Intercept', 't')
    """
    return FromLoss(loss, mean, tuple(extra), None if start is None else tuple(start))


@dataclass(frozen=True)
class FromLoss(Family):
    """What from_loss() makes."""

    of: Function
    average: Function | None
    ancillary: tuple[str, ...]
    at: tuple[float, ...] | None
    name: ClassVar[str] = "own loss"
    shifted: ClassVar[str] = "write a subclass of Family whose loss adds u.offset"
    outcome_free: ClassVar[bool] = False

    @property
    def likelihood(self) -> bool:
        return False

    @property
    def predicts(self) -> bool:
        return self.average is not None

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ()

    def names(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        return (*terms, *self.ancillary)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        return self.of(u.y, u.d, theta)

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """NaN: a loss need not be a likelihood."""
        return float("nan")

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        if self.average is None:
            raise NotAvailable(
                "The family was made of a loss alone, so the mean of the outcome is not known. Give "
                "family=families.from_loss(loss, mean=lambda d, theta: ...)."
            )
        return self.average(u.d, theta)

    def start(self, u: Units) -> Tensor:
        zero = super().start(u)
        known = self.at is not None and len(self.at) == len(zero)  # not so where an intercept is fitted alone
        return torch.tensor(self.at).to(zero) if known else zero

    def bind(self, u: Units, levels: tuple[object, ...]) -> tuple["FromLoss", Units]:
        size = len(self.names(("",) * u.d.shape[-1]))
        if self.at is not None and len(self.at) != size:
            raise OptionError(
                f"from_loss(start=...) has {len(self.at)} values, but theta has {size} columns; give {size}."
            )
        theta = self.start(u).expand(2, len(u.d), size)
        loss = self.loss(u, theta)
        if tuple(loss.shape) != (2, len(u.d)):
            raise OptionError(
                f"The loss maps y {tuple(u.y.shape)}, d {tuple(u.d.shape)} and theta {tuple(theta.shape)} to "
                f"{tuple(loss.shape)}, but has to give {(2, len(u.d))}, a loss for each row: sum over the last axis, "
                "for example (d * theta).sum(-1)."
            )
        score, hessian = self.derivatives(u, theta)
        bad = ~(loss.isfinite() & score.isfinite().all(-1) & hessian.isfinite().all((-1, -2)))
        if bool(bad.any()):
            raise OptionError(
                f"At theta = {self.start(u).tolist()} the loss or a derivative is not finite in {int(bad[0].sum())} of "
                f"{len(u.d)} rows; give from_loss(loss, start=(...)), a value for each of the {size} columns of theta."
            )
        return self, u
