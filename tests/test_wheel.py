"""The wheel is complete: built, unpacked elsewhere, and used without the source tree."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
USE = """
import sys
from pathlib import Path
import deepreg
import numpy as np, pandas as pd

assert Path(deepreg.__file__).is_relative_to(sys.argv[1]), deepreg.__file__
assert deepreg.__version__ == "0.1.0", deepreg.__version__
rng = np.random.default_rng(0)
data = pd.DataFrame({"x": rng.normal(size=400), "t": rng.integers(0, 2, 400)})
data["y"] = data.x + (1 + data.x) * data.t + rng.normal(size=400)
result = deepreg.structural("y ~ t | x", data=data, family="linear").fit(folds=2, members=1, rng=0, progress=False)
print(result.summary())
"""


def run(*command: str | Path, cwd: Path, **env: str) -> str:
    done = subprocess.run([*map(str, command)], cwd=cwd, env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    return next(out.glob("*.whl"))


def test_the_wheel_holds_the_package_the_templates_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {f"deepreg/templates/{path.name}" for path in (ROOT / "templates").glob("*.j2")} <= set(names)
    assert any(name.startswith("deepreg/templates/") and name.endswith(".j2") for name in names)
    assert "deepreg/py.typed" in names
    assert {name.split("/")[0] for name in names} == {"deepreg", "deepreg_structural-0.1.0.dist-info"}
    assert not [name for name in names if "__pycache__" in name]


def test_a_fit_from_the_installed_wheel(wheel: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    run(sys.executable, "-m", "pip", "install", "--no-deps", "--no-index", "--target", site, wheel, cwd=tmp_path)
    printed = run(sys.executable, "-W", "error", "-c", USE, site, cwd=tmp_path, PYTHONPATH=str(site))
    assert "Intercept" in printed
    assert "t " in printed
