"""What was regressed on what, under the names that statsmodels' tools look for."""

from dataclasses import dataclass

import pandas as pd

from .design import Design
from .structure import Structure


@dataclass(frozen=True)
class SpecificationData:
    """The data as regression software names their parts."""

    param_names: list[str]
    cov_names: list[str]
    ynames: str
    frame: pd.DataFrame


@dataclass(frozen=True)
class Specification:
    """`result.model` for software that reads statsmodels results: names of the outcome and of the coefficients.

    >>> import deepreg
    >>> data = deepreg.datasets.tutoring()
    >>> deepreg.structural("final_grade ~ tutoring", data).fit().model.exog_names
    ['Intercept', 'tutoring']
    """

    endog_names: str
    exog_names: list[str]
    formula: str
    data: SpecificationData

    @classmethod
    def of(cls, design: Design, structure: Structure) -> "Specification":
        names = list(structure.names)
        data = SpecificationData(names, names, design.outcome, design.frame)
        return cls(design.outcome, names, design.formula, data)
