"""Where the reference numbers of the classical models are: beside the checkout, or where DEEPREG_REFERENCE says."""

import os
from pathlib import Path

import pytest

PLACE = Path(os.environ.get("DEEPREG_REFERENCE", Path(__file__).parents[2] / "shared" / "reference")) / "classical"


def classical(name: str) -> Path:
    """A file of the reference; the test is skipped where it is not there."""
    if not (PLACE / name).exists():
        pytest.skip(f"the reference file {name} is not beside the checkout")
    return PLACE / name
