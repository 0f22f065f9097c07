"""Names of covariances, and the clusters that they need."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pandas as pd
import torch

from . import columns as door
from .constant import classical
from .design import Design
from .errors import AGAIN, DataError, NotAvailable, OptionError
from .sample import codes
from .structure import Structure

KINDS = {
    "robust": "HC1", "HC1": "HC1", "HC0": "HC0", "cluster": "cluster", "CRV1": "cluster", "classical": "classical",
    "nonrobust": "classical", "iid": "classical", **{kind: kind for kind in ("expected", "opg", "HC2", "HC3")},
}  # fmt: skip


FOLDS = "Folds were not drawn by"


def known(kind: object, design: Design, structure: Structure) -> str:
    """The covariance meant by a name.

    Raises NotAvailable for one that the fit has not, as with features "classical" and "HC3", OptionError for an unknown
    name or for clusters that were not given, DataError where there is a single cluster.
    """
    if not isinstance(kind, str) or kind not in KINDS:
        raise OptionError(f"vcov={kind!r} is not known; allowed are {', '.join(map(repr, KINDS))}.")
    if KINDS[kind] == "cluster" and not design.cluster_names:
        raise OptionError(f"vcov={kind!r} needs clusters, but none were given: structural(..., cluster='column').")
    if KINDS[kind] == "cluster":
        for name, groups in zip(design.cluster_names, design.groups, strict=True):
            if groups < 2:
                raise DataError(
                    f"cluster={name!r} has one cluster in the {design.n} rows used, but errors need at least two; "
                    "name another column, or use vcov='robust'."
                )
    constant = not (design.features or design.controls) or not structure.free
    classical.check(KINDS[kind], structure, constant, kind)
    return KINDS[kind]


def ways(design: Design) -> tuple[tuple[str, int], ...]:
    """Name and number of the clusters of each cluster variable."""
    return tuple(zip(design.cluster_names, design.groups, strict=True))


def named(vcov: Mapping[str, str]) -> list[str]:
    """The columns of {"CRV1": "g"} and {"CRV1": "g+h"}. Raises OptionError for anything else."""
    if len(vcov) != 1 or next(iter(vcov)) not in ("CRV1", "cluster") or not isinstance(next(iter(vcov.values())), str):
        raise OptionError(f"vcov={vcov!r}: allowed are {{'CRV1': 'column'}} and {{'CRV1': 'first+second'}}.")
    return [name.strip() for name in next(iter(vcov.values())).split("+")]


def changed(
    design: Design, structure: Structure, kind: str | Mapping[str, str], data: object
) -> tuple[Design, str]:  # fmt: skip
    """The design with the clusters that `kind` names, columns of `data` among them, and the covariance it means."""
    if not isinstance(kind, Mapping):
        return design, known(kind, design, structure)
    design = clustered(design, named(kind), data)
    return design, known("cluster", design, structure)


def spelled(cov_type: str, groups: object) -> dict[str, str]:
    """statsmodels' cov_type and groups as vcov() takes them. Raises OptionError unless they name columns."""
    names = [groups] if isinstance(groups, str) else groups
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        raise OptionError(f"groups= is a {type(groups).__name__}; give the name of a column, or two names.")
    if KINDS.get(cov_type) != "cluster":
        raise OptionError(f"groups={groups!r} needs cov_type='cluster', not {cov_type!r}.")
    return {"CRV1": "+".join(names)}


def translated(
    cov_type: str | None, cov_kwds: Mapping[str, object] | None, vcov: object
) -> str | dict[str, str] | None:
    """statsmodels' cov_type and cov_kwds as vcov=.

    Raises OptionError where vcov= is given too, cov_type is missing, or cov_kwds holds anything but the groups.
    """
    if vcov is not None:
        raise OptionError("vcov= and cov_type= both choose the covariance; give one of them.")
    if cov_type is None:
        raise OptionError("cov_kwds= needs cov_type=, for example cov_type='cluster'.")
    if cov_kwds is not None and (not isinstance(cov_kwds, Mapping) or set(cov_kwds) != {"groups"}):
        raise OptionError(f"cov_kwds={cov_kwds!r}: allowed is {{'groups': 'column'}}, for cov_type='cluster'.")
    return cov_type if cov_kwds is None else spelled(cov_type, cov_kwds["groups"])


def noted(notes: tuple[str, ...], design: Design, kind: str) -> tuple[str, ...]:
    """The notes of a fit with features, and one where its folds were not drawn by the clusters of its covariance."""
    kept = tuple(note for note in notes if not note.startswith(FOLDS))
    if kind != "cluster" or not (design.features or design.controls):
        return kept
    first = design.cluster_names[0]
    if (first,) == design.recipe.cluster[:1]:
        return kept
    return (*kept, f"{FOLDS} {first!r}; fit with cluster={first!r} to keep each cluster in one.")


def of_rows(design: Design, names: Sequence[str], data: Any, asking: str, instead: str) -> pd.DataFrame:
    """Columns of the rows used: of `data`, the data of the fit, or of what the design keeps of them.

    Raises OptionError for a column that is in neither, DataError where `data` has another number of rows or another
    index.
    """
    if data is None:
        if missing := [name for name in names if name not in design.frame]:
            raise OptionError(f"{asking}: the fit keeps no column {missing[0]!r}; {instead}")
        return design.frame[list(names)]
    table = door.table(data)
    if len(door.index(table)) != len(design.index):
        raise DataError(
            f"data= has {len(door.index(table))} rows, but the fit was made from {len(design.index)}; give the "
            "same data, in the same order."
        )
    if not door.index(table).equals(design.index):
        raise DataError(
            "data= has another index than the data of the fit, so its rows may be in another order; give the same "
            "data, in the same order."
        )
    return door.pick(table, names, asking.split("=")[0] + "=").iloc[design.rows]


def clustered(design: Design, names: Sequence[str], data: Any = None) -> Design:
    """The design with other clusters: columns of `data`, the data of the fit, or of the rows the design keeps.

    Raises OptionError for more than two names or a column that is in neither, NotAvailable where the rows of the fit
    were not saved, DataError where `data` has another number of rows or a cluster is missing in a row used.
    """
    if len(design.rows) < design.n:
        raise NotAvailable(f"Other clusters need the rows of the fit, which were not saved. {AGAIN}")
    if not 1 <= len(names) <= 2 or len(set(names)) < len(names):
        raise OptionError(f"vcov={{'CRV1': {'+'.join(names)!r}}} is not allowed: name one column, or two that differ.")
    asking = f"vcov={{'CRV1': {'+'.join(names)!r}}}"
    frame = of_rows(design, names, data, asking, "give the data of the fit as data=, or fit with cluster=.")
    for name in names:
        if absent := int(frame[name].isna().sum()):
            raise DataError(
                f"Cluster {name!r} is missing in {absent} of {len(frame)} rows used; fill it, or drop them."
            )
    frame = pd.DataFrame(frame)
    if design.packing is not None:
        design.packing.check_constant(design.frame.assign(**{name: frame[name].to_numpy() for name in names}), names)
        frame = frame.iloc[design.packing.first(design.frame)]
    code = codes(frame, names)
    groups = tuple((code.max(axis=0) + 1).tolist())
    return replace(design, cluster=torch.from_numpy(code), cluster_names=tuple(names), groups=groups)
