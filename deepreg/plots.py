"""Plots of arrays on matplotlib Axes: nothing here knows a model, and nothing changes a global setting.

Every function draws on `ax` and returns it. Without one it makes an Axes of its own, of a column's width and outside of
pyplot, which `ax.figure.savefig("file.pdf")` writes. Greys and line styles alone tell things apart.
"""

import math
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from .errors import NotAvailable, OptionError

if TYPE_CHECKING:
    from matplotlib.axes import Axes as Axes

WIDTH = 3.5  # inches: a column of a journal
NAME = 24  # letters in a line of a name beside a vertical axis
INK = ("black", "0.45", "0.65", "black", "0.45", "0.65")
FACE = ("black", "0.45", "0.65", "white", "white", "white")
MARKERS = ("o", "s", "D", "o", "s", "D")
OUTER, INNER = "0.88", "0.72"  # of bands


def axes(ax: "Axes | None" = None, height: float = 2.6) -> "Axes":
    """`ax`, or a new one on a figure of a column's width and `height` inches that pyplot does not know.

    Raises NotAvailable where matplotlib is not installed, OptionError where `ax` is something else.
    """
    try:
        from matplotlib.axes import Axes
        from matplotlib.figure import Figure
    except ImportError:
        raise NotAvailable(
            "Plots are drawn by matplotlib, which is not installed. Type pip install matplotlib, or install the extra "
            "'plot' of deepreg-structural."
        ) from None
    if ax is not None:
        if not isinstance(ax, Axes):
            raise OptionError(f"ax={ax!r}: give a matplotlib Axes, for example that of fig, ax = plt.subplots().")
        return ax
    return _styled(Figure(figsize=(WIDTH, height), layout="constrained").subplots())


