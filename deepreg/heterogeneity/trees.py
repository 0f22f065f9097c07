"""Policy trees: shallow rules that assign an arm by a few cuts of the features, exact up to depth 2."""

from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any

import numpy as np
import pandas as pd

from ..errors import DataError, OptionError
from ..estimates import Estimates
from ..report.table import Table
from ..seeds import generator
from .diagnostic import Diagnostic
from .inputs import array
from .policy import Arms, arms
from .search import NEVER, Features, best_splits, coded

DEEPEST = 6  # of a tree that a reader can hold in mind, and more


@dataclass(frozen=True, repr=False, eq=False)
class PolicyTree:
    """A rule that assigns an arm by cuts of the features: a row goes left where its value is at most the cut.

    Nodes lie in the order of a heap: those below node j are 2j + 1 (left) and 2j + 2 (right).
    """

    features: tuple[str, ...]
    arms: tuple[str, ...]
    feature: np.ndarray  # (2^depth - 1,) position of the feature cut
    cut: np.ndarray  # (2^depth - 1,) -inf where all rows go right
    arm: np.ndarray  # (2^depth,) position of the arm of each leaf
    in_sample: float  # the mean score of the arms assigned, net of cost, on the rows it was learned from
    cuts: int | None  # candidate cuts of each feature, None for all
    seen: str  # of those rows

    @property
    def depth(self) -> int:
        """Cuts on the way from the root to a leaf, at most."""
        return len(self.arm).bit_length() - 1

    @property
    def exact(self) -> bool:
        """Whether no tree of the depth does better on the rows it was learned from."""
        return self.depth <= 2 and self.cuts is None

    def predict(self, features: Any) -> np.ndarray:
        """The name of the arm for each row; (n,). `features` are as in `policy_tree`, or a frame that has them."""
        if isinstance(features, pd.DataFrame) and (lacking := [f for f in self.features if f not in features]):
            raise OptionError(f"features lacks the column {lacking[0]!r}; the tree reads {', '.join(self.features)}.")
        x, _ = _read(features[list(self.features)] if isinstance(features, pd.DataFrame) else features)
        if x.shape[1] != len(self.features):
            raise OptionError(
                f"features has {x.shape[1]} columns; the tree reads {len(self.features)}: {', '.join(self.features)}."
            )
        return np.asarray(self.arms, dtype=object)[self.arm[descend(self.feature[None], self.cut[None], x)[0]]]

    def value(
        self, scores: Any, features: Any, *, cost: Any = None, weights: Any = None, cluster: Any = None
    ) -> Estimates:
        """The value of the rule on other rows than those it was learned from, with its error.

        Raises OptionError on the rows it was learned from: there the value is too high, and its error says nothing of
        that. `policy_tree_value` has an honest value from the same rows.
        """
        found, x = arms(scores, cost, weights, cluster), _read(features)[0]
        if _digest(found, x) == self.seen:
            raise OptionError(
                "The tree was learned from these rows, on which its value is too high. Type policy_tree_value(scores, "
                "features, ...) for the value of a tree that is learned out of fold, or give other rows."
            )
        share = self.predict(features)[:, None] == np.asarray(found.names, dtype=object)
        return found.rows.estimates(("tree",), (share * found.net).sum(1, keepdims=True))

    def rules(self) -> str:
        """The tree as indented lines of text; cuts that change nothing are left out."""
        return "\n".join(self._lines(0, ""))

    def _lines(self, node: int, indent: str) -> list[str]:
        inner = len(self.feature)
        last = np.arange(len(self.arm))
        below = last[(last + inner + 1) >> (self.depth - (node + 1).bit_length() + 1) == node + 1]
        if node >= inner or len(set(self.arm[below])) == 1:
            return [f"{indent}{self.arms[self.arm[below[0]]]}"]
        if self.cut[node] == -np.inf:
            return self._lines(2 * node + 2, indent)
        name, cut = self.features[self.feature[node]], f"{self.cut[node]:.6g}"
        lines = []
        for sign, child in (("<=", 2 * node + 1), (">", 2 * node + 2)):
            inside = self._lines(child, indent + "    ")
            head = f"{indent}{name} {sign} {cut}:"
            lines += [f"{head} {inside[0].strip()}"] if len(inside) == 1 else [head, *inside]
        return lines

    def __str__(self) -> str:
        how = "exact" if self.exact else f"exact for {self.cuts} cuts of each feature" if self.depth <= 2 else "greedy"
        note = f"In sample its value is {self.in_sample:.4g}, which is too high: the tree was chosen for it."
        return f"Policy tree of depth {self.depth} ({how})\n{self.rules()}\n{note}"

    __repr__ = __str__


