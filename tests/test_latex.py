"""Tables compile: every style and every awkward name in one document, without a warning but for wide boxes."""

import re
import shutil
import subprocess
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import deepreg
from deepreg.report.style import STYLES

PACKAGES = r"\usepackage{array,booktabs,siunitx,threeparttable}"
PREAMBLE = rf"\documentclass{{article}}{PACKAGES}"
ENGINES = ("pdflatex", "lualatex")
AWKWARD = {
    "t": "a_b%&#$",
    "x": "<b>bold</b>",
    "t:x": "λ, Σ and " + "x" * 60,
    "Intercept": r"{x} ~ ^ \ |*[T.b]",
    "y": "C(county)[T.Los Angeles County, California]:C(arm)[T.treated_b]",
}


@pytest.fixture(scope="module")
def tables():
    """By name; one of them has so many columns that its style warns."""
    rng = np.random.default_rng(5)
    data = pd.DataFrame({"x": rng.normal(size=300), "t": np.resize([0, 1], 300), "g": np.resize(range(30), 300)})
    data["y"] = 1234 + data.x - 3 * data.t + rng.normal(size=300)
    data["b"] = (data.y > 1233) * 1
    ols, inter = smf.ols("y ~ t + x", data).fit(), smf.ols("y ~ t * x", data).fit(cov_type="HC1")
    logit = smf.logit("b ~ t + x", data).fit(disp=0)
    fit = deepreg.structural("y ~ t | x", data, cluster="g").fit(
        learners="smooth", folds=2, members=1, rng=0, progress=False
    )
    models = [ols, inter, logit, logit.get_margeff(), fit]
    made = {
        f"{style} {stat}": deepreg.etable(models, style=style, stat=stat, title=f"Style {style}, {stat}")
        for style, stat in zip(STYLES, ("se", "t", "p", "ci"), strict=True)
    }
    made["none"] = deepreg.etable(models, stat=None, title="Nothing below")
    made["awkward"] = deepreg.etable(
        models, labels=AWKWARD, heads=list(AWKWARD.values()), title=AWKWARD["t"], notes=list(AWKWARD.values())
    )
    made["panels"] = deepreg.etable(
        panels={"Panel A. Levels_%": [ols, fit], "Panel B. Odds": [logit, logit.get_margeff()]}, style="aer"
    )
    made["rows"] = deepreg.etable(models, panels={"Panel A": ["t", "x", "t:x"], "Panel B": ["Intercept"]})
    made["one"] = deepreg.etable(fit, title="One column")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", deepreg.DeepregWarning)
        made["wide"] = deepreg.etable([ols] * 10, style="aer", title="Ten columns")
    made["summary"] = fit.summary()
    return made


def body(tables: dict, fragments: Path) -> str:
    """Every table, then some as a fragment to be read in, then some by siunitx."""
    parts = [table.as_latex(label=f"tab:{name}") for name, table in tables.items()]
    for name in ("econ se", "awkward"):
        file = tables[name].to_latex(fragments / f"{name.replace(' ', '-')}.tex", fragment=True)
        parts.append(rf"\begin{{table}}[htbp]\footnotesize\input{{{file.name}}}\end{{table}}")
    parts += [table.as_latex(siunitx=True) for name, table in tables.items() if name != "summary"]
    return "\n\n\\clearpage\n\n".join(parts)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_document_with_every_table_compiles_without_warnings(engine, tables, tmp_path):
    if shutil.which(engine) is None:
        pytest.skip(f"{engine} is not installed: apt-get install texlive-latex-extra texlive-science texlive-luatex")
    text = f"{PREAMBLE}\n\\begin{{document}}\n{body(tables, tmp_path)}\n\\end{{document}}\n"
    (tmp_path / "page.tex").write_text(text, encoding="utf-8")
    for _ in range(2):  # the second run knows the labels
        done = subprocess.run(
            [engine, "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
            cwd=tmp_path, capture_output=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:].decode(errors="replace")
    log = (tmp_path / "page.log").read_text(encoding="utf-8", errors="replace")
    bad = [line for line in log.splitlines() if re.search(r"Warning:|^!|Missing character", line)]
    assert bad == []


def test_no_table_of_usual_size_is_wider_than_the_page(tables, tmp_path):
    if shutil.which("pdflatex") is None:
        pytest.skip("pdflatex is not installed: apt-get install texlive-latex-extra texlive-science")
    usual = [tables[name].as_latex() for name in ("econ se", "aer t", "qje p", "panels", "one")]
    usual += [tables[name].as_latex(siunitx=True) for name in ("panels", "one")]
    page = "\n\n".join(usual)
    text = f"{PREAMBLE}\n\\begin{{document}}\n{page}\n\\end{{document}}\n"
    (tmp_path / "page.tex").write_text(text, encoding="utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "page.tex"],
        cwd=tmp_path, capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:].decode(errors="replace")
    assert b"Overfull" not in done.stdout, [line for line in done.stdout.splitlines() if b"Overfull" in line]
