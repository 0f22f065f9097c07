"""The Family protocol: a loss per unit, a mean, a law of the outcome, and derivatives by automatic differentiation."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from ..errors import NotAvailable
from ..units import NOTHING, Units

NODES = 20  # of the quadrature over the outcome


def index(u: Units, theta: Tensor, block: int = 0) -> Tensor:
    """A linear index d'theta, over K columns of theta, with the offset if they are the first ones; -> (...)."""
    k = u.d.shape[-1]
    own = theta[..., block * k : (block + 1) * k]
    if own.dim() > 1 and own.shape[-2] == 1 and u.d.dim() > 1:  # one theta for all rows: a product of matrices
        total = (u.d @ own.mT)[..., 0]
        return total if block else total + u.offset
    terms = [d * b for d, b in zip(u.d.unbind(-1), own.unbind(-1), strict=True)]
    total = torch.stack(terms).sum(0) if len(terms) > 4 else sum(terms[1:], terms[0])  # reducing a short axis is slow
    return total if block else total + u.offset


def natural(u: Units, theta: Tensor, blocks: int = 1) -> tuple[Tensor, ...]:
    """The linear indices d'theta of each block, then the ancillary parameters; (...) each."""
    ancillary = theta[..., blocks * u.d.shape[-1] :].unbind(-1)
    return (*(index(u, theta, block) for block in range(blocks)), *ancillary)


def chained(core: Tensor, u: Units, blocks: int = 1) -> Tensor:
    """The Hessian in theta of what has the Hessian `core` in natural(); (..., S, S) -> (..., P, P)."""
    k, ancillary = u.d.shape[-1], core.shape[-1] - blocks
    place = [*(block for block in range(blocks) for _ in range(k)), *range(blocks, blocks + ancillary)]
    one = u.d.new_ones(*u.d.shape[:-1], ancillary)
    factor = torch.cat([*[u.d] * blocks, one], -1)  # (..., P)
    return core[..., place, :][..., :, place] * factor[..., :, None] * factor[..., None, :]


def constant(u: Units) -> Tensor:
    """Coefficients of an index that is 1 in every row, or as near to it as least squares gets; (K,)."""
    d = u.d.flatten(0, -2)
    size = d.square().mean(0).sqrt().clamp_min(1e-300)
    d = d / size
    return torch.linalg.pinv(d.mT @ d / len(d), hermitian=True) @ d.mean(0) / size


def started(u: Units, values: Tensor, blocks: int = 1) -> Tensor:
    """Theta at which natural() is `values` in every row; (S,) -> (P,)."""
    return torch.cat([*(value * constant(u) for value in values[:blocks]), values[blocks:]])


def weighted(u: Units, weight: Tensor) -> Tensor:
    """d d' times a weight (...) of each unit; -> (..., K, K)."""
    return u.d[..., :, None] * u.d[..., None, :] * weight[..., None, None]


