"""Instruments: which columns they are, how several are weighed, and how strongly they move the treatments."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from .design import Design
from .errors import DataError
from .structure import Instruments


def among(design: Design, written: Sequence[str]) -> Instruments:
    """The columns of the terms that are written in the brackets, and their covariance given everything else.

    That is of what is left of them by least squares on the other structural terms, features and controls. Raises
    DataError for what is no term of the formula.
    """
    known = {str(term): names for term, names in design.recipe.regressors.terms()}
    if odd := [one for one in written if not known.get(one)]:
        raise DataError(
            f"The instrument {odd[0]!r} of {design.formula!r} is none of the terms {', '.join(known)}. Write a column, "
            "or a factor as C(g); of z1 * z2 the terms, z1 + z2 + z1:z2."
        )
    terms = tuple(name for one in written for name in known[one])
    mine = [design.terms.index(name) for name in terms]
    others = [j for j in range(len(design.terms)) if j not in mine]
    root, d = design.weight.sqrt()[:, None], design.units.d
    z, rest = root * d[:, mine], root * torch.cat([d[:, others], design.inputs.double()], 1)
    left = z - rest @ torch.linalg.lstsq(rest, z, driver="gelsd").solution
    spread = left.mT @ left / design.weight.sum()
    return Instruments(terms, tuple(map(tuple, spread.tolist())))


def strengths(
    spread: np.ndarray, slopes: np.ndarray, cov: np.ndarray, treatments: Sequence[str]
) -> Iterator[tuple[str, float]]:
    """The first-stage F of each treatment, by the average first stages (T, Z) with covariance (T Z, T Z).

    Of one treatment, the Wald statistic of all its slopes over their number. Of several, the conditional one: of what
    the instruments do to the treatment beyond what they do through the others, over Z - T + 1 (Sanderson and Windmeijer
    2016, Journal of Econometrics 190(2)).
    """
    t, z = slopes.shape
    for j, name in enumerate(treatments):
        others = [k for k in range(t) if k != j]
        shares = np.zeros(t)
        shares[j] = 1.0
        if others:  # two-stage least squares of this treatment on the others
            moved = slopes[others] @ spread
            shares[others] = -np.linalg.solve(moved @ slopes[others].T, moved @ slopes[j])
        turn = np.kron(shares, np.eye(z))  # (Z, T Z)
        left = turn @ slopes.ravel()
        yield name, float(left @ np.linalg.solve(turn @ cov @ turn.T, left)) / (z - t + 1)
