"""Results in other packages' tables and tests, where a result's own attributes are not enough."""

from typing import Any

import numpy as np

from .errors import NotAvailable
from .results import Results


def register_stargazer() -> None:
    """Let `stargazer.stargazer.Stargazer([ols, result])` read results. Raises NotAvailable if it is not installed."""
    try:
        from stargazer.translators import register_class
    except ImportError:
        raise NotAvailable("stargazer is not installed; pip install stargazer.") from None
    register_class(Results, _stargazer)


def _stargazer(result: Results) -> dict[str, Any]:
    interval = result.conf_int()
    return {
        "p_values": result.pvalues, "cov_values": result.params, "cov_std_err": result.bse,
        "conf_int_low_values": interval[0], "conf_int_high_values": interval[1],
        "cov_names": result.params.index.to_numpy(), "dependent_variable": result.model.endog_names,
        "r2": _there(result.rsquared), "r2_adj": None, "pseudo_r2": _there(result.prsquared), "f_p_value": None,
        "f_statistic": None,
        "degree_freedom": result.df_model, "degree_freedom_resid": result.df_resid, "nobs": result.nobs,
        "resid_std_err": None,
    }  # fmt: skip


def _there(value: float) -> float | None:
    return None if np.isnan(value) else value


def marginaleffects_model(result: Results) -> Any:
    """The result for `marginaleffects.hypotheses(model, hypothesis="...")`: average coefficients and their covariance.

    Raises NotAvailable where marginaleffects is not installed. Its predictions and slopes need a regression with one
    coefficient vector for all rows, so they are refused; use `Results.estimate` for averages of those.
    """
    try:
        import polars
        from marginaleffects.classes.model import ModelAbstract, ModelVault
    except ImportError:
        raise NotAvailable("marginaleffects is not installed; pip install marginaleffects.") from None

    def refuse(*_: Any) -> Any:
        raise NotAvailable(
            "Coefficients that vary with features give no prediction from their averages; use estimate('ate'), "
            "estimate('ame') or predict()."
        )

    class Averages(ModelAbstract):
        def get_predict(self, params: np.ndarray, newdata: Any) -> Any:
            return refuse()

    return Averages(result, ModelVault(
        coef=result.params.to_numpy(), coefnames=result.params.index.to_numpy(), vcov=result.cov_params().to_numpy(),
        package="deepreg", variable_names=[result.model.endog_names], formula=refuse,
        modeldata=polars.DataFrame({result.model.endog_names: [0]}),
    ))  # fmt: skip