def _styled(ax: "Axes") -> "Axes":
    """An Axes of our own, with small letters and without a frame."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.tick_params(labelsize=8)
    for label in (ax.xaxis.label, ax.yaxis.label):
        label.set_fontsize(9)
    for axis in (ax.xaxis, ax.yaxis):
        axis.get_offset_text().set_fontsize(8)
    return ax


def _text(name: object, width: int = 40) -> str:
    """A name as it was typed, cut into lines after a space or a mark; $ and a leading _ would mean something else."""
    lines = [""]
    for piece in re.findall(
        rf"[^\s_.:,\]-]{{0,{max(width - 1, 1)}}}(?:[\s_.:,\]-]|$)|.{{{max(width - 1, 1)}}}", str(name)
    ):
        if len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
    shown = "\n".join(line.strip() for line in lines if line).replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def _label(ax: "Axes", own: bool, x: str, y: str, beside: Sequence[object] = ()) -> None:
    """Labels no longer than their axis; names `beside` a vertical axis leave less to the horizontal one.

    A figure of our own grows with the lines of the label below it.
    """
    letter = 0.007 * float(ax.xaxis.label.get_fontsize())  # inches, of an average one
    names = max((len(line) for name in beside for line in _text(name, NAME).split("\n")), default=0)
    width = ax.bbox.width / ax.figure.dpi - (0.9 * letter * names if beside else 0.0)
    ax.set_xlabel(_text(x, max(18, int(0.95 * width / letter))))
    if own:
        figure: Any = ax.figure
        figure.set_figheight(figure.get_figheight() + 1.2 * (ax.get_xlabel().count("\n")) * 9 / 72)
    ax.set_ylabel(_text(y, max(18, int(1.1 * ax.bbox.height / ax.figure.dpi / letter))))


def _legend(ax: "Axes", own: bool, columns: int = 3) -> None:
    """Above the Axes on a figure of our own; in an Axes given, above which may be a title, in room made for it."""
    size = 0.87 * float(ax.xaxis.label.get_fontsize())
    handles, labels = ax.get_legend_handles_labels()
    needed = [0.45 + 0.007 * size * max(map(len, label.split("\n"))) for label in labels]  # inches
    width, height = (float(side) / ax.figure.dpi for side in (ax.bbox.width, ax.bbox.height))
    while columns > 1 and sum(sorted(needed)[-columns:]) > (WIDTH if own else width):
        columns -= 1
    style: dict[str, Any] = {
        "ncols": columns, "fontsize": size, "handlelength": 1.8, "handletextpad": 0.5, "borderaxespad": 0.2,
        "columnspacing": 1.1,
    }  # fmt: skip
    if own:
        ax.figure.legend(handles, labels, loc="outside upper center", frameon=False, **style)
        return
    lines = math.ceil(len(labels) / columns) + max(label.count("\n") for label in labels)
    room = min((1.6 * lines + 0.8) * size / 72 / height, 0.6)
    low, high = ax.get_ylim()
    ax.set_ylim(low, low + (high - low) / (1 - room))
    ax.legend(handles, labels, loc="upper center", edgecolor="none", framealpha=1.0, **style)


def _lines(ax: "Axes", names: Sequence[object]) -> None:
    """One line for each name, from the top down."""
    ax.set_yticks(range(len(names)), [_text(name, NAME) for name in names])
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.tick_params(axis="y", length=0)


def _height(names: Sequence[object], each: int = 1) -> float:
    """Inches for so many names, with several marks for each."""
    return 0.75 + sum(max(0.26, 0.13 * each + 0.06, 0.15 * (1 + _text(name, NAME).count("\n"))) for name in names)


def coefficients(frames: Mapping[str, pd.DataFrame], ax: "Axes | None" = None, *, xlabel: str = "estimate") -> "Axes":
    """Estimates as points with interval bars and a line at zero; several sets of them beside each other.

    Each frame has the columns coef, lower and upper, and the names of the estimates as its index; a name that a frame
    lacks is left empty there. Raises OptionError for more than six frames, and for none.

    >>> import pandas as pd
    >>> frame = pd.DataFrame({"coef": [1.0, 0.2], "lower": [0.5, -0.1], "upper": [1.5, 0.5]}, index=["t", "t:z"])
    >>> [label.get_text() for label in coefficients({"": frame}).get_yticklabels()]
    ['t', 't:z']
    """
    if not 0 < len(frames) <= len(MARKERS):
        raise OptionError(f"There are {len(frames)} sets of estimates; one plot holds 1 to {len(MARKERS)}.")
    names = list(dict.fromkeys(name for frame in frames.values() for name in frame.index))
    own, ax = ax is None, axes(ax, _height(names, len(frames)) + 0.25 * (len(frames) > 1))
    ax.axvline(0, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    gap = 0.0 if len(frames) == 1 else 0.6 / (len(frames) - 1)
    for j, (label, frame) in enumerate(frames.items()):
        y = np.array([names.index(name) for name in frame.index]) + gap * (j - (len(frames) - 1) / 2)
        ax.hlines(y, frame["lower"], frame["upper"], color=INK[j], linewidth=1.2)
        ax.plot(
            frame["coef"], y, MARKERS[j], color=INK[j], markerfacecolor=FACE[j], markersize=4, label=_text(label, 20)
        )
    _lines(ax, names)
    _label(ax, own, xlabel, "", names)
    if len(frames) > 1:
        _legend(ax, own)
    return ax


def distribution(
    values: np.ndarray, ax: "Axes | None" = None, *, weight: np.ndarray | None = None, mean: float | None = None,
    interval: tuple[float, float] | None = None, label: str = "mean", xlabel: str = "effect",
) -> "Axes":  # fmt: skip
    """A histogram of values (n,) as shares of their weight, with a mean and its interval where given.

    >>> import numpy as np
    >>> ax = distribution(np.arange(10.0), mean=4.5, interval=(4.0, 5.0), xlabel="effect of t on y")
    >>> print(f"{sum(bar.get_height() for bar in ax.patches[:-1]):.3f}")
    1.000
    """
    own, ax = ax is None, axes(ax)
    share = np.ones(len(values)) if weight is None else np.asarray(weight, dtype=np.float64)
    ax.hist(values, _bins(values), weights=share / share.sum(), color="0.8", edgecolor="white", linewidth=0.4)
    low, high = ax.get_xlim()
    if low < 0 < high:
        ax.axvline(0, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    if mean is not None:
        ax.axvline(mean, color="black", linewidth=1.2, label=_text(label, 60 if own else 28))
        _legend(ax, own, 1)
    if interval is not None:
        ax.axvspan(*interval, color="black", alpha=0.25, linewidth=0)
    _label(ax, own, xlabel, "share of rows" if weight is None else "weighted share of rows")
    return ax


def _bins(values: np.ndarray) -> list[float]:
    """Edges by the rule of Freedman and Diaconis, at least 10 and at most 50 bins."""
    width = 2 * np.subtract(*np.quantile(values, [0.75, 0.25])) / len(values) ** (1 / 3)
    count = int(np.clip(np.ptp(values) / width, 10, 50)) if width > 0 else 20
    return np.histogram_bin_edges(values, count).tolist()


def curve(
    frame: pd.DataFrame, ax: "Axes | None" = None, *, average: float | None = None, values: np.ndarray | None = None,
    level: str = "95%", xlabel: str = "", ylabel: str = "effect", line: Sequence[tuple[float, float]] | None = None,
) -> "Axes":  # fmt: skip
    """Estimates along a variable with intervals of each point and the band that holds them all.

    The frame has the columns coef, low, high (each point) and lower, upper (all points), and the values of the variable
    as its index: floats give a curve, with ticks at the deciles of `values` where given, and anything else a line of
    its own for each. `average` is marked by a dashed line; beside a curve, `line` goes through points (x, y).

    >>> import pandas as pd
    >>> columns = {"coef": [0.0, 1.0], "low": -1.0, "high": 1.5, "lower": -2.0, "upper": 2.0}
    >>> curve(pd.DataFrame(columns, index=[10.0, 20.0]), xlabel="age").get_xlabel()
    'age'
    """
    own, smooth = ax is None, pd.api.types.is_float_dtype(frame.index.dtype)
    if smooth:
        ax = axes(ax)
        at = frame.index.to_numpy()
        ax.fill_between(at, frame["lower"], frame["upper"], color=OUTER, linewidth=0, label=f"{level} band")
        ax.fill_between(at, frame["low"], frame["high"], color=INNER, linewidth=0, label=f"{level} pointwise")
        ax.plot(at, frame["coef"], color="black", linewidth=1.4)
        if line is not None:
            ax.plot(*zip(*line, strict=True), color="black", linewidth=0.8, linestyle="--", label="at random")
        if values is not None:
            deciles = np.quantile(values, np.linspace(0.1, 0.9, 9))
            shown = deciles[(deciles >= at.min()) & (deciles <= at.max())]
            ax.plot(
                shown, np.full(len(shown), 0.03), "|", color="black", markersize=4, transform=ax.get_xaxis_transform()
            )
        ax.margins(x=0.01)
    else:
        xlabel, ylabel = ylabel, xlabel
        ax = axes(ax, _height(frame.index) + 0.25)
        y = np.arange(len(frame))
        ax.hlines(y, frame["lower"], frame["upper"], color="0.6", linewidth=1, label=f"{level} joint")
        ax.hlines(y, frame["low"], frame["high"], color="black", linewidth=2.2, label=f"{level} pointwise")
        ax.plot(frame["coef"], y, "o", color="black", markersize=4.5)
        _lines(ax, list(frame.index))
    mark, (low, high) = (ax.axhline, ax.get_ylim()) if smooth else (ax.axvline, ax.get_xlim())
    if average is not None:
        mark(average, color="black", linewidth=0.8, linestyle="--", label="average")
    if low < 0 < high:
        mark(0, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    _label(ax, own, xlabel, ylabel, () if smooth else list(frame.index))
    _legend(ax, own)
    return ax


def losses(
    train: np.ndarray, valid: np.ndarray, ax: "Axes | None" = None, *, lines: Mapping[str, float] | None = None,
    at: np.ndarray | None = None, names: tuple[str, str] = ("training", "validation"), xlabel: str = "step",
) -> "Axes":  # fmt: skip
    """Training and validation loss by step (steps, M): the median and the range of M networks, and up to two levels.

    `at` holds the numbers of the steps, by default all from 0. A network that has stopped, NaN from then on, counts
    with its last loss, and a curve that is nowhere known is left out. Raises OptionError for more levels.

    >>> import numpy as np
    >>> ax = losses(np.array([[2.0, 3.0], [1.0, np.nan]]), np.array([[2.5, 3.5], [2.0, np.nan]]))
    >>> ax.lines[0].get_ydata().tolist()
    [2.5, 2.0]
    """
    if len(lines or {}) > 2:
        raise OptionError(f"lines has {len(lines or {})} levels; give at most two.")
    own, ax = ax is None, axes(ax)
    number = np.arange(len(train)) if at is None else at
    for name, values, ink, style in zip(names, (train, valid), ("0.5", "black"), ("--", "-"), strict=True):
        kept = pd.DataFrame(values).ffill().to_numpy()
        there = np.flatnonzero(np.isfinite(kept).all(1))
        if not len(there):
            continue
        steps, kept = number[there], kept[there]
        ax.fill_between(steps, kept.min(1), kept.max(1), color=ink, alpha=0.15, linewidth=0)
        ax.plot(steps, np.median(kept, 1), color=ink, linestyle=style, linewidth=1.4, label=name)
    for (name, level), style in zip((lines or {}).items(), (":", "-."), strict=False):
        ax.axhline(level, color="black", linewidth=1, linestyle=style, label=_text(name, 28))
    ax.locator_params(axis="x", integer=True)
    ax.margins(x=0.01)
    _label(ax, own, xlabel, "loss")
    _legend(ax, own, 2)
    return ax


def overlap(
    groups: Mapping[str, np.ndarray], ax: "Axes | None" = None, *, weights: Mapping[str, np.ndarray] | None = None,
    bounds: Sequence[float] = (), limits: tuple[float, float] | None = (0.0, 1.0), xlabel: str = "P(t | x)",
) -> "Axes":  # fmt: skip
    """Histograms of one or two groups on common bins, each summing to 1, with bounds marked.

    Raises OptionError for more than two groups.

    >>> import numpy as np
    >>> ax = overlap({"t = 0": np.array([0.2, 0.4]), "t = 1": np.array([0.3, 0.6, 0.8])}, bounds=[0.01, 0.99])
    >>> [text.get_text() for text in ax.figure.legends[0].get_texts()]
    ['t = 0', 't = 1', 'bounds']
    """
    if not 0 < len(groups) <= 2:
        raise OptionError(f"There are {len(groups)} groups; give one or two.")
    own, ax = ax is None, axes(ax)
    whole = np.concatenate(list(groups.values()))
    bins = np.linspace(limits[0], limits[1], 26).tolist() if limits is not None else _bins(whole)
    styles: tuple[dict[str, Any], ...] = (
        {"histtype": "stepfilled", "color": "0.8"}, {"histtype": "step", "color": "black", "linewidth": 1.2}
    )  # fmt: skip
    for (name, values), style in zip(groups.items(), styles, strict=False):
        share = np.ones(len(values)) if weights is None else np.asarray(weights[name], dtype=np.float64)
        ax.hist(values, bins, weights=share / share.sum(), label=_text(name, 24), **style)
    for j, bound in enumerate(bounds):
        ax.axvline(bound, color="black", linewidth=1, linestyle=":", label="" if j else "bounds")
    if limits is not None:
        ax.set_xlim(limits[0] - 0.02, limits[1] + 0.02)
    _label(ax, own, xlabel, "share of rows" if len(groups) == 1 else "share of the group")
    if len(groups) > 1 or bounds:
        _legend(ax, own)
    return ax


def gain(
    frame: pd.DataFrame, ax: "Axes | None" = None, *, level: str = "95%", random: bool = True,
    xlabel: str = "share treated, largest predicted effects first", ylabel: str = "gain per row",
) -> "Axes":  # fmt: skip
    """A curve over the share treated, as `curve` draws it, against treating the same share at random.

    The straight line leads from no gain at a share of 0 to the last gain given. Without `random` there is none, as for
    a curve that is 0 at random.

    >>> import pandas as pd
    >>> columns = {"coef": [3.0, 4.0], "low": 2.0, "high": 5.0, "lower": 1.0, "upper": 6.0}
    >>> ax = gain(pd.DataFrame(columns, index=[0.5, 1.0]))
    >>> ax.lines[1].get_ydata().tolist()
    [0.0, 4.0]
    """
    line = [(0.0, 0.0), (float(frame.index[-1]), float(frame["coef"].iloc[-1]))] if random else None
    ax = curve(frame, ax, level=level, xlabel=xlabel, ylabel=ylabel, line=line)
    ax.set_xlim(0, 1.01)
    return ax


def calibration(
    frame: pd.DataFrame, ax: "Axes | None" = None, *, average: float, slope: float, centre: float, level: str = "95%",
    xlabel: str = "mean predicted effect of the group", ylabel: str = "estimated effect",
) -> "Axes":  # fmt: skip
    """Estimated against predicted effects of groups: where predictions are right, points are on the diagonal.

    The frame has the columns predicted, coef, low, high (each group) and lower, upper (all groups). The dashed line has
    the slope given and goes through (centre, average), the level one is the average effect.

    >>> import pandas as pd
    >>> columns = {"predicted": [0.0, 2.0], "coef": [0.5, 1.5], "low": 0.0, "high": 2.0, "lower": -1.0, "upper": 3.0}
    >>> ax = calibration(pd.DataFrame(columns), average=1.0, slope=0.5, centre=1.0)
    >>> ax.lines[2].get_ydata().tolist()
    [0.5, 1.5]
    """
    own, ax = ax is None, axes(ax)
    x = frame["predicted"].to_numpy(np.float64)
    ends = np.array([x.min(), x.max()])
    ax.axhline(average, color="0.6", linewidth=0.8, linestyle="-.", zorder=0, label="average")
    ax.plot(ends, ends, color="black", linewidth=0.8, linestyle=":", label="diagonal")
    ax.plot(ends, average + slope * (ends - centre), color="black", linewidth=1, linestyle="--", label="linear fit")
    ax.vlines(x, frame["lower"], frame["upper"], color="0.6", linewidth=1, label=f"{level} joint")
    ax.vlines(x, frame["low"], frame["high"], color="black", linewidth=2.2, label=f"{level} each")
    ax.plot(x, frame["coef"], "o", color="black", markersize=4.5)
    _label(ax, own, xlabel, ylabel)
    _legend(ax, own)
    return ax


def panels(rows: int = 2, columns: int = 2, height: float = 2.9) -> "list[Axes]":
    """Axes of one figure that pyplot does not know, row by row, each a column of a journal wide."""
    own: Any = axes().figure
    figure = type(own)(figsize=(columns * WIDTH, rows * height), layout="constrained")
    return [_styled(ax) for ax in figure.subplots(rows, columns, squeeze=False).flat]
