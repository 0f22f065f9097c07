"""Templates to strings: the one door to jinja2, with the escaping and the 78-column layout that the templates call.

A template's name says its format: `table.tex.j2` is LaTeX, and whatever a LaTeX template prints is escaped for LaTeX.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import lru_cache
from itertools import zip_longest
from pathlib import Path
from typing import Any

import jinja2

from deepreg.errors import NotAvailable, OptionError

PACKAGE = Path(__file__).resolve().parents[1]
WIDTH = 78  # of statsmodels' summaries
NAMES = 16  # room kept for row names before the columns of a wide table are stacked in several panels
GAP = 3  # between the two columns of a block
TEX_LINE = 74.0  # characters on a line of LaTeX's article class at 10pt
SHIPPED = re.compile(r'^"?templates"?\s*=\s*"deepreg/templates"', re.MULTILINE)


class Raw(str):
    """A string that is already in the template's format and must not be escaped again."""


def render(template: str, values: Mapping[str, object], folder: str | Path | None = None) -> str:
    """Fill `template`, looked for in the caller's `folder` first and then among deepreg's own.

    Raises OptionError if `folder` is given and holds no template at all.
    """
    if folder is not None and not any(Path(folder).glob("*.j2")):
        raise OptionError(
            f"templates={str(folder)!r} is not a folder with *.j2 files. Copy those you want to change from "
            f"{own_templates()} and keep their names, for example {template!r}."
        )
    jinja = environment(template.split(".")[-2], None if folder is None else str(folder))
    return jinja.get_template(template).render(values).strip("\n")


def own_templates(package: Path = PACKAGE) -> Path:
    """The templates that came with the package: inside it in a wheel, beside it in a source checkout.

    Beside an installed package lies somebody else's `site-packages/templates`; so a folder there counts only if the
    pyproject.toml next to it says that this folder is what the wheel ships as deepreg/templates.
    """
    if (package / "templates").is_dir():
        return package / "templates"
    project = package.parent / "pyproject.toml"
    if project.is_file() and SHIPPED.search(project.read_text("utf-8")):
        return package.parent / "templates"
    raise NotAvailable(f"deepreg's templates are missing from {package}: install the package again.")


@lru_cache
def environment(format_: str, folder: str | None) -> jinja2.Environment:
    """The jinja2 environment of one format: delimiters, escaping and filters."""
    tex = {
        "block_start_string": r"\BLOCK{",
        "block_end_string": "}",
        "variable_start_string": r"\VAR{",
        "variable_end_string": "}",
        "comment_start_string": r"\#{",
        "comment_end_string": "}",
    }
    escape: dict[str, Callable[[Any], str]] = {"tex": escape_tex, "md": escape_markdown, "txt": str}
    result = jinja2.Environment(
        loader=jinja2.FileSystemLoader([path for path in (folder, str(own_templates())) if path is not None]),
        undefined=jinja2.StrictUndefined,
        autoescape=format_ == "html",
        finalize=escape.get(format_),  # applied to whatever a template prints, so nothing can be left unescaped
        trim_blocks=True,
        lstrip_blocks=True,
        **(tex if format_ == "tex" else {}),  # type: ignore[arg-type]
    )
    result.filters |= {"rule": rule, "centre": centre, "block": block, "grid": grid, "numbered": numbered}
    result.filters |= {"number": tex_number, "name": tex_name, "spec": tex_spec, "raw": Raw}
    return result


