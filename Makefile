# palletfit: set-up, runs and checks. `make help` lists the targets.
#
# Variables, as in `make run ARGS="--config analyses=1Lbb" PYTHON=/opt/python3.12/bin/python3`:
#   ARGS    further arguments of snakemake (run, report), pytest (test) or uv (lock)
#   PYTHON  the interpreter that the environment is made with, 3.11 or newer
#   VENV    the environment's folder, relative to this one
#   JOBS    processes that run tests side by side
#   UV      the uv program, for `make lock` only
#   SITE    the folder of profiles/ whose endpoint is set up, for `make endpoint`
#   VARIANT which one where a site has several: condor for profiles/SITE/endpoint-condor

ARGS   ?=
VENV   ?= .venv
UV     ?= uv
# Two more than two processors: tests of remote fits wait for most of their time.
JOBS   ?= 4
SITE   ?=
VARIANT ?=
# The first that starts: a name on PATH can be a shim without an interpreter behind it.
PYTHON ?= $(shell unset PYTHONHOME PYTHONPATH; for name in python3.11 python3; do \
              if "$$name" -c "" 2>/dev/null; then echo "$$name"; break; fi; done)

# Another environment that is active must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV CONDA_PREFIX
# Every job of a run is a process: without compiled files each would compile the package again.
unexport PYTHONDONTWRITEBYTECODE
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One dependency (connection-pool) has no wheel: old pip would build it in a deprecated way.
export PIP_USE_PEP517 := 1

# Snakemake does not quote the interpreter, so that each rule would fail if its path had a space; and
# with LC_ALL=C no Python starts that finds a letter beyond ASCII in a path of its environment. Below
# a folder with such characters, .venv is a link to an environment in the cache of the user.
QUOTE    := '
HERE     := '$(subst $(QUOTE),'\'',$(CURDIR))'
ODD      := $(shell printf %s $(HERE) | LC_ALL=C tr -d 'A-Za-z0-9_./+,=@:~-' | LC_ALL=C tr -c '' x)
CACHED    = $${XDG_CACHE_HOME:-$$HOME/.cache}/palletfit/environments
PLACE    := $(if $(ODD),$(shell echo "$(CACHED)/$$(printf %s $(HERE) | cksum | tr ' ' -)"),$(VENV))

SNAKEMAKE_CONFIG = $${XDG_CONFIG_HOME:-$$HOME/.config}/snakemake

MAKEFLAGS += --no-builtin-rules
.SHELLFLAGS := -eu -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

BIN         := $(PLACE)/bin
# Errors only: pip's warnings are about the machine's own configuration, not about this project.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --quiet --no-input
# Locked environments are complete: there is nothing to resolve.
PIP_LOCKED  := $(PIP_INSTALL) --no-compile --no-deps --require-hashes
# Half of an installation's time is compiling, which pip does on one processor and Python on all.
# Some packages have files for other versions of Python, which do not compile. Their own tests, a
# fifth of it all, are never imported.
COMPILE     := $(BIN)/python -W ignore -m compileall -q -q -j 0 \
                   -x 'site-packages/.*/tests/' $(PLACE)/lib || :
# Programs that start others by name (shell rules of Snakemake, tests) find this environment's.
IN_VENV     := PATH="$(if $(ODD),,$(CURDIR)/)$(BIN):$$PATH"
# Said before each step of a set-up, which may take a minute.
STEP        := @echo "-"

# Each stamp is the record of one finished step, newer than what the step depends on.
WORKFLOW := $(PLACE)/.installed-workflow
PACKAGE  := $(PLACE)/.installed-palletfit
DEV      := $(PLACE)/.installed-dev
CLUSTERS := $(PLACE)/.installed-clusters
EXTRAS   := $(PLACE)/.installed-extras
DOCS     := $(PLACE)/.installed-docs

# An environment holds absolute paths: in a copied or moved folder it is made anew.
ifneq ($(shell cat $(WORKFLOW) 2>/dev/null),$(CURDIR))
.PHONY: $(WORKFLOW)
endif

.PHONY: help
help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST)) | sed 's/^/  /'

.PHONY: run
run: $(PACKAGE) ## fit the configured analyses on this machine, with plots and tables
	@$(IN_VENV) snakemake --profile profiles/local $(ARGS)

.PHONY: report
report: $(PACKAGE) ## write report.html about the last run
	@$(IN_VENV) snakemake --profile profiles/local --report report.html $(ARGS)

.PHONY: test
test: $(DEV) ## run the tests
	@$(IN_VENV) pytest --numprocesses=$(JOBS) --dist=loadfile --no-loadscope-reorder $(ARGS)

