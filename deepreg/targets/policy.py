"""Policies: the mean outcome under assignments of one or several variables, and differences of them."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, cast

from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from . import setting
from .average import some_variable, variable
from .base import Scenario, Target
from .setting import Settings


@dataclass(frozen=True)
class Contrast(Target):
    """E[mean at the setting `hi` - mean at `lo`], each of one or several variables. Outcome units.

    A setting maps variables to a value, the name of a column, an array with a value for each row used, or a function of
    the frame; variables that it leaves out stay as observed. Values of each row have to be known before the treatment
    and, given the features, be independent of it. `called` is the name in tables.
    Raises OptionError where a name is unknown, an array has another length, or nothing differs.

    >>> from deepreg.targets import Contrast
    >>> Contrast({"t": 1, "dose": 2.0}, {"t": 0, "dose": 0.0}).hi
    {'t': 1, 'dose': 2.0}
    """

    hi: Mapping[str, object] | Settings
    lo: Mapping[str, object] | Settings
    called: str | None = None
    label: ClassVar[str] = "contrast"
    example: ClassVar[str] = "Contrast({'t': 1, 'dose': 2}, {'t': 0, 'dose': 0})"

    def bind(self, design: Design) -> "Contrast":
        hi, lo = (
            setting.bound_all(f"Contrast({side}=)", given, design) for side, given in (("hi", self.hi), ("lo", self.lo))
        )
        if hi == lo:
            raise OptionError(f"Contrast: hi= and lo= are both {setting.text(hi)}; give two different settings.")
        return replace(self, hi=hi, lo=lo)

    def _sides(self) -> tuple[Settings, Settings]:
        return cast(Settings, self.hi), cast(Settings, self.lo)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        hi, lo = map(setting.text, self._sides())
        return structure.each([self.called or f"{hi} vs {lo}"])

    def observed(self, design: Design) -> bool:
        return any(setting.moves_any(side, design) for side in self._sides())

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return tuple(setting.edit(side, design) for side in self._sides())

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        hi, lo = (structure.mean(s, theta) for s in scenarios)
        return hi - lo


@dataclass(frozen=True)
class PolicyValue(Target):
    """E[mean(t = rule)]: the outcome if t were assigned by a rule. Outcome units.

    The rule is a function of the frame (the columns of the formula, for the rows used), the name of a column, an array
    with a value for each row used, or one value. It may use the observed treatment; see `Contrast` for what else.
    `name` is the variable assigned, and can be left out where there is one; `called` the name of the rule in tables.
    Raises OptionError where a name is unknown or an array has another length, DataError where the rule returns
    another number of values, or a level never seen.

    >>> from deepreg.targets import PolicyValue
    >>> PolicyValue(lambda frame: frame.age > 40, called="above 40").called
    'above 40'
    """

    rule: Any
    name: str | None = None
    called: str | None = None
    label: ClassVar[str] = "policy_value"
    example: ClassVar[str] = "PolicyValue(lambda frame: frame.x > 0)"

    def bind(self, design: Design) -> "PolicyValue":
        name = _assigned("PolicyValue", self.name, design)
        rule = setting.bound("PolicyValue(rule=)", self.rule, design, variable("PolicyValue", name, design))
        return replace(self, rule=rule, name=name)

    def _settings(self) -> Settings:
        return ((str(self.name), self.rule),)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return structure.each([f"Value of {self.called or setting.called(self.rule)}"])

    def observed(self, design: Design) -> bool:
        return setting.moves_any(self._settings(), design)

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return (setting.edit(self._settings(), design),)

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        return structure.mean(scenarios[0], theta)


@dataclass(frozen=True)
class PolicyDifference(Target):
    """E[mean(t = rule) - mean(t = other)]: a rule against another, or against "observed", what t was.

    Rules, errors and `name` are as in `PolicyValue`; `called` is the name of the difference in tables.

    >>> from deepreg.targets import PolicyDifference
    >>> PolicyDifference(lambda frame: frame.age > 40).other
    'observed'
    """

    rule: Any
    other: Any = "observed"
    name: str | None = None
    called: str | None = None
    label: ClassVar[str] = "policy_difference"
    example: ClassVar[str] = "PolicyDifference(lambda frame: frame.x > 0)"

    def bind(self, design: Design) -> "PolicyDifference":
        name = _assigned("PolicyDifference", self.name, design)
        of, other = variable("PolicyDifference", name, design), self.other
        rule = setting.bound("PolicyDifference(rule=)", self.rule, design, of)
        if not _is_observed(other):
            other = setting.bound("PolicyDifference(other=)", other, design, of)
        return replace(self, rule=rule, other=other, name=name)

    def _sides(self) -> tuple[Settings, Settings]:
        name = str(self.name)
        return ((name, self.rule),), () if _is_observed(self.other) else ((name, self.other),)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        rule, other = setting.called(self.rule), setting.called(self.other)
        return structure.each([f"Value of {self.called or f'{rule} vs {other}'}"])

    def observed(self, design: Design) -> bool:
        return any(setting.moves_any(side, design) for side in self._sides())

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return tuple(setting.edit(side, design) for side in self._sides())

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        rule, other = (structure.mean(s, theta) for s in scenarios)
        return rule - other


def _is_observed(other: object) -> bool:
    return isinstance(other, str) and other == "observed"


def _assigned(label: str, name: str | None, design: Design) -> str:
    """The variable that a rule assigns."""
    known = some_variable(label, design)
    if name is None and len(known) > 1:
        shown = ", ".join(repr(v.name) for v in known)
        raise OptionError(f"{label} needs to know what the rule assigns, of {shown}: give name={known[0].name!r}.")
    return variable(label, known[0].name if name is None else name, design).name
