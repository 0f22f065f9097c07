"""Rules: what the columns of a scorecard ask of a case, in words, in SQL and in Python."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..columns import Column
from ..design import Design
from ..errors import NotAvailable

CUT = re.compile(r"cut\(\s*(?:`([^`]+)`|(\w+))\s*(?:,.*)?\)\[>= (.+)\]", re.DOTALL)


@dataclass(frozen=True)
class Rule:
    """One column of a design as a condition on a column of the data, or as a number that points are multiplied with."""

    term: str  # its name in the design
    column: str | None = None  # of the data; None for a term that is neither
    kind: str = "other"  # "at least", "equals" or "times"
    value: Any = None

    @property
    def label(self) -> str:
        """The rule in words."""
        if self.kind == "at least":
            return f"{self.column} >= {self.value}"
        return f"{self.column} = {self.value}" if self.kind == "equals" else self.term

    def sql(self) -> str:
        """1 where a case fulfils the rule and 0 where not, or the number, in standard SQL."""
        name = identifier(self._column("SQL"))
        if self.kind == "times":
            return name
        sign = ">=" if self.kind == "at least" else "="
        return f"CASE WHEN {name} {sign} {literal(self.value)} THEN 1 ELSE 0 END"

    def python(self) -> str:
        """The same of a mapping called row."""
        name = f"row[{self._column('Python')!r}]"
        if self.kind == "times":
            return name
        return f"({name} {'>=' if self.kind == 'at least' else '=='} {self.value!r})"

    def _column(self, language: str) -> str:
        if self.column is None:
            raise NotAvailable(
                f"The term {self.term!r} is no column, cut() of one, or level of a factor, so the score cannot be "
                f"written in {language}. Make it a column of the data and name that in the formula."
            )
        return self.column


def rules(design: Design) -> tuple[Rule, ...]:
    """The rule of every regressor of a design, the intercept included."""
    found = {}
    for term, columns in design.recipe.regressors.terms():
        for column in columns:
            found[column] = _rule(term, column, design.recipe.columns)
    return tuple(found.get(name, Rule(name)) for name in design.terms)


def _rule(term: str, name: str, columns: Mapping[str, Column]) -> Rule:
    if cut := CUT.fullmatch(name):
        at = float(cut[3])
        return Rule(name, cut[1] or cut[2], "at least", int(at) if at == int(at) else at)
    plain = term.strip("`")
    if inside := re.fullmatch(r"C\(\s*(?:`([^`]+)`|(\w+))\s*\)", term):
        plain = inside[1] or inside[2]
    if plain not in columns:
        return Rule(name)
    column = columns[plain]
    if column.kind == "number":
        return Rule(name, plain, "times") if name in (plain, term) else Rule(name)
    if column.kind == "integer":  # a number inside C()
        code = re.fullmatch(r".*\[(?:T\.)?(-?[\d.]+)\]", name, re.DOTALL)
        return Rule(name, plain, "equals", _number(code[1])) if code else Rule(name)
    level = [one for one in column.levels if name.endswith((f"[T.{one}]", f"[{one}]"))]
    return Rule(name, plain, "equals", level[0]) if len(level) == 1 else Rule(name)


def _number(text: str) -> int | float:
    value = float(text)
    return int(value) if value == int(value) else value


def identifier(name: str) -> str:
    """A name quoted for SQL, whatever it holds.

    >>> print(identifier('a "b" c'))
    "a ""b"" c"
    """
    if "\0" in name:
        raise NotAvailable(f"The column {name!r} holds a null character, which no SQL identifier can. Rename it.")
    return '"' + name.replace('"', '""') + '"'


def literal(value: Any) -> str:
    """A value for SQL.

    >>> print(literal("it's"), literal(2.5), literal(True))
    'it''s' 2.5 TRUE
    """
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, int | float):
        return repr(value)
    return "'" + str(value).replace("'", "''") + "'"
