"""Printed numbers under their decimal point: in columns of text, in plain LaTeX and in siunitx's columns."""

import re
from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import NamedTuple

from deepreg.report.render import Raw, clean, tex_number, wrap

PRINTED = re.compile(r"([(\[]?)([-<]?)([\d,]+)(\.\d+)?(e[+-]\d+)?([)\]]?)(\**)")
HEAD = 14  # characters of a column's head before it goes on in the next line


class Parts(NamedTuple):
    """A printed number: "(-1,234.5)" is ( - 1,234 .5 ) without exponent and stars."""

    open: str
    sign: str
    whole: str
    fraction: str
    exponent: str
    close: str
    stars: str

    @property
    def left(self) -> str:
        return self.open + self.sign + self.whole

    @property
    def right(self) -> str:
        return self.fraction + self.exponent + self.close + self.stars


class Widest(NamedTuple):
    """What the numbers of a column need: digits before and after the point, and what may stand around them."""

    whole: str
    fraction: str
    negative: bool
    before: str
    after: str


def parts(cell: str) -> Parts | None:
    """The parts of a printed number; None for words and intervals."""
    found = PRINTED.fullmatch(cell)
    return None if found is None else Parts(*(group or "" for group in found.groups()))


def widest(cells: Iterable[str]) -> Widest:
    """The widest parts of a column."""
    found = [p for p in map(parts, cells) if p is not None and not p.exponent]

    def longest(texts: Iterable[str]) -> str:
        return max(texts, key=len, default="")

    return Widest(
        longest(p.whole for p in found),
        longest(p.fraction for p in found),
        any(p.sign == "-" for p in found),
        longest(p.open + p.sign.replace("-", "") for p in found),
        longest(p.close + p.stars for p in found),
    )


# ---- text


def on_point(cells: Sequence[str]) -> list[str]:
    """The cells padded so that decimal points stand below each other; words stay as they are."""
    read = [parts(cell) for cell in cells]
    left = max((len(p.left) for p in read if p), default=0)
    right = max((len(p.right) for p in read if p), default=0)
    return [
        cell if p is None else p.left.rjust(left) + p.right.ljust(right) for cell, p in zip(cells, read, strict=True)
    ]


def head_lines(heads: Sequence[str], width: int = HEAD) -> list[tuple[str, ...]]:
    """Heads over as many lines as the longest needs, none at all if all are empty; words are not cut."""
    if not any(heads):
        return []
    lines = [wrap(head, max([width, *map(len, clean(head).split())])) for head in heads]
    tall = max(map(len, lines), default=0)
    return list(zip(*([""] * (tall - len(column)) + column for column in lines), strict=True))


def word_lines(cells: Sequence[str], width: int) -> list[tuple[str, ...]]:
    """Words of a row over as many lines as the longest cell needs, from the first line on; words are not cut."""
    lines = [wrap(cell, max([width, *map(len, clean(cell).split())])) for cell in cells]
    return list(zip_longest(*lines, fillvalue=""))


# ---- LaTeX


def tex_cell(cell: str, widest: Widest | None = None) -> Raw:
    """A number as LaTeX prints it: a real minus sign, raised stars, and the digits of `widest` held free.

    Signs and stars take no room, so that a column of centred numbers is centred on its digits.
    """
    p = parts(cell)
    if p is None:
        return tex_words(cell)
    sign = {"-": "$-$", "<": "$<$", "": ""}[p.sign]
    if sign:
        before, after = rf"\llap{{{_bracket(p.open)}{sign}}}", rf"\rlap{{{p.close}}}" if p.close else ""
    else:
        before, after = _bracket(p.open), p.close
    after += rf"\rlap{{$^{{{p.stars}}}$}}" if p.stars else ""
    power = rf"$\times 10^{{{int(p.exponent[1:])}}}$" if p.exponent else ""
    lead = trail = ""
    if widest is not None:
        lead = _phantom(widest.whole[: len(widest.whole) - len(p.whole)])
        trail = _phantom("0" * (len(widest.fraction) - len(p.fraction)))
    return Raw(f"{lead}{before}{p.whole}{p.fraction}{power}{after}{trail}")


def _phantom(text: str) -> str:
    return rf"\phantom{{{text}}}" if text else ""


def _bracket(text: str) -> str:
    return "{[}" if text == "[" else text  # after \\ a bare [ opens an optional argument


def tex_words(text: str) -> Raw:
    """Text with its special characters as themselves; intervals of numbers with real minus signs."""
    low, comma, high = text[1:-1].partition(", ")
    if text[:1] + text[-1:] == "[]" and comma and parts(low) and parts(high):
        return Raw(f"{{[}}{tex_number(low)}, {tex_number(high)}]")
    return tex_squares(tex_number(text))


def tex_squares(escaped: str) -> Raw:
    """R² as a formula, so that no font needs the sign."""
    return Raw(escaped.replace("R²", "$R^{2}$").replace("²", "$^{2}$"))


def siunitx_cell(cell: str) -> Raw:
    """A number that siunitx aligns, with what stands around it in braces; words in braces."""
    p = parts(cell)
    if not cell:
        return Raw("")
    if p is None or p.exponent:
        return Raw(f"{{{tex_cell(cell)}}}")
    before = p.open + ("$<$" if p.sign == "<" else "")
    after = p.close + (f"$^{{{p.stars}}}$" if p.stars else "")
    number = ("-" if p.sign == "-" else "") + p.whole.replace(",", "") + p.fraction
    return Raw((f"{{{before}}}" if before else "") + number + (f"{{{after}}}" if after else ""))


def siunitx_column(cells: Iterable[str]) -> str:
    """The S column that holds these cells: digits before and after the point, a sign if there is one."""
    w = widest(cells)
    digits = len(w.whole.replace(",", "")) or 1
    options = [f"table-format={'-' * w.negative}{digits}" + (f".{len(w.fraction) - 1}" if w.fraction else "")]
    if w.before:
        options.append("table-space-text-pre={" + w.before.replace("<", "$<$") + "},table-align-text-before=false")
    if w.after:
        stars = "*" * w.after.count("*")
        room = w.after.replace(stars, f"$^{{{stars}}}$") if stars else w.after
        options.append(f"table-space-text-post={{{room}}},table-align-text-after=false")
    options.append("group-digits=integer")
    if "," in w.whole:
        options.append("group-separator={,},group-minimum-digits=4")
    return f"S[{','.join(options)}]"
