# Every target sets up all that it needs in the private virtual environment .venv (see .ci/setup).
PYTHON ?= python3
BIN := .venv/bin

# Of the environment around nothing may shine in.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV

.PHONY: help setup demo test test-full test-silicon test-browser test-icarus formal mutation ppa docs lint clean

help:
	@echo "make demo    generate a chip, run a network on model and RTL in lockstep, draw what happened"
	@echo "make test    run all tests but the long ones"
	@echo "make test-full  run the long ones: whole frames and the largest chips on the RTL, the proofs,"
	@echo "             200 random networks, 60 of them on the RTL (needs iverilog)"
	@echo "make formal  prove what docs/formal.md lists"
	@echo "make ppa     area, clock and energy of poppins in 180 nm (needs Debian's opensta and"
	@echo "             qflow-tech-osu018, as does the next)"
	@echo "make test-silicon  tiny in 180 nm: its netlist under the benches, timing, energy, glitches, a"
	@echo "             layout (needs also iverilog, graywolf, qrouter, magic, netgen-lvs)"
	@echo "make test-browser  reports in headless Chromium (needs Debian's chromium, chromium-driver)"
	@echo "make test-icarus  blocks and random networks in four states (needs Debian's iverilog)"
	@echo "make mutation  break the RTL in 300 ways, count what the benches notice (an hour)"
	@echo "make docs    the documentation as a site, build/site/index.html"
	@echo "make lint    check style and types"
	@echo "make setup   only set up .venv; afterwards .venv/bin/kenyon --help"
	@echo "make clean   remove everything that was made"

setup:
	@bash .ci/setup "$(PYTHON)"

demo: setup
	@$(BIN)/kenyon demo

test: setup
	@$(BIN)/python -m pytest -n auto --dist worksteal

test-full: setup
	@$(BIN)/python -m pytest -n auto --dist worksteal -m full

test-silicon: setup
	@$(BIN)/python -m pytest -n auto --dist worksteal -m silicon

test-browser: setup
	@command -v chromium >/dev/null && command -v chromedriver >/dev/null || { echo \
		"error: chromium or chromedriver is missing; on Debian: apt-get install chromium chromium-driver" >&2; \
		exit 2; }
	@$(BIN)/python -m pytest -m browser

test-icarus: setup
	@command -v iverilog >/dev/null || { echo \
		"error: iverilog is missing; on Debian: apt-get install iverilog" >&2; exit 2; }
	@$(BIN)/python -m pytest -n auto --dist worksteal -m "icarus and not full"

formal: setup
	@$(BIN)/kenyon prove

ppa: setup
	@$(BIN)/kenyon ppa

mutation: setup
	@$(BIN)/kenyon mutate

docs: setup
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs --quiet build
	@echo "wrote build/site/index.html"

lint: setup
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy

clean:
	rm -rf .venv build kenyon.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache
	find hw model tb firmware_tools tests -name __pycache__ -type d -prune -exec rm -rf {} +
