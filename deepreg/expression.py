"""Expression: the Python that a term of a stored formula may hold, so that a file runs nothing but arithmetic."""

import ast
import re
from collections.abc import Collection, Mapping

import numpy as np

from deepreg.errors import FormulaError

LONGEST = 10_000  # characters of one term
DEEPEST = 50  # brackets and operators inside each other
POWER = 64  # largest exponent written as a number

MOST = 1000  # of columns, knots or degrees that a term may ask for
REFUSED = ("dtype", "hash_func", "key", "out")  # arguments that take functions or write elsewhere

FUNCTIONS = frozenset(("abs", "bool", "float", "int", "len", "max", "min", "round", "sum"))
METHODS = frozenset(("abs", "astype", "between", "clip", "fillna", "isin", "round"))
MEMBERS: Mapping[str, frozenset[str]] = {
    "np": frozenset(name for name in dir(np) if isinstance(getattr(np, name), np.ufunc))
    | {"array", "clip", "e", "isin", "nan_to_num", "pi", "round", "where"},
    "contr": frozenset(("SAS", "diff", "helmert", "poly", "sum", "treatment")),
}

_OPERATORS = (ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv, ast.Mod, ast.Pow, ast.BitAnd, ast.BitOr, ast.BitXor)
_NODES = (
    *(ast.Expression, ast.Call, ast.keyword, ast.Name, ast.Load, ast.Attribute, ast.Constant, ast.BinOp, ast.UnaryOp),
    *(ast.Compare, ast.BoolOp, ast.List, ast.Tuple, ast.Dict),
    *(ast.operator, ast.unaryop, ast.cmpop, ast.boolop),
)
_NUMBER = re.compile(r"[+-]?\d{1,18}(\.\d{1,18})?")


def check_number(text: str) -> None:
    """Raise FormulaError unless the text is a plain number, as the 1 of an intercept."""
    if not _NUMBER.fullmatch(text):
        raise FormulaError(f"The term {text!r} is not a number.")


def check(text: str, aliases: Mapping[str, str], columns: Collection[str], called: Collection[str]) -> None:
    """Raise FormulaError unless an expression is arithmetic on columns by known functions.

    `aliases` gives the columns behind names that Python does not allow, `called` the functions and constants besides
    those of this module. Text is refused where it holds quotes, brackets or backslashes: formulaic pastes it into code.
    """
    if len(text) > LONGEST:
        raise FormulaError(
            f"The term {text[:40]!r}... has {len(text):,} characters; {LONGEST:,} are allowed in a file."
        )
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise FormulaError(f"The term {text[:80]!r} is not an expression.") from error
    waiting: list[tuple[ast.AST, int]] = [(tree, 0)]
    while waiting:
        node, depth = waiting.pop()
        if depth > DEEPEST:
            raise FormulaError(f"The term {text[:80]!r} has more than {DEEPEST} brackets inside each other.")
        if reason := _refusal(node, aliases, columns, called):
            raise FormulaError(f"The term {text[:80]!r} {reason}, which a file may not.")
        judged = (_member(node), _function(node, aliases, columns))
        waiting.extend((child, depth + 1) for child in ast.iter_child_nodes(node) if child not in judged)


def _member(node: ast.AST) -> ast.AST | None:
    """The `np` of np.log, which is judged with it."""
    inside = node.value if isinstance(node, ast.Attribute) else None
    return inside if isinstance(inside, ast.Name) and inside.id in MEMBERS else None


def _function(node: ast.AST, aliases: Mapping[str, str], columns: Collection[str]) -> ast.AST | None:
    """The function that a call names, which is allowed there and nowhere else: never as a value to be passed on."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        name = aliases.get(node.func.id, node.func.id)
        return node.func if name in FUNCTIONS and name not in columns else None
    return None


def _refusal(
    node: ast.AST, aliases: Mapping[str, str], columns: Collection[str], called: Collection[str]
) -> str | None:
    """What is wrong with one node, not looking at those inside it; None where nothing is."""
    if not isinstance(node, _NODES):
        return f"holds a {type(node).__name__}"
    if isinstance(node, ast.Name):
        name = aliases.get(node.id, node.id)
        known = name in columns or (name not in MEMBERS and name not in FUNCTIONS and name in called)
        return None if known else f"uses the name {name!r}"
    if isinstance(node, ast.Attribute):
        inside = _member(node)
        owner = inside.id if isinstance(inside, ast.Name) else ""
        allowed = MEMBERS[owner] if owner and owner not in columns and owner in called else METHODS
        return None if node.attr in allowed else f"reaches for {node.attr!r}"
    if isinstance(node, ast.Call):
        named = isinstance(node.func, ast.Name) and aliases.get(node.func.id, node.func.id) not in columns
        if not named and not isinstance(node.func, ast.Attribute):
            return "calls what is no function by name"
        given = [*node.args, *(one.value for one in node.keywords)] if named else []
        large = any(isinstance(one, ast.Constant) and isinstance(one.value, int) and one.value > MOST for one in given)
        return f"asks a function for more than {MOST:,} of something" if large else None
    if isinstance(node, ast.keyword):
        fine = node.arg is not None and not node.arg.startswith("_") and node.arg not in REFUSED
        return None if fine else f"passes {node.arg!r}"
    if isinstance(node, ast.Constant):
        return _constant(node.value)
    if isinstance(node, ast.BinOp):
        if not isinstance(node.op, _OPERATORS):
            return f"uses {type(node.op).__name__}"
        if any(isinstance(side, ast.Constant) and isinstance(side.value, str) for side in (node.left, node.right)):
            return "computes with text"
        if any(isinstance(side, ast.List | ast.Tuple | ast.Dict) for side in (node.left, node.right)):
            return "computes with a list"
        if isinstance(node.op, ast.Pow):
            based = any(isinstance(one, ast.Name) for one in ast.walk(node.left))  # of numbers alone it can be endless
            return _power(node.right) if based else "raises a number to a power"
        return None
    return None


def _constant(value: object) -> str | None:
    if value is None or isinstance(value, bool | float):
        return None
    if isinstance(value, int):
        return None if abs(value) < 2**63 else "holds a number of more than 18 digits"
    if isinstance(value, str):
        return "holds text with quotes, brackets or backslashes" if re.search(r"['\"`\\\[\](){}]", value) else None
    return f"holds a {type(value).__name__}"


def _power(exponent: ast.expr) -> str | None:
    inner = exponent.operand if isinstance(exponent, ast.UnaryOp) else exponent
    if isinstance(inner, ast.Name):
        return None
    small = isinstance(inner, ast.Constant) and isinstance(inner.value, int | float) and abs(inner.value) <= POWER
    return None if small else f"has an exponent other than a name or a number up to {POWER}"
