"""etable(effects=True): the effects that can be had, and which column has none."""

import numpy as np
import pandas as pd
import pytest
import statsmodels.formula.api as smf

import deepreg
from deepreg.errors import OptionError
from deepreg.results import Results

N = 240


def data() -> pd.DataFrame:
    rng = np.random.default_rng(8)
    x, dose, noise = rng.normal(size=(3, N))
    t = np.resize([0, 1], N)
    y = 1 + x + t * (2 + x) + dose / 2 + noise
    return pd.DataFrame({"x": x, "t": t, "dose": dose, "arm": np.resize(["a", "b", "c"], N), "y": y, "b": (y > 1) * 1})


DATA = data()


def fit(formula: str, family: str = "linear", hessian: str = "estimated") -> Results:
    model = deepreg.structural(formula, DATA, family)
    return model.fit(learners="smooth", folds=3, members=1, rng=0, progress=False, hessian=hessian)


@pytest.fixture(scope="module")
def whole() -> Results:
    return fit("b ~ t + dose | x", "logit")


def test_what_can_be_had_is_shown_and_what_cannot_is_named(whole: Results, tmp_path) -> None:  # type: ignore[no-untyped-def]
    regressed = fit("y ~ t | x", hessian="regressed")
    regressed.save(tmp_path / "fit")
    for model in (regressed, deepreg.load(tmp_path / "fit")):
        table = deepreg.etable([whole, model], effects=True)
        shown = [row for row in table.rows if row.kind == "value"]
        assert {row.label: [bool(cell) for cell in row.cells] for row in shown} == {
            "ATE t: 1 vs 0": [True, True], "AME dose": [True, False],
        }  # fmt: skip
        assert not any("law of the treatment" in note for note in table.notes)


def test_effects_of_some_variables_only_are_noted(whole: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    from deepreg.targets import ATE

    monkeypatch.setattr(ATE, "observed", lambda self, design: False)  # as where no other variable is there
    regressed = fit("y ~ t + dose | x", hessian="regressed")
    table = deepreg.etable([whole, regressed], effects=True)
    assert any(
        note.startswith("Column 2:") and "no effect of dose, which needs the law of the treatment" in note
        for note in table.notes
    )
    assert table.heads[1] == "Structural, linear, average effects"


@pytest.mark.parametrize(
    ("formula", "family", "hessian", "said"),
    [
        (
            "y ~ 1", "linear", "estimated",
            r"column 2 \(Constant coefficients, linear\) has no effects: its formula, 'y ~ 1', has no treatment",
        ),
        (
            "b ~ dose | x", "logit", "regressed",
            r"column 2 \(Structural, logit\) has no effects: that of dose needs the law of the treatment.*"
            r"model.estimate\('coefficient'\)\.$",
        ),
        ("y ~ dose | x", "linear", "regressed", "'coefficient'.*, as each coefficient is the effect of its variable"),
        ("y ~ t + arm | x", "linear", "regressed", "that of t and arm needs the law"),
    ],
)  # fmt: skip
def test_a_model_without_effects_is_named_by_its_column(
    whole: Results, formula: str, family: str, hessian: str, said: str
) -> None:
    bare = fit(formula, family, hessian)
    with pytest.raises(OptionError, match=said) as found:
        deepreg.etable([whole, bare], effects=True)
    assert "Leave the model out, set effects=False, or give estimates in its place" in str(found.value)
    with pytest.raises(OptionError, match=r"effects=True: Panel B, column 2 \("):
        deepreg.etable(panels={"Panel A": [whole, whole], "Panel B": [whole, bare]}, effects=True)
    instead = deepreg.etable([whole, bare.estimate("coefficient")], effects=True)  # what the message says to type
    assert "Intercept" in [row.label for row in instead.rows]
    deepreg.etable([whole, bare])


def test_models_of_other_libraries_show_their_coefficients(whole: Results) -> None:
    table = deepreg.etable([whole, smf.ols("y ~ t", DATA).fit()], effects=True)
    assert {"ATE t: 1 vs 0", "t"} <= {row.label for row in table.rows}
