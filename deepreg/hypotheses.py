"""Hypotheses as people write them, read without running anything: "t = 2", "t/Intercept = 1", a list, a matrix."""

import ast
import itertools
import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from .errors import OptionError

MARK = "\u2d63"  # stands for a name of an estimate while the text around it is parsed
LONGEST = 10_000  # characters
OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}  # fmt: skip
FUNCTIONS: Mapping[str, tuple[Callable[[float], float], Callable[[Tensor], Tensor]]] = {
    "exp": (math.exp, torch.exp), "log": (math.log, torch.log), "sqrt": (math.sqrt, torch.sqrt),
}  # fmt: skip


class Hypotheses(NamedTuple):
    """fn(estimates) = value, each row of it with a label; `matrix` @ estimates is fn where all rows are linear."""

    fn: Callable[[Tensor], Tensor]  # (q,) -> (r,)
    value: np.ndarray  # (r,)
    labels: tuple[str, ...]
    matrix: np.ndarray | None  # (r, q)


class _Unreadable(Exception):
    pass


class _Nonlinear(Exception):
    pass


@dataclass(frozen=True)
class _Affine:
    """row @ estimates + constant, closed under what keeps it so; anything else raises _Nonlinear."""

    row: np.ndarray  # (q,)
    constant: float

    @property
    def fixed(self) -> bool:
        return not self.row.any()

    def __add__(self, other: "_Affine") -> "_Affine":
        return _Affine(self.row + other.row, self.constant + other.constant)

    def __neg__(self) -> "_Affine":
        return _Affine(-self.row, -self.constant)

    def __sub__(self, other: "_Affine") -> "_Affine":
        return self + -other

    def __mul__(self, other: "_Affine") -> "_Affine":
        if other.fixed:
            return _Affine(self.row * other.constant, self.constant * other.constant)
        if self.fixed:
            return other * self
        raise _Nonlinear

    def __truediv__(self, other: "_Affine") -> "_Affine":
        if not other.fixed:
            raise _Nonlinear
        if other.constant == 0:
            raise ZeroDivisionError("division by zero")
        return _Affine(self.row / other.constant, self.constant / other.constant)

    def __pow__(self, other: "_Affine") -> "_Affine":
        if not other.fixed or (not self.fixed and other.constant != 1):
            raise _Nonlinear
        if not self.fixed:
            return self
        power = self.constant**other.constant
        if isinstance(power, complex):
            raise _Unreadable(f"({self.constant:g})**{other.constant:g} is no real number")
        return _Affine(self.row, power)

    def call(self, function: str) -> "_Affine":
        if not self.fixed:
            raise _Nonlinear
        return _Affine(self.row, FUNCTIONS[function][0](self.constant))


def read(constraint: object, names: Sequence[str]) -> Hypotheses:
    """Hypotheses from text, a list of texts, {text: value}, a matrix, or a (matrix, value) pair.

    A text is arithmetic of the estimates' names, with + - * / **, exp, log and sqrt: "a = 2", "a = b = 0", "a/b = 1",
    several of them separated by commas; without "=" it is compared with 0. Only such arithmetic is read; no code runs.
    Raises OptionError with the known names where the text cannot be read or the matrix has the wrong width.

    >>> import numpy as np
    >>> read("2*t = Intercept", ("Intercept", "t")).matrix.tolist()
    [[-1.0, 2.0]]
    >>> read("t/Intercept = 1", ("Intercept", "t")).labels
    ('t / Intercept',)
    """
    texts = _texts(constraint)
    if texts is None:
        return _numbers(constraint, names)
    try:
        rows = [row for text in texts for row in _rows(text, names)]
        if not rows:
            raise _Unreadable("it is empty")
    except _Unreadable as error:
        raise _unreadable(constraint, names, str(error)) from None
    linear = [row.left.row for row in rows if row.left is not None]
    if len(linear) == len(rows):
        matrix = np.stack(linear)
        return _linear(matrix, np.array([row.value for row in rows]), constraint, names)
    if not all(math.isfinite(row.value) for row in rows):
        raise _nothing(constraint, names)
    functions = [row.function for row in rows]
    labels = tuple(row.label for row in rows)
    value = np.array([row.value for row in rows]) + 0.0
    return Hypotheses(lambda v: torch.stack([fn(v) for fn in functions]), value, labels, None)


