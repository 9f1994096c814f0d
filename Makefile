# make demo, make test, make lint and make docs set everything up on their own; after that they need no network.
SHELL := /bin/bash
PYTHON := .venv/bin/python
SET_UP := requirements/set_up.sh
REQUIREMENTS := pyproject.toml requirements/constraints.txt $(SET_UP)

.PHONY: help demo test test-oldest lint bench docs pictures fuzz sbom audit clean

help:
	@echo "make demo   find the landmarks of the bundled sample volume; results go to demo-output/"
	@echo "make test   run the tests"
	@echo "make test-oldest  the same points and the tests of networks, detection, training and panel with the oldest versions"
	@echo "make lint   check style, layout, types and the direction of imports"
	@echo "make bench  measure the speed; the tables go to benchmarks/SPEED.md (BENCH_ARGUMENTS=--quick: see that it runs)"
	@echo "make docs   build the site of docs/ into site/, strictly: open site/index.html"
	@echo "make pictures  take the pictures of the panel anew in the test window, for Resources/Screenshots; takes minutes"
	@echo "make fuzz   give every reader damaged and hostile files (FUZZ_ARGUMENTS='--inputs 100000 --workers 4')"
	@echo "make sbom   list what is installed in .venv as sbom.json (CycloneDX)"
	@echo "make audit  compare the pinned packages with the known vulnerabilities; needs the network"
	@echo "make clean  remove results and caches (the environments .venv* stay)"

demo: .venv/ready-for-demo
	@$(PYTHON) -m H3DELandmarksLib demo --output demo-output

# One thread each: the test processes share the cores, and one waits for the programs that it has started.
TEST_PROCESSES := $(shell expr $$(getconf _NPROCESSORS_ONLN || echo 2) + 1)
test: .venv/ready-for-test
	OMP_NUM_THREADS=1 $(PYTHON) -m pytest -n $(TEST_PROCESSES) --maxprocesses 4 --dist worksteal $(PYTEST_ARGUMENTS)

# With the oldest PyTorch: beside what Slicer ships, then beside the lower bounds of pyproject.toml.
OLDEST_ROOMS := Testing/models/test_same_points.py Testing/cli/test_worker.py Testing/io Testing/networks Testing/detection Testing/training Testing/panel
test-oldest: .venv-bounds/ready
	for environment in .venv-oldest .venv-bounds; do \
	    $$environment/bin/python -m H3DELandmarksLib demo --output demo-output && \
	    OMP_NUM_THREADS=1 $$environment/bin/python -m pytest -n auto --maxprocesses 4 $(OLDEST_ROOMS) $(PYTEST_ARGUMENTS) || exit 1; \
	done

lint: .venv/ready-for-test
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .
	.venv/bin/lint-imports
	$(PYTHON) -m mypy

bench: .venv/ready-for-bench
	@$(PYTHON) -m benchmarks.speed $(BENCH_ARGUMENTS)

# The theme's notice about its own future is no fault of a page.
docs: .venv/ready-for-docs
	NO_MKDOCS_2_WARNING=1 $(PYTHON) -m mkdocs build --strict --clean

pictures: .venv/ready-for-test
	OMP_NUM_THREADS=1 $(PYTHON) Testing/panel/take_pictures.py Resources/Screenshots

fuzz: .venv/ready-for-test
	OMP_NUM_THREADS=1 $(PYTHON) -m benchmarks.fuzzing $(FUZZ_ARGUMENTS)

sbom: .venv/ready-for-demo .venv/ready-for-audit
	.venv-audit/bin/cyclonedx-py environment .venv --pyproject pyproject.toml --output-reproducible --of JSON -o sbom.json

# Strict: a package that could not be looked up is a failure, not a clean bill.
audit: .venv/ready-for-audit
	.venv-audit/bin/pip-audit --requirement requirements/constraints.txt --no-deps --disable-pip --strict

.venv-bounds/ready: $(REQUIREMENTS) requirements/slicer.txt requirements/bounds.txt
	@$(SET_UP) oldest

.venv/ready-for-%: $(REQUIREMENTS)
	@$(SET_UP) $*

clean:
	rm -rf demo-output fuzz-output sbom.json site build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -not -path "./.venv*" -prune -exec rm -rf {} +