@dataclass(frozen=True, repr=False)
class PolicyTreeValue(Diagnostic):
    """The value of learning a tree: each row is assigned by a tree from the other folds.

    `estimates` are the values of the trees, of every arm for all, and of the trees less the best of those arms.
    """

    policy: np.ndarray = field(kw_only=True)  # (n,) names of the arms assigned out of fold
    tree: PolicyTree = field(kw_only=True)  # learned from all rows

    @property
    def title(self) -> str:
        return "Value of a policy tree, out of fold"

    def tables(self, alpha: float = 0.05) -> tuple[Table, ...]:
        return (Table.from_frame(self.frame(alpha)),)


def policy_tree(
    scores: Any, features: Any, *, depth: int = 2, cost: Any = None, weights: Any = None, cuts: int | None = None
) -> PolicyTree:
    """The tree that maximises the mean score of the arm it assigns, net of cost.

    Depth 1 and 2 are exact: no other tree of the depth has a higher mean on these rows. Deeper trees are greedy: each
    cut is the first of the best tree of depth 2 from there. For d arms and p features the work is of order
    p^2 d^2 n log n.

    Parameters
    ----------
    scores : (n,) or (n, arms) or DataFrame
        Orthogonal scores, and names of arms, as in `policy_value`.
    features : (n, p) or DataFrame
        Numbers, true and false; a category has to be given as indicators (pandas.get_dummies).
    depth : 0 to 6
    cost : optional
        As in `policy_value`.
    weights : (n,), optional
    cuts : int, optional
        Candidate cuts of each feature, at its quantiles; by default all.

    Returns
    -------
    PolicyTree
        Prints as rules; `predict` assigns arms.

    Raises
    ------
    OptionError, DataError
        For other shapes, missing values, and features that are no numbers.

    References
    ----------
    Zhou, Athey and Wager (2023), Operations Research 71(1); Sverdrup, Kanodia, Zhou, Athey and Wager (2020), Journal
    of Open Source Software 5(50).

    Examples
    --------
    >>> import numpy as np, pandas as pd
    >>> from deepreg.heterogeneity import policy_tree
    >>> x = pd.DataFrame({"age": [20.0, 30.0, 40.0, 50.0], "female": [0, 1, 0, 1]})
    >>> print(policy_tree(np.array([1.0, 2.0, -1.0, -2.0]), x, depth=1).rules())
    age <= 30: treat
    age > 30: none
    """
    found, x, names = _given(scores, features, depth, cost, weights, None, cuts)
    return _tree(found, x, names, depth, cuts)


