# Every target sets up what it needs: a virtual environment, the pinned dependencies, the package itself.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: run test soak bench check clean

run: $(READY)
	@$(BIN)/workflow-tui $(ARGS)

test: check
	$(BIN)/python -m pytest -n 3 $(PYTEST_ARGS)

# the tests that take minutes: every screen and dialog at every size, and what a run survives, with a line for each
soak: $(READY)
	$(BIN)/python -m pytest -n 2 -m soak --ignore tests/soak $(PYTEST_ARGS)
	$(BIN)/python -m pytest -v -m soak tests/soak $(PYTEST_ARGS)

# the engine's loops beside plain ones, in turns; some minutes, and best on a machine that has nothing else to do
bench: $(READY)
	@$(BIN)/python benchmarks

check: $(READY)
	$(BIN)/ruff check core tui tests benchmarks
	$(BIN)/ruff format --check core tui tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }
	@echo "setting up $(VENV) (a few minutes the first time: PyTorch is large)"
	@$(BIN)/python -m pip install -q --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install -q -c constraints.txt -e . --group dev
	@touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis dist build
