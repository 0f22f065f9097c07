"""What the table of benchmarks/compare.py says: figures in Markdown, and plots."""

from collections.abc import Callable
from pathlib import Path

import pandas as pd

SAMPLE = ["design", "n", "rng", "draw"]
Z = 1.959963984540054

HEAD = """# deepreg and its peers on the same simulated data

Written by `python benchmarks/compare.py --report`. Of each design the headline target: the average effect of a binary
treatment, the average derivative of a continuous one; its truth is the value in the population. For n rows and R draws,
with estimates b_r, standard errors s_r and the truth b:

- bias: mean of b_r - b; rmse: root of the mean of (b_r - b)²; coverage: share of |b_r - b| <= 1.96 s_r;
- se / sd: mean of s_r over the standard deviation of b_r; 1 is right, below 1 intervals are too short;
- off oracle: root mean square of (b_r - o_r) / s(o_r), with o_r the estimate on the same data of the efficient
  estimator that knows the truth, and s(o_r) its standard error: what not knowing the truth costs, bias and noise;
- CATE: root mean squared error over the rows of a draw of beta(x), median and mean over draws;
- CPU: median seconds of one core; products: the same over the seconds of a 1536 x 1536 float32 product right before.

Draws differ in number between methods, so bias, rmse and coverage of slow methods are rough (R is in the table).
"""

# Column of the summary, its title, and how a value is written.
COLUMNS: tuple[tuple[str, str, str], ...] = (
    ("draws", "R", "{:.0f}"),
    ("bias", "bias", "{:+.3f}"),
    ("rmse", "rmse", "{:.3f}"),
    ("coverage", "coverage", "{:.2f}"),
    ("se_ratio", "se / sd", "{:.2f}"),
    ("distance", "off oracle", "{:.2f}"),
    ("cate_median", "CATE median", "{:.3f}"),
    ("cate_mean", "CATE mean", "{:.3f}"),
    ("cpu", "CPU s", "{:.2f}"),
    ("products", "products", "{:,.1f}"),
    ("failures", "failed", "{:.0f}"),
)


def read(table: Path) -> pd.DataFrame:
    """The table, with the errors of the estimates in its units and in those of the oracle's standard error."""
    rows = pd.read_csv(table, dtype={"failed": str}).fillna({"failed": ""})
    oracle = rows[rows.method == "oracle"].set_index(SAMPLE)[["estimate", "se"]].add_prefix("oracle_")
    rows = rows.join(oracle, on=SAMPLE)
    return rows.assign(
        error=rows.estimate - rows.truth,
        scaled=(rows.estimate - rows.truth) / rows.oracle_se,
        off=(rows.estimate - rows.oracle_estimate) / rows.oracle_se,
    )


def summarise(rows: pd.DataFrame) -> pd.DataFrame:
    """One row for each n, design and method, in the order of the table; only draws with an estimate enter the figures.

    Standard deviations are those of R - 1 degrees of freedom, so se_ratio is missing where R = 1.
    """
    summary = {}
    for at, group in rows.groupby(["n", "design", "method"], sort=False):
        done = group[group.failed == ""]
        summary[at] = {
            "draws": len(done),
            "bias": done.error.mean(),
            "rmse": (done.error**2).mean() ** 0.5,
            "coverage": (done.error.abs() <= Z * done.se).mean(),
            "se_ratio": done.se.mean() / done.estimate.std(),
            "distance": (done.off**2).mean() ** 0.5,
            "cate_median": done.cate_rmse.median(),
            "cate_mean": done.cate_rmse.mean(),
            "cpu": done.cpu.median(),
            "products": (done.cpu / done.matmul).median(),
            "failures": len(group) - len(done),
        }
    return pd.DataFrame.from_dict(summary, orient="index").rename_axis(["n", "design", "method"])


def grid(titles: list[str], lines: list[list[str]]) -> str:
    """A Markdown table, its first column to the left and the others to the right."""
    rule = ["---", *["---:"] * (len(titles) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [titles, rule, *lines])


def written(value: float, how: str) -> str:
    return "-" if pd.isna(value) else how.format(value)


def overview(summary: pd.DataFrame, column: str, how: str) -> str:
    """One figure for every method (down) and design (across) of one n."""
    wide = summary[column].unstack("design")
    wide = wide.loc[summary.index.unique("method"), summary.index.unique("design")].dropna(how="all")
    lines = [[method, *[written(v, how) for v in values]] for method, *values in wide.itertuples()]
    return grid(["", *wide.columns], lines)


def details(summary: pd.DataFrame) -> str:
    """All figures of one n and design."""
    done = summary[summary.draws > 0]
    lines = [[method, *[written(row[c], how) for c, _, how in COLUMNS]] for method, row in done.iterrows()]
    return grid(["", *[title for _, title, _ in COLUMNS]], lines)


def failures(rows: pd.DataFrame) -> str:
    """What methods raised, with the number of times."""
    counts = rows[rows.failed != ""].groupby(["method", "failed", "design", "n"], sort=False).size()
    if counts.empty:
        return "None."
    told = counts.reset_index(name="times").groupby(["method", "failed"], sort=False)
    return "\n".join(
        f"- {method}: {failed} ({', '.join(f'{r.design} n={r.n}: {r.times}' for r in group.itertuples())})"
        for (method, failed), group in told
    )


def report(table: Path, plots: Path | None) -> str:
    """The report as Markdown, written beside the table; figures go into the folder `plots`, where there is one."""
    if not table.exists():
        raise SystemExit(f"{table} does not exist. Run benchmarks/compare.py without --report first, or give --out.")
    rows = read(table)
    rows = rows.assign(order=rows.method.map(rank(rows))).sort_values(["n", "order"], kind="stable")
    summary = summarise(rows)
    parts = [HEAD]
    for n, of_n in summary.groupby(level="n"):
        of_n = of_n.droplevel("n")
        parts.append(f"## n = {n:,}\n")
        for title, column, how in (
            ("CATE, median", "cate_median", "{:.2f}"),
            ("Off oracle", "distance", "{:.2f}"),
            ("Coverage", "coverage", "{:.2f}"),
            ("CPU seconds", "cpu", "{:.2f}"),
        ):
            parts.append(f"{title}:\n\n{overview(of_n, column, how)}\n")
        parts += [
            f"### {design}, n = {n:,}\n\n{details(of_n.xs(design, level='design'))}\n"
            for design in of_n.index.unique("design")
        ]
    parts.append(f"## Failures\n\n{failures(rows)}\n")
    text = "\n".join(parts)
    table.with_suffix(".md").write_text(text, encoding="utf-8")
    if plots is not None:
        from compare_plots import draw_all  # here, because nothing else needs matplotlib

        draw_all(rows, summary, plots)
    return text


def rank(rows: pd.DataFrame) -> Callable[[str], int]:
    """The place of a method: deepreg, the oracle, then as they come in the table."""
    order = list(dict.fromkeys(["deepreg", "oracle", *rows.method]))
    return order.index
