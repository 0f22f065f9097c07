"""Printed: what shows itself as text at a prompt, and as HTML or LaTeX in a notebook."""

from abc import ABC, abstractmethod


class Printed(ABC):
    """A table, by what it writes."""

    @abstractmethod
    def as_text(self) -> str: ...

    @abstractmethod
    def as_html(self) -> str: ...

    @abstractmethod
    def as_latex(self) -> str: ...

    def __str__(self) -> str:
        return self.as_text()

    def __repr__(self) -> str:
        return self.as_text()

    def _repr_html_(self) -> str:
        return self.as_html()

    def _repr_latex_(self) -> str:
        return self.as_latex()
