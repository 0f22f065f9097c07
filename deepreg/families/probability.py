"""A family for an outcome of 0 and 1 with a loss and a link of the caller's choice."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from ..errors import OptionError
from ..units import Units
from .base import Family, index
from .binary import CLogLog, Logit, Probit

Part: TypeAlias = str | Callable[..., Tensor]

LINKS: dict[str, Callable[[Tensor], Tensor]] = {
    "sigmoid": torch.sigmoid,
    "probit": torch.special.ndtr,
    "cloglog": lambda eta: -torch.expm1(-eta.exp()),
    "clamp": lambda eta: eta.clamp(0.0, 1.0),
    "identity": lambda eta: eta,
}
_EDGE = 1e-12  # a probability is kept so far from 0 and 1 where its logarithm is taken


def _log_loss(p: Tensor, y: Tensor) -> Tensor:
    p = p.clamp(_EDGE, 1 - _EDGE)
    return -y * p.log() - (1 - y) * torch.log1p(-p)


LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "logit": _log_loss,
    "brier": lambda p, y: (y - p) ** 2,
}
WHOLE: dict[str, Family] = {"sigmoid": Logit(), "probit": Probit(), "cloglog": CLogLog()}  # with a likelihood


@dataclass(frozen=True)
class Probability(Logit):
    """An outcome of 0 and 1 with P(y = 1) = link(d'theta) and a loss of that probability: l = loss(p, y).

    | link | p at the index z | | loss | l(p, y) |
    |:---|:---|---|:---|:---|
    | "sigmoid" | 1 / (1 + exp(-z)) | | "logit" | -y log p - (1 - y) log(1 - p) |
    | "probit" | the normal law's distribution function | | "brier" | (y - p)^2 |
    | "cloglog" | 1 - exp(-exp(z)) | | a function | loss(p, y), one value for each row |
    | "clamp" | z, cut off at 0 and 1 | | | |
    | "identity" | z, which may lie beyond 0 and 1 | | | |
    | a function | link(z), between 0 and 1 | | | |

    Functions are in torch, and take and return tensors of any shape. The logarithm of 0 is infinite, so that loss
    "logit" does not go with "clamp" and "identity". At "clamp" rows whose index lies beyond 0 or 1 have no derivative,
    and errors take it that they stay there. Raises OptionError for other values.

    >>> from deepreg.families import Probability
    >>> Probability("brier", "clamp").names(("Intercept", "score"))
    ('Intercept', 'score')
    """

    measure: Part = "brier"
    link: Part = "sigmoid"
    name: ClassVar[str] = "probability"
    outcome_free: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for what, given, known in (("loss", self.measure, LOSSES), ("link", self.link, LINKS)):
            if not callable(given) and given not in known:
                raise OptionError(
                    f"{what}={given!r}: allowed are {', '.join(map(repr, known))}, or a function of torch tensors."
                )
        if self.measure == "logit" and self.link in ("clamp", "identity"):
            raise OptionError(
                f"loss='logit' takes the logarithm of the probability, which is 0 or below where link={self.link!r} "
                "has it so. Use loss='brier', or link='sigmoid'."
            )

    @property
    def likelihood(self) -> bool:
        return self.measure == "logit"

    def describe(self) -> str:
        names = (one if isinstance(one, str) else getattr(one, "__name__", "own") for one in (self.measure, self.link))
        return "{} loss, {} link".format(*names)

    def remarks(self, u: Units, theta: Tensor) -> tuple[str, ...]:
        eta = index(u, theta)
        beyond = int(((eta < 0) | (eta > 1)).sum())
        if not beyond or self.link not in ("clamp", "identity"):
            return ()
        rows = f"{beyond:,} row has its index" if beyond == 1 else f"{beyond:,} rows have their index"
        if self.link == "identity":
            return (f"{rows} below 0 or above 1, which is no probability.",)
        return (f"{rows} below 0 or above 1, cut off there; errors take it that they stay there.",)

    def separated(self, u: Units, theta: Tensor) -> bool:
        return self.link in WHOLE and super().separated(u, theta)

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        of = self.measure if callable(self.measure) else LOSSES[self.measure]
        return of(*torch.broadcast_tensors(self.mean(u, theta), u.y))  # some losses ask for one shape

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        link = self.link if callable(self.link) else LINKS[self.link]
        return link(index(u, theta))

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """NaN unless the loss is the likelihood's."""
        return super().log_likelihood(u, theta, weight) if self.likelihood else float("nan")

    def outcomes(self, u: Units, theta: Tensor) -> tuple[Tensor, Tensor]:
        """0 and 1, with the probability of each."""
        p = self.mean(u, theta).clamp(0.0, 1.0)
        return torch.stack([torch.zeros_like(p), torch.ones_like(p)]), torch.stack([1 - p, p])

    def bind(self, u: Units, levels: tuple[object, ...]) -> tuple["Probability", Units]:
        theta = self.start(u).expand(2, len(u.d), -1)
        mean, loss = self.mean(u, theta), self.loss(u, theta)
        for what, found in (("link", mean), ("loss", loss)):
            if tuple(found.shape) != (2, *u.y.shape):
                raise OptionError(
                    f"The {what} maps tensors of shape {(2, *u.y.shape)} to {tuple(found.shape)}, but has to give a "
                    "value for each row: leave the mean to the fit, as torch's losses do with reduction='none'."
                )
        score, hessian = self.derivatives(u, theta)
        if not all(bool(one.isfinite().all()) for one in (mean, loss, score, hessian)):
            raise OptionError(
                "At coefficients of 0 the loss, the link or their derivatives are not finite; use functions that are "
                "defined at an index of 0, and smooth there."
            )
        return self, u


def of(family: Family, loss: Part | None, link: Part | None) -> Family:
    """The family of 0/1 outcomes with another loss or link. OptionError for a family that takes none."""
    if loss is None and link is None:
        return family
    own = next((name for name, one in WHOLE.items() if type(one) is type(family)), None)
    if own is None:
        what = "loss" if link is None else "link"
        raise OptionError(
            f"{what}= is of an outcome of 0 and 1, with family='logit', 'probit' or 'cloglog', not {family.name!r}. "
            "Another loss for other outcomes is a family: see deepreg.families.from_loss."
        )
    for what, given in (("loss", loss), ("link", link)):
        if inspect.isclass(given):
            raise OptionError(f"{what}={given.__name__}: give a function, for example {given.__name__}().")
    measure, link = "logit" if loss is None else loss, own if link is None else link
    if measure == "logit" and isinstance(link, str) and link in WHOLE:
        return WHOLE[link]
    return Probability(measure, link)
