"""Formula: `outcome ~ structural terms | features | controls` read into parts, with the variables each part uses."""

import ast
import builtins
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from formulaic import SimpleFormula
from formulaic.errors import FormulaicError
from formulaic.parser import DefaultFormulaParser, DefaultOperatorResolver
from formulaic.parser.types import Factor, Operator, OrderedSet, Term
from formulaic.utils.code import sanitize_variable_names

from deepreg import expression
from deepreg.errors import DataError, FormulaError

GRAMMAR = "outcome ~ structural terms | features | controls"
PARTS = ("outcome", "regressors", "features", "controls")
BUILTINS = frozenset(
    ("abs", "bool", "float", "int", "len", "list", "max", "min", "pow", "range", "round", "str", "sum", "tuple")
)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Parsed:
    """The terms of every part of one formula and the data columns they use; a part that is absent holds None."""

    text: str
    outcome: SimpleFormula
    regressors: SimpleFormula
    features: SimpleFormula | None
    controls: SimpleFormula | None
    columns: Mapping[str, tuple[str, ...]]  # part -> data columns in order of first use
    categorical: frozenset[str]  # data columns that stand inside C()
    borrowed: frozenset[str]  # names taken from the caller's context

    @property
    def parts(self) -> dict[str, SimpleFormula]:
        """The parts that are there, by name."""
        found = {name: getattr(self, name) for name in PARTS}
        return {name: part for name, part in found.items() if part is not None}


def read(
    formula: str,
    available: Sequence[str],
    context: Mapping[str, Any],
    transforms: Mapping[str, Any],
    reserved: Iterable[str] = (),
    several: bool = False,
) -> Parsed:
    """Read a formula against the column names of the data.

    `reserved` are columns that `.` leaves out (weights, clusters); with `several`, there may be more than one outcome,
    `y1 + y2`. Raises FormulaError when the text is not of the form `outcome ~ structural terms | features | controls`,
    DataError when it uses a name that is neither a column, nor a transform, nor defined where the formula was written.
    """
    texts = split(formula)
    names = _Names(available, context, transforms)
    parts: dict[str, SimpleFormula | None] = dict.fromkeys(PARTS)
    columns: dict[str, tuple[str, ...]] = {}
    dotted = [name for name, text in texts.items() if _has_dot(text)]
    if len(dotted) > 1 or "outcome" in dotted:
        raise FormulaError(
            f"The formula {formula!r} uses '.' {'as outcome' if 'outcome' in dotted else 'in two parts'}. It stands "
            "for every column not used elsewhere, so it may stand in one part right of '~' only."
        )
    taken = list(reserved)
    for name in sorted(texts, key=lambda part: part in dotted):  # the part with '.' last: it takes what is left
        free = [column for column in available if column not in taken]
        parsed = parts[name] = _parse(formula, texts[name], name, free)
        columns[name] = names.columns(parsed, formula)
        taken.extend(columns[name])
    outcome, regressors = parts["outcome"], parts["regressors"]
    if outcome is None or regressors is None:
        raise AssertionError("split() always returns these two parts")
    read_ = Parsed(
        text=formula,
        outcome=outcome,
        regressors=regressors,
        features=parts["features"],
        controls=parts["controls"],
        columns={name: columns[name] for name in PARTS if name in columns},
        categorical=frozenset(names.categorical),
        borrowed=frozenset(names.borrowed),
    )
    _check_parts(read_, texts, several)
    return read_


