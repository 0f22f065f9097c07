"""Cross-fitting as data: which rows each replicate network trains on, validates on and is held out from."""

from numbers import Integral
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .errors import DataError, OptionError


class Splits(NamedTuple):
    """Rows of every replicate. A group is one fold of one repeat; its members share the held-out rows.

    With F folds, R repeats and m members there are G = R F groups and M = G m replicates.
    """

    train: Tensor  # (M, n) bool
    valid: Tensor  # (M, n) bool
    fold: Tensor  # (R, n) long: the fold that holds a row out, in each repeat
    owner: Tensor  # (M,) long: the group of each replicate
    spare: Tensor  # (G, n) bool: rows kept from the group's networks for a regression on their output
    slices: Tensor  # (M, n) bool: the slice a replicate validates on, whatever else the rows are used for

    @property
    def groups(self) -> int:
        return int(self.owner.max()) + 1

    @property
    def first(self) -> Tensor:
        """The first replicate of each group; (G,) long."""
        return torch.searchsorted(self.owner, torch.arange(self.groups, device=self.owner.device))

    @property
    def fitted(self) -> Tensor:
        """The rows of each group's training and validation; (G, n) bool."""
        return self.train[self.first] | self.valid[self.first]

    @property
    def held_out(self) -> Tensor:
        """The group of repeat r that held row i out; (R, n) long."""
        repeats = len(self.fold)
        return self.fold + torch.arange(repeats, device=self.fold.device)[:, None] * (self.groups // repeats)

    def on_spare(self) -> "Splits":
        """The same replicates trained on their spare rows."""
        spare = self.spare[self.owner]
        return self._replace(train=spare & ~self.slices, valid=spare & self.slices)

    def to(self, device: torch.device) -> "Splits":
        return Splits(*(t.to(device) for t in self))


def allocate(blocks: Tensor, parts: int, generator: torch.Generator, stratum: Tensor | None = None) -> Tensor:
    """A random part 0..parts-1 for each row, even in size; rows of one block (n,) long stay together.

    With single-row blocks the parts are also even within each stratum (n,) long.
    """
    n = len(blocks)
    count = int(blocks.max()) + 1
    if count == n:
        shuffled = torch.randperm(n, generator=generator)
        order = shuffled if stratum is None else shuffled[stratum[shuffled].argsort(stable=True)]
        part = torch.empty(n, dtype=torch.long)
        part[order] = (torch.arange(n) + int(torch.randint(parts, (1,), generator=generator))) % parts
        return part
    # whole blocks in random order, cut where the running size passes each part's share
    sizes = torch.bincount(blocks, minlength=count)
    order = torch.randperm(count, generator=generator)
    midpoint = sizes[order].cumsum(0) - 0.5 * sizes[order]
    of_block = torch.empty(count, dtype=torch.long)
    of_block[order] = (midpoint * parts / n).long().clamp(max=parts - 1)
    return of_block[blocks]


def make(
    n: int,
    *,
    folds: int,
    members: int,
    repeats: int,
    generator: torch.Generator,
    cluster: Tensor | None = None,
    stratum: Tensor | None = None,
    spare: bool = False,
) -> Splits:
    """Draw the splits: folds even within strata, clusters never cut, validation slices that rotate over members.

    `cluster` and `stratum` are (n,) long, on the CPU. With `spare`, one further fold is kept from each group's networks
    (the third part of a three-way split).
    """
    given: tuple[tuple[str, Any, int], ...] = (("folds", folds, 2), ("members", members, 1), ("repeats", repeats, 1))
    for name, value, least in given:
        if isinstance(value, bool) or not isinstance(value, Integral) or value < least:
            raise OptionError(f"{name}={value!r}: give a whole number, at least {least}.")
    if spare and folds < 3:
        raise OptionError(f"folds={folds}: a regressed Hessian splits three ways and needs folds=3 or more.")
    blocks = torch.arange(n) if cluster is None else torch.unique(cluster, return_inverse=True)[1]
    count = int(blocks.max()) + 1
    if count < 2 * folds:
        what = "rows" if count == n else "clusters"
        raise DataError(f"{folds} folds need at least {2 * folds} {what}, but there are {count}; use a smaller folds=.")
    slices = max(members, 4)
    fold = torch.stack([allocate(blocks, folds, generator, stratum) for _ in range(repeats)])
    inner = torch.stack([allocate(blocks, slices, generator, stratum) for _ in range(repeats)])
    repeat, k, member = (g.flatten() for g in torch.meshgrid(
        torch.arange(repeats), torch.arange(folds), torch.arange(members), indexing="ij"))  # fmt: skip
    own = repeat * folds + k
    out = fold.int()[repeat] == k[:, None]
    group_repeat, group_fold = torch.arange(repeats).repeat_interleave(folds), torch.arange(folds).repeat(repeats)
    kept = fold[group_repeat] == ((group_fold + 1) % folds)[:, None] if spare else torch.zeros(1, n, dtype=torch.bool)
    kept = kept.expand(repeats * folds, n)
    usable = ~out & ~kept[own]
    if count == n:
        turn = inner.int()[repeat] == member[:, None]
    else:  # slices of whole clusters, drawn within each part of each group, or a slice could lie in the held-out fold
        held = fold[group_repeat] == group_fold[:, None]
        turn = torch.zeros_like(usable)
        for part in (~held & ~kept, kept):
            for group in range(len(part)):
                rows = part[group].nonzero()[:, 0]
                if len(rows):
                    own_blocks = torch.unique(blocks[rows], return_inverse=True)[1]
                    pieces = min(slices, int(own_blocks.max()) + 1)
                    drawn = allocate(own_blocks, pieces, generator)
                    mine = (own == group).nonzero()[:, 0]
                    turn[mine[:, None], rows] = drawn == (member[mine] % pieces)[:, None]
    made = Splits(train=usable & ~turn, valid=usable & turn, fold=fold, owner=own, spare=kept, slices=turn)
    if not bool((made.train.any(1) & made.valid.any(1)).all()):
        raise DataError(
            f"{count} {'rows' if count == n else 'clusters'} are too few for {folds} folds with {members} members: "
            "some network would have nothing to train on or to be stopped by. Use a smaller folds= or members=."
        )
    return made
