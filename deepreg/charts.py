"""Charts of several curves, and of a surface by its contours, in the manner of `plots`."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from .errors import OptionError
from .plots import INK, INNER, MARKERS, OUTER, _label, _legend, _text, axes

if TYPE_CHECKING:
    from .plots import Axes as Axes

STYLES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (1, 1)))


def lines(
    frames: Mapping[str, pd.DataFrame], ax: "Axes | None" = None, *, xlabel: str = "", ylabel: str = "",
    behind: Sequence[tuple[np.ndarray, np.ndarray]] = (),
) -> "Axes":  # fmt: skip
    """Curves over the index of each frame: its first column, with a band where it has the columns lower and upper.

    `behind` are thin lines (x, y) below them, without names. Raises OptionError for more than six frames, and for none.

    >>> import pandas as pd
    >>> lines({"a": pd.DataFrame({"gain": [0.0, 1.0]}, index=[0.0, 2.0])}, xlabel="spend").get_xlabel()
    'spend'
    """
    if not 0 < len(frames) <= len(STYLES):
        raise OptionError(f"There are {len(frames)} curves; one plot holds 1 to {len(STYLES)}.")
    own, ax = ax is None, axes(ax)
    for x, y in behind:
        ax.plot(x, y, color="0.86", linewidth=0.4, zorder=0)
    band, inks = (INNER, INK[:1] * len(STYLES)) if behind else (OUTER, INK)  # darker than what is behind
    for j, (name, frame) in enumerate(frames.items()):
        at = frame.index.to_numpy()
        if {"lower", "upper"} <= set(frame.columns):
            ax.fill_between(at, frame["lower"], frame["upper"], color=band, linewidth=0)
        ax.plot(at, frame.iloc[:, 0], color=inks[j], linestyle=STYLES[j], linewidth=1.4 - 0.4 * (j > 0),
                label=_text(name, 28))  # fmt: skip
    low, high = ax.get_ylim()
    if low < 0 < high:
        ax.axhline(0, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    ax.margins(x=0.01)
    _label(ax, own, xlabel, ylabel)
    _legend(ax, own, 2)
    return ax


def path(
    frames: Mapping[str, pd.DataFrame], ax: "Axes | None" = None, *, xlabel: str = "", ylabel: str = ""
) -> "Axes":  # fmt: skip
    """Points joined in the order of each frame, its columns x and y, with the index beside those of the last frame.

    Horizontal bars where a frame has the columns lower and upper. Raises OptionError for more than six frames, and for
    none.

    >>> import pandas as pd
    >>> path({"train": pd.DataFrame({"x": [0.1, 0.0], "y": [0.18, 0.2]}, index=[0, 1])}, xlabel="gap").get_xlabel()
    'gap'
    """
    if not 0 < len(frames) <= len(STYLES):
        raise OptionError(f"There are {len(frames)} paths; one plot holds 1 to {len(STYLES)}.")
    own, ax = ax is None, axes(ax)
    for j, (name, frame) in enumerate(frames.items()):
        last = j == len(frames) - 1
        if {"lower", "upper"} <= set(frame.columns):
            ax.hlines(frame["y"], frame["lower"], frame["upper"], color=OUTER if not last else "0.75", linewidth=1)
        ax.plot(frame["x"], frame["y"], color=INK[j], linestyle=STYLES[j], marker=MARKERS[j], markersize=4,
                linewidth=1, label=_text(name, 28))  # fmt: skip
        for k, (label, x, y) in enumerate(zip(frame.index if last else (), frame["x"], frame["y"], strict=False)):
            ax.annotate(f"{label:g}", (x, y), (4, -10 if k % 2 else 4), textcoords="offset points", fontsize=7)
    ax.margins(x=0.06, y=0.12)
    _label(ax, own, xlabel, ylabel)
    _legend(ax, own, 2)
    return ax


def contours(
    frame: pd.DataFrame, ax: "Axes | None" = None, *, mark: float | None = None,
    points: Mapping[str, tuple[float, float]] | None = None, xlabel: str = "", ylabel: str = "",
) -> "Axes":  # fmt: skip
    """Contours of values over columns (horizontal) and index (vertical), the contour of `mark` thick and dashed.

    `points` are marked by name at (horizontal, vertical).

    >>> import numpy as np, pandas as pd
    >>> frame = pd.DataFrame(np.arange(9.0).reshape(3, 3), index=[0.0, 0.1, 0.2], columns=[0.0, 0.1, 0.2])
    >>> contours(frame, mark=4.0, points={"x1": (0.1, 0.1)}, xlabel="cf_d").get_xlabel()
    'cf_d'
    """
    own, ax = ax is None, axes(ax, 3.2)
    x, y, z = (np.asarray(part, dtype=np.float64) for part in (frame.columns, frame.index, frame))
    if len(points or {}) > len(MARKERS):
        raise OptionError(f"There are {len(points or {})} points; one plot holds at most {len(MARKERS)}.")
    levels = ax.yaxis.get_major_locator().tick_values(z.min(), z.max())
    near = np.inf if mark is None else mark
    levels = levels[(levels > z.min()) & (levels < z.max()) & ~np.isclose(levels, near, atol=1e-9)]
    drawn = ax.contour(x, y, z, levels=levels, colors="0.55", linewidths=0.9, linestyles="-")
    ax.clabel(drawn, fontsize=0.75 * float(ax.xaxis.label.get_fontsize()), fmt="%.3g")
    if mark is not None and z.min() < mark < z.max():
        ax.contour(x, y, z, levels=[mark], colors="black", linewidths=1.6, linestyles="--")
        ax.plot([], [], color="black", linewidth=1.6, linestyle="--", label=f"value {mark:g}")
    for j, (name, (across, up)) in enumerate((points or {}).items()):
        ax.plot(across, up, MARKERS[j], color="black", markerfacecolor="white" if j > 2 else "black", markersize=5,
                linestyle="none", label=_text(name, 24), clip_on=False, zorder=3)  # fmt: skip
    ax.set_xlim(x.min(), x.max())
    ax.set_ylim(y.min(), y.max())
    _label(ax, own, xlabel, ylabel)
    if ax.get_legend_handles_labels()[0]:
        _legend(ax, own, 3)
    return ax


def places(x: np.ndarray, y: np.ndarray, score: np.ndarray, hot: np.ndarray, ax: "Axes | None" = None) -> "Axes":
    """Places as points, the darker the higher their score, with a black point on those that are hot; (n,) each.

    >>> import numpy as np
    >>> at = np.arange(3.0)
    >>> places(at, at, at, at > 1).get_aspect()
    1.0
    """
    own, ax = ax is None, axes(ax, 3.4)
    order = np.argsort(score, kind="stable")  # the highest are drawn last
    shade = 0.92 - 0.5 * (order.argsort() / max(len(score) - 1, 1))
    size = max(1.5, min(16.0, 6000 / len(score)))
    ax.scatter(x[order], y[order], s=size, c=np.repeat(shade[order][:, None], 3, 1), linewidths=0)
    ax.scatter(x[hot], y[hot], s=1.6 * size, color="black", linewidths=0, label=f"flagged ({int(hot.sum()):,})")
    ax.set_aspect("equal")
    _label(ax, own, "x", "y")
    _legend(ax, own, 1)
    return ax
