# The two commands of the README are `make demo` and `make test`; the rest is for developers.

SHELL := /bin/bash
CARGO ?= cargo
# Used where it is installed: it runs each test in a process of its own and says more.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

IMG ?= multinic-operator:latest
# A folder of manifests/ to deploy.
OVERLAY ?= default
STATIC_TARGET := x86_64-unknown-linux-gnu
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)

# Of `make fuzz`: which target (tests/fuzz/targets), and for how long.
FUZZ ?= answers
SECONDS_EACH ?= 1800

.PHONY: demo test check format lint docs bench fuzz install uninstall deploy undeploy manifests image

## Builds, starts the real programs against a simulated cloud, shows what happens; STAY=yes goes on until Enter.
demo:
	$(CARGO) build --locked --package multinic-operator --package simulated-cloud
	@programs="$$($(CARGO) metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug"; \
	$(CARGO) run --locked --quiet --package simulated-cloud --bin demo -- $(if $(STAY),--stay) \
		"$$programs/multinic-operator" "$$programs/viola-test-api" fixtures/three-nodes

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

## Counts and ratios of what a sync costs, as a table and as JSON.
bench:
	$(CARGO) bench --locked --bench cost

## Looks for inputs that break something: make fuzz FUZZ=watch_stream SECONDS_EACH=600. Needs a C++
## compiler and cargo-fuzz; stable Rust will do, as no sanitizer is asked for (all of ours is safe Rust).
fuzz:
	mkdir -p target/fuzz/found/$(FUZZ)
	cd tests/fuzz && CARGO_TARGET_DIR=../../target/fuzz cargo fuzz run --fuzz-dir . --sanitizer none $(FUZZ) \
		../../target/fuzz/found/$(FUZZ) corpus/$(FUZZ) -- -max_total_time=$(SECONDS_EACH) -max_len=8192 -timeout=10

## The CustomResourceDefinition. `uninstall` takes every OpenstackConfig with it.
install:
	kubectl apply -k manifests/crd

uninstall:
	kubectl delete --ignore-not-found -k manifests/crd

## The operator in its namespace: make deploy IMG=registry/multinic-operator:tag [OVERLAY=overlays/pvc]
deploy:
	set -o pipefail; tools/manifests/render manifests/$(OVERLAY) $(IMG) | kubectl apply -f -

undeploy:
	kubectl delete --ignore-not-found -k manifests/$(OVERLAY)

## What `make deploy` would apply, to standard output.
manifests:
	@tools/manifests/render manifests/$(OVERLAY) $(IMG)

## The image as an archive beside the binary, with neither a registry nor Docker; needs buildah.
image:
	RUSTFLAGS="-C target-feature=+crt-static" \
		$(CARGO) build --locked --release --target $(STATIC_TARGET) --bin multinic-operator
	tools/image operator $(TARGET_DIR)/$(STATIC_TARGET)/release/multinic-operator $(IMG)