def policy_tree_value(
    scores: Any, features: Any, *, depth: int = 2, cost: Any = None, weights: Any = None, cluster: Any = None,
    cuts: int | None = None, folds: Any = 5, rng: Any = 0,
) -> PolicyTreeValue:  # fmt: skip
    """The value of a policy tree out of fold: of assigning each row by a tree that was learned from the other folds.

    It is the value of the way of learning, at a sample smaller by a fold, and not of the one tree from all rows, which
    is returned beside it. Errors take the trees as given.

    Parameters
    ----------
    scores, features, depth, cost, weights, cuts
        As in `policy_tree`.
    cluster : (n,), optional
        Labels of clusters, which folds do not cut and by which errors are clustered.
    folds : int or (n,)
        The number of folds, drawn by `rng`, or a fold for each row, such as those that the scores were made with.
    rng : int or numpy Generator

    Returns
    -------
    PolicyTreeValue

    Raises
    ------
    OptionError, DataError
        As `policy_tree`, and for fewer than two folds.

    Examples
    --------
    >>> import numpy as np
    >>> from deepreg.heterogeneity import policy_tree_value
    >>> x = np.random.default_rng(0).normal(size=(200, 2))
    >>> found = policy_tree_value(x[:, 0] + 0.1, x, depth=1)
    >>> list(found.estimates.names)
    ['tree, out of fold', 'all: none', 'all: treat', 'tree - all: treat']
    """
    found, x, names = _given(scores, features, depth, cost, weights, cluster, cuts)
    n = found.rows.n
    fold = _folds(folds, found, rng)
    count = int(fold.max()) + 1
    train = (fold != np.arange(count)[:, None]) * found.rows.weight  # (folds, n)
    fitted = grow(coded(x, cuts), found.net, train, depth)
    leaf = descend(fitted.feature, fitted.cut, x)[fold, np.arange(n)]
    chosen = fitted.arm[fold, leaf]
    each = [found.net[np.arange(n), chosen], *found.net.T]
    labels = ["tree, out of fold", *(f"all: {arm}" for arm in found.names)]
    mean = (found.net * found.rows.weight[:, None]).sum(0)
    best = int(mean.argmax())
    psi = np.stack([*each, each[0] - each[best + 1]], 1)
    estimates = found.rows.estimates((*labels, f"tree - all: {found.names[best]}"), psi)
    notes = (
        f"Each row is assigned by a tree of depth {depth} from the other {count - 1} of {count} folds; errors take "
        "these trees as given.",
    )
    tree = _tree(found, x, names, depth, cuts)
    return PolicyTreeValue(estimates, notes, policy=np.asarray(found.names, dtype=object)[chosen], tree=tree)


@dataclass(frozen=True, eq=False)
class Grown:
    """Trees for m sets of weights, as in PolicyTree."""

    feature: np.ndarray  # (m, 2^depth - 1)
    cut: np.ndarray  # (m, 2^depth - 1)
    arm: np.ndarray  # (m, 2^depth)


def grow(features: Features, scores: np.ndarray, weights: np.ndarray, depth: int) -> Grown:
    """The trees of m sets of weights (m, n) level by level: every node is a set of weights of its own."""
    m = len(weights)
    node = weights[:, None]  # (m, nodes, n)
    chosen, cuts = [], []
    for level in range(depth):
        feature, code = best_splits(features, scores, node.reshape(-1, node.shape[2]), depth - level > 1)
        values = np.array(
            [-np.inf if c == NEVER else features.values[f][c] for f, c in zip(feature, code, strict=True)]
        )
        chosen.append(feature.reshape(m, -1))
        cuts.append(values.reshape(m, -1))
        left = features.code.T[feature] <= code[:, None]  # (m nodes, n)
        flat = node.reshape(left.shape)
        node = np.stack([flat * left, flat * ~left], 1).reshape(m, -1, node.shape[2])
    arm = (node @ scores).argmax(2)
    inner = [np.concatenate(part, 1) if part else np.zeros((m, 0)) for part in (chosen, cuts)]
    return Grown(inner[0].astype(int), inner[1], arm)


def descend(feature: np.ndarray, cut: np.ndarray, x: np.ndarray) -> np.ndarray:
    """The leaf of each row in m trees; (m, nodes), (m, nodes), (n, p) -> (m, n)."""
    m, inner = feature.shape
    at, tree, row = np.zeros((m, len(x)), dtype=int), np.arange(m)[:, None], np.arange(len(x))
    for _ in range((inner + 1).bit_length() - 1):
        at = 2 * at + 1 + (x[row, feature[tree, at]] > cut[tree, at])
    return at - inner