@dataclass(frozen=True)
class Family:
    """A loss l(y, d, theta) per unit; theta is (..., P) and every method broadcasts over the leading axes.

    `loss` is a negative log (quasi-)likelihood, up to terms free of theta. The sign matters: the score is its
    gradient and the curvature its Hessian (Farrell, Liang and Misra 2021, section 2).

    A family states a loss and a mean. Where the Hessian depends on the outcome, it also states the law of the outcome,
    as `quantile`, or as `outcomes` where that is discrete, or the expected Hessian itself, as `information`; without
    any of them Lambda(x) is a regression of Hessians.
    """

    name: ClassVar[str]
    outcome: ClassVar[str] = "number"  # or "levels": classes, in order; or "durations": Surv(time, event)
    identity: ClassVar[bool] = False  # whether mean(u, theta) is the index itself
    outcome_free: ClassVar[bool] = True  # whether the Hessian is free of y, given d and theta
    advice: ClassVar[str] = "Drop the term, or merge rare levels."  # where a homogeneous fit does not exist
    density: ClassVar[bool] = False  # whether the likelihood is a density of y, and so depends on the unit of y
    binary: ClassVar[bool] = False  # whether outcomes are 0 and 1, so that the mean is the probability of 1
    shifted: ClassVar[str] = ""  # what to type in the place of an offset, for families that take none
    log_link: ClassVar[bool] = False  # whether the mean is proportional to the exponential of the first index

    @property
    def extra(self) -> tuple[str, ...]:
        """Names of the ancillary parameters, which come after the coefficients."""
        return ()

    @property
    def censored(self) -> bool:
        """Whether some outcomes are known in part, so that the expected Hessian depends on when they were last seen."""
        return False

    @property
    def prefixes(self) -> tuple[str, ...]:
        """For each linear index d'theta, what the names of its K coefficients begin with.

        Theta begins with the coefficients of one index after the other. No index: d enters in another way, and its
        origin is not free.
        """
        return ("",)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the means, where there is more than one; mean() is then (..., len(labels))."""
        return ()

    def names(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        """Names of the P columns of theta: one per index and structural term, then the ancillary parameters."""
        return (*(prefix + term for prefix in self.prefixes for term in terms), *self.extra)

    def bind(self, u: Units, levels: tuple[object, ...]) -> "tuple[Family, Units]":
        """The family with what it takes from the outcomes, and the units as it codes them.

        `levels` are those of an outcome that is text or a category; units.y then holds their positions.
        """
        return self, u

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        """Loss of each unit; (..., P) -> (...)."""
        raise NotImplementedError

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """Log-likelihood of the units at theta (n, P), each counted `weight` (n,) times; NaN where there is none.

        For families whose loss is the negative log-likelihood, up to normaliser().
        """
        return -float(((self.loss(u, theta) + self.normaliser(u)) * weight).sum())

    def normaliser(self, u: Units) -> Tensor:
        """What the loss leaves out of the negative log-likelihood, being free of theta; (...)."""
        return u.y.new_zeros(())

    def dispersion(self, u: Units, theta: Tensor, weight: Tensor, parameters: int) -> float:
        """The variance of a score over its expected Hessian, where the family describes the rows; 1 of a likelihood.

        theta is (P,) and constant, weight (n,), and `parameters` are as many as were fitted.
        """
        return 1.0

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        """E[y | d, x] at theta; (..., P) -> (...)."""
        raise NotImplementedError

    def inclusive(self, u: Units, theta: Tensor) -> Tensor:
        """The expected utility of choosing among the alternatives of u, up to a constant; (..., P) -> (...)."""
        raise NotAvailable(f"Family {self.name!r} is of no choices, so there is no expected utility of choosing.")

    def check(self, u: Units, outcome: str) -> None:
        """Raise DataError when the outcome cannot come from this family."""

    def around(self, u: Units) -> Units:
        """The units with d around an origin in each that the loss is free of; as they are where there is none."""
        return u

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
        return torch.zeros(len(self.names(("",) * u.d.shape[-1])), dtype=torch.float64, device=u.d.device)

    def limit(self, u: Units, theta: Tensor, gradient: Tensor) -> str:
        """What a homogeneous fit lacks that is running off to infinity at theta, and what to type; "" of any other.

        theta and the gradient of the mean loss are (P,).
        """
        return ""

    def separated(self, u: Units, theta: Tensor) -> bool:
        """Whether coefficients (P,), made larger and larger, foretell every outcome, so that there is no finite fit."""
        return False

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

    def natural_loss(self, u: Units, *z: Tensor) -> Tensor:
        """The loss of each unit at a linear index (G, n) and ancillary parameters (G, 1); u.d is not read. -> (G, n).

        For families that read the regressors through one linear index.
        """
        one = u._replace(d=torch.ones_like(u.mask)[..., None], offset=NOTHING)
        return self.loss(one, torch.stack(torch.broadcast_tensors(*z), -1))

    def natural_derivatives(self, u: Units, *z: Tensor) -> tuple[tuple[Tensor, ...], tuple[tuple[Tensor, ...], ...]]:
        """The gradient of natural_loss() in its S arguments, and S rows of its Hessian; (G, n) each."""
        one = u._replace(d=torch.ones_like(u.mask)[..., None], offset=NOTHING)
        score, core = self.derivatives(one, torch.stack(torch.broadcast_tensors(*z), -1))
        return score.unbind(-1), tuple(row.unbind(-1) for row in core.unbind(-2))

    def information(self, u: Units, theta: Tensor) -> Tensor:
        """E[Hessian | d, x] at theta, free of y; (..., P) -> (..., P, P).

        The Hessian itself where it is free of y, else integrated over `outcomes`. Raises NotAvailable without a law of
        the outcome.
        """
        if self.outcome_free:
            return self.derivatives(u, theta)[1]
        if not self.lawful:
            raise NotAvailable(
                f"The Hessian of family {self.name!r} depends on the outcome, and the family states no law to "
                "integrate it over; use fit(hessian='regressed')."
            )
        nodes = zip(*self.outcomes(u, theta), strict=True)
        parts = (weight[..., None, None] * self.derivatives(u._replace(y=y), theta)[1] for y, weight in nodes)
        return sum(parts, theta.new_zeros(()))

    def curvature(self, u: Units, theta: Tensor) -> Tensor:
        """information() of the coefficients alone where it is closed, else their Hessian; (..., P) -> (..., C, C)."""
        whole = self.information(u, theta) if self.closed else self.derivatives(u, theta)[1]
        size = whole.shape[-1] - len(self.extra)
        return whole[..., :size, :size]

    def observed(self, u: Units, theta: Tensor, seen: Callable[[Tensor], Tensor]) -> Tensor:
        """information() of a family with `censored` outcomes, seen at times (Q, ...) with probability seen(times).

        (..., P) -> (..., P, P).
        """
        raise NotImplementedError

    def describe(self) -> str:
        """The family in the header of a summary."""
        return self.name

    def remarks(self, u: Units, theta: Tensor) -> tuple[str, ...]:
        """What a reader of the errors of constant theta (P,) has to know of this fit."""
        return ()

    @property
    def likelihood(self) -> bool:
        """Whether exp(-loss) is one, up to a dispersion, so that there are classical errors."""
        return True

    @property
    def likely(self) -> bool:
        """Whether loss and normaliser() are the negative log-likelihood of one outcome."""
        return type(self).log_likelihood is Family.log_likelihood and self.outcome == "number" and not self.labels

    @property
    def predicts(self) -> bool:
        """Whether mean() is there."""
        return True

    @property
    def closed(self) -> bool:
        """Whether information() is a formula, and so as cheap as the Hessian."""
        return self.outcome_free or type(self).information is not Family.information

    @property
    def lawful(self) -> bool:
        """Whether information() is there at all."""
        own = type(self)
        stated = own.outcomes is not Family.outcomes or own.quantile is not Family.quantile
        return self.closed or stated

    def quantile(self, u: Units, theta: Tensor, p: Tensor) -> Tensor:
        """The p-quantile of y given d and x at theta, smooth in p; (..., P), (...) -> (...)."""
        raise NotAvailable(
            f"Family {self.name!r} states the mean of the outcome and not its law, so it has no quantiles."
        )

    def cdf(self, u: Units, theta: Tensor, y: Tensor) -> Tensor:
        """P(outcome <= y) given d and x at theta, smooth in theta; (..., P), (...) -> (...)."""
        raise NotAvailable(
            f"Family {self.name!r} does not say how likely outcomes below a value are; choose a family that does, such "
            "as 'gaussian' for any number, or 'logit' for whether the outcome is above the value."
        )

    def variance(self, u: Units, theta: Tensor) -> Tensor:
        """Var(y | d, x) at theta; (..., P) -> (...)."""
        raise NotAvailable(
            f"Family {self.name!r} does not say the variance of the outcome; choose a family that does, such as "
            "'gaussian' for any number."
        )

    def outcomes(self, u: Units, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Values of y and weights that integrate over its law at theta; (Q, ...) each. By default from `quantile`."""
        z, weight = gauss_hermite(NODES, theta)
        shape = (NODES, *[1] * (theta.dim() - 1))
        p = torch.special.ndtr(z).reshape(shape).expand(NODES, *theta.shape[:-1])
        return torch.stack([self.quantile(u, theta, one) for one in p]), weight.reshape(shape).expand_as(p)

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """One outcome drawn at theta for each unit; (..., P) -> (...)."""
        p = torch.rand(theta.shape[:-1], generator=generator, dtype=theta.dtype, device=theta.device)
        return self.quantile(u, theta, p.clamp(1e-12, 1 - 1e-12))


def residual_variance(loss: Tensor, weight: Tensor, parameters: int) -> float:
    """Of least squares, with n - parameters degrees of freedom, from half the squares (n,); NaN where none are left."""
    left = len(weight) - parameters
    return float((2 * loss * weight).sum()) / left if left > 0 else math.nan


@dataclass(frozen=True)
class Multiplicative(Family):
    """What families share with E[y] = exp(d'theta) and a law that is closed under scaling."""

    log_link: ClassVar[bool] = True

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return index(u, theta).exp()

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        scale = float(u.y.mean())
        return u.y / scale, 0.0, scale

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        theta[..., intercept] += math.log(scale)
        return theta


def gauss_hermite(nodes: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Points and weights of the standard normal law; (Q,) each."""
    z, weight = np.polynomial.hermite_e.hermegauss(nodes)
    return torch.as_tensor(z).to(like), torch.as_tensor(weight / weight.sum()).to(like)
