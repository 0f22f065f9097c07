"""Parity: rates of groups at thresholds, the differences between them, and scores of predictions, with errors."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .penalties.rates import RATES, part

LABELS = {
    "fpr": "False positive rate", "tnr": "True negative rate", "fnr": "False negative rate",
    "tpr": "True positive rate", "fdr": "False discovery rate", "ppv": "Precision", "for": "False omission rate",
    "npv": "Negative predictive value", "selection": "Selection rate", "accuracy": "Accuracy",
    "demographic_parity_difference": "Demographic parity diff.", "demographic_parity_ratio": "Demographic parity ratio",
    "equalized_odds_difference": "Equalized odds diff.", "equalized_odds_ratio": "Equalized odds ratio",
    "equal_opportunity_difference": "Equal opportunity diff.", "equal_opportunity_ratio": "Equal opportunity ratio",
    "false_positive_rate_difference": "False positive rate diff.",
    "false_discovery_rate_difference": "False discovery rate diff.", "nij_score": "NIJ score",
    "base_rate": "Mean outcome", "mean_prediction": "Mean prediction", "brier": "Brier score", "auc": "AUC",
}  # fmt: skip
SCORES = ("base_rate", "mean_prediction", "brier", "auc")


class Measure(NamedTuple):
    """One number about the predictions of some rows; NaN where it is not defined of them."""

    metric: str
    threshold: float | None  # None for what is free of it
    group: Any  # None for all rows
    value: float
    psi: Tensor  # (n,) influence values, of mean 0


class _Ratio(NamedTuple):
    """Ratios of weighted sums with their influence values, for L groups."""

    value: Tensor  # (L,)
    psi: Tensor  # (n, L)

    @classmethod
    def of(cls, above: Tensor, below: Tensor, weight: Tensor) -> "_Ratio":
        """above, below (n, L), weight (n,)."""
        share = weight / weight.sum()
        over, under = share @ above, share @ below
        value = over / under
        return cls(value, (above - value * below) / under)

    def difference(self) -> tuple[Tensor, Tensor]:
        """Most less least, and its influence values."""
        most, least = self.value.argmax(), self.value.argmin()
        return self.value[most] - self.value[least], self.psi[:, most] - self.psi[:, least]

    def ratio(self) -> tuple[Tensor, Tensor]:
        """Least over most, and its influence values."""
        most, least = self.value.argmax(), self.value.argmin()
        ratio = self.value[least] / self.value[most]
        return ratio, (self.psi[:, least] - ratio * self.psi[:, most]) / self.value[most]


def measures(
    p: Tensor, y: Tensor, code: Tensor, levels: Sequence[Any], weight: Tensor, thresholds: Sequence[float]
) -> Iterator[Measure]:
    """All rates of all rows and of each group at every threshold, their parities, and scores without a threshold.

    p (n,) predictions, of which those above a threshold are flagged; y (n,) 0 or 1; code (n,) of the groups `levels`;
    weight (n,). Differences are the most less the least over the groups, ratios the least over the most; equalized odds
    takes the worse of the rates of true and false positives (Hardt, Price and Srebro 2016).
    """
    member = torch.nn.functional.one_hot(code, len(levels)).to(p)
    inside = torch.cat([torch.ones(len(p), 1).to(p), member], 1)  # (n, 1 + L)
    everyone = (None, *levels)
    one = torch.ones_like(p)
    squares = {"base_rate": y, "mean_prediction": p, "brier": (p - y) ** 2}
    scores = {name: _Ratio.of(of[:, None] * inside, inside, weight) for name, of in squares.items()}
    scores["auc"] = _areas(p, y, inside, weight)
    for name in SCORES:
        yield from _each(name, None, everyone, scores[name])
    for threshold in thresholds:
        flagged = (p > threshold).to(p)
        at: dict[str, _Ratio] = {}
        for name, (counted, among) in RATES.items():
            above, below = part(counted, flagged, y), part(among, flagged, y) if among != "all" else one
            found = _Ratio.of(above[:, None] * inside, below[:, None] * inside, weight)
            yield from _each(name, threshold, everyone, found)
            at[name] = _Ratio(found.value[1:], found.psi[:, 1:])
        gap, gap_psi = at["fpr"].difference()
        brier, brier_psi = scores["brier"].value[0], scores["brier"].psi[:, 0]
        odds = [at["tpr"].difference(), at["fpr"].difference()]
        ratios = [at["tpr"].ratio(), at["fpr"].ratio()]
        parities = {
            "demographic_parity_difference": at["selection"].difference(),
            "demographic_parity_ratio": at["selection"].ratio(),
            "equalized_odds_difference": max(odds, key=lambda pair: float(pair[0])),
            "equalized_odds_ratio": min(ratios, key=lambda pair: float(pair[0])),
            "equal_opportunity_difference": odds[0],
            "equal_opportunity_ratio": ratios[0],
            "false_positive_rate_difference": (gap, gap_psi),
            "false_discovery_rate_difference": at["fdr"].difference(),
            "nij_score": ((1 - brier) * (1 - gap), -(1 - gap) * brier_psi - (1 - brier) * gap_psi),
        }
        for name, (value, psi) in parities.items():
            yield Measure(name, threshold, None, float(value), psi)


def _each(name: str, threshold: float | None, everyone: Sequence[Any], found: _Ratio) -> Iterator[Measure]:
    for level, value, psi in zip(everyone, found.value, found.psi.mT, strict=True):
        yield Measure(name, threshold, level, float(value), psi)


def _areas(p: Tensor, y: Tensor, inside: Tensor, weight: Tensor) -> _Ratio:
    """Areas under the curve within each group: the chance that a positive is above a negative (DeLong et al. 1988)."""
    place = p.unique(return_inverse=True)[1]
    share = weight[:, None] * inside / weight.sum()  # (n, G)
    positive, negative = share * y[:, None], share * (1 - y)[:, None]
    ones, zeros = positive.sum(0), negative.sum(0)

    def below(mass: Tensor) -> Tensor:
        """The mass of rows with a smaller prediction and half that of equal ones, at each row; (n, G)."""
        at = torch.zeros(int(place.max()) + 1, mass.shape[1]).to(mass).index_add(0, place, mass)
        return (at.cumsum(0) - at / 2)[place]

    beaten, beating = below(negative) / zeros, 1 - below(positive) / ones
    value = (positive * beaten).sum(0) / ones
    psi = inside * torch.where(y[:, None] > 0, (beaten - value) / ones, (beating - value) / zeros)
    return _Ratio(value, psi)
