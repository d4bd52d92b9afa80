# What one does with this project. Each target first makes .venv what the lock says (nothing to do: 0.1 s).

PYTHON ?= python3
BIN := .venv/bin

# A name may be missing, or be a shim for nothing (127): try the next. Which version it is, is setup.py's matter.
setup = @for python in $(PYTHON) python3 python3.13 python3.14 python3.12 python; do \
	"$$python" scripts/setup.py $(1) && exit 0; code=$$?; [ $$code -eq 127 ] || exit $$code; done; \
	echo "Pulse needs Python 3.12 or newer and found none; install one, then run the same command again." >&2; exit 1

.DEFAULT_GOAL := help
.PHONY: help run test trial chaos lock fmt clean

help: ## Show this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1|\2/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do \
		printf '  make %-6s %s\n' "$$name" "$$text"; done

run: ## Start the studio: servers, API, workers and the local model; Ctrl-C stops it
	$(call setup)
	@exec $(BIN)/python -m scripts.studio

test: ## Check everything: format, lint, types, import contracts, tests (ARGS="-k name" for some)
	$(call setup,--dev)
	@exec $(BIN)/python -m scripts.check $(ARGS)

trial: ## Run all tests with their full counts, then the benchmarks
	$(call setup,--dev)
	@$(BIN)/python -m pytest -m "not chaos" -o faulthandler_timeout=0 $(ARGS)
	@$(BIN)/python -m bench all

chaos: ## Run the tests that kill processes and servers
	$(call setup,--dev)
	@exec $(BIN)/python -m pytest -m chaos -o faulthandler_timeout=0 $(ARGS)

lock: ## Bring both locks in line with pyproject.toml (ARGS=--upgrade for newer versions)
	$(call setup,--dev)
	@PATH="$(CURDIR)/.pulse/tools:$$PATH"; compile="uv pip compile --universal --generate-hashes \
		--no-annotate --no-header --quiet pyproject.toml $(ARGS)"; \
	$$compile -o requirements.lock && $$compile --extra dev -c requirements.lock -o requirements-dev.lock

fmt: ## Format the code and mend what the linter can
	$(call setup,--dev)
	@$(BIN)/ruff check --fix --quiet || true
	@$(BIN)/ruff format

clean: ## Remove the environment and all caches; the studio's data in .pulse stays
	@rm -rf .venv .pulse/tools .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	@find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +
