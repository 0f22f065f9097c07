"""Kept: what a fit still answers without its rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from torch import Tensor

from ..errors import AGAIN, NotAvailable
from ..estimates import Estimates
from ..influence import check_sample
from ..sampling import Sampling
from ..targets import Coefficient, Target


class Answer(NamedTuple):
    """Targets that were asked for together, and their estimates."""

    targets: tuple[Target, ...]
    sample: str
    estimates: Estimates


@dataclass(frozen=True)
class Kept:
    """The estimates of a fit by the questions they answer, in the place of its scores; NotAvailable for others."""

    answers: tuple[Answer, ...]
    kind: str  # of the covariance
    constant: bool
    integrable: bool
    everywhere: Tensor | None  # (P,) where theta is constant

    def answer(self, targets: Sequence[Target], names: tuple[str, ...], sample: str, sampling: Sampling) -> Estimates:
        """The estimates that were kept for these targets, together or among others."""
        check_sample(sample)
        known = {(one.targets, one.sample): one.estimates for one in self.answers}
        if (tuple(targets), sample) in known:
            return known[tuple(targets), sample]
        for one in self.answers:
            every = one.targets == (Coefficient(),) and all(type(target) is Coefficient for target in targets)
            if one.sample == sample and (every or set(targets) <= set(one.targets)):
                return one.estimates.select(names)
        kept = dict.fromkeys(name for one in self.answers if one.sample == sample for name in one.estimates.names)
        raise NotAvailable(
            f"{', '.join(names)} of the {sample} sample, estimated together, need the rows of the fit, which were not "
            f"saved. Kept are {', '.join(kept)}. {AGAIN[:-1]}, or with these targets: "
            "save(..., targets=[...]), in a tuple where they belong together."
        )

    def under(self, kind: str) -> "Kept":
        """The same for the covariance there is; NotAvailable for another."""
        if kind != self.kind:
            raise NotAvailable(
                f"The covariance {kind!r} needs the rows of the fit, which were not saved; {self.kind!r} was. {AGAIN}"
            )
        return self

    def _absent(self) -> NoReturn:
        raise NotAvailable(f"The rows of the fit are needed for this, and they were not saved. {AGAIN}")

    u = theta = score = inverse = nodes = property(_absent)
