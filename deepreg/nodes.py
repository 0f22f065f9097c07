"""Nodes: points and weights that integrate over the structural variables given the features."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .design import Design, edited
from .units import BLOCK, Units, blocks, chosen


def is_scalar(value: object) -> bool:
    """Whether a variable is set to one value for all rows."""
    return not callable(value) and np.ndim(value) == 0  # type: ignore[arg-type]


@dataclass(frozen=True)
class Nodes:
    """Points and weights that integrate over the structural variables, for each row and the group that held it out."""

    weight: Tensor  # (R, n, Q), sums to 1
    values: Mapping[str, np.ndarray]  # each structural variable, (R, n, Q)
    design: Design
    start: int = 0  # row of the design that the first row here is

    def levels(self, name: str, classes: int) -> np.ndarray:
        """The value of a discrete variable in each of so many classes; (classes,)."""
        first = self.values[name][0, 0]
        return first[:: len(first) // classes]

    def parts(self) -> "Iterator[tuple[slice, Nodes]]":
        """The nodes of some rows after the other, with the rows."""
        repeats, n, q = self.weight.shape
        for rows in blocks(n, max(BLOCK // (repeats * q), 1)):
            values = {name: value[:, rows] for name, value in self.values.items()}
            yield rows, Nodes(self.weight[:, rows], values, self.design, self.start + rows.start)

    def frame(self) -> pd.DataFrame:
        """The rows of the design repeated for each repeat and node, with the node's values; R n Q rows.

        The index holds the positions of the rows.
        """
        repeats, n, q = self.weight.shape
        rows = self.start + np.tile(np.repeat(np.arange(n), q), repeats)
        return self.design.frame.iloc[rows].assign(
            **{name: value.reshape(-1) for name, value in self.values.items()}
        )  # fmt: skip

    def spread(self, values: Tensor) -> Tensor:
        """Values of the rows of frame() at the points; (R n Q,) -> (R, n, Q)."""
        return values.reshape(self.weight.shape)

    def units(self, edits: Sequence[Mapping[str, object]] = ()) -> "Iterator[tuple[slice, Nodes, list[Units]]]":
        """For each of parts(), the units as they are, and with variables set to values or functions of frame().

        Without an outcome; leading axes (R, n, Q).
        """
        common = all(value.strides[:2] == (0, 0) for value in self.values.values())  # no variable is continuous
        if common := common and all(is_scalar(value) for edit in edits for value in edit.values()):
            points = pd.DataFrame({name: value[0, 0] for name, value in self.values.items()})
            shared = [self.design.structural(points)]
            if edits:
                every = pd.concat([points.assign(**edit) for edit in edits], ignore_index=True)
                shared += self.design.structural(every).split(len(points))
        for rows, some in self.parts():
            if not common:
                frame = some.frame()
                shared = [self.design.structural(edited(frame, edit)) for edit in ({}, *edits)]
                shared = [d.unflatten(0, tuple(some.weight.shape)) for d in shared]
            offset = chosen(self.design.units.offset, slice(some.start, some.start + some.weight.shape[1]))
            offset = offset.to(some.weight.device)[..., None].expand_as(some.weight) if offset.dim() else offset
            yield rows, some, [_without_outcome(d.to(some.weight), some.weight, offset) for d in shared]


def _without_outcome(d: Tensor, weight: Tensor, offset: Tensor) -> Units:
    d = d.expand(*weight.shape, d.shape[-1])
    return Units(torch.zeros_like(weight), d, torch.ones_like(weight), offset)
