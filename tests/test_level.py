"""alpha= means the same wherever an interval is asked for."""

from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

import deepreg
from deepreg.errors import OptionError
from deepreg.results import Results

matplotlib.use("Agg")

N = 80


@pytest.fixture(scope="module")
def fitted() -> Results:
    rng = np.random.default_rng(0)
    t = rng.normal(size=N)
    return deepreg.structural("y ~ t", pd.DataFrame({"t": t, "y": t + rng.normal(size=N)})).fit()


ASKS: dict[str, Callable[[Results, Any], object]] = {
    "interval": lambda r, alpha: r.averages.interval(alpha),
    "frame": lambda r, alpha: r.averages.frame(alpha),
    "tidy": lambda r, alpha: r.tidy("pyfixest", alpha),
    "band": lambda r, alpha: r.averages.band(alpha, draws=99),
    "conf_int": lambda r, alpha: r.conf_int(alpha),
    "summary": lambda r, alpha: r.summary(alpha).as_csv(),
    "prediction": lambda r, alpha: r.get_prediction().conf_int(alpha),
    "prediction frame": lambda r, alpha: r.get_prediction().summary_frame(alpha),
    "etable": lambda r, alpha: deepreg.etable(r, stat="ci", alpha=alpha).to_frame(),
    "plot": lambda r, alpha: r.plot.coef(alpha=alpha).lines[0].get_xydata(),
}


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("alpha", [0, 1, -0.1, 5, float("nan"), "0.05", None, True, np.True_, Decimal("0.05"), [0.05]])
def test_what_is_no_level_is_refused(fitted: Results, ask: Callable[[Results, Any], object], alpha: object) -> None:
    with pytest.raises(OptionError, match=r"alpha=.*: give a number between 0 and 1, for example 0.05"):
        ask(fitted, alpha)


@pytest.mark.parametrize("ask", ASKS.values(), ids=ASKS)
@pytest.mark.parametrize("alpha", [Fraction(1, 8), np.float64(0.125), np.float32(0.125)])
def test_every_real_type_is_taken(fitted: Results, ask: Callable[[Results, Any], object], alpha: object) -> None:
    assert str(ask(fitted, alpha)) == str(ask(fitted, 0.125))
