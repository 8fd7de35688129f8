# The two commands of the README are `make demo` and `make test`; the rest is for developers.

SHELL := /bin/bash
CARGO ?= cargo
# Used where it is installed: it runs each test in a process of its own and says more.
NEXTEST := $(shell $(CARGO) nextest --version >/dev/null 2>&1 && echo yes)

IMG ?= multinic-operator:latest
VIOLA_TEST_API_IMG ?= viola-test-api:latest
# What to deploy: default, or a folder of manifests/overlays.
OVERLAY ?= default
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
STATIC_DIR := $(TARGET_DIR)/x86_64-unknown-linux-gnu/release
VERSION := $(shell sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml)
VENDORED := $(TARGET_DIR)/multinic-operator-$(VERSION)-vendored.tar.gz

# Of `make fuzz`: which target (tests/fuzz/targets), and for how long.
FUZZ ?= answers
SECONDS_EACH ?= 1800

.PHONY: demo test simulation soak check format lint docs bench fuzz mutants install uninstall uninstall-records deploy undeploy manifests
.PHONY: static image image-test vendor offline-test reproducible deny deny-advisories licences sbom

## Builds, starts the real programs against a simulated cloud, shows what happens; STAY=yes goes on until Enter.
demo:
	$(CARGO) build --locked --package multinic-operator --package simulated-cloud
	@programs="$$($(CARGO) metadata --format-version 1 --no-deps --offline | sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/debug"; \
	exec "$$programs/demo" $(if $(STAY),--stay) \
		"$$programs/multinic-operator" "$$programs/viola-test-api" fixtures/three-nodes

## Everything that needs no cluster and no network. Says at the end what was skipped, and why. Most
## tests wait for answers, so several share a core.
test:
	@rm -f $(TARGET_DIR)/tmp/skipped-tests
ifeq ($(NEXTEST),yes)
	$(CARGO) nextest run --locked --workspace --no-fail-fast --test-threads "$$(( $$(nproc) * 3 ))"
	$(CARGO) test --locked --workspace --doc
else
	$(CARGO) test --locked --workspace --no-fail-fast
endif
	@if [ -s $(TARGET_DIR)/tmp/skipped-tests ]; then echo "Skipped, in whole or in part:"; \
		sort -u $(TARGET_DIR)/tmp/skipped-tests; fi

## The simulation with random seeds until one fails; SIMULATION_SEEDS=1000000 or 7000..9000 for so many.
simulation:
	SIMULATION_SEEDS=$(or $(SIMULATION_SEEDS),forever) \
		$(CARGO) test --locked --release --test simulation no_invariant -- --nocapture

## The release program under random faults for an hour; SOAK_SECONDS and SOAK_SEED for another. Clock
## jumps need Debian's faketime, full disks the right to mount.
soak:
	$(CARGO) build --locked --release --bin multinic-operator
	MULTINIC_OPERATOR="$(abspath $(TARGET_DIR))/release/multinic-operator" \
		$(CARGO) test --locked --test simulation long_soak -- --ignored --nocapture

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

## Breaks the pure core in one place after another and says which breaks no test notices; tests/mutants says
## where, and why some are left. Needs cargo-mutants. One file: make mutants FILE=src/queue.rs.
mutants:
	survived=0; for half in core inventory; do \
		$(CARGO) mutants --config tests/mutants/$$half.toml --colors never \
			$(if $(FILE),--re '^$(FILE):') --output target/mutants-$$half || survived=$$?; \
	done; exit $$survived

## The custom resources. `uninstall` takes every OpenstackConfig with it, and leaves the records;
## `uninstall-records` takes those too, and with them which interface id each port has.
install:
	kubectl apply -k manifests/crd

uninstall:
	kubectl delete --ignore-not-found -f manifests/crd/openstackconfigs.yaml

uninstall-records:
	kubectl delete --ignore-not-found -f manifests/crd/nodeinterfaces.yaml

## The operator in its namespace: make deploy IMG=registry/multinic-operator:tag [OVERLAY=pvc]
## [PULL_SECRET=name of a Secret for the registry]. tools/manifests/deploy says what else it does.
deploy:
	@tools/manifests/deploy $(OVERLAY) $(IMG)

## Takes it away, after an export of its records into the current folder.
undeploy:
	@tools/manifests/undeploy $(OVERLAY)

## What `make deploy` would apply, to standard output.
manifests:
	@folder=$$(tools/manifests/folder $(OVERLAY)) && tools/manifests/render "$$folder" $(IMG)

## Static binaries, to put into an empty image. The same sources give the same bytes anywhere.
static:
	tools/static multinic-operator viola-test-api

## Both images as archives beside the binaries, with neither a registry nor Docker; needs buildah.
image: static
	tools/image operator $(STATIC_DIR)/multinic-operator $(IMG)
	tools/image viola-test-api $(STATIC_DIR)/viola-test-api $(VIOLA_TEST_API_IMG)

## What is in the images, and a sync in an otherwise empty root folder; the latter needs root.
image-test: image
	@[ "$$(id -u)" = 0 ] || echo "SKIPPED: the programs aren't run in their images, which needs root" >&2
	IMAGE_FOLDER=$(abspath $(STATIC_DIR)) $(CARGO) test --locked --package multinic-operator --test packaging

## One archive with sources and crates, from which all builds and tests without a network.
vendor:
	tools/vendor $(VENDORED)

## Builds and tests from that archive in a new folder, with the network cut off.
offline-test: vendor
	tools/offline $(VENDORED) bash -euc 'cargo build --release --locked --offline && make test'

## Static binaries from here and from that archive, elsewhere and offline: the same bytes?
reproducible: static vendor
	tools/reproducible $(VENDORED) $(STATIC_DIR)

## Licences, duplicate crates and sources, by deny.toml.
deny:
	tools/pinned cargo-deny --locked check licenses bans sources

## Known weaknesses of the crates, by RustSec's database; ADVISORY_DB names a mirror (folder or URL) of it.
ADVISORY_DB ?= https://github.com/RustSec/advisory-db
deny-advisories:
	GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0="url.$(ADVISORY_DB).insteadOf" \
		GIT_CONFIG_VALUE_0=https://github.com/RustSec/advisory-db \
		tools/pinned cargo-deny --locked check advisories

## Writes the list of what is compiled in, with the licences' texts.
licences:
	tools/licences >docs/THIRD-PARTY-LICENSES.txt

## CycloneDX bills of materials of the shipped binaries.
sbom:
	tools/sbom/make $(TARGET_DIR)/sbom