def clean(value: object) -> str:
    """On one line, without control characters: a newline in a name would break a row in every format."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


# ---- text


def rule(mark: str) -> str:
    return mark * WIDTH


def centre(text: object) -> str:
    return "\n".join(line.center(WIDTH).rstrip() for line in wrap(text, WIDTH))


def wrap(text: object, width: int, indent: int = 0) -> list[str]:
    """Lines of at most `width`, broken after a space, else after punctuation, else anywhere."""
    rest, lines, lead, room = clean(text), [], "", max(width, 1)
    while len(rest) > room:
        cut = spaces = rest.rfind(" ", 1, room + 1)
        while cut > 0 and "=" in (rest[cut - 1], rest[cut + 1]):  # "n = 295" stays together where it can
            cut = rest.rfind(" ", 1, cut)
        cut = cut if cut > 0 else spaces
        if cut < 0:
            cut = max(rest.rfind(mark, 0, room) for mark in ":,*+)]_") + 1 or room
        lines.append(lead + rest[:cut].rstrip())
        rest, lead, room = rest[cut:].lstrip(), " " * indent, max(width - indent, 1)
    return [*lines, lead + rest]


def numbered(notes: Iterable[object]) -> str:
    """Notes as `[1] ...`, continued under their own first word."""
    tagged = [(f"[{i}] ", note) for i, note in enumerate(notes, 1)]
    return "\n".join(line for tag, note in tagged for line in wrap(tag + clean(note), WIDTH, indent=len(tag)))


def block(pairs: Iterable[tuple[object, object]]) -> str:
    """Label and value pairs in statsmodels' two columns, the left one first; pairs too long for them follow below."""
    half = (WIDTH - GAP) // 2
    short, long = [], []
    for label, value in pairs:
        entry = _entry(clean(label), clean(value), half)
        if entry and len(entry) <= 3:
            short.append(entry)
        else:
            long.append(_entry(clean(label), clean(value), WIDTH) or [*wrap(label, WIDTH), *wrap(value, WIDTH)])
    heights = [len(entry) for entry in short]
    split = min(range(len(short), -1, -1), key=lambda k: (max(sum(heights[:k]), sum(heights[k:])), -k))
    left, right = ([line for entry in part for line in entry] for part in (short[:split], short[split:]))
    sides = zip_longest(left, right, fillvalue="")
    lines = [f"{a:<{half}}{'':{GAP}}{b:>{WIDTH - GAP - half}}".rstrip() for a, b in sides]
    return "\n".join([*lines, *(line for entry in long for line in entry)])


def _entry(label: str, value: str, width: int) -> list[str]:
    """`label     value` over as many lines as the value needs; empty if the label leaves it no room."""
    room = width - len(label) - 1
    if room < min(len(value), 12):
        return []
    first, *more = wrap(value, room)
    return [f"{label} {first:>{room}}", *(f"{line:>{width}}" for line in more)]


def grid(
    columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[str]], beside: Iterable[Any] = ()
) -> str:
    """Named rows of right-aligned columns; long names wrap, and columns that find no room continue in a next panel.

    Tables `beside` it with the same columns are given the same widths.
    """
    alike = [table for table in beside if table.heading and tuple(table.columns) == tuple(columns)]
    names = [clean(name) for names in [rows, *(table.rows for table in alike)] for name in names]
    shown = [columns, *cells, *(row for table in alike for row in table.cells)]
    longest = max(map(len, names), default=0)
    need = [min(max(len(clean(c)) for c in column) + 2, WIDTH - NAMES) for column in zip(*shown, strict=True)]
    panels: list[str] = []
    first = 0
    while first < len(need) or not panels:
        fits = (k for k in range(len(need), first + 1, -1) if min(longest, NAMES) + sum(need[first:k]) <= WIDTH)
        part = slice(first, next(fits, first + 1))
        panels.append(_panel(columns[part], rows, [row[part] for row in cells], need[part], longest))
        first = part.stop
    return f"\n{rule('-')}\n".join(panels)


