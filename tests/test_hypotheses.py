"""Hypotheses as text, lists and matrices, and what cannot be read."""

import numpy as np
import pytest
import torch
from patsy import PatsyError
from patsy.constraint import linear_constraint

from deepreg import hypotheses
from deepreg.errors import OptionError

NAMES = ("Intercept", "d", "d:t", "C(arm)[T.b c]", "arm[T.c = d]", "I(t ** 2)")
EYE = np.eye(6)


@pytest.mark.parametrize(
    ("text", "rows", "values", "labels"),
    [
        ("d = 2", [EYE[1]], [2], ["d"]),
        ("d", [EYE[1]], [0], ["d"]),
        ("2*d + Intercept = 1 - d", [3 * EYE[1] + EYE[0]], [1], ["Intercept + 3*d"]),
        ("d/2 = -1", [EYE[1] / 2], [-1], ["0.5*d"]),
        ("-d = d:t", [-EYE[1] - EYE[2]], [0], ["-d - d:t"]),
        ("d = 0, d:t = 1", [EYE[1], EYE[2]], [0, 1], ["d", "d:t"]),
        ("d = d:t = 3", [EYE[1] - EYE[2], EYE[2]], [0, 3], ["d - d:t", "d:t"]),
        ("C(arm)[T.b c] = arm[T.c = d]", [EYE[3] - EYE[4]], [0], ["C(arm)[T.b c] - arm[T.c = d]"]),
        ("I(t ** 2) = 1", [EYE[5]], [1], ["I(t ** 2)"]),
        (["d = 1", "Intercept = 0"], [EYE[1], EYE[0]], [1, 0], ["d", "Intercept"]),
        (("d = 1", "Intercept = 0"), [EYE[1], EYE[0]], [1, 0], ["d", "Intercept"]),
        ([0, 1, 0, 0, 0, -1], [EYE[1] - EYE[5]], [0], ["d - I(t ** 2)"]),
        (EYE, EYE, np.zeros(6), list(NAMES)),
        ((EYE[1], 3), [EYE[1]], [3], ["d"]),
        ((EYE[:2], [3, 4]), EYE[:2], [3, 4], ["Intercept", "d"]),
    ],
)
def test_what_can_be_read(text: object, rows: object, values: object, labels: list[str]) -> None:
    fn, value, named, matrix = hypotheses.read(text, NAMES)
    some = torch.arange(1.0, 7.0, dtype=torch.float64) ** 2
    np.testing.assert_allclose(fn(some), matrix @ some.numpy())
    np.testing.assert_allclose(matrix, np.asarray(rows))
    np.testing.assert_allclose(value, np.asarray(values))
    assert not np.signbit(value[np.asarray(values) == 0]).any()  # "d = -0" is no label
    assert list(named) == labels


def test_names_with_a_comma() -> None:
    names = ("a", "C(arm, Treatment('b'))[T.a]", "arm[T.e,f]")
    _, value, _, matrix = hypotheses.read("C(arm, Treatment('b'))[T.a] = 1, arm[T.e,f] = 2, a = 0", names)
    np.testing.assert_allclose(matrix, np.eye(3)[[1, 2, 0]])
    np.testing.assert_allclose(value, [1, 2, 0])


@pytest.mark.parametrize(
    "text",
    ["q = 1", "d =", "= 1", "d 1", "(d", "sin(d) = 1", "d < 0", "d == 0", "1 = 1", "d = d",
     "d=0; d=1", "d = nan", "", "  ", ["d = 0", ""], [], (), {"d"}, b"d = 0", ("d = 1", 2), [["d"]]],
)  # fmt: skip
def test_what_cannot_be_read_names_the_estimates(text: object) -> None:
    with pytest.raises(OptionError) as caught:
        hypotheses.read(text, NAMES)
    message = str(caught.value)
    assert repr(text) in message and "cannot be read" in message
    assert ", ".join(NAMES) in message and "'I(t ** 2) = 2' or 'Intercept - I(t ** 2) = 0'" in message


@pytest.mark.parametrize("text", [None, 3, np.eye(5), np.zeros((2, 2, 6)), (EYE, 3), (EYE[:2], [1, 2, 3]), [[]]])
def test_a_matrix_of_another_shape(text: object) -> None:
    with pytest.raises(OptionError, match=r"has shape .* but there are 6 estimates \(Intercept, d,"):
        hypotheses.read(text, NAMES)


@pytest.mark.parametrize(
    "text", [np.zeros((0, 6)), np.zeros(6), EYE * 0, EYE[1] * np.nan, (EYE[1], np.inf), (EYE[1], np.nan), "d = 1e400"]
)
def test_a_matrix_that_restricts_nothing(text: object) -> None:
    with pytest.raises(OptionError, match="restricts nothing, or not by finite numbers"):
        hypotheses.read(text, NAMES)


# ---- strings by the hundred


def linear_texts(count: int) -> list[str]:
    """Random linear hypotheses over the names, with every operator, brackets, signs, numbers and odd spacing."""
    rng = np.random.default_rng(0)

    def sums(depth: int) -> str:
        terms = []
        for _ in range(rng.integers(1, 4)):
            name, number = NAMES[rng.integers(len(NAMES))], rng.choice(["2", "0.5", "-3", "1e1", ".25", "(1 + 1)"])
            forms = [name, f"{number}*{name}", f"{name} / {number}", f"-{name}", f"{name}*{number}", number]
            terms.append(rng.choice(forms + ([f"2*({sums(depth - 1)})"] if depth else [])))
        return rng.choice(["+", " + ", " - ", "-"]).join(terms)

    texts = [f"{sums(1)}{rng.choice([' = ', '=', ' =  '])}{sums(0)}" for _ in range(count)]
    return [text for text in texts if restricts(text)]


