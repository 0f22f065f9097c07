"""Hypotheses as text, lists and matrices, and what cannot be read."""

import numpy as np
import pytest

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
    matrix, value, named = hypotheses.read(text, NAMES)
    np.testing.assert_allclose(matrix, np.asarray(rows))
    np.testing.assert_allclose(value, np.asarray(values))
    assert not np.signbit(value[np.asarray(values) == 0]).any()  # "d = -0" is no label
    assert list(named) == labels


def test_names_with_a_comma() -> None:
    names = ("a", "C(arm, Treatment('b'))[T.a]", "arm[T.e,f]")
    matrix, value, _ = hypotheses.read("C(arm, Treatment('b'))[T.a] = 1, arm[T.e,f] = 2, a = 0", names)
    np.testing.assert_allclose(matrix, np.eye(3)[[1, 2, 0]])
    np.testing.assert_allclose(value, [1, 2, 0])


@pytest.mark.parametrize(
    "text",
    ["q = 1", "d =", "= 1", "d 1", "(d", "d*d = 1", "d**2 = 1", "sin(d) = 1", "d < 0", "d == 0", "1 = 1", "d = d",
     "d=0; d=1", "d = nan", "", "  ", ["d = 0", ""], [], (), {"d": 1}, {"d"}, b"d = 0", ("d = 1", 2), [["d"]]],
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