class _Row(NamedTuple):
    left: _Affine | None  # None where not linear
    value: float
    label: str
    function: Callable[[Tensor], Tensor]  # (q,) -> ()


def _texts(constraint: object) -> list[str] | None:
    """The texts of a hypothesis, or None where it is made of numbers."""
    if isinstance(constraint, str):
        return [constraint]
    if isinstance(constraint, Mapping) and constraint and all(map(_fixed, constraint.items())):
        return [f"{key} = {float(v)!r}" for key, v in constraint.items()]
    if isinstance(constraint, list | tuple) and all(isinstance(one, str) for one in constraint):
        return list(constraint)
    return None


def _fixed(item: tuple[object, object]) -> bool:
    key, value = item
    return isinstance(key, str) and isinstance(value, int | float | np.number) and not isinstance(value, bool)


def _numbers(constraint: object, names: Sequence[str]) -> Hypotheses:
    try:
        if isinstance(constraint, tuple) and len(constraint) == 2:
            matrix, value = np.atleast_2d(np.asarray(constraint[0], float)), np.atleast_1d(
                np.asarray(constraint[1], float)
            )  # fmt: skip
        else:
            matrix = np.atleast_2d(np.asarray(constraint, float))
            value = np.zeros(len(matrix))
    except (TypeError, ValueError) as error:
        raise _unreadable(constraint, names, str(error).splitlines()[0]) from None
    if matrix.shape[1:] != (len(names),) or value.shape != (len(matrix),):
        raise OptionError(
            f"The restriction has shape {matrix.shape} with {value.size} values, but there are {len(names)} estimates "
            f"({', '.join(names)}): one column for each, and one value for each row."
        )
    return _linear(matrix, value, constraint, names)


def _linear(matrix: np.ndarray, value: np.ndarray, constraint: object, names: Sequence[str]) -> Hypotheses:
    if not (len(value) and np.isfinite(matrix).all() and np.isfinite(value).all() and matrix.any(1).all()):
        raise _nothing(constraint, names)
    turn = torch.from_numpy(matrix)
    labels = tuple(_label(row, names) for row in matrix)
    return Hypotheses(lambda v: turn.to(v) @ v, value + 0.0, labels, matrix)  # + 0.0: no minus zero


def _unreadable(constraint: object, names: Sequence[str], why: str) -> OptionError:
    return OptionError(
        f"The hypothesis {constraint!r} cannot be read ({why}). Write it with the names of "
        f"the estimates, {', '.join(names)}: for example '{names[-1]} = 2' or '{names[0]} - {names[-1]} = 0'."
    )


def _nothing(constraint: object, names: Sequence[str]) -> OptionError:
    return OptionError(
        f"The hypothesis {constraint!r} restricts nothing, or not by finite numbers: every row of it needs "
        f"a number other than 0 for one of {', '.join(names)}."
    )


def _label(row: np.ndarray, names: Sequence[str]) -> str:
    parts = [(w, name) for w, name in zip(row, names, strict=True) if w]
    text = "".join(
        f" {'-' if w < 0 else '+'} {'' if abs(w) == 1 else f'{abs(w):g}*'}{name}" for w, name in parts
    ).removeprefix(" + ")  # fmt: skip
    return text.replace(" - ", "-", 1) if text.startswith(" - ") else text or "0"


# ---- text


def _rows(text: str, names: Sequence[str]) -> list[_Row]:
    if len(text) > LONGEST or MARK in text:
        raise _Unreadable(f"it is longer than {LONGEST:,} characters" if len(text) > LONGEST else f"it holds {MARK!r}")
    marked = _pattern(names).sub(lambda found: f" {MARK}{str(found.lastgroup)[1:]} ", text)
    known = {f"{MARK}{j}": j for j in range(len(names))}
    rows = []
    for part in marked.split(","):
        sides = [_parse(side, known) for side in part.split("=")]
        if len(sides) == 1:
            sides.append(ast.Constant(0.0))
        rows += [_row(left, right, known, names) for left, right in itertools.pairwise(sides)]
    return rows


