"""Simulated data whose model has to be found among many: places with risk factors at several scales, and cases with
cut points."""

import numpy as np
import pandas as pd
from scipy.special import expit

from ..seeds import generator
from .processes import Array, Seed, Simulation, whole

SIDE = 6000  # metres, of the square that places lie in
REACHES = (100, 200, 300, 400, 500, 600)


def risk_terrain(n: int = 2000, rng: Seed = None) -> Simulation:
    """Events at places, and how near each place is to bars and to stations.

    Places are uniform on a square of 6 km, 90 bars in clusters, 40 stations uniform. bar_200 is 1 where a bar is within
    200 m, and so for 100 to 600 m and stations; corner ~ Bernoulli(.4). Events of two years are Poisson with mean
    m exp(-1.2 + .3 corner + 1.0 bar_200 + .7 station_300), m ~ Gamma(4, 1/4), the same in both.

    Truth: the coefficients.

    >>> risk_terrain(200, rng=0).frame.columns[:4].tolist()
    ['events', 'events_next', 'corner', 'bar_100']
    """
    rng = generator(rng)
    xy = rng.uniform(0, SIDE, (whole("n", n), 2))
    centres = rng.uniform(600, SIDE - 600, (6, 2))
    bars = np.concatenate([*(rng.normal(one, 250, (10, 2)) for one in centres), rng.uniform(0, SIDE, (30, 2))])
    stations = rng.uniform(0, SIDE, (40, 2))
    columns: dict[str, Array] = {"corner": rng.binomial(1, 0.4, n)}
    for name, points in (("bar", bars), ("station", stations)):
        nearest = np.sqrt(((xy[:, None] - points) ** 2).sum(2).min(1))
        columns |= {f"{name}_{reach}": (nearest <= reach) * 1 for reach in REACHES}
    b = {"Intercept": -1.2, "corner": 0.3, "bar_200": 1.0, "station_300": 0.7}
    mean = np.exp(b["Intercept"] + sum(b[name] * columns[name] for name in list(b)[1:])) * rng.gamma(4, 0.25, n)
    counts = {"events": rng.poisson(mean), "events_next": rng.poisson(mean)}
    frame = pd.DataFrame({**counts, **columns, "x": xy[:, 0].round(), "y": xy[:, 1].round()})
    return _constant(frame, b, "events ~ corner + bar_200 + station_300", "negbin")


def recidivism(n: int = 2000, rng: Seed = None) -> Simulation:
    """Cases with an age, prior arrests and a sex, and whether there was another arrest.

    age is uniform on 18, ..., 65, priors negative binomial, sex "m" with probability .7, and P(recid = 1) =
    sigmoid(-1.2 + .9 [age < 25] + .6 [age < 40] + .6 [priors >= 2] + .9 [priors >= 5] + .3 [sex = "m"]).

    Truth: the coefficients.

    >>> recidivism(100, rng=0).frame.columns.tolist()
    ['recid', 'age', 'priors', 'sex']
    """
    rng = generator(rng)
    age, priors = rng.integers(18, 66, whole("n", n)), rng.negative_binomial(1, 0.25, n)
    sex = rng.choice(["f", "m"], n, p=[0.3, 0.7])
    terms = {"age < 25": age < 25, "age < 40": age < 40, "priors >= 2": priors >= 2, "priors >= 5": priors >= 5}
    b = {"Intercept": -1.2, "age < 25": 0.9, "age < 40": 0.6, "priors >= 2": 0.6, "priors >= 5": 0.9, "sex": 0.3}
    eta = b["Intercept"] + sum(b[name] * one for name, one in terms.items()) + b["sex"] * (sex == "m")
    frame = pd.DataFrame({"recid": rng.binomial(1, expit(eta)), "age": age, "priors": priors, "sex": sex})
    return _constant(frame, b, "recid ~ cut(age) + cut(priors) + sex", "logit")


def _constant(frame: pd.DataFrame, b: dict[str, float], formula: str, family: str) -> Simulation:
    theta = pd.DataFrame({name: np.full(len(frame), value) for name, value in b.items()})
    return Simulation(frame, theta, dict(b), formula, family, pd.DataFrame(index=frame.index))
