"""Outcome families: what a unit loses at theta, and what it is expected to be."""

import difflib

from ..errors import OptionError
from .base import Family
from .binary import Logit
from .categorical import Multinomial
from .continuous import Gaussian, Linear
from .count import Poisson
from .negbin import NegativeBinomial
from .ordered import OrderedLogit, OrderedProbit
from .zeros import HurdleNegativeBinomial, HurdlePoisson, ZeroInflatedNegativeBinomial, ZeroInflatedPoisson

_FAMILIES: tuple[type[Family], ...] = (
    *(Linear, Gaussian, Logit, Poisson, Multinomial),
    *(NegativeBinomial, ZeroInflatedPoisson, ZeroInflatedNegativeBinomial, HurdlePoisson, HurdleNegativeBinomial),
    *(OrderedLogit, OrderedProbit),
)
_REGISTRY: dict[str, type[Family]] = {f.name: f for f in _FAMILIES}

__all__ = [
    "Family",
    "Gaussian",
    "HurdleNegativeBinomial",
    "HurdlePoisson",
    "Linear",
    "Logit",
    "Multinomial",
    "NegativeBinomial",
    "OrderedLogit",
    "OrderedProbit",
    "Poisson",
    "ZeroInflatedNegativeBinomial",
    "ZeroInflatedPoisson",
    "get",
    "names",
]


def names() -> list[str]:
    """Names accepted by `family=`.

    >>> import deepreg
    >>> deepreg.families.names()
    ['gaussian', 'hurdle_negbin', 'hurdle_poisson', 'linear', 'logit', 'multinomial', 'negbin', 'ordered_logit',
     'ordered_probit', 'poisson', 'zinb', 'zip']
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
