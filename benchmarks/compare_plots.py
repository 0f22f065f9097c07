"""Figures of benchmarks/compare.py: accuracy of beta(x), spread of the estimates, and time."""

from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt

COLOURS = {
    "deepreg": "#c1272d",
    "oracle": "#000000",
    "ols": "#8c8c8c",
    "ols_interacted": "#5a5a5a",
    "dml_irm_lightgbm": "#2e7d32",
    "dml_plr_lightgbm": "#81c784",
    "causalml_x": "#b8860b",
    "causal_forest_dml": "#0d47a1",
    "dr_learner": "#4a90d9",
    "linear_dml": "#7b4fa3",
    "deep_inference": "#e07b39",
}
COLUMNS = 5
REACH = 6.0  # oracle standard errors shown on either side of the truth


def panels(count: int, methods: int) -> tuple[Any, list[Any]]:
    """A figure of small panels, five in a row, that share their methods (down)."""
    rows = -(-count // COLUMNS)
    size = (3.0 * min(count, COLUMNS) + 1.6, rows * (0.26 * methods + 1.0) + 0.5)
    figure, axes = plt.subplots(rows, min(count, COLUMNS), figsize=size, sharey=True, squeeze=False)
    flat = list(axes.flat)
    for unused in flat[count:]:
        unused.set_visible(False)
    return figure, flat


def dress(axis: Any, title: str, methods: list[str]) -> None:
    axis.set_title(title, fontsize=10)
    axis.set_yticks(range(len(methods)), methods)
    axis.set_ylim(len(methods) - 0.4, -0.6)
    axis.grid(axis="x", color="#e4e4e4", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.tick_params(axis="y", length=0)
    axis.spines[["top", "right", "left"]].set_visible(False)


def finish(figure: Any, title: str, path: Path) -> None:
    figure.suptitle(title, fontsize=11, x=0.01, ha="left")
    figure.tight_layout(rect=(0, 0, 1, 0.98))
    figure.savefig(path, dpi=130)
    plt.close(figure)


def cate(rows: pd.DataFrame, path: Path, n: int) -> None:
    """Each draw's root mean squared error of beta(x) a dot, the median a bar; methods far off are cut at the edge."""
    rows = rows[(rows.method != "oracle") & rows.cate_rmse.notna()]
    methods, designs = list(rows.method.unique()), list(rows.design.unique())
    if not methods:
        return
    figure, axes = panels(len(designs), len(methods))
    for axis, design in zip(axes, designs, strict=False):
        of_design = rows[rows.design == design].groupby("method").cate_rmse
        medians = of_design.median()
        edge = min(1.05 * of_design.max().max(), 5 * medians.median())
        for place, method in enumerate(methods):
            values = rows[(rows.design == design) & (rows.method == method)].cate_rmse.to_numpy()
            if len(values):
                scatter(axis, np.minimum(values, edge), place, COLOURS[method])
                middle = min(medians[method], edge)
                axis.plot([middle] * 2, [place - 0.32, place + 0.32], color=COLOURS[method], linewidth=2.2)
                label = f"{medians[method]:.2f}"
                axis.annotate(label, (1.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=7.5)
        dress(axis, design, methods)
        axis.set_xlim(0, edge * 1.02)
    finish(figure, f"Error of beta(x), n = {n:,}: draws, median (bar and number); cut at the right edge", path)


def scatter(axis: Any, values: np.ndarray, place: int, colour: str) -> None:
    """Dots spread over the height of a line, in the order of the draws."""
    spread = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else np.zeros(len(values))
    axis.scatter(values, place + spread, s=9, color=colour, alpha=0.55, linewidths=0)


def estimates(rows: pd.DataFrame, path: Path, n: int) -> None:
    """Each draw's error in standard errors of the oracle; a triangle at the edge is further out."""
    rows = rows[rows.scaled.notna()]
    methods, designs = list(rows.method.unique()), list(rows.design.unique())
    if not methods:
        return
    figure, axes = panels(len(designs), len(methods))
    for axis, design in zip(axes, designs, strict=False):
        axis.axvspan(-1.96, 1.96, color="#f3f3f3", zorder=0)
        axis.axvline(0, color="#999999", linewidth=0.8)
        for place, method in enumerate(methods):
            values = rows[(rows.design == design) & (rows.method == method)].scaled.to_numpy()
            if not len(values):
                continue
            far = np.abs(values) > REACH
            scatter(axis, values[~far], place, COLOURS[method])
            for side in (-1, 1):
                if count := int((far & (np.sign(values) == side)).sum()):
                    marker = "<" if side < 0 else ">"
                    axis.scatter(side * REACH, place, marker=marker, s=26, color=COLOURS[method])
                    axis.annotate(f"{count}", (side * (REACH - 0.5), place), ha="center", va="center", fontsize=7)
            mean = values.mean()
            if abs(mean) <= REACH:
                axis.plot([mean] * 2, [place - 0.32, place + 0.32], color=COLOURS[method], linewidth=2.2)
        dress(axis, design, methods)
        axis.set_xlim(-REACH - 0.3, REACH + 0.3)
    what = "draws, mean (bar), number of draws beyond the edge; shaded: 95% of the oracle's"
    finish(figure, f"Estimate minus truth in oracle standard errors, n = {n:,}: {what}", path)


def times(summary: pd.DataFrame, path: Path) -> None:
    """CPU seconds by n: the median over the designs, and the design that was run at most sizes as a dashed line."""
    summary = summary[summary.draws > 0].reset_index()
    counts = summary.groupby("design", sort=False).n.nunique()
    shown = str(counts.idxmax())
    sizes = sorted(summary.n.unique())
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4.6), sharey=True)
    many = summary.groupby("n").design.nunique()
    parts = (
        (left, summary[summary.design == shown], shown),
        (right, summary[summary.n.isin(many.index[many > 1])], ""),
    )
    for axis, part, name in parts:
        of = part.groupby(["method", "n"], sort=False).cpu.median()
        for method in part.method.unique():
            line = of[method].sort_index()
            axis.plot(line.index, line, "o-", color=COLOURS[method], label=method, markersize=4, linewidth=1.4)
        axis.set(xscale="log", yscale="log", xlabel="n", title=name or "median over designs")
        axis.set_xticks(sizes, [f"{n:,}" for n in sizes])
        axis.minorticks_off()
        axis.grid(color="#e4e4e4", linewidth=0.7)
        axis.spines[["top", "right"]].set_visible(False)
    left.set_ylabel("CPU seconds, median over draws")
    right.legend(fontsize=8, frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    finish(figure, "Time of one fit on one core", path)


def draw_all(rows: pd.DataFrame, summary: pd.DataFrame, folder: Path) -> None:
    """cate-N.png and estimates-N.png for every n with more than one draw, and time.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for n, of_n in rows.groupby("n"):
        if of_n.draw.nunique() > 1:
            cate(of_n, folder / f"cate-{n}.png", int(n))
            estimates(of_n, folder / f"estimates-{n}.png", int(n))
    times(summary, folder / "time.png")