def split(formula: str) -> dict[str, str]:
    """Cut a formula at its `~` and `|` outside brackets and quotes; raise FormulaError unless the shape is right."""
    if not isinstance(formula, str):
        raise FormulaError(f"A formula is a string such as 'y ~ t | x1 + x2', not {formula!r}.")
    sides = _cut(formula, "~")
    if len(sides) != 2:
        raise FormulaError(
            f"The formula {formula!r} has {'no' if len(sides) == 1 else 'more than one'} '~'. "
            f"The form is {GRAMMAR!r}; type, for example, 'y ~ t | x1 + x2'."
        )
    left, right = sides
    pieces = _cut(right, "|")
    if not left.strip():
        raise FormulaError(f"The formula {formula!r} names no outcome. Type it before '~': 'y {formula.strip()}'.")
    if len(_cut(left, "|")) > 1:
        raise FormulaError(f"The formula {formula!r} has two outcomes, {left.strip()!r}. Fit one formula for each.")
    if len(pieces) > 3:
        raise FormulaError(
            f"The formula {formula!r} has {len(pieces)} parts right of '~'; at most 3 are allowed: {GRAMMAR!r}. "
            "Join columns within a part by '+', and write `a | b` inside a term as I(a | b)."
        )
    for number, piece in enumerate(pieces):
        if not piece.strip():
            where = ("structural terms are", "features are", "controls are")[number]
            hint = "'y ~ t | x1 + x2'" if number == 0 else "'y ~ t' (no bar), or name columns after the bar"
            raise FormulaError(f"The {where} empty in {formula!r}. Type {hint}.")
        if "~" in piece and re.search(r"(?:^|[\s+(*:])\[[^\]]*~", piece):
            raise FormulaError(
                f"The part {piece.strip()!r} of {formula!r} holds an instrument '[t ~ z]' where none is taken. It is a "
                "term of its own before the bar, and there is one: 'y ~ [t1 + t2 ~ z1 + z2] | x'."
            )
    return {"outcome": left.strip(), **{name: piece.strip() for name, piece in zip(PARTS[1:], pieces, strict=False)}}


class Instrumented(NamedTuple):
    """A formula with instruments, as the equations it stands for."""

    formula: str  # outcome + treatments ~ instruments + other regressors | ...
    treatments: tuple[str, ...]
    instruments: tuple[str, ...]


def instrumented(formula: str) -> Instrumented | None:
    """Read `y ~ [t ~ z] + s | x` as `y + t ~ z + s | x`; None for a formula without an instrument.

    Raises FormulaError for fewer instruments than treatments.
    """
    if not isinstance(formula, str) or len(outer := _cut(formula, "~")) != 2:
        return None
    front, *behind = _cut(outer[1], "|")
    terms = [term.strip() for term in _cut(front, "+")]
    found = [match for term in terms if (match := re.fullmatch(r"\[([^~]+)~([^~]+)\]", term))]
    if len(found) != 1:
        return None  # more than one is refused where the formula is read
    treatments, instruments = (tuple(one.strip() for one in _cut(side, "+")) for side in found[0].groups())
    if len(instruments) < len(treatments):
        raise FormulaError(
            f"The formula {formula!r} has {len(treatments)} treatments and {len(instruments)} instruments. Give at "
            "least one for each, as in 'y ~ [t1 + t2 ~ z1 + z2] | x'."
        )
    others = [term for term in terms if not term.startswith("[")]
    right = "|".join([" + ".join([*instruments, *others]) + " ", *behind]).strip()
    left = " + ".join([outer[0].strip(), *treatments])
    return Instrumented(f"{left} ~ {right}", treatments, instruments)


def outcomes(formula: str) -> int:
    """How many outcomes stand left of `~`."""
    return len(_cut(_cut(formula, "~")[0], "+")) if isinstance(formula, str) else 1


def sides(formula: str) -> tuple[str | None, str]:
    """What stands left and right of `~`; None on the left of a formula without `~`. Raises FormulaError for more."""
    if not isinstance(formula, str) or len(pieces := _cut(formula, "~")) > 2:
        split(formula)  # says what is wrong
        raise AssertionError("split() refuses these")
    return (pieces[0].strip() if len(pieces) == 2 else None), pieces[-1].strip()


def check_stored(terms: Iterable[Term], columns: Iterable[str], known: Iterable[str]) -> None:
    """Raise FormulaError unless all factors are columns, numbers, or expressions that a file may hold.

    `known` are the names of transforms and of what was borrowed from where the formula was written.
    """
    available, names = frozenset(columns), frozenset(known)
    for factor in dict.fromkeys(factor for term in terms for factor in term.factors):
        if factor.eval_method is Factor.EvalMethod.LITERAL:
            expression.check_number(factor.expr)
        elif factor.eval_method is Factor.EvalMethod.LOOKUP:
            if factor.expr not in available:
                raise FormulaError(f"The term {factor.expr!r} is no column of the formula.")
        else:
            aliases: dict[str, str] = {}
            expression.check(sanitize_variable_names(factor.expr, {}, aliases), aliases, available, names)


