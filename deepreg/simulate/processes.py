"""Data-generating processes with known coefficients.

Each draws n independent rows and returns them with the true theta(x) of every row and the population values of targets.
All take `rng`, anything `numpy.random.default_rng` accepts, and raise OptionError where n is not a whole number of at
least 1. Below, e ~ N(0, 1), X ~ N(0, I) with five columns unless said, t is the treatment, p(x) = P(t = 1 | x), and a
linear outcome is y = alpha(x) + beta(x) t + e.

References: Farrell, Liang and Misra (2021), Econometrica 89(1), 181-213.
Friedman (1991), Annals of Statistics 19(1), 1-67.

    >>> sim = get("friedman")(n=500, rng=0)
    >>> sim.formula, sim.frame.shape, round(sim.truth["ate"], 3)
    ('y ~ t | x0 + x1 + x2 + x3 + x4 + x5 + x6 + x7 + x8 + x9', (500, 12), 4.049)
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from scipy.special import expit, sici
from scipy.stats import norm

from ..datasets import tutoring_means
from ..errors import OptionError
from ..seeds import generator

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Seed: TypeAlias = int | np.random.SeedSequence | np.random.Generator | None

MEAN_ABS_NORMAL = (2 / np.pi) ** 0.5  # E|Z|
MEAN_SINE = float((np.euler_gamma + np.log(np.pi) - sici(np.pi)[1]) / np.pi)  # E sin(pi U V), U and V uniform on (0, 1)
# Integrals without a closed form, by Gauss quadrature; the last digit shown is correct.
TUTORING_EFFECT = 5.503706040169
LOGIT_AME = 0.096059963897


@dataclass(frozen=True, eq=False)
class Simulation:
    """n simulated rows, and all that is usually unknown about them.

    Attributes
    ----------
    frame : DataFrame
        (n, columns): outcome, treatment and features, nothing else.
    theta : DataFrame
        (n, P): the true theta(x), columns named as the terms of the regression.
    truth : dict
        The population value of each target; under the name of a term stands the mean of its coefficient.
    formula : str
        What to fit.
    family : str or Family
        Which family.
    law : DataFrame
        (n, 2): mean and sd of the treatment given x. The mean of a binary one is its propensity.
    model, options : str and dict
        The function that fits it, "structural" or "choice", and its other arguments.
    targets : tuple of Target
        What is estimated in addition; their values are in truth under the names that estimates give them.
    """

    frame: pd.DataFrame
    theta: pd.DataFrame
    truth: dict[str, float]
    formula: str
    family: Any
    law: pd.DataFrame
    model: str = "structural"
    options: dict[str, Any] = field(default_factory=dict)
    targets: tuple[Any, ...] = ()

    @property
    def propensity(self) -> Array:
        """E[t | x] of every row (n,): the propensity score where the treatment is binary."""
        return self.law["mean"].to_numpy()


Process: TypeAlias = Callable[..., Simulation]  # called with n= and rng=


def whole(name: str, value: int) -> int:
    """The value of the argument `name`, where it is a whole number of at least 1; OptionError where it is not."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise OptionError(f"{name}={value!r} is not allowed. Give a whole number of at least 1, for example {name}=2.")
    return int(value)


def _assemble(
    x: Array,
    t: Array,
    y: Array,
    theta: tuple[Array, Array],
    law: tuple[Array, Array],
    truth: dict[str, float],
    family: str = "linear",
    treatment: str = "t",
) -> Simulation:
    """Name the parts: features x0, x1, ..., outcome y, and coefficients Intercept and treatment."""
    frame = pd.DataFrame(x, columns=[f"x{j}" for j in range(x.shape[1])])
    formula = f"y ~ {treatment} | {' + '.join(frame.columns)}"
    coefficients = pd.DataFrame({"Intercept": theta[0], treatment: theta[1]})
    moments = pd.DataFrame({"mean": law[0], "sd": law[1]})
    return Simulation(frame.assign(**{treatment: t, "y": y}), coefficients, truth, formula, family, moments)


def _binary(rng: np.random.Generator, p: Array) -> tuple[Array, tuple[Array, Array]]:
    """A 0/1 treatment with propensity p, and its law."""
    return rng.binomial(1, p), (p, np.sqrt(p * (1 - p)))


def _shifted(rng: np.random.Generator, mean: Array, sd: Array) -> tuple[Array, tuple[Array, Array]]:
    """A normal treatment, and its law."""
    return rng.normal(mean, sd), (mean, sd)


