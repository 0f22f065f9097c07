"""Targets: the questions a fitted model is asked, each a smooth function of theta(x) averaged over the population."""

import difflib

from ..design import Design
from ..errors import OptionError
from .at import At
from .average import ATE, ATT, ATU, Coefficient, Mean
from .base import Scenario, Target
from .choice import ChoiceEffect, CompensatingVariation
from .marginal import AME

_REGISTRY: dict[str, type[Target]] = {
    t.label: t for t in (Coefficient, Mean, ATE, ATT, ATU, AME, ChoiceEffect, CompensatingVariation)
}

__all__ = [
    "AME",
    "ATE",
    "ATT",
    "ATU",
    "At",
    "ChoiceEffect",
    "Coefficient",
    "CompensatingVariation",
    "Mean",
    "Scenario",
    "Target",
    "classes",
    "names",
    "resolve",
]


def names() -> list[str]:
    """Names accepted by `results.estimate()`.

    >>> import deepreg
    >>> deepreg.targets.names()
    ['ame', 'ate', 'att', 'atu', 'choice_effect', 'coefficient', 'compensating_variation', 'mean']
    """
    return sorted(_REGISTRY)


def classes() -> tuple[type[Target], ...]:
    """The classes behind names()."""
    return tuple(_REGISTRY[name] for name in names())


def resolve(target: "str | Target | type[Target]", design: Design) -> tuple[Target, ...]:
    """The targets meant by a name, a class or an object, bound to this design. Raises OptionError on anything else."""
    return tuple(t.bind(design) for t in _meant(target, design))


def _meant(target: "str | Target | type[Target]", design: Design) -> tuple[Target, ...]:
    if isinstance(target, Target):
        return target.defaults(design) if target.bare else (target,)
    if isinstance(target, type) and issubclass(target, Target):
        return target.defaults(design)
    if isinstance(target, str) and target.lower() in _REGISTRY:
        return _REGISTRY[target.lower()].defaults(design)
    close = difflib.get_close_matches(str(target).lower(), names(), n=1)
    hint = f" Did you mean {close[0]!r}?" if close else ""
    raise OptionError(
        f"Target {target!r} is not known; allowed are {', '.join(map(repr, names()))}, or a Target.{hint}"
    )
