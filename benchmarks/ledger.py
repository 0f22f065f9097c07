"""What the studies write beside their numbers: settings, versions, and the speed and memory of the machine."""

import json
import os
import platform
import time
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("deepreg-structural", "torch", "numpy", "scipy", "pandas", "formulaic", "statsmodels")


def product() -> float:
    """Seconds of one 1536 x 1536 product in single precision, the least of five."""
    a, times = torch.randn(1536, 1536), []
    for _ in range(5):
        start = time.perf_counter()
        a @ a
        times.append(time.perf_counter() - start)
    return min(times)


def resident(field: str) -> float:
    """VmRSS or VmHWM of this process in MB; not a number where the system does not say."""
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


def forget_peak() -> None:
    """Count the peak of memory from here on (Linux; elsewhere it is that of the whole run)."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
    except OSError:
        return


def replace(path: Path, content: bytes) -> None:
    """All or nothing: the old file stays until the new one is complete."""
    new = path.with_suffix(".tmp")
    new.write_bytes(content)
    os.replace(new, path)


def record(table: Path, settings: Mapping[str, Any], packages: Iterable[str] = PACKAGES) -> int:
    """Note settings and versions of a run in a JSON file beside its table, and return the number of the run."""
    notes = table.with_suffix(".json")
    runs = json.loads(notes.read_text(encoding="utf-8")) if notes.exists() else {}
    number = len(runs) + 1
    runs[str(number)] = {
        "date": time.strftime("%Y-%m-%d"),
        "settings": dict(settings),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {package: _version(package) for package in packages},
    }
    replace(notes, (json.dumps(runs, indent=2) + "\n").encode())
    return number


def append(out: Path, rows: Any) -> None:
    """Add the rows of a data frame to the table; columns that one of the two lacks stay empty."""
    import pandas as pd

    known = [pd.read_csv(out)] if out.exists() else []
    text = pd.concat([*known, rows], ignore_index=True).to_csv(index=False, float_format="%.6g", lineterminator="\n")
    replace(out, text.encode())


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"
