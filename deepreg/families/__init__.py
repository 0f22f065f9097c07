"""Outcome families: what a unit loses at theta, and what it is expected to be."""

import difflib

from ..errors import OptionError
from .base import Family
from .binary import CLogLog, Logit, Probit
from .categorical import Multinomial
from .continuous import Gaussian, Linear
from .count import Poisson
from .positive import Gamma, InverseGaussian, LogNormal, Tweedie
from .share import Beta, FractionalLogit, FractionalProbit

_REGISTRY: dict[str, type[Family]] = {
    family.name: family
    for family in (
        *(Linear, Gaussian, Logit, Probit, CLogLog, Poisson, Multinomial),
        *(FractionalLogit, FractionalProbit, Beta, Gamma, InverseGaussian, LogNormal, Tweedie),
    )
}

__all__ = [
    "Beta",
    "CLogLog",
    "Family",
    "FractionalLogit",
    "FractionalProbit",
    "Gamma",
    "Gaussian",
    "InverseGaussian",
    "Linear",
    "LogNormal",
    "Logit",
    "Multinomial",
    "Poisson",
    "Probit",
    "Tweedie",
    "get",
    "names",
]


def names() -> list[str]:
    """Names accepted by `family=`.

    >>> import deepreg
    >>> deepreg.families.names()
    ['beta', 'cloglog', 'fractional_logit', 'fractional_probit', 'gamma', 'gaussian', 'inverse_gaussian', 'linear',
     'logit', 'lognormal', 'multinomial', 'poisson', 'probit', 'tweedie']
    """
    return sorted(_REGISTRY)


def get(family: "str | Family | type[Family]") -> Family:
    """The Family meant by a name, a class or an object. Raises OptionError on anything else."""
    if isinstance(family, Family):
        return family
    if isinstance(family, type) and issubclass(family, Family):
        return family()
    if isinstance(family, str) and family in _REGISTRY:
        return _REGISTRY[family]()
    close = difflib.get_close_matches(str(family), names(), n=1)
    hint = f" Did you mean family={close[0]!r}?" if close else ""
    raise OptionError(
        f"family={family!r} is not known; allowed are {', '.join(map(repr, names()))}, or a Family.{hint}"
    )
