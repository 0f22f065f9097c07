"""Choice sets that were drawn independently of x: observed ones stand for those that each unit could have met."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import pandas as pd
import torch
from torch import Tensor

from .design import Design, edited
from .law import FittedLaw
from .nodes import Nodes
from .splits import Splits
from .units import BLOCK, NOTHING, Units, blocks, chosen


@dataclass(frozen=True)
class ChoiceSets:
    """The observed choice sets of some units as points of the law of every unit's, the same for all."""

    rows: pd.DataFrame  # of the choice sets
    share: Tensor  # (S,) sums to 1
    shape: tuple[int, int]  # (R, n)
    design: Design
    offset: Tensor = NOTHING  # (S, J), or () where there is none

    @property
    def weight(self) -> Tensor:
        """(R, n, S)."""
        return self.share.expand(*self.shape, -1)

    def parts(self) -> "Iterator[tuple[slice, ChoiceSets]]":
        """The points of some units after the other, with the units."""
        assert self.design.packing is not None
        repeats, n = self.shape
        numbers = repeats * len(self.share) * self.design.packing.size * len(self.design.terms)  # of one unit
        for rows in blocks(n, max(128 * BLOCK // numbers, 1)):
            yield rows, replace(self, shape=(repeats, rows.stop - rows.start))

    def frame(self) -> pd.DataFrame:
        """The rows of the choice sets."""
        return self.rows

    def units(self, edits: Sequence[Mapping[str, object]] = ()) -> "Iterator[tuple[slice, ChoiceSets, list[Units]]]":
        """For each of parts(), the units as they are, and with columns set to values or functions of frame().

        Without an outcome; leading axes (R, n, S).
        """
        assert self.design.packing is not None
        mask = self.design.packing.pack(self.rows, torch.ones(len(self.rows), dtype=torch.float64)).to(self.share)
        each = [self.design.structural(edited(self.rows, edit)).to(self.share) for edit in ({}, *edits)]
        for rows, some in self.parts():
            here = some.weight.shape
            nothing, there = self.share.new_zeros(()).expand(here), mask.expand(*here, -1)
            offset = self.offset.expand(*here, -1) if self.offset.dim() else self.offset
            yield rows, some, [Units(nothing, d.expand(*here, -1, -1), there, offset) for d in each]

    def spread(self, values: Tensor) -> Tensor:
        """Values of the choice sets, (S,), for all units."""
        return values


@dataclass(frozen=True)
class DrawnSets:
    """The law of choice sets that are independent of x, by the sets of some units."""

    design: Design
    rows: pd.DataFrame
    share: Tensor  # (S,) sums to 1
    offset: Tensor  # (S, J), or ()

    @classmethod
    def of(cls, design: Design, sets: int, generator: torch.Generator, device: torch.device) -> "DrawnSets":
        """By so many of the units, or by all where there are fewer."""
        assert design.packing is not None
        taken = torch.randperm(design.n, generator=generator)[:sets].sort().values
        weight = design.weight[taken]
        kept = torch.isin(torch.from_numpy(design.packing.codes(design.frame)), taken).numpy()
        offset = chosen(design.units.offset, taken).to(device)
        return cls(design, design.frame[kept].reset_index(drop=True), (weight / weight.sum()).to(device), offset)

    def nodes(self, x: Tensor, splits: Splits) -> ChoiceSets:
        """The same points for each row of x and each repeat."""
        return ChoiceSets(self.rows, self.share, (len(splits.fold), len(x)), self.design, self.offset)


Law: TypeAlias = FittedLaw | DrawnSets
Points: TypeAlias = Nodes | ChoiceSets
