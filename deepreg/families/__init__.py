"""Outcome families: what a unit loses at theta, and what it is expected to be."""

import difflib

from ..errors import OptionError
from .base import Family
from .binary import Logit
from .categorical import Multinomial
from .continuous import Gaussian, Linear
from .count import Poisson
from .duration import Exponential, Gumbel, Weibull
from .limited import Tobit, Truncated

_REGISTRY: dict[str, type[Family]] = {
    f.name: f for f in (Linear, Gaussian, Logit, Poisson, Multinomial, Exponential, Weibull, Gumbel, Tobit, Truncated)
}

__all__ = [
    "Exponential", "Family", "Gaussian", "Gumbel", "Linear", "Logit", "Multinomial", "Poisson", "Tobit",
    "Truncated", "Weibull", "get", "names",
]  # fmt: skip


def names() -> list[str]:
    """Names accepted by `family=`.

    >>> import deepreg
    >>> deepreg.families.names()
    ['exponential', 'gaussian', 'gumbel', 'linear', 'logit', 'multinomial', 'poisson', 'tobit',
     'truncated', 'weibull']
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
