# Needs Python 3.10 or newer and make; everything else is installed into .venv at the versions of constraints.txt.
PYTHON ?= python3
JOBS ?= 2
DRAWS ?= 200

ENV := .venv
PY := $(ENV)/bin/python
INSTALL := $(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt
# One thread per process: results repeat, and parallel test workers do not compete for cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 MPLBACKEND=Agg

.PHONY: demo test lint types docs interop latex browser coverage-study speed clean

demo: .venv/.demo-installed
	$(PY) examples/tutoring.py

test: lint types
	$(ONE_THREAD) $(PY) -m pytest -n $(JOBS)

lint: .venv/.test-installed
	$(PY) -m ruff check .

types: .venv/.test-installed
	$(PY) -m mypy

docs: .venv/.docs-installed
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

# Opens the report page in headless chromium, which is not installed by it (Debian: chromium).
browser: .venv/.test-installed
	@command -v chromium >/dev/null || { echo "make browser needs chromium; install it first." >&2; exit 1; }
	$(ONE_THREAD) $(PY) -m pytest tests/test_page.py

# Results in the tables and tests of stargazer, maketables, marginaleffects, EconML and shap, in an environment of
# their own: one of them installs a package called `tests`, which hides that of this project.
interop:
	$(MAKE) .interop/.interop-installed ENV=.interop
	$(ONE_THREAD) .interop/bin/python -m pytest -ra tests/test_interop.py

# Compiles tables of every style. The engines are not installed by it; in Debian they are in texlive-latex-base,
# texlive-latex-recommended, texlive-latex-extra, texlive-science and texlive-luatex.
latex: .venv/.test-installed
	@command -v pdflatex >/dev/null || { echo "make latex needs pdflatex; install TeX Live first." >&2; exit 1; }
	@command -v lualatex >/dev/null || { echo "make latex needs lualatex; install TeX Live first." >&2; exit 1; }
	$(ONE_THREAD) $(PY) -m pytest tests/test_latex.py

# Hours, not minutes: the slow tests, then the Monte Carlo table of every design.
coverage-study: .venv/.test-installed
	$(ONE_THREAD) $(PY) -m pytest -n $(JOBS) -m slow || test $$? -eq 5 # 5: no test is marked slow
	$(ONE_THREAD) $(PY) benchmarks/coverage.py --draws $(DRAWS) --jobs $(JOBS)

# Seconds of default fits at n = 10,000 on one core.
speed: .venv/.demo-installed
	$(ONE_THREAD) $(PY) benchmarks/speed.py

clean:
	rm -rf .venv .interop build dist site .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(PY):
	$(PYTHON) -m venv $(ENV)

# A stamp is older than the two files that decide what is installed, or the installation is up to date.
.venv/.demo-installed: pyproject.toml constraints.txt | $(PY)
	@echo "Installing deepreg and what it needs into .venv (some minutes the first time) ..."
	$(INSTALL) -e .
	@touch $@

.venv/.test-installed: pyproject.toml constraints.txt | $(PY)
	@echo "Installing deepreg, its optional parts and its test tools into .venv (some minutes the first time) ..."
	$(INSTALL) -e ".[plot,test]"
	@touch $@ .venv/.demo-installed

.interop/.interop-installed: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -e ".[interop,test]"
	@touch $@

.venv/.docs-installed: pyproject.toml constraints.txt | $(PY)
	$(INSTALL) -e ".[docs]"
	@touch $@ .venv/.demo-installed