def _linear(rng: np.random.Generator, alpha: Array, beta: Array, t: Array) -> Array:
    return alpha + beta * t + rng.normal(size=len(t))


def tutorial(n: int = 2000, confounded: bool = False, rng: Seed = None) -> Simulation:
    """Linear outcome, binary treatment, a cubic in the slope.

    alpha = x0/5 - 4 x1/3 - x2/2, beta = 2 - x1 + x0^3/4, p = 1/2, or sigmoid(x0 + x1^2/2 - 1/2) where `confounded`.
    Truth: ate = 2, exactly.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 5))
    alpha = x[:, 0] / 5 - 4 / 3 * x[:, 1] - x[:, 2] / 2
    beta = 2 - x[:, 1] + x[:, 0] ** 3 / 4
    t, law = _binary(rng, expit(x[:, 0] + x[:, 1] ** 2 / 2 - 0.5) if confounded else np.full(n, 0.5))
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, {"ate": 2.0}, treatment="treatment")


def _clipped_mean(mean: Array, sd: float = 5.0, low: float = 0.0, high: float = 100.0) -> Array:
    """E[clip(mean + sd e, low, high)], elementwise."""
    a, b = (low - mean) / sd, (high - mean) / sd
    inside = norm.cdf(b) - norm.cdf(a)
    return mean * inside + sd * (norm.pdf(a) - norm.pdf(b)) + low * norm.cdf(a) + high * norm.sf(b)


def tutoring(n: int = 2000, confounded: bool = False, rng: Seed = None) -> Simulation:
    """Final grades of pupils, some of them tutored: kinks, steps, and grades clipped to [0, 100].

    struggling ~ Bernoulli(.4), prior_grade ~ clip(N(70 - 12 struggling, 10^2)), grade_level uniform on {7, 8, 9}, and
    final_grade ~ clip(N(mean, 5^2)) with the means of `datasets.tutoring_means`. p = 1/2, or where `confounded`
    sigmoid(.9 struggling - (prior_grade - 65)/12 + .3 (grade_level - 8)).

    theta(x) is the mean of the clipped grade without tutoring, and the effect on it, both in closed form.
    Truth: ate = 5.503706040169, the same for both assignments: closed form given x, quadrature over prior_grade.
    """
    rng = generator(rng)
    struggling = rng.binomial(1, 0.4, whole("n", n))
    prior = np.clip(rng.normal(70 - 12 * struggling, 10), 0, 100)
    level = rng.choice([7, 8, 9], n)
    score = 0.9 * struggling - (prior - 65) / 12 + 0.3 * (level - 8)
    t, (p, sd) = _binary(rng, expit(score) if confounded else np.full(n, 0.5))
    mean, effect = tutoring_means(struggling, prior, level)
    grade = np.clip(mean + effect * t + 5 * rng.normal(size=n), 0, 100)
    columns = {"struggling": struggling, "prior_grade": prior, "grade_level": level}
    clipped = _clipped_mean(mean)
    return Simulation(
        frame=pd.DataFrame({**columns, "tutoring": t, "final_grade": grade}),
        theta=pd.DataFrame({"Intercept": clipped, "tutoring": _clipped_mean(mean + effect) - clipped}),
        truth={"ate": TUTORING_EFFECT},
        formula="final_grade ~ tutoring | struggling + prior_grade + C(grade_level)",
        family="linear",
        law=pd.DataFrame({"mean": p, "sd": sd}),
    )


def logit_continuous(n: int = 2000, rng: Seed = None) -> Simulation:
    """Binary outcome, continuous treatment.

    alpha = -.2 + .6 x0 + .5 sin(2 x1), beta = .5 + .4 tanh(x1) + .3 (|x2| - .8), t ~ N(x0/2, 1),
    y ~ Bernoulli(sigmoid(alpha + beta t)).

    Truth: t, the mean slope E[beta] = .5 + .3 (sqrt(2/pi) - .8), exactly; ame, the mean of
    beta sigmoid'(alpha + beta t) over the observed t, 0.096059963897 by quadrature.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 5))
    alpha = -0.2 + 0.6 * x[:, 0] + 0.5 * np.sin(2 * x[:, 1])
    beta = 0.5 + 0.4 * np.tanh(x[:, 1]) + 0.3 * (np.abs(x[:, 2]) - 0.8)
    t, law = _shifted(rng, x[:, 0] / 2, np.ones(n))
    y = rng.binomial(1, expit(alpha + beta * t))
    truth = {"t": 0.5 + 0.3 * (MEAN_ABS_NORMAL - 0.8), "ame": LOGIT_AME}
    return _assemble(x, t, y, (alpha, beta), law, truth, family="logit")


