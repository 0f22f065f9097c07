"""A table of estimates under the column names of other software."""

import pandas as pd

from deepreg.errors import OptionError

STYLES = {
    "statsmodels": ("coef", "std err", "z", "P>|z|"),
    "broom": ("estimate", "std.error", "statistic", "p.value"),
    "pyfixest": ("Estimate", "Std. Error", "t value", "Pr(>|t|)"),
}


def tidy(frame: pd.DataFrame, style: str, alpha: float) -> pd.DataFrame:
    """Coefficient, error, statistic, p-value and interval of level 1 - alpha, renamed; OptionError if unknown."""
    if style not in STYLES:
        raise OptionError(f"style={style!r} is not known; allowed are {', '.join(map(repr, STYLES))}.")
    if style == "statsmodels":
        return frame
    if style == "broom":
        return frame.set_axis([*STYLES[style], "conf.low", "conf.high"], axis=1).rename_axis("term").reset_index()
    ends = [f"{100 * p:g}%" for p in (alpha / 2, 1 - alpha / 2)]
    return frame.set_axis([*STYLES[style], *ends], axis=1).rename_axis("Coefficient")
