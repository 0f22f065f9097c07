"""Rates of groups: who is flagged among whom, as ratios of weighted sums."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..design import Design
from ..errors import DataError, OptionError
from ..structure import Structure

# what a rate counts, and among whom
RATES: Mapping[str, tuple[str, str]] = {
    "fpr": ("false positive", "negative"),
    "tnr": ("true negative", "negative"),
    "fnr": ("false negative", "positive"),
    "tpr": ("true positive", "positive"),
    "fdr": ("false positive", "flagged"),
    "ppv": ("true positive", "flagged"),
    "for": ("false negative", "cleared"),
    "npv": ("true negative", "cleared"),
    "selection": ("flagged", "all"),
    "accuracy": ("right", "all"),
}


def part(name: str, s: Tensor, y: Tensor) -> Tensor:
    """Whether each row is of a part of the sample, by whether it is flagged (s) and its outcome (y); (..., n)."""
    parts: dict[str, Callable[[], Tensor]] = {
        "all": lambda: torch.ones_like(s),
        "flagged": lambda: s,
        "cleared": lambda: 1 - s,
        "positive": lambda: y.expand_as(s),
        "negative": lambda: (1 - y).expand_as(s),
        "true positive": lambda: s * y,
        "false positive": lambda: s * (1 - y),
        "true negative": lambda: (1 - s) * (1 - y),
        "false negative": lambda: (1 - s) * y,
        "right": lambda: s * y + (1 - s) * (1 - y),
    }
    return parts[name]()


def rates(name: str, s: Tensor, y: Tensor, weight: Tensor) -> Tensor:
    """A rate in each of L groups: sum of weights of what is counted over that of those among whom.

    s (..., n) says who is flagged, 0 to 1, y (n,) is the outcome, 0 or 1, weight (L, n); -> (..., L).
    """
    counted, among = (part(one, s, y) @ weight.mT for one in RATES[name])
    return counted / among


def grouped(column: pd.Series, name: str, where: str = "") -> tuple[Tensor, tuple[Any, ...]]:
    """Codes (n,) and levels, in order, of a column of groups. Raises DataError where some are missing."""
    if absent := int(column.isna().sum()):
        raise DataError(
            f"group={name!r} is missing in {absent} of the {len(column)} rows{where}; fill it, for example with a "
            "level of its own, or drop them."
        )
    code, levels = pd.factorize(np.asarray(column), sort=True)
    return torch.as_tensor(code, dtype=torch.long), tuple(levels.tolist())


def check_outcome(asking: str, rate: str, design: Design, structure: Structure) -> None:
    """Raise OptionError for families without a single mean, DataError for outcomes other than 0 and 1."""
    family = structure.family
    if design.packing is not None or family.labels:
        raise OptionError(f"{asking} is about one prediction of 0 or 1 for each row; family {family.name!r} has more.")
    if not family.predicts:
        raise OptionError(f"{asking} needs predictions: give families.from_loss(loss, mean=lambda d, theta: ...).")
    values = design.units.y.unique()
    if rate != "selection" and not bool(((values == 0) | (values == 1)).all()):
        raise DataError(
            f"{asking} needs an outcome of 0 and 1, but {design.outcome!r} has {len(values)} distinct values. Recode "
            "it, or take rate='selection', which needs predictions alone."
        )


def check_groups(
    group: str, levels: tuple[Any, ...], code: Tensor, y: Tensor, parts: Sequence[str], where: str = ""
) -> None:
    """Raise DataError for a group without positives or negatives, whichever of them is among the parts."""
    for name in parts:
        count = torch.zeros(len(levels), dtype=y.dtype).index_add(0, code, part(name, y, y).cpu())
        if bool((count == 0).any()):
            lacking = levels[int(count.argmin())]
            value, about = ("0", "false positive") if name == "negative" else ("1", "false negative")
            raise DataError(
                f"The group {group}={lacking!r} has no row with outcome {value}{where}, so that it has no {about} "
                f'rate. Leave it out by subset="{group} != {lacking!r}", or merge it with another level.'
            )
