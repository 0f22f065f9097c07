"""A table without a format: names, numbers and formats of numbers, written as text, HTML, LaTeX or CSV."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from deepreg.errors import OptionError
from deepreg.report.printed import Printed
from deepreg.report.render import render

Cell = float | str


def _adaptive(decimals: int) -> Callable[[float], str]:
    """So many decimals, and so many significant digits where decimals would show zeros or a flood of digits."""

    def write(x: float) -> str:
        return f"{x:.{decimals}f}" if x == 0 or 1e-2 <= abs(x) < 1e4 else f"{x:.{decimals}g}"

    return write


FORMATS: Mapping[str, Callable[[float], str]] = {
    "estimate": _adaptive(4),
    "interval": _adaptive(3),
    "statistic": lambda x: f"{x:.3f}" if abs(x) < 1e4 else f"{x:.4g}",
    "pvalue": lambda x: "<0.001" if x < 0.001 else f"{x:.3f}",
    "count": lambda x: f"{x:,.0f}",
}


def number(x: float, form: str) -> str:
    """x as a reader sees it: `form` is a name in FORMATS or a Python format such as ".2f"; NaN is an empty string."""
    if math.isnan(x):
        return ""
    text = FORMATS[form](x) if form in FORMATS else format(x, form)
    return text.removeprefix("-") if text.strip("-0.") == "" else text


def _usual(column: str, integer: bool) -> str:
    """The format that a column of this name has in statsmodels."""
    if column.startswith("P>"):
        return "pvalue"
    if column in ("z", "t", "F", "chi2"):
        return "statistic"
    if column.startswith("[") or column.endswith("]"):
        return "interval"
    return "count" if integer else "estimate"


def _check(form: str) -> None:
    if form in FORMATS:
        return
    try:
        format(1.0, form)
    except ValueError:
        allowed = ", ".join(map(repr, FORMATS))
        raise OptionError(f"format {form!r} is unknown. Use {allowed} or a Python format: '.2f'.") from None


@dataclass(frozen=True, repr=False)
class Table(Printed):
    """Named rows of numbers or words under named columns.

    `formats` holds one format per column, by name ("estimate", "interval", "statistic", "pvalue", "count") or as Python
    writes it (".2f"). NaN prints as an empty cell. Without `heading` it is a list of labels and values.

    Raises OptionError on an unknown format or on rows and columns that do not fit the values.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"coef": [6.35], "P>|z|": [1e-9]}, index=["tutoring"])
    >>> Table.from_frame(frame, title="Coefficients").cells
    (('6.3500', '<0.001'),)
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[str, ...]
    values: tuple[tuple[Cell, ...], ...]
    formats: tuple[str, ...]
    notes: tuple[str, ...] = ()
    heading: bool = True

    def __post_init__(self) -> None:
        shape = {len(row) for row in self.values} | {len(self.formats)}
        if shape != {len(self.columns)} or len(self.values) != len(self.rows):
            raise OptionError(
                f"a Table with {len(self.rows)} rows and {len(self.columns)} columns needs as many values in every row "
                f"and one format per column; got {len(self.values)} rows of {sorted(map(len, self.values))} values and "
                f"{len(self.formats)} formats."
            )
        for form in self.formats:
            _check(form)

    @classmethod
    def from_frame(
        cls,
        frame: pd.DataFrame,
        *,
        title: str = "",
        formats: Mapping[str, str] | None = None,
        notes: tuple[str, ...] = (),
    ) -> "Table":
        """The index names the rows; a column that `formats` does not mention is printed as statsmodels prints it."""
        columns = tuple(map(str, frame.columns))
        chosen = dict(formats or {})
        unknown = [name for name in chosen if name not in columns]
        if unknown:
            raise OptionError(f"formats= names {unknown}, but the columns are {list(columns)}.")
        data = [_cells(frame.iloc[:, j]) for j in range(len(columns))]
        integer = [pd.api.types.is_integer_dtype(dtype) for dtype in frame.dtypes]
        return cls(
            title=title,
            columns=columns,
            rows=tuple(map(str, frame.index)),
            values=tuple(tuple(column[i] for column in data) for i in range(len(frame))),
            formats=tuple(chosen.get(name, _usual(name, whole)) for name, whole in zip(columns, integer, strict=True)),
            notes=notes,
        )

    @classmethod
    def from_pairs(
        cls,
        pairs: Iterable[tuple[str, Cell]],
        *,
        title: str = "",
        format: str = "estimate",
        notes: tuple[str, ...] = (),
    ) -> "Table":
        """Labels and values, in statsmodels' two columns in text; an int prints as a count, a str as it is."""
        items = [(label, f"{v:,}" if isinstance(v, int) else v) for label, v in pairs]
        values = tuple((value,) for _, value in items)
        return cls(title, ("value",), tuple(label for label, _ in items), values, (format,), notes, heading=False)

    @property
    def cells(self) -> tuple[tuple[str, ...], ...]:
        """The values as a reader sees them, not yet escaped for any format."""
        return tuple(
            tuple(v if isinstance(v, str) else number(v, form) for v, form in zip(row, self.formats, strict=True))
            for row in self.values
        )

    @property
    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Row names with their first cell."""
        return tuple(zip(self.rows, (row[0] for row in self.cells), strict=True))

    def as_text(self, *, templates: str | Path | None = None) -> str:
        """78 columns wide; long names wrap."""
        return render("table.txt.j2", {"table": self}, templates)

    def as_html(self, *, templates: str | Path | None = None) -> str:
        """A `<table>` that `pandas.read_html` can read back."""
        return render("table.html.j2", {"table": self}, templates)

    def as_markdown(self, *, templates: str | Path | None = None) -> str:
        """A table in GitHub's Markdown."""
        return render("table.md.j2", {"table": self}, templates)

    def as_latex(
        self,
        *,
        caption: str | None = None,
        label: str | None = None,
        fragment: bool = False,
        templates: str | Path | None = None,
    ) -> str:
        r"""A booktabs `table`; with `fragment=True` only its `tabular`, to \input in a table of your own.

        The first line names the packages it needs. `caption` defaults to the title. Raises OptionError on a label that
        LaTeX cannot hold.
        """
        check_label(label)
        values = {
            "table": self,
            "caption": self.title if caption is None else caption,
            "label": label or "",
            "fragment": fragment,
        }
        return render("table.tex.j2", values, templates)

    def as_csv(self) -> str:
        """Unrounded numbers with every digit; an empty field where there is none."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(["", *self.columns])
        for name, row in zip(self.rows, self.values, strict=True):
            writer.writerow([name, *("" if isinstance(v, float) and math.isnan(v) else v for v in row)])
        return buffer.getvalue()

    def to_frame(self) -> pd.DataFrame:
        """The unrounded values as a DataFrame: row names as index, columns of numbers as floats."""
        return pd.DataFrame(list(self.values), index=list(self.rows), columns=list(self.columns))


def check_label(label: str | None) -> None:
    """Raise OptionError on a label that LaTeX cannot hold."""
    if label is not None and not all(c.isalnum() or c in " :.-_+/" for c in label):
        raise OptionError(f"label={label!r} breaks \\label: use letters, digits and : . - _ + / only.")


def _cells(column: "pd.Series[Any]") -> list[Cell]:
    """Numbers as float, missing ones as NaN; anything else as str, missing ones empty."""
    if pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column):
        return [float(v) for v in column.to_numpy(dtype=float, na_value=math.nan)]
    return ["" if pd.isna(v) else float(v) if type(v) in (int, float) else str(v) for v in column]
