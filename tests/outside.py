"""Reference data that are not shipped, for their licences: beside the checkout, or where DEEPREG_REFERENCE says."""

import os
from pathlib import Path

import pytest

PLACE = Path(os.environ.get("DEEPREG_REFERENCE", Path(__file__).parents[2] / "shared" / "reference"))


def outside(name: str) -> Path:
    """The path of a reference file; skips the test where it is not there."""
    path = PLACE / name
    if not path.exists():
        pytest.skip(f"{name} is not shipped with the package; see tests/outside.py")
    return path