def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    """Any of the names, the longest first, each in a group of its own, whatever spaces it is typed with."""
    groups: dict[int, str] = {}
    for j, name in enumerate(names):
        tokens = re.findall(r"(?<=\w)\s+(?=\w)|\w+|[^\w\s]", name)  # spaces tell words apart, and matter nowhere else
        text = r"\s*".join(r"\s" if token.isspace() else re.escape(token) for token in tokens)
        before = r"(?<![\w.])" if re.match(r"\w", name) else ""
        after = r"(?![\w.\[(])" if re.search(r"\w$", name) else ""
        groups[j] = f"{before}{text}{after}"
    longest = sorted(groups, key=lambda j: -len(names[j]))
    return re.compile("|".join(f"(?P<n{j}>{groups[j]})" for j in longest))


def _parse(text: str, known: Mapping[str, int]) -> ast.expr:
    text = text.strip()
    if not text:
        raise _Unreadable("one side of it is empty")
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise _Unreadable("it is no arithmetic of names") from None
    _check(tree, known, depth=0)
    return tree


def _check(node: ast.AST, known: Mapping[str, int], depth: int) -> None:
    if depth > 100:
        raise _Unreadable("it is nested too deeply")
    if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS:
        below: tuple[ast.AST, ...] = (node.left, node.right)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        below = (node.operand,)
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in FUNCTIONS:
        if len(node.args) != 1 or node.keywords:
            raise _Unreadable(f"{node.func.id}() takes one argument")
        below = tuple(node.args)
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        below = ()
    elif isinstance(node, ast.Name):
        if node.id not in known:
            raise _Unreadable(f"{node.id!r} is no estimate")
        below = ()
    else:
        raise _Unreadable("it holds more than names, numbers, + - * / **, exp, log and sqrt")
    for one in below:
        _check(one, known, depth + 1)


def _row(left: ast.expr, right: ast.expr, known: Mapping[str, int], names: Sequence[str]) -> _Row:
    eye = np.eye(len(names))
    leaves = {key: _Affine(eye[j], 0.0) for key, j in known.items()}

    def affine(node: ast.expr) -> _Affine | None:
        try:
            return _evaluate(node, leaves, lambda v: _Affine(0 * eye[0], v), lambda f, v: v.call(f))
        except _Nonlinear:
            return None
        except (ArithmeticError, ValueError) as error:
            raise _Unreadable(f"{_shown(node, names)} has no value: {error}") from None

    one, two = affine(left), affine(right)
    if one is not None and two is not None:
        both = one - two
        if not both.row.any() and math.isfinite(both.constant):
            raise _Unreadable("it restricts nothing")
        value = -both.constant
        return _Row(both, value, _label(both.row, names), lambda v: torch.from_numpy(both.row).to(v) @ v)
    tree = left if two is not None and two.fixed else ast.BinOp(left, ast.Sub(), right)

    def function(v: Tensor) -> Tensor:
        values = {key: v[j] for key, j in known.items()}
        return _evaluate(tree, values, lambda c: torch.tensor(c).to(v), lambda f, x: FUNCTIONS[f][1](x))

    value = two.constant if two is not None and two.fixed else 0.0
    return _Row(None, value, _shown(tree, names), function)


def _evaluate(
    node: ast.AST, leaves: Mapping[str, Any], number: Callable[[float], Any], call: Callable[..., Any]
) -> Any:
    def value(node: ast.AST) -> Any:
        if isinstance(node, ast.BinOp):
            return OPERATORS[type(node.op)](value(node.left), value(node.right))
        if isinstance(node, ast.UnaryOp):
            return -value(node.operand) if isinstance(node.op, ast.USub) else value(node.operand)
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            return call(node.func.id, value(node.args[0]))
        if isinstance(node, ast.Name):
            return leaves[node.id]
        assert isinstance(node, ast.Constant)
        return number(float(node.value))  # type: ignore[arg-type]

    return value(node)


def _shown(tree: ast.expr, names: Sequence[str]) -> str:
    return re.sub(rf"{MARK}(\d+)", lambda found: names[int(found[1])], ast.unparse(tree))
