"""Effects of combinations of treatments, each against no treatment at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from .average import base_level, shown, some_variable, variable
from .base import Scenario, Target

MOST = 1024  # combinations that are listed without being asked for one by one


@dataclass(frozen=True)
class Combinations(Target):
    """E[mean(t = combination) - mean(t = base)] for every combination of treatments, run or not; outcome units.

    The base has every treatment at the level without a column in the regression, 0 for a treatment of 0 and 1.
    Estimates of combinations that were never run rest on the formula and the link.

    treatments : names; by default all structural variables with two levels. Other variables stay as observed.
    at : combinations, each a mapping from treatments to levels, e.g. [{"t1": 1, "t3": 1}], with the others at their
        base; by default all combinations but the base.

    Raises OptionError for treatments without levels, levels that do not occur, and more than 1,024 combinations that
    are not named.

    >>> from deepreg.targets import Combinations
    >>> Combinations(("coupon", "banner")).label
    'combinations'
    """

    treatments: tuple[str, ...] | None = None
    at: object = None
    label: ClassVar[str] = "combinations"
    kept: ClassVar[bool] = False  # there can be a thousand

    def __post_init__(self) -> None:
        given: Any = self.treatments
        if isinstance(given, str) or not (given is None or isinstance(given, Sequence)):
            raise OptionError(f"Combinations({given!r}): give the names of treatments, for example ('t1', 't2').")

    def bind(self, design: Design) -> "Combinations":
        """With the names of the treatments, and the combinations as pairs."""
        return Combinations(tuple(self.base(design)), tuple(tuple(one.items()) for one in self.chosen(design)))

    def observed(self, design: Design) -> bool:
        return len(self.base(design)) < len(design.variables)  # the others stay as they are

    def base(self, design: Design) -> dict[str, object]:
        """The level of every treatment that the others are measured against."""
        known = some_variable("Combinations", design)
        names = self.treatments
        if names is None:
            names = tuple(v.name for v in known if len(v.levels) == 2)
        found = [variable("Combinations", name, design) for name in names]
        if not found or len(set(names)) < len(names) or any(v.kind != "discrete" for v in found):
            kinds = ", ".join(f"{v.name} ({len(v.levels) or 'no'} levels)" for v in known)
            raise OptionError(
                f"Combinations({self.treatments!r}): give one or more different treatments with levels. The structural "
                f"variables of this model are {kinds}."
            )
        return {v.name: base_level(v, design.terms) for v in found}

    def chosen(self, design: Design) -> list[dict[str, object]]:
        """The level of every treatment in each combination."""
        base = self.base(design)
        levels = {name: variable("Combinations", name, design).levels for name in base}
        if self.at is None:
            count = prod(map(len, levels.values()))
            if count > MOST:
                raise OptionError(
                    f"Combinations(): {', '.join(base)} have {count:,} combinations, of which at most {MOST:,} are "
                    f"listed. Name those of interest, Combinations(at=[{{{next(iter(base))!r}: ...}}, ...])."
                )
            ordered = [(base[name], *(one for one in levels[name] if one != base[name])) for name in base]
            every = (dict(zip(base, one, strict=True)) for one in product(*ordered))
            return sorted((one for one in every if one != base), key=lambda one: _moved(one, base))
        given: Any = [self.at] if isinstance(self.at, Mapping) else self.at
        try:
            found = [dict(one) for one in given]
        except (TypeError, ValueError):
            found = []
        if not found:
            raise OptionError(
                f"Combinations(at={self.at!r}): give a list of mappings from treatments to levels, for example "
                f"[{{{next(iter(base))!r}: {levels[next(iter(base))][-1]!r}}}]."
            )
        for one in found:
            for name, level in one.items():
                if name not in base or level not in levels[name]:
                    allowed = "; ".join(f"{k}: {', '.join(map(repr, v))}" for k, v in levels.items())
                    raise OptionError(
                        f"Combinations(at=...): {name!r} at {level!r} is no level of a treatment; there are {allowed}."
                    )
        full = [base | one for one in found]
        if base in full or any(one in full[:i] for i, one in enumerate(full)):
            raise OptionError(
                f"Combinations(at={self.at!r}): every combination has to differ from the others and from the base, "
                f"{base!r}."
            )
        return full

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        base = self.base(design)
        plain = {shown(level) for level in base.values()}
        against = plain.pop() if len(plain) == 1 else "base"
        return structure.each(
            "ATE " + ", ".join(f"{k}={shown(v)}" for k, v in one.items() if v != base[k]) + f" vs {against}"
            for one in self.chosen(design)
        )

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (self.base(design), *self.chosen(design))

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        d = torch.stack([one.d for one in scenarios])  # (S, ..., K)
        missing = theta.dim() - (d.dim() - 1)
        together = u._replace(d=d.reshape(len(d), *[1] * missing, *d.shape[1:]))
        mean = structure.mean(together, theta).movedim(0, -2)  # (..., S, M)
        return (mean[..., 1:, :] - mean[..., :1, :]).flatten(-2)


def _moved(one: dict[str, object], base: dict[str, object]) -> tuple[int, list[bool]]:
    """How many treatments leave the base, and which: the order in which combinations are listed."""
    return sum(one[name] != base[name] for name in base), [one[name] == base[name] for name in base]
