"""Terrain: what a fitted risk terrain model says of factors, of candidates nearly as good, and of places."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from .. import charts
from ..columns import pick, plain, table
from ..errors import DataError, OptionError
from ..report.summary import Summary
from ..report.table import Table
from ..results import Results
from ..threads import threads
from . import hotspots
from .factors import Candidates
from .reselection import Stability, reselect

if TYPE_CHECKING:
    from ..plots import Axes as Axes

CONDITIONAL = (
    "Standard errors, intervals and p-values are conditional on the selection: they take the columns as given, though "
    "the same data chose them. stability() shows how often another sample would choose others."
)


@dataclass(frozen=True, repr=False, eq=False)
class Terrain:
    """A fitted risk terrain model. `results` is the regression that was chosen, with everything a regression has."""

    results: Results
    sets: Mapping[str, tuple[str, ...]]
    candidates: Mapping[str, Candidates]  # by family
    family: str
    notes: tuple[str, ...]
    frame: pd.DataFrame  # the data of the fit

    @property
    def factors(self) -> dict[str, str | None]:
        """The column chosen of each set, None where the set was left out."""
        return self.candidates[self.family].found.best

    @property
    def chosen(self) -> list[str]:
        """The columns chosen."""
        return [one for one in self.factors.values() if one is not None]

    @property
    def params(self) -> pd.Series:
        """Coefficients: logs of incidence-rate ratios, and the ancillary parameters of the family."""
        return self.results.params

    @property
    def llf(self) -> float:
        """The log-likelihood."""
        return self.results.llf

    @property
    def bic(self) -> float:
        """-2 llf + k log(n), with k coefficients and ancillary parameters."""
        return -2 * self.llf + len(self.params) * math.log(self.results.nobs)

    @property
    def aic(self) -> float:
        """-2 llf + 2 k."""
        return -2 * self.llf + 2 * len(self.params)

    def irr(self, alpha: float = 0.05) -> Table:
        """Incidence-rate ratios exp(b): by what factor the expected count is larger for one unit more of a column.

        Standard errors are those of the ratio by the delta method, intervals exp() of those of b. They are conditional
        on the selection, which a note of the table says.
        """
        terms = list(self.results.structure.terms)
        b, error = self.params[terms], self.results.bse[terms]
        interval = np.exp(self.results.conf_int(alpha).loc[terms].to_numpy())
        of = {column: name for name, column in self.factors.items()}
        frame = pd.DataFrame(
            {
                "set": [of.get(term, "") for term in terms], "IRR": np.exp(b), "std err": np.exp(b) * error,
                "P>|z|": self.results.pvalues[terms],
                f"[{alpha / 2:g}": interval[:, 0], f"{1 - alpha / 2:g}]": interval[:, 1],
            },
            index=terms,
        )  # fmt: skip
        return Table.from_frame(frame, title="Incidence-rate ratios", notes=(CONDITIONAL,))

    def ties(self, within: float = 6.0) -> pd.DataFrame:
        """Candidates of all families whose BIC is at most `within` behind the best, best first.

        A column for each set, the family, the log-likelihood, the BIC, how far behind it is, and its share of
        exp(-behind / 2), the weight that the BIC gives it among those of the table.
        """
        if not isinstance(within, int | float) or not within >= 0:
            raise OptionError(f"within={within!r}: give a difference of the BIC, 0 or more.")
        best = min(one.found.value for one in self.candidates.values())
        parts = []
        for name, one in self.candidates.items():
            near = one.found.ties(within + best - one.found.value) if one.found.value <= best + within else None
            if near is None:
                continue
            size = one.base + near[list(one.names)].notna().sum(axis=1) + len(one.models.family.extra)
            llf = (size * math.log(self.results.nobs) - near["value"]) / 2
            parts.append(near[list(one.names)].assign(family=name, llf=llf, bic=near["value"]))
        found = pd.concat(parts).sort_values("bic", kind="stable", ignore_index=True)
        behind = found["bic"] - best
        weight = np.exp(-behind / 2)
        return found.assign(behind=behind, weight=weight / weight.sum())

    def stability(self, draws: int = 100, rng: object = 0) -> Stability:
        """The search again in `draws` bootstrap samples of the places: how often each column is chosen.

        Of the candidates of the exact search, those that no bootstrap sample could prefer are left out (they are more
        than 5 standard errors of the difference behind). A Newton step from the fit to all places ranks the others in
        each sample, and the ten first are fitted to it. Places are drawn as if independent, which neighbours are not.
        """
        with threads(self.results.nobs):
            return reselect(self.candidates[self.family], draws, rng)

    def predict(self, new: object = None) -> pd.Series:
        """Expected counts of places, on the caller's index."""
        found = self.results.predict(new)
        assert isinstance(found, pd.Series), "a count has one mean"
        return found

    def pai(
        self, outcome: str | None = None, *, z: float | None = 2.0, top: float | None = None, area: str | None = None
    ) -> pd.DataFrame:
        """What flagging the places of highest risk catches, in the period of the fit and in that of `outcome`.

        Places are flagged whose expected count is more than `z` standard deviations above the mean, or the share `top`
        that is highest. PAI is the share of events caught over the share of the area flagged; PEI is PAI over the most
        that flagging so much area could have; RRI, of the later period, is the growth of events in flagged places over
        the growth of all events. `area` is the column of areas or lengths, by default all places are alike.

        Raises DataError for a column that is not there or not numbers, OptionError for a rule that flags no place.
        """
        risk = self._risk()
        flag = hotspots.flagged(risk, None if top is not None else z, top)
        size = np.ones(len(risk)) if area is None else self._values(area, "area")
        if (size <= 0).any():
            raise DataError(f"area={area!r} must be positive, but {int((size <= 0).sum())} places have 0 or less.")
        first = self.results.design.units.y.numpy()
        rows = {self.results.design.outcome: (hotspots.hits(flag, first, size), math.nan)}
        if outcome is not None:
            later = self._values(outcome, "outcome")
            rows[outcome] = (hotspots.hits(flag, later, size), hotspots.recapture(flag, first, later))
        table_ = pd.DataFrame([one for one, _ in rows.values()], index=list(rows), columns=hotspots.Hits._fields)
        return table_.rename(columns={"pai": "PAI", "pei": "PEI"}).assign(RRI=[rri for _, rri in rows.values()])

    def conjunctions(self, outcome: str | Sequence[str] | None = None, alpha: float = 0.05) -> pd.DataFrame:
        """Places by which of the chosen factors they have, with the events expected there and those observed.

        A row for every combination of values, the one with most risk first: places, expected events, those of the fit
        and of `outcome` (one column or several), and observed over expected of the last with an exact Poisson interval.
        """
        more = [outcome] if isinstance(outcome, str) else list(outcome or [])
        design = self.results.design
        at = pd.DataFrame({one: self._values(one, "the factor") for one in self.chosen})
        at = at.assign(places=1, expected=self._risk())
        at[design.outcome] = design.units.y.numpy()
        for name in more:
            at[name] = self._values(name, "outcome")
        by: Any = self.chosen or [np.zeros(len(at))]
        found = at.groupby(by, as_index=bool(self.chosen)).sum()
        found = found.iloc[np.argsort(-(found["expected"] / found["places"]).to_numpy(), kind="stable")]
        last = found[(more or [design.outcome])[-1]]
        low = stats.chi2.ppf(alpha / 2, 2 * last) / 2
        high = stats.chi2.ppf(1 - alpha / 2, 2 * (last + 1)) / 2
        expected = found["expected"]
        return found.assign(ratio=last / expected, lower=np.nan_to_num(low) / expected, upper=high / expected)

    def map(self, columns: Sequence[str] = (), z: float = 2.0) -> pd.DataFrame:
        """A row for each place on the caller's index, to join with its geometry; NaN where a place was dropped.

        expected (count), risk (the product of the incidence-rate ratios of the factors, 1 where none is at work), score
        (standard deviations of the expected count above its mean), percentile, hot (score above `z`), the chosen
        columns, and those named in `columns`, such as coordinates.
        """
        design, expected = self.results.design, self._risk()
        terms = [design.terms.index(one) for one in self.chosen]
        d = design.units.d[:, terms].numpy()
        low, b = d.min(0) if terms else 0.0, self.params[self.chosen]
        score = (expected - expected.mean()) / expected.std()
        values = {
            "expected": expected, "risk": np.exp((d - low) @ b.to_numpy()) if terms else 1.0,
            "score": score, "percentile": 100 * stats.rankdata(expected) / len(expected), "hot": (score > z) * 1.0,
        }  # fmt: skip
        found = pd.DataFrame(values, index=design.rows).reindex(range(len(design.index))).set_axis(design.index)
        named = list(dict.fromkeys([*self.chosen, *columns]))
        for name in named:
            found[name] = pick(table(self.frame), [name], "map(columns=)")[name].to_numpy()
        return found

    def plot(self, x: str, y: str, z: float = 2.0, ax: "Axes | None" = None) -> "Axes":
        """Places at the columns `x` and `y`, darker where the expected count is higher, those above `z` in black."""
        at, risk = (self._values(x, "x"), self._values(y, "y")), self._risk()
        return charts.places(*at, risk, hotspots.flagged(risk, z), ax)

    def summary(self, alpha: float = 0.05) -> Summary:
        """Header, coefficients, incidence-rate ratios, and candidates next to the best."""
        pool, fit = self.candidates[self.family], self.results.summary(alpha)
        searched = "; ".join(f"{name}, {one.found.method}" for name, one in self.candidates.items())
        header = (
            ("Dep. Variable:", self.results.design.outcome),
            ("Model:", "risk terrain"),
            ("Family:", self.family),
            ("No. Observations:", f"{self.results.nobs:,}"),
            *((one, value) for one, value in fit.header if one in ("Dropped rows:", "Covariance:", "Exposure:")),
            ("Log-Likelihood:", f"{self.llf:.3f}"),
            ("BIC:", f"{self.bic:.3f}"),
            ("AIC:", f"{self.aic:.3f}"),
            *((f"Set {name}:", column or "left out") for name, column in self.factors.items()),
            ("Search:", searched),
        )
        near = self.ties()
        shown = near.head(8)
        words = shown[list(pool.names)].astype(object).map(lambda one: "-" if pd.isna(one) else one)
        near_table = pd.concat([words, shown[["family", "bic", "behind"]]], axis=1)
        formats = {"bic": ".2f", "behind": ".2f"}
        title = f"Candidates within 6 of the best BIC ({len(near)}{', the first 8' * (len(near) > 8)})"
        ties = Table.from_frame(near_table.set_axis(range(1, len(shown) + 1)), title=title, formats=formats)
        coefficients = Table.from_frame(self.results.averages.frame(alpha), title="Coefficients")
        body = (coefficients, replace(self.irr(alpha), notes=()), ties)
        return Summary("Risk terrain model", header, body, (CONDITIONAL, *self.notes, *fit.notes))

    def _risk(self) -> np.ndarray:
        return self.predict().to_numpy()[self.results.design.rows]

    def _values(self, name: str, role: str) -> np.ndarray:
        """A column of the caller's data at the rows used; DataError where it is missing there, or no number."""
        column = plain(pick(table(self.frame), [name], f"{role}={name!r}")[name])
        if not pd.api.types.is_numeric_dtype(column.dtype):
            raise DataError(f"{role}={name!r} is no column of numbers.")
        values = column.to_numpy("float64")[self.results.design.rows]
        if not np.isfinite(values).all():
            raise DataError(
                f"{role}={name!r} is missing in {int((~np.isfinite(values)).sum())} of {len(values):,} places. "
                "Fill it, or fit with subset= to the places that have it."
            )
        return values

    def __repr__(self) -> str:
        return f"<deepreg Terrain of {self.results.design.formula!r}: {self.factors}, BIC {self.bic:.2f}>"