def highdim(n: int = 2000, rng: Seed = None) -> Simulation:
    """Linear outcome, binary treatment, 50 features of which six matter.

    X ~ N(0, S) with S_jk = .3^|j-k|, alpha = x0 + 1.5 sin(x1) + x2^2/2 - x3 x4/2, beta = 1 + x0 + .7 |x5| 1{x1 > 0},
    p = sigmoid(x0/2 + x2/2 - .4 x3). Truth: ate = 1 + .35 sqrt(2/pi), exactly.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 50))
    for j in range(1, 50):
        x[:, j] = 0.3 * x[:, j - 1] + (1 - 0.3**2) ** 0.5 * x[:, j]
    alpha = x[:, 0] + 1.5 * np.sin(x[:, 1]) + x[:, 2] ** 2 / 2 - x[:, 3] * x[:, 4] / 2
    beta = 1 + x[:, 0] + 0.7 * np.abs(x[:, 5]) * (x[:, 1] > 0)
    t, law = _binary(rng, expit(x[:, 0] / 2 + x[:, 2] / 2 - 0.4 * x[:, 3]))
    truth = {"ate": 1 + 0.35 * MEAN_ABS_NORMAL}
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, truth)


def linear_const(n: int = 2000, rng: Seed = None) -> Simulation:
    """Linear outcome, binary treatment, a constant effect: ordinary least squares is efficient here.

    Ten features, alpha = x0 + .8 x1 + .6 x2 + .4 x3 + .2 x4, beta = 1, p = sigmoid(x0/2 + x1/2 - x4/4).
    Truth: ate = 1, exactly.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 10))
    alpha, beta = x[:, :5] @ np.array([1, 0.8, 0.6, 0.4, 0.2]), np.ones(n)
    t, law = _binary(rng, expit(x[:, 0] / 2 + x[:, 1] / 2 - x[:, 4] / 4))
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, {"ate": 1.0})


def no_effect(n: int = 2000, rng: Seed = None) -> Simulation:
    """Linear outcome, confounded binary treatment, and no effect for anyone: a 5% test of 0 rejects in 5% of draws.

    alpha = x0 + sin(2 x1) + x2^2/2, beta = 0, p = sigmoid(x0 + sin(2 x1)/2). Truth: ate = 0, exactly.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 5))
    wave = np.sin(2 * x[:, 1])
    alpha, beta = x[:, 0] + wave + x[:, 2] ** 2 / 2, np.zeros(n)
    t, law = _binary(rng, expit(x[:, 0] + wave / 2))
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, {"ate": 0.0})


def friedman(n: int = 2000, rng: Seed = None) -> Simulation:
    """Linear outcome, binary treatment, Friedman's function in the intercept and parts of it in slope and propensity.

    X uniform on (0, 1)^10, f = sin(pi x0 x1), alpha = 10 f + 20 (x2 - .5)^2 + 10 x3 + 5 x4, beta = 2 + 2 x3 + 2 f,
    p = sigmoid(1.5 (f - .5) + 2 (x3 - .5)). Truth: ate = 3 + 2 E f with E f = (gamma + log pi - Ci(pi)) / pi, exactly.
    """
    rng = generator(rng)
    x = rng.uniform(size=(whole("n", n), 10))
    f = np.sin(np.pi * x[:, 0] * x[:, 1])
    alpha = 10 * f + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    beta = 2 + 2 * x[:, 3] + 2 * f
    t, law = _binary(rng, expit(1.5 * (f - 0.5) + 2 * (x[:, 3] - 0.5)))
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, {"ate": 3 + 2 * MEAN_SINE})


def irm(n: int = 2000, rng: Seed = None) -> Simulation:
    """Linear outcome, binary treatment, poor overlap: the effect is largest where the treatment is most likely.

    Twenty features, X ~ N(0, S) with S_jk = .5^|j-k|, v = sum_k x_k / k^2 (k from 1) divided by its standard deviation,
    alpha = 0, beta = .5 + v, p = sigmoid(pi v / sqrt(3)). Truth: ate = .5, exactly.

    Reference: `make_irm_data` of DoubleML at its defaults, after Belloni, Chernozhukov, Fernández-Val and Hansen
    (2017), Econometrica 85(1), 233-298.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 20))
    for j in range(1, 20):
        x[:, j] = 0.5 * x[:, j - 1] + (1 - 0.5**2) ** 0.5 * x[:, j]
    k = np.arange(1, 21)
    weights = 1 / k**2
    v = x @ weights / (weights @ 0.5 ** np.abs(k[:, None] - k) @ weights) ** 0.5
    t, law = _binary(rng, expit(np.pi * v / 3**0.5))
    alpha, beta = np.zeros(n), 0.5 + v
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, {"ate": 0.5})


