# Everything that is installed or made goes below .local/ and .venv/. Needed: make, git and Python 3.11 or later with venv.
# Where npm is, tests of streams run by OpenAI's SDK for Node, too.

# The Python of the functions, where there is one that starts; else any.
PYTHON ?= $(firstword $(foreach python,python3.13 $(wildcard $(HOME)/.pyenv/versions/3.13*/bin/python3.13),$(shell $(python) -c 'import sys; print(sys.executable)' 2>/dev/null)) python3)
TOOLS := .local/tools
UV := $(TOOLS)/uv/bin/uv
RUN := .venv/bin/python
SAM := $(TOOLS)/sam/bin/sam
NODE_SDK := $(if $(shell command -v npm),$(TOOLS)/openai-node/.installed)
# How many processes run the tests: a number, or as many as there are processors.
WORKERS ?= logical
# The tests in tests/integration that run behind PgBouncer, too.
POOLED := store_statement_queue access access_matrix crashes divided_batches_crashes upload_crashes remembered_keys limits completions spend \
	admin_migrations

export PYTHONPATH := layers/common:functions:.
export SAM_CLI_TELEMETRY := 0

.PHONY: help demo up down test check bench test-faults test-sam format lock tools clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: tools ## the whole stack, examples/batch_walkthrough.py against it, and all torn down again
	$(RUN) -m local demo

up: tools ## start the stack and keep it; CONFIG=other.yaml takes another configuration, ORIGINS='*' lets web pages call it
	$(RUN) -m local up $(if $(CONFIG),--config '$(CONFIG)') $(if $(ORIGINS),--allowed-origins '$(ORIGINS)')

down: .venv/.installed ## end the stack of `make up` and remove what it left
	$(RUN) -m local down

test: tools $(TOOLS)/openai2/.installed $(TOOLS)/pgbouncer/.installed $(NODE_SDK) ## all tests but those of `make test-sam`; WORKERS=0 runs them in one process
	@echo "testing on $$($(RUN) --version)"
	$(RUN) -m pytest --ignore=tests/sam --numprocesses $(WORKERS) --maxprocesses 4
	@echo "testing behind a pooler in transaction mode"
	$(RUN) -m pytest --pooled --numprocesses $(WORKERS) --maxprocesses 4 $(addprefix tests/integration/test_,$(addsuffix .py,$(POOLED)))

test-faults: .venv/.installed ## RUNS=1000 seeded runs under faults, DIALECT= of one dialect; SEED=n shows one again
	$(RUN) -m tests.faults $(if $(DIALECT),--dialect $(DIALECT)) $(if $(SEED),--seed $(SEED),--runs $(or $(RUNS),1000))

test-sam: tools ## sam local: each function in a container
	tests/sam/run

bench: tools $(TOOLS)/litellm/.installed ## the time of each handler and import, the speed of the line engine, a large file through a stack
	$(RUN) -m bench

check: tools ## format, lint, types, imports, template, links in the docs
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	.venv/bin/lint-imports
	AWS_DEFAULT_REGION=us-east-1 $(SAM) validate --lint
	$(RUN) -m local.links

format: .venv/.installed ## mend the format
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

lock: $(UV) ## take the newest versions that requirements/*.in and layers/common/requirements.in allow
	for name in requirements/uv requirements/sam requirements/ministack requirements/openai2 requirements/litellm requirements/lambda-image \
			layers/common/requirements requirements/dev; do \
		$(UV) pip compile --quiet --upgrade --generate-hashes --no-annotate --no-header --universal --python-version 3.11 \
			--no-emit-index-url --no-emit-find-links $$name.in -o $$name.txt || exit 1; \
	done
	$(if $(NODE_SDK),cd requirements/openai-node && rm -f package-lock.json && \
		npm install --silent --package-lock-only --omit-lockfile-registry-resolved)

clean: ## end the stack, and remove all that was installed or made
	test ! -x $(RUN) || $(RUN) -m local down
	rm -rf .venv .local .aws-sam

tools: .venv/.installed $(TOOLS)/sam/.installed $(TOOLS)/ministack/.installed ## install what runs a stack

$(UV): requirements/uv.txt
	@echo "installing uv"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: set PYTHON" >&2; exit 1; }
	@rm -rf $(TOOLS)/uv
	@$(PYTHON) -m venv $(TOOLS)/uv
	@$(TOOLS)/uv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt || \
		{ echo "uv could not be installed: is a package index reached? (PIP_INDEX_URL, PIP_CERT and the like count)" >&2; exit 1; }
	@touch $(UV)

# Compiled, as tests start many processes of it.
.venv/.installed: requirements/dev.txt $(UV)
	@echo "installing the development environment"
	@test -x $(RUN) || $(UV) venv --quiet --allow-existing --python $(PYTHON) .venv
	@$(UV) pip sync --quiet --compile-bytecode --python $(RUN) --require-hashes requirements/dev.txt
	@touch $@

# Debian's package and what it needs, unpacked: nothing is installed, and no service started.
$(TOOLS)/pgbouncer/.installed:
	@echo "installing pgbouncer"
	@rm -rf $(@D) && mkdir -p $(@D)/archives/partial
	@test -x /usr/sbin/pgbouncer || command -v pgbouncer >/dev/null || { apt-get -qq update && \
		apt-get -qq --yes --download-only --no-install-recommends -o Dir::Cache::archives=$(abspath $(@D))/archives install pgbouncer && \
		for package in $(@D)/archives/*.deb; do dpkg -x $$package $(@D) || exit 1; done; } || \
		{ echo "PgBouncer could not be installed: install it yourself (apt install pgbouncer)" >&2; exit 1; }
	@touch $@

$(TOOLS)/%/.installed: requirements/%.txt $(UV)
	@echo "installing $*"
	@$(UV) venv --quiet --allow-existing --python $(PYTHON) $(TOOLS)/$*
	@$(UV) pip sync --quiet --python $(TOOLS)/$*/bin/python --require-hashes requirements/$*.txt
	@touch $@

$(TOOLS)/openai-node/.installed: requirements/openai-node/package-lock.json
	@echo "installing openai-node"
	@mkdir -p $(@D) && cp requirements/openai-node/package*.json $(@D)
	@cd $(@D) && npm ci --silent && touch .installed || echo "it could not be installed: its tests are skipped" >&2
