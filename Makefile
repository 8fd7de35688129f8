# The two commands of the README are `make demo` and `make test`; the rest is for developers.

CARGO ?= cargo
# Used where it is installed: it runs each test in a process of its own and says more.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

.PHONY: demo test check format lint docs

## Builds, starts the simulated cloud and the real operator against it, shows what happens.
demo:
	$(CARGO) build --locked --package multinic-operator --package simulated-cloud
	$(CARGO) run --locked --quiet --package simulated-cloud --bin demo -- \
		"$$($(CARGO) metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug/multinic-operator" \
		fixtures/three-nodes

## Everything that needs no cluster and no network.
test:
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --locked --workspace --no-fail-fast
	$(CARGO) test --locked --workspace --doc
else
	$(CARGO) test --locked --workspace --no-fail-fast
endif

## Format, lints and documentation, warnings denied.
check: format lint docs

format:
	$(CARGO) fmt --all -- --check

lint:
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings

docs:
	RUSTDOCFLAGS="--deny warnings --allow rustdoc::private_intra_doc_links" \
		$(CARGO) doc --locked --workspace --no-deps --document-private-items
