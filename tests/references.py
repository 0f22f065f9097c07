"""Reference numbers whose data may not be shipped: in a folder beside the repository, or one that is named."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def reference(*parts: str) -> Path:
    """The path of a reference file; the test is skipped where it is not there."""
    place = Path(os.environ.get("DEEPREG_REFERENCE", ROOT.parent / "shared" / "reference")).joinpath(*parts)
    if not place.exists():
        pytest.skip(f"{'/'.join(parts)} is not among the reference files; set DEEPREG_REFERENCE to their folder")
    return place
