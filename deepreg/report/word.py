"""A table as a Word document: the one door to python-docx."""

import io
import re
import zipfile
from collections.abc import Sequence

import docx
from docx.enum.table import WD_TABLE_ALIGNMENT
from docx.enum.text import WD_ALIGN_PARAGRAPH
from docx.oxml import OxmlElement
from docx.oxml.ns import qn
from docx.shared import Pt

_NUMBER = r"[-<]?(?:[\d,]*\.?\d+(?:e[+-]\d+)?|inf)"
NUMBERS = re.compile(rf"[(\[]?{_NUMBER}(?:, {_NUMBER})?[)\]]?\**")  # or an interval; hyphens of words stay hyphens
DAY = (1980, 1, 1, 0, 0, 0)  # of every part, so that the same table is the same bytes


def document(
    title: str,
    spans: Sequence[tuple[str, int, int]],
    heads: Sequence[Sequence[str]],
    blocks: Sequence[Sequence[tuple[str, Sequence[str]]]],
    lead: str,
    notes: Sequence[str],
) -> bytes:
    """A .docx file with one table: heads, rows between horizontal rules, and notes below.

    `spans` are heads over columns, counted from 0; in `blocks`, a row without cells is a title in italics.
    """
    page = docx.Document()
    if title:
        _write(page.add_paragraph(), title, bold=True).alignment = WD_ALIGN_PARAGRAPH.CENTER
    width = len(heads[0])
    table = page.add_table(rows=0, cols=width + 1)
    table.alignment = WD_TABLE_ALIGNMENT.CENTER
    if spans:
        row = table.add_row()
        for text, first, last in spans:
            merged = row.cells[first + 1].merge(row.cells[last + 1])
            _write(merged.paragraphs[0], text).alignment = WD_ALIGN_PARAGRAPH.CENTER
            _rule(merged, "bottom", 4)
    for head in heads:
        _fill(table.add_row(), "", head)
    for block in blocks:
        start = len(table.rows)
        for name, cells in block:
            row = table.add_row()
            if cells:
                _fill(row, name, cells)
            else:
                _write(row.cells[0].merge(row.cells[width]).paragraphs[0], name, italic=True)
        for cell in table.rows[start].cells:
            _rule(cell, "top", 4)
    for cell in table.rows[0].cells:
        _rule(cell, "top", 12)
    for cell in table.rows[len(table.rows) - 1].cells:
        _rule(cell, "bottom", 12)
    if notes:
        below = page.add_paragraph()
        _write(below, f"{lead} ", italic=True, size=8)
        _write(below, " ".join(notes), size=8)
    return _bytes(page)


def _fill(row, name: str, cells: Sequence[str]) -> None:  # type: ignore[no-untyped-def]
    _write(row.cells[0].paragraphs[0], name)
    for cell, text in zip(row.cells[1:], cells, strict=True):
        _write(cell.paragraphs[0], text.replace("-", "−") if NUMBERS.fullmatch(text) else text)
        cell.paragraphs[0].alignment = WD_ALIGN_PARAGRAPH.CENTER


def _write(paragraph, text: str, bold: bool = False, italic: bool = False, size: float = 10):  # type: ignore[no-untyped-def]
    run = paragraph.add_run("".join(c if c.isprintable() else " " for c in text))
    run.bold, run.italic, run.font.size = bold, italic, Pt(size)
    paragraph.paragraph_format.space_after = Pt(0)
    return paragraph


def _rule(cell, side: str, weight: int) -> None:  # type: ignore[no-untyped-def]
    """A horizontal rule at one side of a cell, its weight in eighths of a point."""
    properties = cell._tc.get_or_add_tcPr()
    borders = properties.find(qn("w:tcBorders"))
    if borders is None:
        borders = OxmlElement("w:tcBorders")
        properties.append(borders)
    edge = OxmlElement(f"w:{side}")
    for key, value in (("val", "single"), ("sz", str(weight)), ("space", "0"), ("color", "auto")):
        edge.set(qn(f"w:{key}"), value)
    borders.append(edge)


def _bytes(page) -> bytes:  # type: ignore[no-untyped-def]
    first, second = io.BytesIO(), io.BytesIO()
    page.save(first)
    with zipfile.ZipFile(first) as read, zipfile.ZipFile(second, "w", zipfile.ZIP_DEFLATED) as written:
        for name in read.namelist():
            written.writestr(zipfile.ZipInfo(name, DAY), read.read(name), zipfile.ZIP_DEFLATED)
    return second.getvalue()
