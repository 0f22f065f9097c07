"""The styles of a table of regressions: what journals ask for, as values."""

from collections.abc import Mapping
from dataclasses import dataclass

from deepreg.errors import OptionError


@dataclass(frozen=True)
class Style:
    """Thresholds of stars, whether columns are numbered, how many there may be, and the form of rules and notes."""

    name: str
    stars: tuple[float, ...] = ()
    starred: bool = True  # whether stars may be asked for
    numbered: bool = True
    most: int | None = None  # columns
    double: bool = False  # a double rule at the top
    capitals: bool = False  # the caption in small capitals
    lead: str = "Notes:"


STYLES: Mapping[str, Style] = {
    style.name: style
    for style in (
        Style("econ", stars=(0.1, 0.05, 0.01)),
        Style("aer", starred=False, most=9),
        Style("qje", double=True, capitals=True, lead="Notes."),
        Style("plain", numbered=False),
    )
}


def style_of(name: object) -> Style:
    """The style of that name. Raises OptionError with the names there are.

    >>> style_of("aer").most
    9
    """
    if not isinstance(name, str) or name not in STYLES:
        raise OptionError(f"style={name!r} is not known; allowed are {', '.join(map(repr, STYLES))}.")
    return STYLES[name]


def thresholds(stars: object, style: Style) -> tuple[float, ...]:
    """The levels below which a p-value gets one star, two, and so on; those of the style for None.

    >>> thresholds([0.05], style_of("plain"))
    (0.05,)
    """
    if stars is None:
        return style.stars
    levels = tuple(stars) if isinstance(stars, tuple | list) else (None,)
    if not all(isinstance(v, float) and 0 < v < 1 for v in levels) or list(levels) != sorted(set(levels), reverse=True):
        raise OptionError(
            f"stars={stars!r}: give falling levels between 0 and 1, for one star, two, and so on: (0.1, 0.05, 0.01); "
            "or () for none."
        )
    if levels and not style.starred:
        raise OptionError(f"style={style.name!r} prints no stars; leave stars= out, or use style='econ'.")
    return levels