.PHONY: studies
studies: $(DEV) ## run what tests of the same show narrowly on all patches, or at full size
	@$(IN_VENV) pytest --numprocesses=$(JOBS) --dist=loadfile -m study $(ARGS)

# Files and folders whose words are checked.
WORDS := README.md CONTRIBUTING.md docs report src scripts rules benchmarks .ci

.PHONY: lint
lint: $(DEV) ## check style, types, words, and the workflow's rules
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/python .ci/check_words.py $(WORDS)
	$(IN_VENV) snakemake --lint

# Warnings are errors: a link that leads nowhere, a docstring that cannot be read, a cell that fails.
.PHONY: docs
docs: $(DOCS) ## build the documentation's site in build/docs, with its notebook executed
	@$(IN_VENV) python -m sphinx --quiet --fail-on-warning --fresh-env -c docs -d build/doctrees . build/docs
	@echo "The site: build/docs/index.html"

.PHONY: profiles
profiles: ## link the profiles to where `snakemake --profile NAME` looks
	@mkdir -p "$(SNAKEMAKE_CONFIG)"
	@for folder in profiles/*/; do \
	    name=$$(basename "$$folder"); link="$(SNAKEMAKE_CONFIG)/$$name"; \
	    if [ -e "$$link" ] && [ ! -L "$$link" ]; then echo "kept: $$link is your own"; continue; fi; \
	    ln -sfn "$(CURDIR)/profiles/$$name" "$$link" && echo "snakemake --profile $$name"; \
	done

ENDPOINT = profiles/$(SITE)/endpoint$(VARIANT:%=-%)

.PHONY: endpoint
endpoint: ## set up the Globus Compute endpoint of SITE, on its login node
	@test -d "$(ENDPOINT)" || { \
	    echo "error: there is no folder $(ENDPOINT)." >&2; \
	    echo "remedy: make endpoint SITE=expanse (or another folder of profiles/)" >&2; exit 1; }
	@test -z "$(ODD)" || { \
	    echo "error: the path of this folder has spaces or letters beyond ASCII." >&2; \
	    echo "remedy: move the checkout: the endpoint's environment is in it." >&2; exit 1; }
	@test -x .venv-endpoint/bin/python || "$(PYTHON)" -m venv .venv-endpoint
	@file=$(ENDPOINT)/requirements.txt; test -e $$file || file=envs/endpoint.txt; \
	    .venv-endpoint/bin/python -m pip install --quiet --require-hashes -r $$file
	@.venv-endpoint/bin/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@.venv-endpoint/bin/python -m palletfit.endpoint $(ENDPOINT) palletfit-$(SITE)$(VARIANT:%=-%)

.PHONY: schema
schema: $(PACKAGE) ## write config/*.schema.json, docs/configuration.md and docs/catalogue.md
	@$(BIN)/python -m palletfit.config.schema

.PHONY: env
env: $(DEV) ## only make the environment: workflow, tests and linters

.PHONY: clusters
clusters: $(CLUSTERS) ## add what fits in jobs of a Slurm cluster need, on its login node

.PHONY: extras
extras: $(EXTRAS) ## add pyhf's optional backends, PyTorch and TensorFlow, with pyhs3 and SModelS (gigabytes)

.PHONY: clean
clean: ## remove the environment, the site and the tools' caches, never results or downloads
	rm -rf "$(PLACE)" "$(VENV)" build .mypy_cache .pytest_cache .ruff_cache
	@echo "Results and downloads are kept; to be rid of them, remove results/ and resources/."

# A failed or interrupted installation leaves no stamp, and the next attempt starts from nothing.
$(WORKFLOW): envs/workflow.txt
	@test -n "$(PYTHON)" || { \
	    echo "error: found no Python on PATH." >&2; \
	    echo "remedy: install Python 3.11 or newer, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c "import sys; sys.exit(sys.version_info < (3, 11))" || { \
	    echo "error: $(PYTHON) does not start or is older than Python 3.11." >&2; \
	    echo "remedy: install Python 3.11 or newer, or say make PYTHON=/path/to/python3" >&2; exit 1; }
	@"$(PYTHON)" -c "import venv" && \
	    { "$(PYTHON)" -c "import ensurepip" || "$(PYTHON)" -c "import pip"; } 2>/dev/null || { \
	    echo "error: $(PYTHON) cannot make virtual environments (no venv, or no ensurepip and no pip)." >&2; \
	    echo "remedy: on Debian and Ubuntu install the package python3-venv" \
	         "(or the one named after the version, as python3.11-venv)." >&2; exit 1; }
	@case "$(PLACE)" in *[!A-Za-z0-9_./+,=@:~-]*) \
	    echo "error: the path of the environment, $(PLACE), has spaces or letters beyond ASCII:" \
	         "Snakemake cannot run there." >&2; \
	    echo "remedy: say XDG_CACHE_HOME=/path/without/them make, or move the checkout." >&2; exit 1;; \
	esac
	@echo "Making the environment $(VENV) with $$("$(PYTHON)" --version): a minute or two, once."
	@if [ -n "$(ODD)" ]; then echo "It is in $(PLACE), because this folder's name has characters" \
	    "that Snakemake or Python cannot take there."; fi
	@if [ -e $(EXTRAS) ]; then \
	    echo "The optional backends go with the old one; make extras adds them again."; fi
	$(STEP) "1 of 3: an empty environment"
	@rm -rf "$(PLACE)" "$(VENV)"
	@if "$(PYTHON)" -c "import ensurepip" 2>/dev/null; then "$(PYTHON)" -m venv $(PLACE); else \
	    "$(PYTHON)" -m venv --without-pip $(PLACE) && \
	    "$(PYTHON)" -m pip --python $(BIN)/python install --quiet --no-input pip; fi
	@if [ -n "$(ODD)" ]; then ln -sfn $(PLACE) $(VENV); fi
	$(STEP) "2 of 3: $$(grep -c == envs/workflow.txt) packages"
	@$(PIP_LOCKED) -r envs/workflow.txt
	$(STEP) "3 of 3: compiling"
	@$(COMPILE)
	@printf "%s\n" $(HERE) > $@

$(PACKAGE): pyproject.toml $(WORKFLOW)
	@$(PIP_INSTALL) --no-deps --no-build-isolation -e .
	@if [ -n "$(ODD)" ]; then ln -sfn $(HERE)/src $(PLACE)/source; \
	    for file in $(PLACE)/lib/python3*/site-packages/*palletfit.pth; do \
	        echo ../../../source > "$$file"; done; fi
	@touch $@

$(DEV): envs/dev.txt $(PACKAGE)
	@echo "Installing what tests and linters need: $$(grep -c == envs/dev.txt) packages."
	@$(PIP_LOCKED) -r envs/dev.txt
	@$(COMPILE)
	@touch $@

$(CLUSTERS): envs/clusters.txt $(PACKAGE)
	@echo "Installing what login nodes need: $$(grep -c == envs/clusters.txt) packages."
	@$(PIP_LOCKED) -r envs/clusters.txt
	@$(COMPILE)
	@touch $@

$(DOCS): envs/docs.txt $(PACKAGE)
	@echo "Installing what builds the documentation's site."
	@$(PIP_LOCKED) -r envs/docs.txt
	@$(COMPILE)
	@touch $@

# Not compiled: most of their files are never imported, and the others are compiled then.
$(EXTRAS): envs/extras.txt envs/pytorch.txt $(PACKAGE)
	@echo "Installing PyTorch, TensorFlow, pyhs3 and SModelS: some minutes."
	@$(PIP_LOCKED) -r envs/extras.txt
	@$(PIP_INSTALL) --no-compile -r envs/pytorch.txt
	@touch $@

# The largest environment is resolved first and binds the others, so that all of them agree.
# Locked versions stay unless they no longer fit; `make lock ARGS=--upgrade` renews them.
LOCK = $(UV) pip compile --quiet --generate-hashes --no-annotate --universal --python-version 3.11 \
           --fork-strategy fewest --custom-compile-command "make lock" $(ARGS)

.PHONY: lock
lock: ## resolve envs/*.in to envs/*.txt (needs uv)
	@command -v $(UV) >/dev/null || { \
	    echo "error: the program uv was not found." >&2; \
	    echo "remedy: install uv, or say make lock UV=/path/to/uv" >&2; exit 1; }
	$(LOCK) envs/dev.in -o envs/dev.txt
	$(LOCK) envs/workflow.in -c envs/dev.txt -o envs/workflow.txt
	$(LOCK) envs/clusters.in -c envs/dev.txt -o envs/clusters.txt
	$(LOCK) envs/worker.in -c envs/dev.txt -o envs/worker.txt
	$(LOCK) envs/endpoint.in -c envs/dev.txt -o envs/endpoint.txt
	$(LOCK) envs/endpoint-cuda.in -c envs/dev.txt -o envs/endpoint-cuda.txt
	$(LOCK) envs/endpoint-kubernetes.in -c envs/dev.txt -o envs/endpoint-kubernetes.txt
	$(LOCK) envs/extras.in -c envs/dev.txt -o envs/extras.txt
	$(LOCK) envs/docs.in -c envs/dev.txt -c envs/extras.txt -o envs/docs.txt
