"""Tables as they were looked at, kept in tests/reference/snapshots. `python tests/snapshots.py` writes them anew.

Fits with constant coefficients are exact to more digits than a table prints. The digits of the others may differ from
machine to machine, so of their numbers only the places are kept.
"""

import re
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import statsmodels.formula.api as smf

import deepreg
from deepreg.results import Results
from deepreg.wald import WaldTest

PLACE = Path(__file__).parent / "reference" / "snapshots"
NUMBER = re.compile(r"(?<![\[}\d<;.])-?\d+\.\d+(?:e[+-]\d+)?(?![\d.]*\])")  # but heads of intervals and <0.001


@cache
def data(n: int = 300) -> pd.DataFrame:
    rng = np.random.default_rng(20)
    prior, hours, noise = rng.normal(size=(3, n))
    tutored, school = np.resize([0, 1, 1], n), np.resize(range(25), n)
    grade = 70 + 4 * prior + tutored * (3 + prior) + hours / 2 + 5 * noise
    frame = pd.DataFrame({"grade": grade, "prior": prior, "hours": hours + prior / 2, "tutored": tutored})
    frame = frame.assign(passed=(grade > 70) * 1, school=school, year=np.arange(n) % 12, arm=np.resize(["a", "b"], n))
    frame.loc[:4, "hours"] = np.nan
    return frame


@cache
def constant(formula: str = "grade ~ tutored + prior", cluster: str | None = None) -> Results:
    return deepreg.structural(formula, data(), cluster=cluster).fit()


@cache
def logit() -> Results:
    return deepreg.structural("passed ~ tutored + prior", data(), "logit", cluster=("school", "year")).fit()


@cache
def structural(formula: str, family: str = "linear", cluster: str | None = None) -> Results:
    model = deepreg.structural(formula, data(), family, cluster=cluster)
    return model.fit(learners="smooth", folds=2, members=1, rng=0, progress=False)


def regressions(style: str, **options: Any) -> Any:
    ols = smf.ols("grade ~ tutored", data()).fit()
    two = smf.ols("grade ~ tutored * prior", data()).fit(
        cov_type="cluster", cov_kwds={"groups": data()[["school", "year"]]}
    )
    models = [ols, constant(), two, constant("grade ~ tutored + prior + hours", "school")]
    options = {"title": "Grades & tutoring", "labels": {"tutored": "Tutored"}, **options}
    return deepreg.etable(models, style=style, **options)


EXACT: Mapping[str, Callable[[], Any]] = {
    "summary-constant": lambda: constant("grade ~ tutored + prior + hours", "school").summary(),
    "estimates-hypotheses": lambda: constant().t_test("tutored = 3, tutored/prior = 1").summary(),
    "estimates-pairs": lambda: constant("grade ~ arm * tutored").averages.pairwise().summary(),
    "comparison": lambda: constant().compare(smf.ols("grade ~ tutored + prior", data()).fit()).table(),
    "comparison-short": lambda: constant().compare(smf.ols("grade ~ tutored", data()).fit()).table(),
    "wald": lambda: constant().wald_test("tutored = 3, prior = 4"),
    "equivalence": lambda: constant().averages.equivalence(-4, 4.5),
    "etable-econ": lambda: regressions("econ"),
    "etable-aer": lambda: regressions("aer", stat="ci", groups=["", "Grade", "Grade", "Grade"]),
    "etable-qje": lambda: regressions("qje", stat="t", stats=["n", "r2", "covariance"]),
    "etable-plain": lambda: regressions(
        "plain", panels={"Panel A. Treatment": re.compile("tutored"), "Panel B. Else": re.compile("^prior|hou|Int")}
    ),
    "etable-effects": lambda: deepreg.etable([logit(), logit().get_margeff()], effects=True),
}
PLACES: Mapping[str, Callable[[], Any]] = {
    "summary-logit": lambda: structural("passed ~ tutored | prior", "logit").summary(),
    "summary-continuous": lambda: structural("grade ~ hours | prior + C(arm)", cluster="school").summary(),
}


def shortened(text: str) -> str:
    """The unrounded numbers of CSV to six digits."""
    return NUMBER.sub(lambda found: f"{float(found[0]):.6g}", text)


def masked(text: str) -> str:
    """A 9 for every digit of a number with decimals."""
    return NUMBER.sub(lambda found: re.sub(r"\d", "9", found[0]), text)


def snapshots(name: str) -> Iterator[tuple[str, str]]:
    """File names and contents of a case, by format."""
    table, exact = (EXACT | PLACES)[name](), name in EXACT
    if isinstance(table, WaldTest):  # it prints itself in one line
        yield f"{name}.txt", f"{table}\n"
        return
    formats = {"txt": table.as_text, "md": table.as_markdown, "html": table.as_html, "tex": table.as_latex}
    for suffix, write in formats.items():
        yield f"{name}.{suffix}", (write() if exact else masked(write())).rstrip("\n") + "\n"
    csv = shortened(table.as_csv())
    yield f"{name}.csv", csv if exact else NUMBER.sub("9.9", csv)


if __name__ == "__main__":
    for old in PLACE.glob("*"):
        old.unlink()
    for case in EXACT | PLACES:
        for file, content in snapshots(case):
            (PLACE / file).write_text(content, encoding="utf-8", newline="\n")
    sys.stdout.write(f"{len(list(PLACE.iterdir()))} files in {PLACE}\n")
