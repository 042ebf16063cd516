# What a contributor needs. `make` alone lists it.
.DEFAULT_GOAL := help
.PHONY: help setup setup-2 setup-dlt setup-delta demo test test-all test-snowflake fuzz bench lint docs

# The environment the tests and the demo use; an interpreter given from outside wins.
export UNSHIP_TEST_PYTHON ?= $(CURDIR)/.venv/bin/python
export UNSHIP_TEST_DBT ?= $(CURDIR)/.venv/bin/dbt

TARGET := $(or $(CARGO_TARGET_DIR),target)
NEXTEST := $(shell command -v cargo-nextest)
SCRIPTS := scripts/setup scripts/python-env scripts/snowflake-emulator scripts/postgres scripts/postgres-version scripts/rest-catalog scripts/spark scripts/fuzz demo/check .ci/run

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## the C compiler, git, PostgreSQL and Python packages that everything below needs
	@scripts/setup

# A DuckDB that is newer than dbt's, for the files that it writes.
setup-2: setup
	@scripts/python-env 2

# A loader that remembers how far it came.
setup-dlt: setup
	@scripts/python-env dlt

# An independent writer and reader of Delta tables, and an S3 server.
setup-delta: setup
	@scripts/python-env delta

demo: ## the whole story: a good release, a bad one, back again, proved
	@scripts/setup build
	cargo build --release --package unship
	VIRTUAL_ENV="$(CURDIR)/.venv" PATH="$(CURDIR)/.venv/bin:$$PATH" "$(TARGET)/release/unship" demo

test: setup ## every test that takes seconds
ifdef NEXTEST
	scripts/postgres run cargo nextest run --workspace
else
	scripts/postgres run cargo test --workspace --lib --bins --tests
endif
	cargo test --workspace --doc

# What can be had besides the PostgreSQL of the system.
POSTGRES_VERSIONS ?= 13 14 16 17 18

# The long forms of the crash, kill and reader tests.
test-all: export UNSHIP_KILL_ROUNDS ?= 200
test-all: export UNSHIP_READER_ROUNDS ?= 100
test-all: export UNSHIP_CRASH_EVERY ?= 1
test-all: export UNSHIP_CRASH_STRIDE ?= 1
test-all: export UNSHIP_DISK_STEP ?= 65536
test-all: export UNSHIP_LAKE_ROUNDS ?= 50
test-all: export UNSHIP_SPARK_ROUNDS ?= 20
test-all: export UNSHIP_TEST_PYTHON2 ?= $(CURDIR)/.venv-2/bin/python
test-all: export UNSHIP_TEST_DLT_PYTHON ?= $(CURDIR)/.venv-dlt/bin/python
test-all: export UNSHIP_TEST_DELTA_PYTHON ?= $(CURDIR)/.venv-delta/bin/python
test-all: setup-2 setup-dlt setup-delta test ## also the slow ones: crash rounds, large files, the demo without unship
ifdef NEXTEST
	scripts/postgres run cargo nextest run --workspace --run-ignored only --no-tests pass
	for version in $(POSTGRES_VERSIONS); do \
		UNSHIP_POSTGRES_VERSION=$$version UNSHIP_CRASH_EVERY=150 UNSHIP_KILL_ROUNDS=8 \
			scripts/postgres run cargo nextest run --package unship-engines -E 'test(postgres) | binary(swap)' || exit 1; \
	done
	scripts/snowflake-emulator run cargo nextest run --package unship-engines --run-ignored all -E 'test(snowflake)'
	scripts/snowflake-emulator run cargo nextest run --package unship --test it --run-ignored only --test-threads 1 -E 'test(snowflake)'
else
	scripts/postgres run cargo test --workspace --lib --bins --tests -- --ignored
endif
	scripts/rest-catalog install
ifdef NEXTEST
	scripts/rest-catalog run cargo nextest run --package unship --test it --run-ignored only -E 'test(lake)'
	scripts/rest-catalog run scripts/postgres run cargo nextest run --package unship --test it --run-ignored only -E 'test(three_engines)'
else
	scripts/rest-catalog run cargo test --package unship --test it lake -- --ignored
	scripts/rest-catalog run scripts/postgres run cargo test --package unship --test it three_engines -- --ignored
endif
	scripts/spark install
ifdef NEXTEST
	scripts/rest-catalog run scripts/spark run cargo nextest run --package unship --test it --run-ignored only -E 'test(spark)'
else
	scripts/rest-catalog run scripts/spark run cargo test --package unship --test it spark -- --ignored
endif
# Delta Lake is left out of every other build, and so of `make lint`.
	cargo clippy --package unship-engines --package unship --features unship/delta --all-targets -- -D warnings
ifdef NEXTEST
	cargo nextest run --package unship-engines --features delta -E 'test(/(^|::)delta::/)'
	cargo nextest run --package unship --features delta --run-ignored all -E 'test(/(^|::)delta(_config)?::/)'
else
	cargo test --package unship-engines --features delta delta::
	cargo test --package unship --features delta delta:: -- --include-ignored
endif
	demo/check

# Never by itself: it costs money. docs/src/snowflake.md says what to set.
test-snowflake: ## the conformance suite on the Snowflake account that UNSHIP_TEST_SNOWFLAKE_ACCOUNT names
	@test -n "$$UNSHIP_TEST_SNOWFLAKE_ACCOUNT" || { echo "UNSHIP_TEST_SNOWFLAKE_ACCOUNT is not set: docs/src/snowflake.md" >&2; exit 2; }
	cargo test --package unship-engines --test it -- --include-ignored --test-threads 1 --skip crash snowflake::

fuzz: setup ## everything that parses a file, a minute each; FUZZ="pack plan" for some of them
	VIRTUAL_ENV="$(CURDIR)/.venv" PATH="$(CURDIR)/.venv/bin:$$PATH" scripts/fuzz $(FUZZ)

bench: setup ## ours against the alternatives; also writes target/bench.json
	scripts/rest-catalog install
	scripts/spark install
	UNSHIP_POSTGRES_FSYNC=on scripts/postgres run scripts/rest-catalog run scripts/spark run cargo bench --package unship

lint: ## formatting, clippy, licences and advisories, shell scripts
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@if command -v cargo-deny >/dev/null; then cargo deny check; else echo "lint: cargo-deny is not installed, skipped"; fi
	@if command -v shellcheck >/dev/null; then shellcheck $(SCRIPTS); else echo "lint: shellcheck is not installed, skipped"; fi

docs: ## the API pages and, where mdbook is installed, the book
	RUSTDOCFLAGS="-D warnings" cargo doc --workspace --no-deps
	@if ! command -v mdbook >/dev/null; then echo "docs: mdbook is not installed, the book is skipped"; else mdbook build docs; fi
