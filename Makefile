# make demo: a report on real images.   make test: every check.   make bench: README's CPU tables, measured here.
# Each sets up .venv by itself.
PYTHON ?= python3
# Packages for the tests; EXTRA=test-core leaves out PyTorch, and the tests that need it skip themselves.
EXTRA ?= test
# More options for pytest, such as PYTEST_ARGS="-m 'not slow'".
PYTEST_ARGS ?=
# Index of PyTorch's builds without CUDA, 200 MB instead of 3 GB.
TORCH_CPU ?= https://download.pytorch.org/whl/cpu
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test types pytest bench lint sdist clean

# Threads that wait for work sleep instead of spinning, so that a busy machine is not kept busy by waiting.
SLEEPING := OMP_WAIT_POLICY=passive OPENBLAS_THREAD_TIMEOUT=4

demo: .venv/demo
	$(SLEEPING) $(BIN)/clorg-scale demo --out demo-report

# PyTorch for the GCN probe: built for CPUs where that index can be reached, else as usual, else the GCN is left out.
# Without retries, since pip would wait for an index out of reach at each of PyTorch's dependencies.
.venv/demo: .venv/core
	$(BIN)/python -c 'import torch' 2>/dev/null || $(PIP) --retries 0 -c constraints.txt --extra-index-url $(TORCH_CPU) torch || \
	  $(PIP) -c constraints.txt torch && touch $@ || echo 'PyTorch could not be installed: the demo leaves out the GCN.'

test: .venv/$(EXTRA)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(MAKE) --jobs 2 --no-print-directory types pytest

types:
	$(BIN)/python -m mypy

# Processes that tests start find the package's modules compiled.
pytest:
	$(SLEEPING) PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n auto --dist worksteal $(PYTEST_ARGS)

# README with this machine's figures, in bench-report/; some three hours on two cores.
BENCHMARKS := rld kernel-sums rld-scaling rld-coverage knn knn-rule gcn probes cluster
# Not measured again: other machines, and half an hour of its own (python -m bench analyze --imagenet).
MEASURED_ELSEWHERE := $(addprefix bench/results/,gpu_h100.json rld_avx512.jsonl analyze_1281167x512x1000.json)
bench: .venv/$(EXTRA)
	mkdir -p bench-report
	$(BIN)/clorg-scale bench run $(BENCHMARKS) --install-peers --out bench-report/records.jsonl
	cp README.md bench-report/README.md
	$(BIN)/clorg-scale bench report $(MEASURED_ELSEWHERE) bench-report/records.jsonl \
	  --out bench-report/index.html --readme bench-report/README.md

lint: .venv/$(EXTRA)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/python -m mypy

sdist: .venv/core
	$(PIP) build
	$(BIN)/python -m build --sdist

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("clorg-scale needs Python 3.11 or newer; set PYTHON=python3.11")'
	$(PYTHON) -m venv .venv

.venv/core: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) -c constraints.txt -e .
	touch $@

# The core with all of it at once. Python compiles the modules that it imports, a tenth of them: pip would compile all,
# a minute and a half on one core.
.venv/$(EXTRA): pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --no-compile -c constraints.txt -e '.[$(EXTRA)]'
	touch .venv/core $@

clean:
	rm -rf .venv build dist *.egg-info demo-report bench-report
