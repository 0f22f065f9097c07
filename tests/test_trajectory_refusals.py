"""Group-based trajectories: what people do wrong, and groups that the data do not hold."""

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from trajectory_data import fitted, model, unbalanced

from deepreg.errors import DataError, DeepregWarning, FormulaError, OptionError


def test_what_runs_off_to_infinity_is_named_and_has_no_error() -> None:
    data = unbalanced().query("id < 60").assign(y=lambda d: np.where(d.id % 2 == 0, 0, 1 + d.y_poisson % 3))
    with pytest.warns(DeepregWarning, match="no maximum: group 1: Intercept"):
        made = model("y ~ 1", data).fit()
    assert np.isnan(made.bse["group 1: Intercept"]) and made.bse["group 2: Intercept"] > 0
    text = made.summary().as_text()
    assert "run off to infinity" in text and "nan" not in text


def test_a_group_that_the_data_do_not_hold_is_named() -> None:
    rng = np.random.default_rng(1)
    data = pd.DataFrame({"id": np.repeat(np.arange(80), 4), "s": np.tile([0.0, 1, 2, 3], 80)})
    data["y"] = rng.poisson(2.0, 320)
    with pytest.warns(DeepregWarning, match=r"(empty: group|One curve for two groups: group|no maximum).*"):
        model("y ~ s", data, groups=3, starts=3).fit()


@pytest.mark.parametrize(
    ("edit", "options", "words"),
    [
        (lambda d: pd.concat([d, d.iloc[[3]]]), {}, "1 rows repeat a time.*s=-0.2 of id=0"),
        (lambda d: d.assign(r1=d.r1 + (d.index == 5)), {}, "risk factor 'r1'.*differs within 1 units.*id=0"),
        (lambda d: d.assign(s=d.s.astype(str)), {}, "within='s' is text"),
        (lambda d: d.drop(columns="id"), {}, "unit= needs the column 'id'"),
        (lambda d: d.drop(columns="r1"), {}, "'r1'"),
        (lambda d: d.assign(y_poisson=-1.0), {}, "negative values"),
        (lambda d: d.assign(r1=1.0), {}, "'r1'.*only one value"),
        (lambda d: d[d.id < 5], {}, "groups=2 makes 6 parameters, but there are 5 persons"),
        (lambda d: d, {"groups": 400}, "groups=400 makes"),
        (lambda d: d.assign(y_poisson=1, s=0.0).drop_duplicates("id"), {"formula": "y_poisson ~ 1"}, "only 1 of 60"),
    ],
)  # fmt: skip
def test_data_that_are_no_panel_are_refused(edit: Any, options: dict[str, Any], words: str) -> None:
    data = edit(unbalanced().query("id < 60"))
    with pytest.raises(DataError, match=words):
        model(**{"formula": "y_poisson ~ s | r1", "data": data} | options).fit()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"family": "linear"}, "choose 'gaussian'"),
        ({"family": "multinomial"}, "no likelihood of an outcome over time"),
        ({"groups": 0}, "groups=0: give a whole number"),
        ({"starts": 1.5}, "starts=1.5"),
        ({"orders": (1,)}, "give 2 whole numbers.*columns of 's': s"),
        ({"orders": (2, 1)}, "from 0 to 1"),
        ({"inflate": "s"}, "choose 'zip'"),
        ({"scale": "both"}, "'common' and 'group'"),
        ({"within": "id"}, "one column"),
        ({"unit": 3}, "unit= is a int"),
        ({"exposure": "e", "family": "gaussian"}, "family='gaussian' takes none"),
    ],
)
def test_options_that_are_not_allowed_are_refused(options: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        model("y_poisson ~ s", unbalanced(), **options)


def test_other_refusals() -> None:
    made = model("y_poisson ~ s", unbalanced().query("id < 60"))
    with pytest.raises(FormulaError, match="third part"):
        model("y_poisson ~ s | r1 | r2", unbalanced())
    with pytest.raises(OptionError, match="cov='HC3'"):
        made.fit(cov="HC3")
    with pytest.raises(OptionError, match=r"by=\['dic'\]"):
        made.choose([1, 2], by="dic")
    with pytest.raises(OptionError, match="folds=99"):
        made.choose([1, 2], folds=99)
    with pytest.raises(OptionError, match="give times as numbers"):
        fitted("poisson").forecast(within=["a"])
    with pytest.raises(DataError, match="'r1'"):
        fitted("poisson_risk").membership(unbalanced().drop(columns="r1"))


def test_two_groups_with_one_curve_are_named() -> None:
    made = fitted("poisson")
    theta = made.theta.clone()
    theta[3:6] = theta[:3]
    found = replace(made, theta=theta).troubles
    assert len(found) == 1 and found[0].startswith("One curve for two groups: group 1 and group 2, so nothing tells")
    assert made.troubles == ()


def test_new_outcomes_that_cannot_be_are_refused() -> None:
    made, data = fitted("zip_risk"), unbalanced().query("id < 3")
    positive = data.assign(y_zip=2)  # no zeros in a few new rows are no reason
    assert made.membership(positive).notna().all(axis=None)
    with pytest.raises(DataError, match="negative values"):
        made.membership(data.assign(y_zip=-1))
