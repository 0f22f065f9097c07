"""Two small simulated data sets, always the same; `true_cate` holds the effect of the treatment on each row."""

from typing import Any, TypeAlias

import numpy as np
import pandas as pd

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]


def tutoring_means(struggling: Array, prior_grade: Array, grade_level: Array) -> tuple[Array, Array]:
    """Mean final grade without tutoring and effect of tutoring on it, before clipping; all (n,), in points.

    With s = struggling, p = prior_grade, g = grade_level: mean = .8 p + 20 - 14 s + 2 (g - 7), and the effect is
    6 + 10 max(0, 1 - |p - 65|/12) where s = 1, and 2 + 4 1{g = 9} max(0, 1 - ((p - 72)/15)^2) where s = 0.

        >>> mean, effect = tutoring_means(np.array([1]), np.array([65.0]), np.array([7]))
        >>> float(mean[0]), float(effect[0])
        (58.0, 16.0)
    """
    mean = 0.8 * prior_grade + 20 - 14 * struggling + 2 * (grade_level - 7)
    tent = np.maximum(0, 1 - np.abs(prior_grade - 65) / 12)
    hump = np.maximum(0, 1 - ((prior_grade - 72) / 15) ** 2)
    return mean, np.where(struggling == 1, 6 + 10 * tent, 2 + 4 * (grade_level == 9) * hump)


def tutoring() -> pd.DataFrame:
    """Final grades of 2,000 simulated pupils, half of them tutored at random; the effect depends on who they are.

    Columns: struggling (0/1), prior_grade (points out of 100), grade_level (7, 8, 9), tutoring (0/1), true_cate (the
    effect in points, before grades are clipped to [0, 100]) and final_grade (points). Grades have one decimal.

    Source: "Causal Inference in Python, Part 3: Effect Heterogeneity and Personalization" (solve.it.com), seed 42.

        >>> tutoring().final_grade.head(2).tolist()
        [69.4, 38.0]
    """
    rng = np.random.RandomState(42)  # the legacy generator: its sequence of draws is the data set
    n = 2000
    struggling = rng.binomial(1, 0.4, n)
    prior_grade = np.clip(rng.normal(70 - 12 * struggling, 10, n), 0, 100)
    grade_level = rng.choice([7, 8, 9], n)
    tutored = rng.binomial(1, 0.5, n)
    mean, effect = tutoring_means(struggling, prior_grade, grade_level)
    final_grade = np.clip(mean + effect * tutored + rng.normal(0, 5, n), 0, 100)
    return pd.DataFrame(
        {
            "struggling": struggling,
            "prior_grade": prior_grade.round(1),
            "grade_level": grade_level,
            "tutoring": tutored,
            "true_cate": effect.round(3),
            "final_grade": final_grade.round(1),
        }
    )


def tutorial(n: int = 10_000, seed: int = 3005) -> pd.DataFrame:
    """A randomised binary treatment whose effect is a cubic in one of five normal features.

    y = alpha + beta treatment + e, alpha = x0/5 - 4 x1/3 - x2/2, beta = 2 - x1 + x0^3/4, e and x0, ..., x4 ~ N(0, 1).
    Columns: x0, ..., x4, treatment (0/1), true_cate (beta) and y, without units.

    Source: a PyTorch tutorial, "Deep learning for individual heterogeneity", after Farrell, Liang and Misra,
    arXiv:2010.14694. The defaults give its draws, in single precision as there.

        >>> print(round(tutorial().true_cate.mean(), 4))
        1.9788
    """
    import torch  # here, because nothing else in this file needs it

    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(n, 5, generator=rng)
    alpha = 1 / 5 * x[:, 0] - 4 / 3 * x[:, 1] - 1 / 2 * x[:, 2]
    beta = 2 - x[:, 1] + 1 / 4 * x[:, 0] ** 3
    treatment = 1 * (torch.randn(n, generator=rng) > 0)
    y = alpha + beta * treatment + torch.randn(n, generator=rng)
    frame = pd.DataFrame(x.double().numpy(), columns=[f"x{j}" for j in range(5)])
    return frame.assign(treatment=treatment.numpy(), true_cate=beta.double().numpy(), y=y.double().numpy())
