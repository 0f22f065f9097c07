"""How standard errors were computed, in the words of a header and of a note, whichever library did it."""

import re
from typing import NamedTuple


class Covariance(NamedTuple):
    """What a reader has to know of a covariance.

    `kind` is "cluster", "classical" (errors of one variance), "robust", "HC0" to "HC3", or what its library calls it,
    "" where it says nothing. `ways` are the cluster variables, each with its name ("" where it has none) and its number
    of clusters, () where they are unknown. `structural` says that coefficients are functions, `given` what is held
    fixed, `delta` that they are functions of estimates.
    """

    kind: str
    ways: tuple[tuple[str, int], ...] = ()
    structural: bool = False
    given: str = ""
    delta: bool = False

    def header(self) -> str:
        """The value of a header.

        >>> Covariance("cluster", (("firm", 50), ("year", 10))).header(), Covariance("HC1", structural=True).header()
        ('clustered: firm (50) and year (10)', 'robust')
        """
        if self.kind != "cluster":
            return "robust" if self.kind == "HC1" and self.structural else self.kind
        if self.named:
            return "clustered: " + " and ".join(f"{name} ({count:,})" for name, count in self.ways)
        return f"{self._bare()} ({self._counts()})" if self.ways else "clustered"

    def phrase(self) -> str:
        """The words of a note.

        >>> Covariance("cluster", (("firm", 50), ("year", 10))).phrase()
        'standard errors clustered by firm (50 clusters) and by year (10 clusters)'
        """
        words = "standard errors"
        if self.structural:
            words = f"influence-function {words} (Farrell, Liang and Misra)"
        elif self.kind == "robust":
            words = f"heteroskedasticity-robust {words}"
        elif re.fullmatch(r"HC\d", self.kind):
            words = f"heteroskedasticity-robust ({self.kind}) {words}"
        elif self.kind not in ("", "cluster"):
            words = f"{self.kind} {words}"
        words += f" given the {self.given}" if self.given else ""
        words += " by the delta method" if self.delta else ""
        if self.kind != "cluster":
            return words
        if not (self.structural or self.given or self.delta):
            return f"{words} {self._clustered()}" if self.ways else f"clustered {words}"
        return f"{words}, {self._clustered()}"

    @property
    def named(self) -> bool:
        """Whether all cluster variables are known by name."""
        return bool(self.ways) and all(name for name, _ in self.ways)

    def _clustered(self) -> str:
        if self.named:
            return "clustered " + " and ".join(f"by {name} ({count:,} clusters)" for name, count in self.ways)
        return f"{self._bare()} ({self._counts()} clusters)" if self.ways else "clustered"

    def _bare(self) -> str:
        return "clustered" if len(self.ways) == 1 else "clustered two ways"

    def _counts(self) -> str:
        return " and ".join(f"{count:,}" for _, count in self.ways)
