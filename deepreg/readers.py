"""Data files other than Parquet, read whole by pandas: text, Stata and Excel, told apart by the ending of the name."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pandas as pd

from deepreg.errors import DataError


def _text(path: Path, separator: str) -> pd.DataFrame:
    return pd.read_csv(path, sep=separator, low_memory=False)


READERS: Mapping[str, tuple[str, Callable[[Path], pd.DataFrame]]] = {
    ".csv": ("comma-separated text", lambda path: _text(path, ",")),
    ".tsv": ("tab-separated text", lambda path: _text(path, "\t")),
    ".dta": ("a Stata file", pd.read_stata),
    ".xlsx": ("an Excel file", pd.read_excel),
}
PACKED = (".gz", ".bz2", ".xz", ".zip")  # text may be packed
ENDINGS = (*READERS, *(ending + packed for ending in (".csv", ".tsv") for packed in (".gz", ".zip")))


def ending(path: Path) -> str:
    """The ending that says how a file is read, lower case and without that of a packer; "" without one."""
    endings = [one.lower() for one in path.suffixes]
    if len(endings) > 1 and endings[-1] in PACKED and endings[-2] in (".csv", ".tsv"):
        return endings[-2]
    return endings[-1] if endings else ""


def read(path: Path) -> pd.DataFrame:
    """The table of a file whose ending is in READERS, as pandas reads it with its defaults.

    In Stata files labelled values are categories under their labels. Raises DataError where the file cannot be read.
    """
    what, reader = READERS[ending(path)]
    try:
        return reader(path)
    except ImportError as error:
        raise DataError(f"data={str(path)!r} is {what}, read by a package that is not installed: {error}") from None
    except Exception as error:  # whatever a reader raises on a broken file
        raise DataError(
            f"data={str(path)!r} cannot be read as {what}: {error}. Open it yourself, for example with pandas, and "
            "pass the table."
        ) from error
