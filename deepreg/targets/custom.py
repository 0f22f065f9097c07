"""A target that is a function of the user's own."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from ..design import Design
from ..errors import OptionError
from ..structure import Structure
from ..units import Units
from . import setting
from .base import Scenario, Target
from .setting import Settings


@dataclass(frozen=True)
class Custom(Target):
    """E[fn(theta, *means)]: a function of the coefficients and of the means at some settings, averaged over the rows.

    `theta` maps the names of coefficients to tensors with a value for each row; means has one such tensor for each
    setting of `at`, as in `Contrast` (with one more axis for families with several means). `fn` is smooth, written with
    torch or plain arithmetic, and returns a value for each row, or a list of them, one for each name in `called`.
    Raises OptionError where it does not.

    >>> from deepreg.targets import Custom
    >>> Custom(lambda theta, hi, lo: hi / lo, "Ratio of means", at=({"t": 1}, {"t": 0})).called
    'Ratio of means'
    """

    fn: Callable[..., Tensor | Sequence[Tensor]]
    called: str | tuple[str, ...]
    at: tuple[Mapping[str, object] | Settings, ...] = ()
    label: ClassVar[str] = "custom"
    example: ClassVar[str] = "Custom(lambda theta: theta['t'] ** 2, 'Mean square of t')"

    def bind(self, design: Design) -> "Custom":
        if not callable(self.fn):
            raise OptionError(f"Custom(fn={self.fn!r}): give a function, for example lambda theta: theta['t'] ** 2.")
        names = (self.called,) if isinstance(self.called, str) else tuple(self.called)
        if not names or not all(isinstance(one, str) for one in names):
            raise OptionError(f"Custom(called={self.called!r}): give the name of the value in tables, or several.")
        if not isinstance(self.at, Sequence):
            raise OptionError(
                f"Custom(at={self.at!r}): give a tuple of settings, for example at=({{'t': 1}}, {{'t': 0}})."
            )
        at = tuple(setting.bound_all("Custom(at=)", one, design) for one in self.at)
        return replace(self, called=names, at=at)

    def names(self, structure: Structure, design: Design) -> tuple[str, ...]:
        return tuple(self.called)

    def observed(self, design: Design) -> bool:
        return any(setting.moves_any(one, design) for one in self.at)  # type: ignore[arg-type]

    def scenarios(self, design: Design) -> tuple[Scenario, ...]:
        return tuple(setting.edit(one, design) for one in self.at)  # type: ignore[arg-type]

    def h(self, structure: Structure, theta: Tensor, u: Units, *scenarios: Units) -> Tensor:
        means = (structure.mean(s, theta) for s in scenarios)
        coefficients = dict(zip(structure.names, theta.unbind(-1), strict=True))
        found = self.fn(coefficients, *(m if structure.family.labels else m[..., 0] for m in means))
        values = [found] if isinstance(found, Tensor) else list(found)
        shapes = [tuple(torch.as_tensor(one).shape) for one in values]
        if shapes != [tuple(theta.shape[:-1])] * len(self.called):
            raise OptionError(
                f"Custom: fn returned values of shapes {shapes}, but called= has {len(self.called)} names, each of "
                f"which needs one value for each row, {tuple(theta.shape[:-1])}."
            )
        return torch.stack(values, -1)