def near(name: str, known: Iterable[object]) -> str:
    """'; did you mean ...?' or '; ... are known' for a name that is not among the known ones."""
    names = [str(one) for one in known]
    close = [one for one in names if one.lower() == name.lower()] or difflib.get_close_matches(name, names, 3, 0.6)
    if close:
        return f"Did you mean {' or '.join(map(repr, close))}?"
    return f"Known: {', '.join(map(repr, names[:20]))}{' ...' if len(names) > 20 else ''}."


def _cut(text: str, mark: str) -> list[str]:
    pieces, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"`":
            quote = char
        elif char in "([{":
            depth += 1
        elif char in ")]}":
            depth -= 1
        elif char == mark and depth == 0:
            pieces.append("")
            continue
        pieces[-1] += char
    return pieces


def _has_dot(text: str) -> bool:
    bare = re.sub(r"'[^']*'|\"[^\"]*\"|`[^`]*`", "q", text)
    return re.search(r"(?<![\w.)\]])\.(?![\w.])", bare) is not None


def _parse(formula: str, text: str, part: str, available: list[str]) -> SimpleFormula:
    parser = DefaultFormulaParser(operator_resolver=_PatsyPowers(), include_intercept=part == "regressors")
    context = {"__formulaic_variables_available__": available, "__formulaic_variables_used_lhs__": []}
    try:
        parsed = SimpleFormula.from_spec(text, ordering="none", parser=parser, nested_parser=parser, context=context)
    except (FormulaicError, SyntaxError, ValueError, TypeError, NotImplementedError, RuntimeError, IndexError) as error:
        reason = " ".join(_COLOUR.sub("", str(error)).replace("⧛", "").replace("⧚", "").split())
        raise FormulaError(
            f"The part {text!r} of the formula {formula!r} cannot be read ({reason or type(error).__name__}). "
            "Join terms by '+', ':' or '*', put arithmetic inside I(): 'y ~ t + I(t**2) | x1 + C(g)'."
        ) from error
    if not isinstance(parsed, SimpleFormula):
        raise FormulaError(
            f"The part {text!r} of the formula {formula!r} is not a sum of terms. The form is {GRAMMAR!r}."
        )
    if part == "regressors":
        return parsed
    return SimpleFormula([term for term in parsed if term.degree > 0])


class _PatsyPowers(DefaultOperatorResolver):
    """formulaic's operators, with the terms of `(a + b)**2` listed by degree as patsy lists them."""

    @property
    def operators(self) -> list[Operator]:
        operators: list[Operator] = super().operators
        for operator in (one for one in operators if one.symbol in ("**", "^")):
            operator.to_terms = partial(_by_degree, operator.to_terms)
        return operators


def _by_degree(power: Callable[..., Iterable[Term]], *args: Any, **kwargs: Any) -> OrderedSet:
    return OrderedSet(sorted(power(*args, **kwargs), key=lambda term: term.degree))


