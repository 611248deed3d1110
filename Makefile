# The front door. Everything here works from a fresh clone; `make help` lists it.

.DEFAULT_GOAL := help
.PHONY: help setup build images demo test e2e lint generate bench cluster cluster-down clean

# `cargo xtask` as it is built with the programs, so that nothing is built a second time for it.
xtask = $${CARGO_TARGET_DIR:-target}/release/xtask

help: ## List what can be made
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## Fetch DuckDB, extensions, example data and what tests need (once; safe to repeat)
	@scripts/setup

build: ## Build bin/pintail, bin/pintail-operator and bin/pintail-runner
	@scripts/setup run
	@scripts/build

images: build ## Write the container images of operator and runner to target/images/
	@$(xtask) image

demo: build ## Run the retail-summary example; show its result and its report page
	@scripts/demo

test: setup build ## Run every test, and print how many there were
	@scripts/test

e2e: setup build ## Run every example on a Kubernetes, with faults, and compare with local runs (root)
	@scripts/e2e

lint: ## Check formatting, warnings, generated files and layers
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- --deny warnings
	@scripts/build
	$(xtask) generate --check
	$(xtask) layers

generate: build ## Write crds/, schemas/ and docs/reference/ anew
	$(xtask) generate

bench: setup build ## Measure against plain DuckDB; prints ratios (several minutes)
	@scripts/bench

cluster: ## Start a Kubernetes without Docker; print its kubeconfig (root; builds for minutes once)
	@scripts/setup-cluster
	@scripts/cluster up

cluster-down: ## End that Kubernetes and leave nothing of it
	@scripts/cluster down

clean: ## Remove what was built and fetched into the tree; the cache stays
	rm -rf target bin lib
