"""The family for several treatments at once, whose joint effect follows from one parameter for each of them."""

import math
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import DataError, OptionError
from ..units import Units
from .base import Family, index, residual_variance
from .continuous import check_varies, normal_log_likelihood

LINKS = ("multiplicative", "sigmoid", "gen_sigmoid_i", "gen_sigmoid_ii")
SCALES = (1.05, 1.3, 2.0, 5.0, 20.0, 1e5)  # from which to descend, times the largest mean; the last has no bound
SATURATED = 1e3  # times the largest mean: where no bound fits best, the scale is not identified


@dataclass(frozen=True)
class Combinatorial(Family):
    """Least squares for a combination t of treatments whose effects combine through a link: E[y | t, x] = G(theta(x), t).

    With m treatments there are 2^m combinations but only m + 1 or m + 2 parameters, so that effects of combinations
    that were never run follow from those that were: at least as many combinations as parameters. The formula is
    `y ~ t1 + t2 + t3 | x`, with 0 for not treated; sums run over its terms but the intercept, each of which names its
    theta.

    | link | E[y given t, x] | parameters |
    |:---|:---|:---|
    | "multiplicative" | Intercept (1 + theta_1 t_1) ... (1 + theta_m t_m) | Intercept: the mean without treatment; theta_k: relative effects |
    | "sigmoid" | a sigmoid(Intercept + sum theta_k t_k) + b | coefficients of the index; a and b are known |
    | "gen_sigmoid_i" | scale sigmoid(sum theta_k t_k) | scale: twice the mean without treatment |
    | "gen_sigmoid_ii" | scale sigmoid(Intercept + sum theta_k t_k) | scale: the most that the mean can reach |

    sigmoid(z) = 1 / (1 + exp(-z)). All parameters are functions of x. The loss is (y - E[y | t, x])^2 / 2, of
    "sigmoid" in units of a; the information is that of Gauss and Newton, G_theta G_theta', which is the expected
    Hessian where the mean is right.

    link : one of the four.
    scale, shift : a above 0 and b, for link="sigmoid" only: the known range of the mean, from b to a + b.

    Raises OptionError for other values.

    Reference: Ye, Zhang, Zhang, Zhang and Zhang (2025), Management Science, doi:10.1287/mnsc.2024.04625.

    >>> from deepreg.families import Combinatorial
    >>> Combinatorial(link="gen_sigmoid_ii").names(("Intercept", "coupon", "banner"))
    ('Intercept', 'coupon', 'banner', 'scale')
    """  # noqa: E501 a row of a table is one line

    link: str = "multiplicative"
    scale: float = 1.0
    shift: float = 0.0
    name: ClassVar[str] = "combinatorial"
    shifted: ClassVar[str] = "put it behind the bar"
    outcome_free: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.link not in LINKS:
            raise OptionError(f"Combinatorial(link={self.link!r}): allowed are {', '.join(map(repr, LINKS))}.")
        if not (0 < self.scale < math.inf and math.isfinite(self.shift)):
            raise OptionError(
                f"Combinatorial(scale={self.scale!r}, shift={self.shift!r}): give a finite scale above 0 and a finite "
                "shift, between which and scale + shift the mean lies."
            )
        if self.link != "sigmoid" and (self.scale, self.shift) != (1.0, 0.0):
            raise OptionError(
                f"Combinatorial(link={self.link!r}, scale={self.scale!r}, shift={self.shift!r}): scale and shift are "
                "the known range of link='sigmoid'; other links take none."
            )

    @property
    def prefixes(self) -> tuple[str, ...]:
        return ("",) if self.link in ("sigmoid", "gen_sigmoid_ii") else ()

    def names(self, terms: tuple[str, ...]) -> tuple[str, ...]:
        if self.link == "gen_sigmoid_i":
            return tuple("scale" if term == "Intercept" else term for term in terms)
        return (*terms, "scale") if self.link == "gen_sigmoid_ii" else terms

    def check(self, u: Units, outcome: str) -> None:
        check_varies(self.name, u.y, outcome)
        if u.d.shape[-1] < 2 or not bool((u.d[:, 0] == 1).all()):
            raise DataError(
                f"family={self.name!r} models {outcome!r} by its mean without treatment and treatments: it needs an "
                "intercept and at least one term, for example 'y ~ t1 + t2 | x'."
            )
        found, needed = len(u.d.unique(dim=0)), u.d.shape[1] + (self.link == "gen_sigmoid_ii")
        if found < needed:
            raise DataError(
                f"family={self.name!r} with link={self.link!r} has {needed} parameters for {outcome!r}, but the rows "
                f"used hold {found} combinations of treatments. It needs {needed} different ones or more: run "
                "another combination, or drop a treatment."
            )

    def loss(self, u: Units, theta: Tensor) -> Tensor:
        return 0.5 * ((u.y - self.shift) / self.scale - self._mean(u, theta)) ** 2

    def mean(self, u: Units, theta: Tensor) -> Tensor:
        return self.shift + self.scale * self._mean(u, theta)

    def _mean(self, u: Units, theta: Tensor) -> Tensor:
        """The mean, for which a known range is that from 0 to 1."""
        if self.link == "multiplicative":
            return reduce(mul, _factors(u, theta))
        if self.link == "gen_sigmoid_i":
            return theta[..., 0] * torch.sigmoid(_without_intercept(u, theta))
        share = torch.sigmoid(index(u, theta))
        return share if self.link == "sigmoid" else theta[..., -1] * share

    def gradient(self, u: Units, theta: Tensor) -> Tensor:
        """Of the mean in units of a known range, with respect to theta; (..., P) -> (..., P)."""
        if self.link == "multiplicative":
            factors = _factors(u, theta)
            before, after = [torch.ones_like(factors[0])], [torch.ones_like(factors[0])]
            for first, last in zip(factors[:-1], factors[:0:-1], strict=True):
                before.append(before[-1] * first)
                after.append(after[-1] * last)
            others = [a * b for a, b in zip(before, after[::-1], strict=True)]  # no division, for a factor may be 0
            return torch.stack([d * one for d, one in zip(u.d.unbind(-1), others, strict=True)], -1)
        if self.link == "gen_sigmoid_i":
            share = torch.sigmoid(_without_intercept(u, theta))
            slope = theta[..., 0] * share * (1 - share)
            return torch.cat([share[..., None], slope[..., None] * u.d[..., 1:]], -1)
        share = torch.sigmoid(index(u, theta))
        slope = (share * (1 - share))[..., None] * u.d
        if self.link == "sigmoid":
            return slope
        return torch.cat([theta[..., -1:] * slope, share[..., None]], -1)

    def information(self, u: Units, theta: Tensor) -> Tensor:
        gradient = self.gradient(u, theta)
        return gradient[..., :, None] * gradient[..., None, :]

    def log_likelihood(self, u: Units, theta: Tensor, weight: Tensor) -> float:
        """Of a normal law with the mean squared residual as variance, as nonlinear least squares has it."""
        return normal_log_likelihood(u.y - self.mean(u, theta), weight)

    def dispersion(self, u: Units, theta: Tensor, weight: Tensor, parameters: int) -> float:
        """The residual variance."""
        return residual_variance(self.loss(u, theta), weight, parameters)

    def standardise(self, u: Units) -> tuple[Tensor, float, float]:
        """In units of the root mean square; a known range is a unit already."""
        size = 1.0 if self.link == "sigmoid" else float((u.y**2).mean().sqrt())
        return u.y / size, 0.0, size

    def unstandardise(self, theta: Tensor, shift: float, scale: float, intercept: int) -> Tensor:
        if self.link != "sigmoid":
            theta[..., -1 if self.link == "gen_sigmoid_ii" else intercept] *= scale
        return theta

    def unstandardise_loss(self, u: Units, loss: Tensor, scale: float) -> Tensor:
        return loss * scale**2

    def start(self, u: Units) -> Tensor:
        """Least squares on the means of the combinations, from a linear regression of them.

        Raises DataError where the means show no sign of a scale.
        """
        d = u.d.flatten(0, -2)[: len(u.y)]  # of the first group, where each has its own
        rows, place, count = d.unique(dim=0, return_inverse=True, return_counts=True)
        y = (u.y - self.shift) / self.scale
        mean = torch.zeros(len(rows), dtype=d.dtype, device=d.device).index_add(0, place, y) / count
        cells = Units(mean, rows, torch.ones_like(mean))
        weight = count.to(d) / len(y)
        theta, loss = self._descend(cells, weight, self._guesses(cells, weight))
        best = theta[loss.nan_to_num(torch.inf).argmin()]
        limit = SATURATED * float(mean.abs().max())
        if self.link == "gen_sigmoid_ii" and d.shape[-1] > 1 and float(best[-1].abs()) > limit:
            raise DataError(
                f"family={self.name!r} with link={self.link!r}: the means of the outcome by combination grow as if "
                "there were no bound to them, so the scale is not identified. Use "
                "Combinatorial(link='multiplicative'), or family='linear' with interactions."
            )
        return best

    def _guesses(self, cells: Units, weight: Tensor) -> Tensor:
        """From where to descend; (C, P)."""
        d, root = cells.d, weight.sqrt()[:, None]
        inverse = torch.linalg.pinv(root * d) * root[:, 0]  # (K, cells)
        slopes = inverse @ cells.y  # (K,)
        fitted, average = d @ slopes, weight @ cells.y
        if self.link in ("multiplicative", "gen_sigmoid_i"):
            least = 1e-3 * float(cells.y.abs().max())
            level = slopes[0] if abs(float(slopes[0])) > least else average.sign() * least + (average == 0) * least
            relative = slopes[1:] / level
            if self.link == "gen_sigmoid_i":
                return torch.cat([2 * level[None], 2 * relative])[None]
            guesses = [torch.cat([level[None], relative])]
            if bool((cells.y * average > 0).all()):
                logs = inverse @ cells.y.abs().log()
                guesses.append(torch.cat([average.sign() * logs[:1].exp(), logs[1:].exp() - 1]))
            return torch.stack(guesses)
        known = self.link == "sigmoid"
        most = average.sign() * torch.maximum(fitted.abs().max(), cells.y.abs().max())
        guesses = []
        for scale in (average.new_ones(()),) if known else most * most.new_tensor(SCALES):
            share = (average / scale).clamp(1e-6, 0.98)
            inner = slopes / (scale * share * (1 - share))
            inner[0] = share.logit() - (weight @ d)[1:] @ inner[1:]
            guesses.append(inner if known else torch.cat([inner, scale[None]]))
        return torch.stack(guesses)

    def _descend(self, cells: Units, weight: Tensor, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Levenberg and Marquardt's method from each guess (C, P): theta (C, P) and the loss there (C,)."""

        def losses(at: Tensor) -> Tensor:
            return ((cells.y - self._mean(cells, at[:, None])) ** 2 * weight).sum(1)

        damping = torch.full_like(theta[:, 0], 1e-2)
        loss = losses(theta)
        for _ in range(100):
            gradient = self.gradient(cells, theta[:, None])  # (C, cells, P)
            score = ((cells.y - self._mean(cells, theta[:, None])) * weight)[..., None].mul(gradient).sum(1)
            hessian = (gradient * weight[:, None]).mT @ gradient
            size = hessian.diagonal(dim1=1, dim2=2)
            ridge = size.clamp_min(1e-12 * size.amax(1, keepdim=True).clamp_min(1e-300)) * damping[:, None]
            step = torch.linalg.solve_ex(hessian + torch.diag_embed(ridge), score)[0]
            trial = losses(theta + step)
            better = trial < loss
            gain = torch.where(better, loss - trial, 0.0)
            theta = torch.where(better[:, None], theta + step, theta)
            done = (gain <= 1e-14 * loss) & (better | (damping > 1e6))
            loss = torch.where(better, trial, loss)
            damping = torch.where(better, damping / 5, damping * 5).clamp(1e-12, 1e9)
            if bool(done.all()):
                break
        return theta, loss

    def simulate(self, u: Units, theta: Tensor, generator: torch.Generator) -> Tensor:
        """With normal noise of variance 1, where least squares assumes no law."""
        noise = torch.randn(theta.shape[:-1], generator=generator, dtype=theta.dtype, device=theta.device)
        return self.mean(u, theta) + noise


def _factors(u: Units, theta: Tensor) -> list[Tensor]:
    """The level and 1 + theta_k t_k of every treatment, of one shape."""
    level, *terms = (d * b for d, b in zip(u.d.unbind(-1), theta.unbind(-1), strict=True))
    return [level, *(1 + term for term in terms)]


def _without_intercept(u: Units, theta: Tensor) -> Tensor:
    """sum of theta_k t_k over the terms but the first; (..., P) -> (...)."""
    if u.d.shape[-1] == 1:
        return 0 * u.d[..., 0] * theta[..., 0]
    return index(u._replace(d=u.d[..., 1:]), theta[..., 1:])
