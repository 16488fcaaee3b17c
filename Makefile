# The words of the house. CI runs the same ones. `make setup` is part of each, and instant when nothing changed.
PYTHON ?= python3
VENV   ?= .venv
BIN     = $(VENV)/bin
STAMP   = $(VENV)/.edgekit-setup

.DEFAULT_GOAL := help
.PHONY: help setup demo demo-photos assets test ops catalogue lint types docs bench check constraints clean system

help:  ## what there is
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP)  ## a virtual environment with edgekit, all engines and the developer's tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "edgekit needs Python 3.11 or newer; choose one by: make PYTHON=python3.11 $(MAKECMDGOALS)" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# PyTorch by itself first: whoever keeps a build without GPUs at hand gets that one, and nothing replaces it later.
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[all,dev]'
	@touch $@

demo: setup  ## converts a trained model, checks it, judges it by its test data, profiles it
	$(BIN)/python examples/demo.py

demo-photos: setup  ## the same with EfficientNet-Lite0 on real photographs
	$(BIN)/python examples/demo.py photos

assets: setup  ## fetches the models and pictures of the tests beforehand
	$(BIN)/python examples/assets.py

system:  ## what the tests need of the system: espeak-ng, which speaks a data set, an SSH server to be a device, a browser
	@need=; command -v espeak-ng >/dev/null || need="$$need espeak-ng"; \
	PATH="$$PATH:/usr/sbin" command -v sshd >/dev/null || need="$$need openssh-server"; \
	command -v ssh >/dev/null || need="$$need openssh-client"; \
	command -v chromium >/dev/null || need="$$need chromium"; \
	if [ -z "$$need" ]; then :; elif [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
		apt-get install -y -q --no-install-recommends $$need >/dev/null; \
	else echo "tests that need them are skipped without:$$need; apt-get install$$need" >&2; fi

test: setup system  ## every test
	$(BIN)/python -m pytest -n 2 --dist loadfile

ops: setup  ## ONNX's own node tests through every writer, judged by the committed baseline
	$(BIN)/python -m tests.ops

catalogue: setup  ## real trained models to every format, judged by the committed outcomes; fetches 300 MB once
	$(BIN)/python -m tests.catalogue

lint: setup  ## ruff: rules and format
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: setup  ## mypy, strict
	$(BIN)/mypy

docs: setup  ## writes the generated pages of docs/reference, and the site of all pages into build/site
	$(BIN)/python docs/generate.py
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/site

bench: setup  ## prints the figures the documentation quotes
	@set -e; for file in benchmarks/[a-z]*.py; do echo "== $$file"; $(BIN)/python $$file; done

check: lint types test  ## what must pass before a commit

constraints: setup  ## pins what is installed now
	@{ sed -n '/^#/p' constraints.txt; $(BIN)/python -m pip list --format=freeze \
		--exclude edgekit-ml --exclude pip --exclude setuptools --exclude wheel | sed 's/+cpu$$//'; } > constraints.new
	@mv constraints.new constraints.txt

clean:  ## removes the environment, the fetched assets and what builds and tests leave behind
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist *.egg-info