def _tree(found: Arms, x: np.ndarray, names: tuple[str, ...], depth: int, cuts: int | None) -> PolicyTree:
    fitted = grow(coded(x, cuts), found.net, found.rows.weight[None], depth)
    leaf = descend(fitted.feature, fitted.cut, x)[0]
    gained = found.net[np.arange(len(x)), fitted.arm[0, leaf]]
    mean = float((gained * found.rows.weight).sum() / found.rows.weight.sum())
    return PolicyTree(
        names, found.names, fitted.feature[0], fitted.cut[0], fitted.arm[0], mean, cuts, _digest(found, x)
    )


def _given(
    scores: Any, features: Any, depth: Any, cost: Any, weights: Any, cluster: Any, cuts: Any
) -> tuple[Arms, np.ndarray, tuple[str, ...]]:
    if isinstance(depth, bool) or not isinstance(depth, int | np.integer) or not 0 <= depth <= DEEPEST:
        raise OptionError(f"depth={depth!r}: give a whole number from 0 to {DEEPEST}; 1 and 2 are exact.")
    if cuts is not None and (isinstance(cuts, bool) or not isinstance(cuts, int | np.integer) or cuts < 1):
        raise OptionError(f"cuts={cuts!r}: give a whole number above 0, or None for all cuts.")
    labelled = features if isinstance(features, pd.DataFrame) else None
    found = arms(scores, cost, weights, cluster, **({} if labelled is None else {"features": labelled}))
    x, names = _read(features)
    if len(x) != found.rows.n:
        raise DataError(f"features has {len(x)} rows, but there are {found.rows.n} scores; give one row for each.")
    return found, x, names


def _read(features: Any) -> tuple[np.ndarray, tuple[str, ...]]:
    """Features as numbers (n, p), and their names."""
    if isinstance(features, pd.DataFrame):
        words = [str(name) for name, kind in features.dtypes.items() if not pd.api.types.is_numeric_dtype(kind)]
        if words:
            raise DataError(
                f"The feature {words[0]!r} is no number. Give indicators of its levels: pandas.get_dummies(features)."
            )
    x = array(features, "features")
    if x.ndim not in (1, 2) or not x.size:
        raise DataError(f"features has shape {x.shape}; give a row for each score and a column for each feature.")
    x = x.reshape(len(x), -1)
    if isinstance(features, pd.DataFrame):
        return x, tuple(map(str, features.columns))
    return x, tuple(f"x{j + 1}" for j in range(x.shape[1]))


def _folds(given: Any, found: Arms, rng: Any) -> np.ndarray:
    """Fold 0, 1, ... of each row; those drawn do not cut clusters."""
    n, cluster = found.rows.n, found.rows.sampling.cluster.numpy()
    if isinstance(given, int | np.integer) and not isinstance(given, bool):
        unit = cluster[:, 0] if cluster.shape[1] else np.arange(n)
        units = int(unit.max()) + 1
        if not 2 <= given <= units:
            raise OptionError(f"folds={given}: give a number from 2 to {units}, or a fold for each row.")
        return (generator(rng).permutation(units) % given)[unit]
    labels = np.asarray(given)
    if labels.shape != (n,) or pd.isna(labels).any():
        raise OptionError(f"folds has shape {labels.shape}; give a number of folds, or a fold for each of {n} rows.")
    code = np.unique(labels, return_inverse=True)[1]
    if code.max() < 1:
        raise OptionError("folds has one value; give two folds or more.")
    return code


def _digest(found: Arms, x: np.ndarray) -> str:
    """What tells these rows from others."""
    return blake2b(np.ascontiguousarray(found.net).tobytes() + np.ascontiguousarray(x).tobytes()).hexdigest()
