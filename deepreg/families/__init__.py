"""Outcome families: what a unit loses at theta, and what it is expected to be."""

import difflib
from collections.abc import Callable

from torch import Tensor

from ..errors import OptionError
from .base import Family
from .binary import CLogLog, Logit, Probit
from .categorical import Multinomial
from .choice import Choice, ConditionalLogit
from .combinatorial import Combinatorial
from .continuous import Gaussian, Linear
from .count import Poisson
from .duration import Exponential, Gumbel, Weibull
from .limited import Tobit, Truncated
from .mixture import Mixture
from .negbin import NegativeBinomial
from .nested import NestedLogit
from .ordered import OrderedLogit, OrderedProbit
from .own import FromLoss, from_loss
from .positive import Gamma, InverseGaussian, LogNormal, Tweedie
from .probability import Probability
from .share import Beta, FractionalLogit, FractionalProbit
from .system import LinearSystem
from .zeros import HurdleNegativeBinomial, HurdlePoisson, ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

_FAMILIES: tuple[type[Family], ...] = (
    Beta,
    CLogLog,
    Combinatorial,
    ConditionalLogit,
    Exponential,
    FractionalLogit,
    FractionalProbit,
    Gamma,
    Gaussian,
    Gumbel,
    HurdleNegativeBinomial,
    HurdlePoisson,
    InverseGaussian,
    Linear,
    LinearSystem,
    LogNormal,
    Logit,
    Multinomial,
    NegativeBinomial,
    NestedLogit,
    OrderedLogit,
    OrderedProbit,
    Poisson,
    Probability,
    Probit,
    Tobit,
    Truncated,
    Tweedie,
    Weibull,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
_REGISTRY: dict[str, type[Family]] = {f.name: f for f in _FAMILIES}

__all__ = [
    "Beta",
    "CLogLog",
    "Choice",
    "Combinatorial",
    "ConditionalLogit",
    "Exponential",
    "Family",
    "FractionalLogit",
    "FractionalProbit",
    "FromLoss",
    "Gamma",
    "Gaussian",
    "Gumbel",
    "HurdleNegativeBinomial",
    "HurdlePoisson",
    "InverseGaussian",
    "Linear",
    "LinearSystem",
    "LogNormal",
    "Logit",
    "Mixture",
    "Multinomial",
    "NegativeBinomial",
    "NestedLogit",
    "OrderedLogit",
    "OrderedProbit",
    "Poisson",
    "Probability",
    "Probit",
    "Tobit",
    "Truncated",
    "Tweedie",
    "Weibull",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "from_loss",
    "get",
    "names",
]


def names() -> list[str]:
    """Names accepted by `family=`.

    >>> import deepreg
    >>> "negbin" in deepreg.families.names()
    True
    """
    return sorted(_REGISTRY)


def get(family: "str | Family | type[Family] | Callable[..., Tensor]") -> Family:
    """The Family meant by a name, a class, an object or a loss function. Raises OptionError on anything else."""
    if isinstance(family, Family):
        return family
    if isinstance(family, type) and issubclass(family, Family):
        return family()
    if isinstance(family, str) and family in _REGISTRY:
        return _REGISTRY[family]()
    if callable(family) and not isinstance(family, type):
        return from_loss(family)
    close = difflib.get_close_matches(str(family), names(), n=1)
    hint = f" Did you mean family={close[0]!r}?" if close else ""
    raise OptionError(
        f"family={family!r} is not known; allowed are {', '.join(map(repr, names()))}, a Family, or a function "
        f"loss(y, d, theta).{hint}"
    )
