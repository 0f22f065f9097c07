"""The summary of a fit: a title, a header of labels and values, tables and notes, knowing nothing of models."""

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from deepreg.errors import NotAvailable, OptionError
from deepreg.report.printed import Printed
from deepreg.report.render import Raw, escape_tex, render, tex_number
from deepreg.report.table import Table


@dataclass(frozen=True, repr=False)
class Summary(Printed):
    """Header, tables and notes in statsmodels' layout.

    >>> from deepreg.report.table import Table
    >>> print(Summary("Results", (("No. Observations:", "2,000"),), (), ("Read me.",)))
                                       Results
    ==============================================================================
    No. Observations:               2,000
    ==============================================================================
    <BLANKLINE>
    Notes:
    [1] Read me.
    """

    title: str
    header: tuple[tuple[str, str], ...]
    body: tuple[Table, ...]
    notes: tuple[str, ...] = ()

    @property
    def tables(self) -> tuple[Table, ...]:
        """The header as a table and then the others, so that tables[1] holds the coefficients as in statsmodels."""
        return (Table.from_pairs(self.header, title=self.title), *self.body)

    def add_extra_txt(self, text: Iterable[str]) -> "Summary":
        """A new summary with `text`, one note per element, after the notes there are."""
        if isinstance(text, str):
            raise OptionError(f"add_extra_txt takes a list of notes, not one string. Type [{text!r}].")
        return replace(self, notes=(*self.notes, *text))

    def as_text(self, *, templates: str | Path | None = None) -> str:
        """78 columns wide, as statsmodels prints it."""
        return render("summary.txt.j2", {"summary": self}, templates)

    def as_html(self, *, templates: str | Path | None = None) -> str:
        """A fragment of HTML with its styles inline, for a notebook or a page."""
        return render("summary.html.j2", {"summary": self}, templates)

    def as_markdown(self, *, templates: str | Path | None = None) -> str:
        """Tables in GitHub's Markdown."""
        return render("summary.md.j2", {"summary": self}, templates)

    def as_latex(
        self,
        *,
        caption: str | None = None,
        label: str | None = None,
        fragment: bool = False,
        templates: str | Path | None = None,
    ) -> str:
        r"""One LaTeX table per table. Header and notes stand below the first, which takes `caption` and `label`.

        The later ones are labelled `label-2`, `label-3` ... With `fragment=True` only the `tabular`s, to \input.
        """
        header = Raw(" ".join(f"{escape_tex(name)} {tex_number(value)}." for name, value in self.header))
        parts = []
        for i, table in enumerate(self.body, 1):
            title = ": ".join(filter(None, [self.title, table.title])) if i == 1 else table.title
            notes = (*filter(None, [header]), *self.notes, *table.notes) if i == 1 else table.notes
            parts.append(
                replace(table, notes=notes).as_latex(
                    caption=caption if i == 1 and caption is not None else title,
                    label=label if label is None or i == 1 else f"{label}-{i}",
                    fragment=fragment,
                    templates=templates,
                )
            )
        return "\n\n".join(parts)

    def as_csv(self) -> str:
        """Title, header, tables with unrounded numbers, and notes, with an empty line between them."""
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow([self.title])
        writer.writerows(self.header)
        for table in self.body:
            buffer.write("\n")
            writer.writerows([[table.title]] if table.title else [])
            buffer.write(table.as_csv())
        notes = [*self.notes, *(note for table in self.body for note in table.notes)]
        buffer.write("\n" if notes else "")
        writer.writerows([note] for note in notes)
        return buffer.getvalue()

    def to_frame(self) -> pd.DataFrame:
        """The first table as a DataFrame. Raises NotAvailable if there is none."""
        if not self.body:
            raise NotAvailable("this summary holds no table, so there is no frame to make.")
        return self.body[0].to_frame()
