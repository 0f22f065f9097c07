"""Targets: the questions a fitted model is asked, each a smooth function of theta(x) averaged over the population."""

import difflib

from ..design import Design
from ..errors import OptionError
from .at import At
from .average import ATE, ATO, ATT, ATU, Coefficient, Mean
from .base import Scenario, Target
from .choice import ChoiceEffect, CompensatingVariation
from .combinations import Combinations
from .custom import Custom
from .demand import ConsumerSurplus, Elasticity, Profit, Revenue
from .distribution import ConditionalVariance, QuantileEffect, TailProbability
from .instrument import LATE, IVEffect
from .marginal import AME
from .policy import Contrast, PolicyDifference, PolicyValue
from .pricing import OptimalPrice
from .ratio import WTP
from .spread import ShareAbove, Spread

_REGISTRY: dict[str, type[Target]] = {
    t.label: t
    for t in (
        Coefficient, Mean, ATE, ATT, ATU, ATO, AME, Contrast, Elasticity, WTP, Revenue, Profit, OptimalPrice,
        ConsumerSurplus, PolicyValue, PolicyDifference, TailProbability, QuantileEffect, ConditionalVariance, Spread,
        ShareAbove, Custom, Combinations, LATE, IVEffect, ChoiceEffect, CompensatingVariation,
    )
}  # fmt: skip

__all__ = [
    "AME", "ATE", "ATO", "ATT", "ATU", "LATE", "WTP", "At", "ChoiceEffect", "Coefficient", "Combinations",
    "CompensatingVariation", "ConditionalVariance",
    "ConsumerSurplus", "Contrast", "Custom", "Elasticity", "IVEffect", "Mean", "OptimalPrice", "PolicyDifference",
    "PolicyValue", "Profit", "QuantileEffect", "Revenue", "Scenario", "ShareAbove", "Spread", "TailProbability",
    "Target", "classes", "names", "resolve",
]  # fmt: skip


def names() -> list[str]:
    """Names accepted by `results.estimate()`.

    >>> import deepreg
    >>> deepreg.targets.names()
    ['ame', 'ate', 'ato', 'att', 'atu', ..., 'tail_probability', 'wtp']
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
