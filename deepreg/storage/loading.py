"""Reading a result from the file that `Results.save` wrote."""

import os
from collections.abc import Mapping

from ..api import check_context
from ..errors import OptionError
from ..families import Family
from ..results import Results
from . import persist


def load(
    path: str | os.PathLike[str], *, context: Mapping[str, object] | None = None, family: Family | None = None
) -> Results:
    """Read a result that `Results.save` wrote. Nothing in the file is executed.

    Parameters
    ----------
    path : str or path
    context : mapping, optional
        The functions that the formula borrowed from where it was written, by name; a file holds their names only.
    family : Family, optional
        The family, where it is one of your own; a file holds its name only.

    Returns
    -------
    Results
        Its numbers are those of the saved result, digit for digit. What needs the rows of the fit raises NotAvailable
        where the file was written without data=True.

    Raises
    ------
    FileError
        Where the file is missing, no result, damaged, or of a format that this version does not read.
    OptionError
        Where `context` or `family` are not those that the file asks for.

    Examples
    --------
    >>> import tempfile, deepreg
    >>> sim = deepreg.simulate.tutorial(300, rng=0)
    >>> res = deepreg.structural("y ~ treatment | x0", sim.frame).fit(learners="smooth", folds=2, rng=0, progress=False)
    >>> path = tempfile.mkdtemp() + "/fit.deepreg"
    >>> res.save(path)
    >>> bool((deepreg.load(path).bse == res.bse).all())
    True
    """
    if not isinstance(path, str | os.PathLike):
        raise OptionError(f"load() takes the path of a file, not {type(path).__name__}.")
    context = {} if context is None else context
    check_context(context)
    return persist.load(path, Results, context, family)
