"""Outcome families: what a unit loses at theta, and what it is expected to be."""

import difflib

from ..errors import OptionError
from .base import Family
from .binary import Logit
from .categorical import Multinomial
from .choice import ConditionalLogit
from .continuous import Gaussian, Linear
from .count import Poisson

_REGISTRY: dict[str, type[Family]] = {
    f.name: f for f in (Linear, Gaussian, Logit, Poisson, Multinomial, ConditionalLogit)
}

__all__ = ["ConditionalLogit", "Family", "Gaussian", "Linear", "Logit", "Multinomial", "Poisson", "get", "names"]


def names() -> list[str]:
    """Names accepted by `family=`.

    >>> import deepreg
    >>> deepreg.families.names()
    ['conditional_logit', 'gaussian', 'linear', 'logit', 'multinomial', 'poisson']
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