def price(n: int = 2000, rng: Seed = None) -> Simulation:
    """Linear outcome, a continuous treatment far from zero: nothing may depend on where its origin is.

    alpha = sin(x0) + x1, beta = -.5 + .3 tanh(x2), t ~ N(10 + x0, 1). Truth: t = ame = -.5, exactly.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 5))
    alpha, beta = np.sin(x[:, 0]) + x[:, 1], -0.5 + 0.3 * np.tanh(x[:, 2])
    t, law = _shifted(rng, 10 + x[:, 0], np.ones(n))
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, {"t": -0.5, "ame": -0.5})


def heteroskedastic(n: int = 2000, rng: Seed = None) -> Simulation:
    """Linear outcome, a confounded continuous treatment whose spread varies with x.

    alpha = x0 + x1^2/2 - x2/2, beta = 1 + x0/2 - tanh(x2)/2, t ~ N(x0/2 + sin(x1), exp(x0)).
    Truth: t = ame = 1, exactly.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 5))
    alpha = x[:, 0] + x[:, 1] ** 2 / 2 - x[:, 2] / 2
    beta = 1 + x[:, 0] / 2 - np.tanh(x[:, 2]) / 2
    t, law = _shifted(rng, x[:, 0] / 2 + np.sin(x[:, 1]), np.exp(x[:, 0] / 2))
    return _assemble(x, t, _linear(rng, alpha, beta, t), (alpha, beta), law, {"t": 1.0, "ame": 1.0})


def poisson_confounded(n: int = 2000, rng: Seed = None) -> Simulation:
    """Counts, a confounded binary treatment.

    alpha = .5 + .4 x0 - x1^2/8, beta = .4 + .3 x1 - .2 x2, p = sigmoid(x0/2 + x1/2), y ~ Poisson(exp(alpha + beta t)).
    Truth: t = E[beta] = .4; ate = (exp(.4 + .036 + .02) - 1) exp(.58) / sqrt(1.25) in counts, both exactly.
    """
    rng = generator(rng)
    x = rng.normal(size=(whole("n", n), 5))
    alpha = 0.5 + 0.4 * x[:, 0] - x[:, 1] ** 2 / 8
    beta = 0.4 + 0.3 * x[:, 1] - 0.2 * x[:, 2]
    t, law = _binary(rng, expit(x[:, 0] / 2 + x[:, 1] / 2))
    y = rng.poisson(np.exp(alpha + beta * t))
    truth = {"t": 0.4, "ate": float(np.expm1(0.456) * np.exp(0.58) / 1.25**0.5)}
    return _assemble(x, t, y, (alpha, beta), law, truth, family="poisson")


_PROCESSES: dict[str, Process] = {
    "friedman": friedman,
    "heteroskedastic": heteroskedastic,
    "highdim": highdim,
    "irm": irm,
    "linear_const": linear_const,
    "logit_continuous": logit_continuous,
    "no_effect": no_effect,
    "poisson_confounded": poisson_confounded,
    "price": price,
    "tutorial": tutorial,
    "tutorial_confounded": partial(tutorial, confounded=True),
    "tutoring": tutoring,
    "tutoring_confounded": partial(tutoring, confounded=True),
}


def names() -> tuple[str, ...]:
    """The names of all simulations, in alphabetical order.

    >>> "friedman" in names()
    True
    """
    return tuple(_PROCESSES)


def get(name: str) -> Process:
    """The generator of a name, to be called with n and rng; raises OptionError where there is none.

    >>> get("tutoring_confounded")(n=100, rng=1).frame.shape
    (100, 5)
    """
    if name not in _PROCESSES:
        raise OptionError(f"There is no simulation named {name!r}. The names are: {', '.join(names())}.")
    return _PROCESSES[name]