def restricts(text: str) -> bool:
    try:
        return bool(np.abs(patsy(text)[0]).max() > 1e-9)
    except PatsyError:  # only numbers: those we refuse as well
        with pytest.raises(OptionError, match="restricts nothing"):
            hypotheses.read(text, NAMES)
        return False


def patsy(text: str) -> tuple[np.ndarray, np.ndarray]:
    read = linear_constraint(text, list(NAMES))
    return read.coefs, read.constants.ravel()


TEXTS = linear_texts(300)


def test_two_hundred_linear_texts_read_as_patsy_reads_them() -> None:
    assert len(set(TEXTS)) >= 200
    for text in TEXTS:
        coefficients, constants = patsy(text)
        read = hypotheses.read(text, NAMES)
        assert read.matrix is not None
        np.testing.assert_allclose(read.matrix, coefficients, atol=1e-12, err_msg=text)
        np.testing.assert_allclose(read.value, constants, atol=1e-12, err_msg=text)


SIMPLE = ("a", "b", "log_a", "t[T.x]")
NONLINEAR = {
    "a/b = 1": lambda a, b, c, d: a / b, "a*b": lambda a, b, c, d: a * b, "a**2 = b": lambda a, b, c, d: a**2 - b,
    "exp(a) = 2": lambda a, b, c, d: np.exp(a), "log(b) - a = 0": lambda a, b, c, d: np.log(b) - a,
    "sqrt(b)": lambda a, b, c, d: np.sqrt(b), "2**a": lambda a, b, c, d: 2**a, "a**b": lambda a, b, c, d: a**b,
    "1/a = b": lambda a, b, c, d: 1 / a - b, "(a + 1)/(b - 1)": lambda a, b, c, d: (a + 1) / (b - 1),
    "log_a/t[T.x] = 2": lambda a, b, c, d: c / d, "exp(log_a + 1)*-a": lambda a, b, c, d: -np.exp(c + 1) * a,
    "a = 1/b": lambda a, b, c, d: a - 1 / b, "+a*a": lambda a, b, c, d: a * a,
    "a - 2**-1*b*b": lambda a, b, c, d: a - b * b / 2,
}  # fmt: skip


@pytest.mark.parametrize("text", NONLINEAR)
def test_nonlinear_texts_are_the_functions_they_say(text: str) -> None:
    point = np.array([1.5, 2.5, -0.5, 0.75])
    read = hypotheses.read(text, SIMPLE)
    assert read.matrix is None
    np.testing.assert_allclose(read.fn(torch.from_numpy(point))[0], NONLINEAR[text](*point), rtol=1e-14)
    assert read.value[0] == {"a/b = 1": 1, "exp(a) = 2": 2, "log_a/t[T.x] = 2": 2}.get(text, 0)


def test_linear_and_nonlinear_in_one_text() -> None:
    read = hypotheses.read("a = 2, a/b = b = 3", SIMPLE)
    np.testing.assert_allclose(read.fn(torch.tensor([1.0, 2.0, 3.0, 4.0])), [1, 0.5 - 2, 2])
    assert read.matrix is None and read.value.tolist() == [2, 0, 3]
    assert read.labels == ("a", "a / b - b", "b")


def test_a_mapping_names_the_values() -> None:
    read = hypotheses.read({"a": 2, "a/b": np.float64(-1.5)}, SIMPLE)
    assert read.value.tolist() == [2, -1.5] and read.labels == ("a", "a / b")


def test_names_as_they_are_typed_elsewhere() -> None:
    names = ("t", "I(t ** 2)", "t2", "bs(x, df=3)[1]", "ATE arm: b vs a", "x.y")
    for text, j in {"I(t**2)": 1, "t2": 2, "bs(x,df = 3)[1]": 3, "ATE arm:b vs a": 4, "x.y": 5, " t ": 0}.items():
        np.testing.assert_allclose(hypotheses.read(text, names).matrix, np.eye(6)[[j]], err_msg=text)


@pytest.mark.parametrize(
    "text",
    ["__import__('os').system('x')", "a.__class__", "(lambda: a)()", "[a for a in b]", "a if b else a", "a and b",
     "not a", "a @ b", "a // b", "a % b", "a < b", "a <= b", "a != b", "a := b", "'a'", "a[0]", "exp(a, b)", "exp()",
     "exp(x=a)", "exp", "abs(a)", "max(a, b)", "a(b)", "True", "None", "1j", "a;b", "a b", "a +", "* a", "((a)", "a))",
     "a = b =", "= ", ",", "a,,b", "a =, b", "-" * 9000 + "a", "(" * 300 + "a" + ")" * 300, "a+" * 3000 + "a",
     "a" * 20_000, "9**9**9**9 * a", "a = 1/0", "a*(1/0)", "a = (-1)**0.5", "a = log(0)", "a = sqrt(-1)", "log_b", "aa",
     "\u2d630"],
)  # fmt: skip
def test_what_is_no_arithmetic_of_names_is_refused(text: str) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        hypotheses.read(text, SIMPLE)
