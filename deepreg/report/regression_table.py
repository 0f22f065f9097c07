"""Regressions side by side, without a format: heads, panels of rows, fit statistics and notes, written in many."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, zip_longest
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from deepreg.errors import NotAvailable
from deepreg.files import replace_file
from deepreg.report.alignment import (
    HEAD,
    head_lines,
    on_point,
    siunitx_cell,
    siunitx_column,
    tex_cell,
    tex_squares,
    tex_words,
    widest,
    word_lines,
)
from deepreg.report.printed import Printed
from deepreg.report.render import WIDTH, Raw, clean, escape_tex, render, tex_name, wrap
from deepreg.report.style import Style
from deepreg.report.table import check_label

LABEL = 32  # characters of a row's name before it goes on in the next line
GAP = 2  # between columns of text
PAGE, LETTER = 345, 4.6  # points of a line and of a letter in LaTeX's article class at 10pt
WIDTHS = ((LABEL, HEAD), (22, 12), (16, 10))  # of names and of words in text, from generous to narrow


class Row(NamedTuple):
    """A printed row. `kind` is "value" (a coefficient), "beside" (what stands below it) or "fit"."""

    label: str
    kind: str
    cells: tuple[str, ...]


class Panel(NamedTuple):
    """Rows under a title, which may be empty, and the fit statistics of this panel alone."""

    title: str
    rows: tuple[Row, ...]
    fit: tuple[Row, ...]


class Span(NamedTuple):
    """A head over several columns, the first and the last of them counted from 0."""

    title: str
    first: int
    last: int


@dataclass(frozen=True, repr=False, eq=False)
class RegressionTable(Printed):
    """What `deepreg.etable` returns. Printing it, or ending a notebook cell with it, shows the table.

    `groups` are heads over several columns, one for each column and equal ones merged; `legend` the marks of stars.
    """

    title: str
    groups: tuple[str, ...]
    heads: tuple[str, ...]
    panels: tuple[Panel, ...]
    fit: tuple[Row, ...]
    notes: tuple[str, ...]
    legend: tuple[tuple[str, str], ...]
    style: Style
    values: pd.DataFrame

    @property
    def numbers(self) -> tuple[str, ...]:
        """(1), (2) ... where the style numbers columns."""
        return tuple(f"({i})" for i in range(1, len(self.heads) + 1)) if self.style.numbered else ()

    @property
    def spans(self) -> tuple[Span, ...]:
        """The groups, equal neighbours merged, columns without a group left out."""
        runs = [list(run) for _, run in groupby(enumerate(self.groups), key=lambda pair: pair[1])]
        return tuple(Span(run[0][1], run[0][0], run[-1][0]) for run in runs if run[0][1])

    @property
    def rows(self) -> tuple[Row, ...]:
        """Every printed row in order, without the titles of panels."""
        return (*(row for panel in self.panels for row in (*panel.rows, *panel.fit)), *self.fit)

    # formats --------------------------------------------------------------------------------------------------------
    def as_text(self, *, templates: str | Path | None = None) -> str:
        """At most 78 columns wide; long names wrap, and columns that find no room follow below."""
        return render("etable.txt.j2", {"table": self, "parts": list(_text(self)), "wrap": wrap}, templates)

    def as_markdown(self, *, templates: str | Path | None = None) -> str:
        """A table in GitHub's Markdown."""
        return render("etable.md.j2", {"table": self}, templates)

    def as_html(self, *, templates: str | Path | None = None) -> str:
        """A `<table>` that `pandas.read_html` can read back."""
        return render("etable.html.j2", {"table": self}, templates)

    def as_latex(
        self,
        *,
        caption: str | None = None,
        label: str | None = None,
        fragment: bool = False,
        siunitx: bool = False,
        templates: str | Path | None = None,
    ) -> str:
        r"""A booktabs `table`; with `fragment=True` only its `tabular`, to \input in a table of your own.

        The first line names the packages it needs. With `siunitx=True` that package (version 3) aligns the numbers.
        `caption` defaults to the title. Raises OptionError on a label that LaTeX cannot hold.
        """
        check_label(label)
        values = _latex(self, siunitx)
        values |= {"caption": self.title if caption is None else caption, "label": label or "", "fragment": fragment}
        return render("etable.tex.j2", values, templates)

    def as_csv(self) -> str:
        """to_frame() as CSV: unrounded numbers, an empty field where there is none."""
        return self.values.to_csv(lineterminator="\n")

    def to_frame(self) -> pd.DataFrame:
        """Unrounded: a row for each coefficient, for what stands below it and for each fit statistic.

        The index says which panel, row and statistic it is; there is one column for each model. Every call is a copy.
        """
        return self.values.copy()

    # files ----------------------------------------------------------------------------------------------------------
    def to_latex(
        self,
        path: str | os.PathLike[str],
        *,
        caption: str | None = None,
        label: str | None = None,
        fragment: bool = False,
        siunitx: bool = False,
    ) -> Path:
        """Write as_latex() to a file, which is replaced whole or not at all; returns its path."""
        text = self.as_latex(caption=caption, label=label, fragment=fragment, siunitx=siunitx)
        return replace_file(path, f"{text}\n".encode())

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write as_html() to a file, which is replaced whole or not at all; returns its path."""
        return replace_file(path, f"{self.as_html()}\n".encode())

    def to_docx(self, path: str | os.PathLike[str]) -> Path:
        """Write a Word document with the table, replaced whole or not at all; returns its path.

        Raises NotAvailable where python-docx is not installed: pip install "deepreg-structural[docx]".
        """
        try:
            from deepreg.report.word import document
        except ModuleNotFoundError as error:
            if error.name != "docx":
                raise
            raise NotAvailable(
                'to_docx() needs the package python-docx: pip install "deepreg-structural[docx]".'
            ) from None
        titled = [[(p.title, ()), *_pairs(p.rows), *_pairs(p.fit)][not p.title :] for p in self.panels]
        legend = ", ".join(f"{mark} p < {level}" for mark, level in self.legend)
        notes = [*self.notes, *([f"{legend}."] if legend else [])]
        heads = [self.heads, *([self.numbers] if self.numbers else [])]
        blocks = [block for block in (*titled, _pairs(self.fit)) if block]
        return replace_file(path, document(self.title, self.spans, heads, blocks, self.style.lead, notes))


def _pairs(rows: Sequence[Row]) -> list[tuple[str, Sequence[str]]]:
    return [(row.label, row.cells) for row in rows]


# ---- text


class Layout(NamedTuple):
    """The widths of a table in text: of names, of words before they wrap, and of each column."""

    label: int
    words: int
    columns: tuple[int, ...]

    def over(self, which: range) -> int:
        return self.label + sum(self.columns[j] + GAP for j in which)


def _text(table: RegressionTable) -> Iterator[dict[str, object]]:
    """Lines of the table, in as many parts as its columns need: a width, head lines, and blocks between rules."""
    layouts = [_layout(table, *widths) for widths in WIDTHS]
    layout = next((one for one in layouts if one.over(range(len(table.heads))) <= WIDTH), layouts[0])
    first = 0
    while first < len(table.heads):
        fits = (k for k in range(len(table.heads), first + 1, -1) if layout.over(range(first, k)) <= WIDTH)
        which = range(first, next(fits, first + 1))
        yield {
            "width": layout.over(which),
            "head": _heads(table, layout, which),
            "blocks": _blocks(table, layout, which),
        }
        first = which.stop


def _layout(table: RegressionTable, names: int, words: int) -> Layout:
    longest = max((len(clean(row.label)) for row in table.rows), default=0)
    columns = []
    for j, head in enumerate(table.heads):
        counted = on_point([row.cells[j] for row in table.rows if row.kind != "fit"])
        wrapped = [line for row in table.rows if row.kind == "fit" for (line,) in word_lines([row.cells[j]], words)]
        heads = [line for (line,) in head_lines([head], words)]
        columns.append(max(map(len, [*counted, *wrapped, *heads, *table.numbers[j : j + 1], ""])))
    return Layout(min(longest, names), words, tuple(columns))


def _line(layout: Layout, which: range, name: str, cells: Sequence[str]) -> str:
    middle = "".join(f"{'':{GAP}}{c.center(layout.columns[j])}" for c, j in zip(cells, which, strict=True))
    return f"{name:<{layout.label}}{middle}".rstrip()


def _heads(table: RegressionTable, layout: Layout, which: range) -> list[str]:
    heads = [*head_lines([table.heads[j] for j in which], layout.words)]
    heads += [tuple(table.numbers[j] for j in which)] if table.numbers else []
    return [*_spans(table, layout, which), *(_line(layout, which, "", head) for head in heads)]


def _blocks(table: RegressionTable, layout: Layout, which: range) -> list[list[str]]:
    """The lines of the coefficients of each panel, of its fit statistics, and of those below all panels."""
    aligned = [iter(on_point([row.cells[j] for row in table.rows if row.kind != "fit"])) for j in which]

    def lines(row: Row) -> list[str]:
        stacked = [tuple(map(next, aligned))] if row.kind != "fit" else word_lines(
            [row.cells[j] for j in which], layout.words
        )  # fmt: skip
        names = wrap(row.label, layout.label, indent=2) if row.label else [""]
        both = zip_longest(names, stacked, fillvalue=None)
        return [_line(layout, which, name or "", cells or [""] * len(which)) for name, cells in both]

    blocks, hanging = [], list[str]()
    for panel in (*table.panels, Panel("", (), table.fit)):
        for title, rows in ((panel.title, panel.rows), ("", panel.fit)):
            found: list[str] = []
            gone = False
            for row in rows:
                printed = lines(row)
                gone = not any(row.cells[j] for j in which) and (row.kind == "value" or (gone and row.kind == "beside"))
                if gone:  # a coefficient of none of these columns
                    continue
                if row.kind == "beside" and len(hanging) > 1:  # beside what is left of a long name
                    printed = [hanging[1] + printed[0][len(hanging[1]) :], *hanging[2:]]
                    del found[1 - len(hanging) :]
                hanging = printed if row.kind == "value" else []
                found += printed
            blocks.append([*(wrap(title, WIDTH) if title and (found or not rows) else []), *found])
    return [block for block in blocks if block]


def _spans(table: RegressionTable, layout: Layout, which: range) -> list[str]:
    """The titles of groups over their columns, and a rule under each."""
    placed = []
    for span in table.spans:
        inside = [j for j in which if span.first <= j <= span.last]
        if inside:
            start = layout.over(range(which.start, inside[0])) + GAP
            stop = layout.over(range(which.start, inside[-1] + 1))
            placed.append((start, stop, wrap(span.title, stop - start)))
    tall = max((len(lines) for _, _, lines in placed), default=0)
    printed = []
    for k in range(tall + 1 if placed else 0):
        text = ""
        for start, stop, lines in placed:
            rest = [""] * (tall - len(lines)) + lines
            text = text.ljust(start) + (rest[k].center(stop - start) if k < tall else "-" * (stop - start))
        printed.append(text.rstrip())
    return printed


# ---- LaTeX


def _latex(table: RegressionTable, siunitx: bool) -> dict[str, object]:
    """Everything the LaTeX template prints, escaped and aligned."""
    count = len(table.heads)
    counted = [[row.cells[j] for row in table.rows if row.kind != "fit"] for j in range(count)]
    need = [widest(cells) for cells in counted]
    names = max((len(clean(row.label)) for row in table.rows), default=0)
    for width in (HEAD, 10):  # of words; narrow where the table is as wide as the page
        heads = head_lines(table.heads, width)
        wide = min(names, LABEL) + sum(_letters(table, j, heads, width, siunitx) for j in range(count))
        small = wide * LETTER + 2 * count * 6 > PAGE
        if not small:
            break
    label = "l" if names <= LABEL else r">{\raggedright\arraybackslash}p{%.2f\linewidth}" % (0.3 if count > 2 else 0.45)
    inside = [siunitx_column(cells) for cells in counted] if siunitx else ["c"] * count

    def words(texts: Sequence[str]) -> list[Raw]:
        return [_braced(tex_words(text)) if siunitx else tex_words(text) for text in texts]

    def cells(row: Row) -> list[Raw]:
        if row.kind == "fit":
            return [_braced(tex_cell(c)) if siunitx else tex_cell(c) for c in row.cells]
        return [siunitx_cell(c) if siunitx else tex_cell(c, w) for c, w in zip(row.cells, need, strict=True)]

    def lines(row: Row) -> list[Raw]:
        name = tex_squares(tex_name(row.label) if label != "l" else escape_tex(row.label))
        stacked = word_lines(row.cells, width) if row.kind == "fit" else []
        printed = [words(line) for line in stacked] if len(stacked) > 1 else [cells(row)]
        return [_tex_line(name if i == 0 else "", line) for i, line in enumerate(printed)]

    starred = bool(table.legend) and not siunitx
    edge = r"\hspace{1em}" if starred else ""  # the last column's stars stand in it
    room = (PAGE - 10 * starred - wide * LETTER * (0.85 if small else 1)) / (2 * count)  # on each side of a column
    packages = ["array"] * (label != "l") + ["booktabs"] + ["siunitx"] * siunitx
    return {
        "table": table,
        "packages": packages,
        "spec": Raw(f"@{{}}{label}{''.join(inside)}@{{{edge}}}"),
        "size": Raw(r"\footnotesize" if small else ""),
        "separation": Raw(f"{min(max(room - 1, 3), 14):.0f}pt"),
        "heads": [_tex_line("", words(line)) for line in heads],
        "numbers": _tex_line("", words(table.numbers)) if table.numbers else "",
        "panels": [
            (p.title, [(row.kind, lines(row)) for row in p.rows], [line for row in p.fit for line in lines(row)])
            for p in table.panels
        ],
        "fit": [line for row in table.fit for line in lines(row)],
        "legend": Raw(", ".join(f"${{^{{{mark}}}\\,p<{level}}}$" for mark, level in table.legend)),
    }


def _letters(table: RegressionTable, j: int, heads: Sequence[Sequence[str]], width: int, siunitx: bool) -> int:
    """About how many letters wide a column is; only siunitx keeps room for signs, brackets and stars."""
    numbers = [row.cells[j] for row in table.rows if row.kind != "fit"]
    words = [line for row in table.rows if row.kind == "fit" for (line,) in word_lines([row.cells[j]], width)]
    found = [*(c if siunitx else c.strip("*-") for c in numbers), *words, *(line[j] for line in heads), ""]
    return max(map(len, found)) + 2 * siunitx


def _tex_line(name: str, cells: Sequence[str]) -> Raw:
    return Raw(" & ".join([name, *cells]) + r" \\")


def _braced(text: Raw) -> Raw:
    """Words of an S column, which siunitx would read as a number."""
    return Raw(f"{{{text}}}") if text else text