def _panel(
    columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[str]], need: Sequence[int], longest: int
) -> str:
    spare = (WIDTH - min(longest, WIDTH - sum(need)) - sum(need)) // max(len(need), 1)
    widths = [max(width, min(width + spare, 12)) for width in need]
    name = WIDTH - sum(widths)
    lines = []
    for label, row in zip(["", *rows], [columns, *cells], strict=True):
        parts = [wrap(label, name, indent=2), *(wrap(c, w - 2) for c, w in zip(row, widths, strict=True))]
        for start, *rest in zip_longest(*parts, fillvalue=""):
            right = "".join(f"{c:>{w}}" for c, w in zip(rest, widths, strict=True))
            lines.append(f"{start:<{name}}{right}".rstrip())
        lines += [rule("-")] if row is columns else []
    return "\n".join(lines)


# ---- LaTeX and Markdown

TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "`": r"\textasciigrave{}",
    "[": "{[}",  # after \\, \midrule or \item a bare [ opens an optional argument
    "*": "{*}",  # and \\* is a command of its own
    "--": "-{}-",  # no dashes made of hyphens
} | {mark: "\\" + mark for mark in "&%$#_{}"}
GREEK = "alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi o pi rho varsigma sigma tau upsilon "
GREEK += "phi chi psi omega"
CAPITALS = "A B Gamma Delta E Z H Theta I K Lambda M N Xi O Pi P  Sigma T Upsilon Phi X Psi Omega"  # no capital ς
TEX |= {
    chr(start + i): rf"\ensuremath{{{name if len(name) == 1 else chr(92) + name}}}"  # so that every engine has it
    for start, names in ((0x3B1, GREEK), (0x391, CAPITALS))
    for i, name in enumerate(names.split(" "))
    if name
}
TEX_SPECIAL = re.compile("--|[" + re.escape("".join(mark for mark in TEX if len(mark) == 1)) + "]")
NUMBER = re.compile(r"(-?)([\d,]*\.?\d+|inf)(?:e([+-]\d+))?")
MARKDOWN_SPECIAL = re.compile(r"[\\`*|<&~$]|(?<![^\W_])_|_(?![^\W_])|(?<=\])\(")


def escape_tex(value: object) -> str:
    """Every special character of LaTeX as itself; letters that are neither Latin nor Greek are left to the engine."""
    return value if isinstance(value, Raw) else TEX_SPECIAL.sub(lambda found: TEX[found[0]], clean(value))


def tex_number(value: object) -> Raw:
    """A printed number with a real minus sign and a power of ten; anything else is text."""
    found = NUMBER.fullmatch(clean(value))
    if found is None:
        return Raw(escape_tex(value))
    sign, digits, exponent = found.groups()
    return Raw(("$-$" if sign else "") + digits + (rf"$\times 10^{{{int(exponent)}}}$" if exponent else ""))


def tex_name(value: object) -> Raw:
    """A row name that may break where a reader would break it."""
    return Raw(re.sub(r"(:|,|\)|\]|\\_)(?=\S)", r"\1\\allowbreak{}", escape_tex(value)))


def tex_spec(columns: Sequence[str], rows: Sequence[str], cells: Sequence[Sequence[str]]) -> Raw:
    """The column specification; if the table is wider than a page its widest column becomes a paragraph."""
    widths = [max([len(clean(c)) for c in column], default=0) + 2.4 for column in zip(columns, *cells, strict=True)]
    widths = [max(map(len, map(clean, rows)), default=0), *widths]
    spec = ["l"] + ["r"] * len(columns)
    if sum(widths) > TEX_LINE:
        wide = widths.index(max(widths))
        share = max(0.2, 0.95 - (sum(widths) - widths[wide]) / TEX_LINE)  # numbers are wider than letters
        ragged = "right" if wide == 0 else "left"
        spec[wide] = rf">{{\ragged{ragged}\arraybackslash}}p{{{share:.2f}\linewidth}}"
    return Raw("@{}" + "".join(spec) + "@{}")


def escape_markdown(value: object) -> str:
    """What GitHub's Markdown would read as markup, behind a backslash; underscores inside words are harmless."""
    return value if isinstance(value, Raw) else MARKDOWN_SPECIAL.sub(r"\\\g<0>", clean(value))
