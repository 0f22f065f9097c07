"""Call: the code that made a result."""

import re
from collections.abc import Mapping
from typing import NamedTuple


class Call(NamedTuple):
    """The arguments of the function that made the model and of fit() that differ from their defaults, as code, and
    what came after."""

    model: tuple[tuple[str, str], ...] = ()
    fit: tuple[tuple[str, str], ...] = ()
    after: tuple[str, ...] = ()
    formula: str = ""
    function: str = "structural"

    def then(self, method: str, *given: str) -> "Call":
        """The call followed by a method of the result, its arguments as code."""
        return self._replace(after=(*self.after, f"{method}({', '.join(given)})"))

    def code(self) -> str:
        """The call as lines of Python; the data are called `data`."""
        first = [spelled(self.formula), "data", *(f"{name}={text}" for name, text in self.model)]
        last = "".join(f".{text}" for text in (f"fit({_joined(self.fit)})", *self.after))
        lines = "".join(f"    {text},\n" for text in first)
        return f"model = deepreg.{self.function}(\n{lines})\nresult = model{last}"


def _joined(given: tuple[tuple[str, str], ...]) -> str:
    return ", ".join(f"{name}={text}" for name, text in given)


def arguments(given: Mapping[str, object], defaults: Mapping[str, object]) -> tuple[tuple[str, str], ...]:
    """The arguments that are not at their defaults, as code."""
    return tuple((name, spelled(value)) for name, value in given.items() if value != defaults.get(name))


def spelled(value: object) -> str:
    """A value as the code that makes it: objects of this package with their module, functions by their names."""
    text = re.sub(r"<(?:built-in )?function (\S+)(?: at 0x[0-9a-f]+)?>", r"\1", repr(value))
    module = (value if isinstance(value, type) else type(value)).__module__.split(".")
    if module[0] != "deepreg":
        return text
    text = value.__name__ if isinstance(value, type) else text
    return ".".join([*module[:2], text])  # families and targets are found in the package of their module
