# Each target sets up its own environment first; nothing outside this folder is touched.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready
OUT ?= demo-out
PYTHONS ?= 3.12 3.13
MINUTES ?= 5

.PHONY: help setup demo notebooks test check lint fast thorough portable pythons bench fuzz docs pictures clean

help:
	@echo "make demo                     build an index of Python's own documentation and question it"
	@echo "make demo DOCS=dir Q='...'    the same on your own folder"
	@echo "make notebooks                run the notebooks, and keep in them what they show now"
	@echo "make test                     every check: style, types, tests"
	@echo "make fast                     the quick tests only"
	@echo "make portable                 the main path as on other systems than Linux, with model-written code in Monty"
	@echo "make thorough                 every test, with more random cases, kills and flipped bits than \`make test\` has"
	@echo "make lint                     format, lint and types only"
	@echo "make pythons                  the sandbox's and the gateway's tests under Python 3.12 and 3.13, where they are"
	@echo "make docs                     the documentation as a site, in build/site; any warning is an error"
	@echo "make pictures                 the pictures of the README and of the documentation, made of a real run"
	@echo "make fuzz MINUTES=n           play hostile input for n minutes (default 5); SEED=s plays the same again"
	@echo "make bench                    measure retrieval, the tree, growth and speed, and write BENCHMARKS.md; with a"
	@echo "                              model's key in the environment also on real models (MODEL=name, USD=5 at most)"
	@echo "make bench PART=name          one part alone, which keeps the figures of the others; PART=scale, which docs/scale.md"
	@echo "                              shows, is run in no other way"
	@echo "make bench REFERENCE=dir      all, beside a checkout of the reference RAPTOR"

setup: $(READY)

# The pip that comes with Python 3.11 compares each file of an index with each tag of this system, one by one.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/python notebooks/demo.py --out '$(OUT)' $(if $(DOCS),--docs '$(DOCS)') $(if $(Q),--question '$(Q)')

notebooks: $(READY)
	$(BIN)/python -m tests.helpers.notebooks

test: check

# Four on two cores: tests wait for processes, browsers and servers half of their time.
check: lint
	$(BIN)/python -m pytest -n 4 --dist worksteal

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

fast: $(READY)
	$(BIN)/python -m pytest -n 4 --dist worksteal -m 'not slow'

# What these tests ask of the sandbox, Monty has too; three look at what only the worker of Linux has.
PORTABLE := tests/rlm/sandbox/test_backends.py tests/rlm/loop/test_navigator.py \
	tests/rlm/loop/test_reduced.py tests/rlm/asking/test_routes.py tests/rlm/asking/test_offline.py \
	tests/rlm/asking/test_tables.py tests/rlm/asking/test_chat.py tests/rlm/asking/test_replay.py::test_a_run_comes_out_the_same
LINUX_ONLY := kernels_layers_where_they_hold or search_that_fails or new_conversation_has_its_own_trace

portable: $(READY)
	$(BIN)/python -m pytest --portable $(PORTABLE) -m 'not slow' -k 'not ($(LINUX_ONLY))'

thorough: $(READY)
	THOROUGH=1 $(BIN)/python -m pytest -n 4 --dist worksteal

pythons:
	.ci/pythons $(PYTHONS)

bench: $(READY)
	$(BIN)/python -m benchmarks $(PART) $(if $(REFERENCE),--reference '$(REFERENCE)') \
		$(if $(MODEL),--model '$(MODEL)') $(if $(USD),--max-usd '$(USD)')

fuzz: $(READY)
	$(BIN)/python -m tests.fuzz --minutes '$(MINUTES)' $(if $(SEED),--seed '$(SEED)')

clean:
	rm -rf .venv demo-out notebooks/demo-out fuzz-out rlm-runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

pictures: $(READY)
	PICTURES='$(CURDIR)/docs/pictures' $(BIN)/python -m pytest tests/docs/test_site.py
