"""Page: a result as one self-contained HTML file, for readers who do not run Python."""

import base64
import io
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from . import asked, plots
from .errors import DataError, NotAvailable, OptionError
from .estimates import Estimates
from .figures import Figures, Fitted
from .files import replace_file, vacant
from .reading import TESTED, calibration_read, gain_read, groups_read, readings
from .report.render import render
from .report.summary import Summary
from .report.table import Table, number
from .version import version

if TYPE_CHECKING:
    from .plots import Axes

MOST, MOST_EFFECTS = 12, 3  # features that get a picture each, for each of so many effects
TOP = 0.2  # the share treated whose gain is said in words
PACKAGES = ("torch", "numpy", "pandas", "formulaic", "statsmodels")


class Reported(Fitted, Protocol):
    """What a page is made of."""

    @property
    def averages(self) -> Estimates: ...
    @property
    def plot(self) -> Figures: ...

    def summary(self, alpha: float = 0.05) -> Summary: ...


class Picture(NamedTuple):
    """A plot in the page."""

    title: str
    source: str  # its PNG as a data URI
    text: str = ""


class Section(NamedTuple):
    """Pictures of one kind, the reasons why others are not there, and tables above them."""

    title: str
    text: str
    pictures: tuple[Picture, ...]
    missing: tuple[str, ...]
    tables: tuple[Table, ...] = ()


def write(result: Reported, path: str | os.PathLike[str], overwrite: bool, templates: str | Path | None) -> Path:
    """Write the page of a result; see `Results.report`."""
    place = vacant(path, overwrite)
    plots.axes()  # raises where matplotlib is missing, before anything is drawn
    return replace_file(place, page(result, templates).encode())


def page(result: Reported, templates: str | Path | None = None) -> str:
    """The page as text: nothing in it is fetched from elsewhere, and it holds no date and no script."""
    names = ("deepreg", version()), *((name, metadata.version(name)) for name in PACKAGES)
    values = {
        "outcome": result.design.outcome, "formula": result.design.formula, "headline": tuple(headline(result)),
        "summary": result.summary(), "sections": tuple(sections(result)), "versions": names,
        "call": result.facts.call.code(),
        "readings": tuple(readings(result.facts, result.averages, result.overlap)),
    }  # fmt: skip
    return render("report.html.j2", values, templates) + "\n"


def headline(result: Reported) -> Iterator[str]:
    """The effects, or the coefficients where there are none, as sentences."""
    shown = result.averages if result.effects is None else result.effects
    for name, value, (low, high) in zip(shown.names, shown.value, shown.interval(), strict=True):
        if result.effects is None and name == "Intercept" and len(shown.names) > 1:
            continue
        ends = f" (95% interval {number(low, 'interval')} to {number(high, 'interval')})" if low == low else ""
        yield f"{name}: {number(value, 'estimate')}{ends}"


# ---- pictures


def sections(result: Reported) -> Iterator[Section]:
    """The plots there are, in the order of interest."""
    plot, design = result.plot, result.design
    if result.facts.constant:
        yield _section("Coefficients", "Estimates and 95% intervals.", {"": plot.coef})
        return
    effects = list(asked.effects(design))
    used = (name for part in ("features", "controls") for name in design.recipe.used.get(part, ()))
    features = list(dict.fromkeys(used))
    treatments = {v.name: v.kind for v in design.variables}
    yield _section("Effects of single rows", (
        "Each row's effect, from functions that never saw it, with the average effect and its interval. The spread is "
        "that of effects and of estimation errors together."
    ), {_only(name, effects): partial(plot.cate, name) for name in effects})  # fmt: skip
    yield _section("Effects along each feature", (
        "The average effect at each value of a feature, with intervals for each point and a band for all of them."
        + (f" {len(features) - MOST} more features are not drawn." if len(features) > MOST else "")
    ), {feature if len(effects) == 1 else f"{name}, by {feature}": partial(plot.effect, feature, name)
        for name in effects[:MOST_EFFECTS] for feature in features[:MOST]})  # fmt: skip
    if effects:
        yield differences(result)
    if continuous := [name for name, kind in treatments.items() if kind == "continuous"]:
        yield _section(
            "Mean outcome along the treatment", "What the average outcome would be if all rows had this value.",
            {_only(name, continuous): partial(plot.dose, name) for name in continuous},
        )  # fmt: skip
    if treatments:
        yield _section(
            "Overlap", "How far the features decide the treatment, by a law that never saw the row.",
            {_only(name, treatments): partial(plot.overlap, name) for name in treatments},
        )  # fmt: skip
    if result.history is not None:
        text = "Losses of the networks by step, beside those of the whole fit on held-out rows."
        yield _section("Training", text, {"": plot.training})


def differences(result: Reported) -> Section:
    """Whether effects differ between rows: tests of each effect, and its calibration, groups and gain curve."""
    found, plot = result.heterogeneity, result.plot
    names = found.effects
    tables, pictures, missing = [], [], dict[str, None]()
    for name in names[:MOST_EFFECTS]:
        title = _only(name, names)
        try:
            tables.append(replace(found.test(name).summary().body[0], title=title))
            gained = found.gain(name, relative=True, share=[TOP, 1])
            shown = {
                "Calibration": (plot.calibration, calibration_read(found.calibration(name))),
                "Groups": (plot.gates, groups_read(found.gates(name))),
                "Gain": (plot.gain, gain_read(gained)),
            }
            pictures += [
                Picture(f"{what}: {title}" if title else what, _png(draw(name)), text)
                for what, (draw, text) in shown.items()
            ]
        except (NotAvailable, DataError, OptionError) as error:
            missing[str(error)] = None
    return Section("Whether effects differ", TESTED, tuple(pictures), tuple(missing), tuple(tables))


def _only(name: str, among: Collection[str]) -> str:
    """The title of a picture, which needs none where it is the only one."""
    return name if len(among) > 1 else ""


def _section(title: str, text: str, wanted: "Mapping[str, Callable[[], Axes]]") -> Section:
    pictures, missing = [], dict[str, None]()
    for name, draw in wanted.items():
        try:
            pictures.append(Picture(name, _png(draw())))
        except (NotAvailable, DataError, OptionError) as error:  # such as a level with a single row
            missing[str(error)] = None
    return Section(title, text, tuple(pictures), tuple(missing))


def _png(ax: "Axes") -> str:
    buffer = io.BytesIO()
    figure: Any = ax.figure
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
