"""Card: an integer score as a table, in words, in SQL and in Python, with what the integers cost."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ..report.printed import Printed
from ..report.summary import Summary
from ..report.table import Table
from .rules import Rule, identifier


@dataclass(frozen=True, repr=False, eq=False)
class Card(Printed):
    """Points for each rule a case fulfils, and what their sum means."""

    rules: tuple[Rule, ...]  # with points
    points: tuple[int, ...]
    intercept: float
    slope: float  # of the score: 1 for a linear model
    logistic: bool
    outcome: str
    risks: pd.DataFrame  # of each score: predicted, observed, cases
    costs: pd.DataFrame  # of the card and of what it is compared with
    method: str  # of the search

    @property
    def table(self) -> Table:
        """Points by rule."""
        frame = pd.DataFrame({"points": list(self.points)}, index=[rule.label for rule in self.rules])
        what = "the risk" if self.logistic else f"the expected {self.outcome}"
        sign = f"{'1 / (1 + exp(-(' if self.logistic else ''}{self.intercept:.4f} + "
        end = f"{self.slope:.4f} score)))" if self.logistic else "score"
        return Table.from_frame(
            frame, title="Points", formats={"points": ".0f"}, notes=(f"The score is the sum; {what} is {sign}{end}.",)
        )

    def summary(self) -> Summary:
        """Points, risks by score and the cost of rounding."""
        risks = Table.from_frame(self.risks.rename_axis(None), title="Score")
        costs = Table.from_frame(self.costs, title="Cost of integers")
        header = (("Dep. Variable:", self.outcome), ("Search:", self.method))
        return Summary("Scorecard", header, (self.table, *((risks,) if len(risks.rows) <= 40 else ()), costs))

    def as_text(self) -> str:
        return self.summary().as_text()

    def as_html(self) -> str:
        return self.summary().as_html()

    def as_latex(self) -> str:
        return self.summary().as_latex()

    def score(self, values: Mapping[str, Sequence[float]] | pd.DataFrame) -> np.ndarray:
        """The score of columns of the data, by the rules; (n,)."""
        frame = pd.DataFrame(values)
        total = np.zeros(len(frame))
        for rule, points in zip(self.rules, self.points, strict=True):
            at = frame[rule._column("Python")]
            found = at >= rule.value if rule.kind == "at least" else at == rule.value if rule.kind == "equals" else at
            total = total + points * found.to_numpy("float64")
        return total

    def to_sql(self, table: str | None = None) -> str:
        """The score, and the risk, as SQL: two expressions, or a query of `table`.

        Names are quoted as identifiers and levels as strings, so that what they hold is never read as SQL. The score is
        NULL where a column it reads is.
        """
        parts = [f"{points} * {_bracketed(rule.sql())}" for rule, points in zip(self.rules, self.points, strict=True)]
        missing = " OR ".join(dict.fromkeys(f"{identifier(rule._column('SQL'))} IS NULL" for rule in self.rules))
        score = f"CASE WHEN {missing} THEN NULL ELSE {' + '.join(parts)} END"
        line = f"{self.intercept!r} + {self.slope!r} * ({score})"
        risk = f"1.0 / (1.0 + EXP(-({line})))" if self.logistic else line
        what = identifier("risk" if self.logistic else "expected")
        if table is None:
            return f'{score} AS "score",\n{risk} AS {what}'
        return f'SELECT *,\n{score} AS "score",\n{risk} AS {what}\nFROM {identifier(table)}'

    def to_python(self) -> str:
        """The source of two functions of a mapping from columns to values, score(row) and risk(row) or expected(row).

        It imports math and nothing else; names and levels are written as Python literals.
        """
        parts = [f"{points} * {rule.python()}" for rule, points in zip(self.rules, self.points, strict=True)]
        line = f"{self.intercept!r} + {self.slope!r} * score(row)"
        risk = f"1 / (1 + math.exp(-({line})))" if self.logistic else line
        name = "risk" if self.logistic else "expected"
        total = "\n        + ".join(parts)
        return (
            f"import math\n\n\ndef score(row):\n    return (\n        {total}\n    )\n\n\n"
            f"def {name}(row):\n    return {risk}\n"
        )


def _bracketed(text: str) -> str:
    return f"({text})"