class _Names:
    """Sorts every name in a formula into data column, transform, or borrowed from the caller; remembers what it saw."""

    def __init__(self, available: Iterable[str], context: Mapping[str, Any], transforms: Mapping[str, Any]) -> None:
        self.available, self.context, self.transforms = dict.fromkeys(available), context, transforms
        self.categorical: set[str] = set()
        self.borrowed: set[str] = set()

    def columns(self, part: Iterable[Term], formula: str) -> tuple[str, ...]:
        found: dict[str, None] = {}
        for factor in (factor for term in part for factor in term.factors):
            found.update(dict.fromkeys(self._factor(factor, formula)))
        return tuple(found)

    def _factor(self, factor: Factor, formula: str) -> list[str]:
        if factor.eval_method is Factor.EvalMethod.LITERAL:
            return []
        if factor.eval_method is Factor.EvalMethod.LOOKUP:
            return self._name(factor.expr, formula)
        aliases: dict[str, str] = {}
        try:
            tree = ast.parse(sanitize_variable_names(factor.expr, {}, aliases), mode="eval")
        except SyntaxError as error:
            raise FormulaError(
                f"The term {factor.expr!r} of {formula!r} is not a valid expression: {error.msg}."
            ) from error
        self._refuse(tree, factor.expr, formula)
        found = self._tree(tree, aliases, formula)
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "C":
                self.categorical.update(self._tree(node, aliases, formula))
        return found

    def _tree(self, tree: ast.AST, aliases: Mapping[str, str], formula: str) -> list[str]:
        bound = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
        bound |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
        called = {n.func.id for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)}
        found: list[str] = []
        for node in ast.walk(tree):
            if isinstance(node, ast.Name) and node.id not in bound:
                found.extend(self._name(aliases.get(node.id, node.id), formula, node.id in called))
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Q":
                found.extend(name for arg in node.args for name in self._name(ast.literal_eval(arg), formula))
        return found

    def _name(self, name: str, formula: str, called: bool = False) -> list[str]:
        if name in self.available:
            return [name]
        if name in self.context:
            own = self.transforms.get(name)  # a function of that name, unless it is a number where it is used
            if name not in self.transforms or callable(self.context[name]) or (callable(own) and not called):
                self.borrowed.add(name)
            return []
        if name in self.transforms or (name in BUILTINS and hasattr(builtins, name)):
            return []
        raise DataError(
            f"The formula {formula!r} uses {name!r}, but the data have no such column. {near(name, self.available)}"
        )

    def _refuse(self, tree: ast.AST, expr: str, formula: str) -> None:
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
                raise FormulaError(
                    f"The term {expr!r} of {formula!r} reaches for {node.attr!r}; names with '_' are private."
                )
            called = node.func.id if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) else ""
            if called in self.available and (called in self.transforms or called in self.context):
                raise DataError(
                    f"The data have a column named {called!r}, which hides the function {called}() in {formula!r}. "
                    f"Rename the column: data.rename(columns={{{called!r}: {called.lower() + '_'!r}}})."
                )


def _check_parts(read_: Parsed, texts: Mapping[str, str], several: bool) -> None:
    formula, columns = read_.text, read_.columns
    if len(read_.outcome) != 1 and not (several and len(read_.outcome)):
        raise FormulaError(
            f"The left side {texts['outcome']!r} of {formula!r} has {len(read_.outcome)} outcomes; one is "
            "allowed, and several with family='linear'. Fit one formula for each, or write a sum as I(a + b)."
        )
    behind = [part for part in ("features", "controls") if part in texts]
    if behind and not any(term.degree for term in read_.regressors):
        raise FormulaError(
            f"The formula {formula!r} has no regressor left of '|', so there is no slope that could vary. "
            f"Name the treatment: '{texts['outcome']} ~ t | {texts[behind[0]]}'."
        )
    for part in ("regressors", *behind):
        if mine := [name for name in columns[part] if name in columns["outcome"]]:
            raise FormulaError(
                f"The outcome {mine[0]!r} stands on both sides of '~' in {formula!r}. Take it out of the right side."
            )
    for part in behind:
        if both := [name for name in columns["regressors"] if name in columns[part]]:
            raise FormulaError(_both_sides(read_, texts, part, both))


def _both_sides(read_: Parsed, texts: Mapping[str, str], part: str, both: list[str]) -> str:
    names = _Names([*read_.columns["regressors"], *read_.columns[part]], {}, _Anything())

    def without(terms: SimpleFormula) -> str:
        kept = [str(term) for term in terms if term.degree and not set(names.columns([term], "")) & set(both)]
        return " + ".join(kept)

    which = ", ".join(map(repr, both))
    terms = getattr(read_, part)
    front, back = without(read_.regressors), without(terms)
    type_ = [f"'{texts['outcome']} ~ {front} | {texts[part]}'"] if front and part == "features" else []
    type_ += (
        [f"'{texts['outcome']} ~ {texts['regressors']}{f' | {back}' if back else ''}'"] if part == "features" else []
    )
    moves = "the intercept and every coefficient" if part == "features" else "the intercept"
    return (
        f"{which} stand{'s' if len(both) == 1 else ''} on both sides of '|' in {read_.text!r}. "
        f"The {part} already move {moves}, so a column is either a regressor or one of the {part}. "
        + (f"Type {' or '.join(type_)}." if type_ else f"Take {which} out of one of the two parts.")
    )


class _Anything(dict[str, Any]):
    def __contains__(self, key: object) -> bool:
        return True
