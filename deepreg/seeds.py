"""Seeds: random generators from whatever numpy takes for one."""

from typing import Any

import numpy as np

from .errors import OptionError


def generator(rng: Any) -> np.random.Generator:
    """The generator that `rng` is or seeds: None, a whole number, a sequence of them, a SeedSequence or a Generator.

    Raises OptionError for anything else.
    """
    try:
        return np.random.default_rng(rng)
    except (TypeError, ValueError) as error:
        raise OptionError(f"rng={rng!r}: give a whole number or a numpy Generator ({error}).") from None
