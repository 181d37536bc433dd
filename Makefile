# Every target does its own set-up: the environment is made once and again when pyproject.toml changes.
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DOCS_STAMP := $(VENV)/.installed-docs
# One thread each: results and timings do not depend on how many a library would take.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 NUMBA_NUM_THREADS=1

.PHONY: demo test evidence test-kernel test-rounding fuzz check docs accessibility bench bench-peers bench-posterior bench-boundary bench-first-call bench-asked bench-small calibrate atlas notebooks clean

demo: $(STAMP)
	$(BIN)/bayeslmm demo --out demo-output

QUICK := "not calibration and not benchmark and not evidence"
EVIDENCE := "evidence and not calibration and not benchmark"

# Some minutes, with a case of every kind of evidence in it.
test: $(STAMP)
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python -m pytest -q -n auto --dist worksteal -m $(QUICK)

# The further cases of long tests.
evidence: $(STAMP)
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python -m pytest -q -n auto --dist worksteal -m $(EVIDENCE)

# Folders whose tests compare digits.
NUMERICAL := $(addprefix tests/,inference likelihood numerics properties reference reml residual results teaching)

# Under another BLAS kernel than the processor's own.
test-kernel: $(STAMP)
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python tools/second_kernel.py -q -n auto --dist worksteal -m $(QUICK) $(NUMERICAL)

# NOISE: units in the last place by which linear algebra is off, see tests/rounding.py. About four times as slow.
NOISE := 1
test-rounding: $(STAMP)
	$(ONE_THREAD) MPLBACKEND=Agg BAYESLMM_ROUNDING_NOISE=$(NOISE) $(BIN)/python -m pytest -q -n auto --dist worksteal $(NUMERICAL)

# All odd values of all public arguments (half an hour), and many more changes of saved files.
fuzz: $(STAMP)
	$(ONE_THREAD) MPLBACKEND=Agg PYTHONPATH=$(CURDIR) $(BIN)/python tests/arguments/fuzz.py --seconds 10 --workers 2
	$(ONE_THREAD) BAYESLMM_FUZZ=20 $(BIN)/python -m pytest -q tests/storage/test_changed_fits.py tests/storage/test_changed_netcdf.py

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

docs: $(DOCS_STAMP)
	$(ONE_THREAD) $(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

# Reports, the explorer and pages of the documentation under axe-core, which is fetched; needs Chromium.
accessibility: docs
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python tools/accessibility.py

bench: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tests/benchmarks/run.py

# PEERS_PYTHON: interpreter in which the Python peers are installed; PEERS_ARGS: e.g. "--only bayeslmm".
bench-peers: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tests/benchmarks/peers.py $(PEERS_ARGS)

# PEERS_PYTHON: interpreter with bambi, nutpie and numpyro; PEERS_ARGS: e.g. "--only bayeslmm --cases Dyestuff,Pastes".
bench-posterior: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tests/benchmarks/posterior.py $(PEERS_ARGS)

bench-boundary: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tests/benchmarks/boundary.py

bench-first-call: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tests/benchmarks/first_call.py

bench-small: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tests/benchmarks/small_models.py

bench-asked: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tests/benchmarks/asked.py

calibrate: $(STAMP)
	$(ONE_THREAD) $(BIN)/python -m pytest -q -m calibration

# Half an hour on two cores; killed and started again it continues.
atlas: $(STAMP)
	$(ONE_THREAD) MPLBACKEND=Agg $(BIN)/python tools/coverage_atlas.py

notebooks: $(STAMP)
	$(ONE_THREAD) $(BIN)/python tools/run_notebooks.py --write

clean:
	rm -rf $(VENV) docs/_build docs/generated docs/notebooks docs/_static/explorer.html demo-output

$(STAMP): pyproject.toml
	@python="$$(sh tools/find-python.sh)" || exit 1; \
	test -x $(BIN)/python || "$$python" -m venv $(VENV)
	@echo "Installing bayeslmm and its tools into $(VENV) (a few minutes the first time) ..."
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[dev,sampling]" \
	  || $(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[dev,sampling]"
	@touch $@

$(DOCS_STAMP): pyproject.toml $(STAMP)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check -e ".[docs]"
	@touch $@
