# The one entry for people and for CI. `make` lists the targets. Cargo is asked for the whole workspace wherever it can be:
# another selection of crates is another set of features, and builds every dependency once more.

CARGO ?= cargo
PROFILE ?= release
TARGET_DIR := $(or $(CARGO_TARGET_DIR),target)
MUSL := $(shell uname -m)-unknown-linux-musl
BIN := $(TARGET_DIR)/bin/$(PROFILE)
STATIC := $(TARGET_DIR)/bin/static-$(PROFILE)
# Cargo calls the output folder of profile `dev` `debug`.
OUT := $(if $(filter dev,$(PROFILE)),debug,$(PROFILE))

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: demo
demo: setup bin ## three nodes, two racks, two real routers: the whole story, with proof; leaves the lab up
	$(BIN)/weft-e2e demo

.PHONY: demo-down
demo-down: ## remove everything that the demo left
	@if [ -x $(BIN)/weft-e2e ]; then $(BIN)/weft-e2e lab down --name demo; else echo "no demo was built here"; fi

.PHONY: test
test: setup-cluster ## every check and every test, as CI runs it
	$(MAKE) lint unit
	$(MAKE) scenarios PROFILE=dev
	$(MAKE) cluster-scenarios PROFILE=dev
	$(MAKE) conformance PROFILE=dev SUITE=subset

# Manuals of modules link to what is private in them: they are for who changes it.
RUSTDOC_DENY := -D warnings -A rustdoc::private-intra-doc-links

.PHONY: lint
lint: ## formatting, clippy, links of the documentation, shell scripts, dependencies, that the pure crates are pure, circles of modules, the chart
	$(CARGO) fmt --all --check
	shellcheck $$(grep -l '^#!/bin/sh' scripts/*) .ci/run e2e/kubernetes/build e2e/kubernetes/images e2e/kubernetes/etcd/build
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings
	$(CARGO) clippy --workspace --test scenarios --test cluster --locked -- -D warnings
	RUSTDOCFLAGS="$(RUSTDOC_DENY)" $(CARGO) doc --workspace --no-deps --document-private-items --locked --quiet
	scripts/check-dependencies
	scripts/check-pure
	scripts/check-circles
	scripts/check-docs
	helm=$$(e2e/kubernetes/build helm)/helm && $$helm lint --strict --quiet chart && $$helm lint --strict --quiet --values chart/ci/all-values.yaml chart
	$(CARGO) run --quiet --locked -p weft-api --features generate --bin weft-crds -- --check --docs docs/crd-reference.md chart/definitions

.PHONY: audit
audit: ## cargo-deny on all that we depend on: advisories (from the network), licences, sources, versions
	command -v cargo-deny >/dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny check

.PHONY: crds
crds: ## write the chart's CRDs, and their reference in docs/, from the Rust types
	$(CARGO) run --quiet --locked -p weft-api --features generate --bin weft-crds -- --docs docs/crd-reference.md chart/definitions

.PHONY: unit
unit: ## tests of the crates: units, properties, simulation, the kernel in namespaces, other people's routers
	$(CARGO) test --workspace --locked
	$(CARGO) test -p weft-bgp --no-default-features --locked --lib

# Of what may go on for ever.
MINUTES ?= 10

# One of fuzz/fuzz_targets.
TARGET ?= bgp_session

.PHONY: fuzz
fuzz: ## libFuzzer on one decoder: make fuzz TARGET=bgp_message MINUTES=10; `make unit` runs a part of it on each
	scripts/fuzz $(TARGET) $(MINUTES)

# What cargo-mutants takes: a shard, a file, a crate.
MUTANTS ?= --in-diff
.PHONY: mutants
mutants: ## rules taken out one by one: does a test notice? Of the change since BASE, or MUTANTS="--package weft-bgp --shard 1/20"
	scripts/mutants $(MUTANTS)

# Of a simulated cluster, at most 1022, and of one of its racks.
NODES ?= 200
RACK ?= 40

SIMULATE = WEFT_SIM_NODES=$(NODES) WEFT_SIM_RACK=$(RACK) $(if $(SEED),WEFT_SIM_SEED=$(SEED)) \
	$(CARGO) test --release --locked -p weft-bgp --test sim -- --ignored --nocapture

.PHONY: simulate
simulate: ## whole clusters of speakers in virtual time: make simulate NODES=1000 SEED=n
	$(SIMULATE) simulate_racks
	$(SIMULATE) simulate_mesh

.PHONY: scenarios
scenarios: bin ## stories on the lab: real routers, real kernel, traffic as the proof
	WEFT_BIN_DIR=$(abspath $(BIN)) $(CARGO) test --workspace --locked --test scenarios -- --test-threads=2

SOAK_OUT := $(TARGET_DIR)/soak

.PHONY: soak
soak: bin ## whatever can happen to a lab, for MINUTES=10, from SEED=n or the clock, held against a reference model
	WEFT_BIN_DIR=$(abspath $(BIN)) $(BIN)/weft-e2e soak --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --out $(SOAK_OUT)

.PHONY: cluster
cluster: setup-cluster bin bin-static ## three real kubelets and a control plane with Weft installed; stays up
	WEFT_BIN_DIR=$(abspath $(STATIC)) $(BIN)/weft-e2e cluster up --nodes 3 --racks 2 --dual-stack

.PHONY: cluster-down
cluster-down: ## remove everything that `make cluster` left
	@if [ -x $(BIN)/weft-e2e ]; then $(BIN)/weft-e2e cluster down; else echo "no cluster was built here"; fi

.PHONY: cluster-scenarios
cluster-scenarios: setup-cluster bin-static ## the life of a cluster: stories on a real Kubernetes
	WEFT_BIN_DIR=$(abspath $(STATIC)) $(CARGO) test --workspace --locked --test cluster

.PHONY: soak-cluster
soak-cluster: setup-cluster bin bin-static ## as soak, on a real Kubernetes whose API server stops
	WEFT_BIN_DIR=$(abspath $(STATIC)) $(BIN)/weft-e2e soak --cluster --minutes $(MINUTES) $(if $(SEED),--seed $(SEED)) --out $(SOAK_OUT)

# netpol, network, all or subset.
SUITE ?= all

.PHONY: outage
outage: setup-cluster bin-static ## the API server away for ten minutes, agents killed and a node rebooted meanwhile
	WEFT_OUTAGE_SECONDS=600 WEFT_BIN_DIR=$(abspath $(STATIC)) $(CARGO) test --workspace --locked --test cluster -- the_api_server_is_gone

.PHONY: conformance
conformance: setup-cluster bin bin-static ## Kubernetes' own NetworkPolicy and network suites, on a real cluster with Weft
	WEFT_BIN_DIR=$(abspath $(STATIC)) $(BIN)/weft-e2e conformance --suite $(SUITE) --out $(TARGET_DIR)/conformance

.PHONY: bench
bench: setup bin ## beside BIRD 2 and the reference CNI plugins, both sides in one run
	$(BIN)/weft-e2e bench bgp
	$(BIN)/weft-e2e bench cni

.PHONY: bench-cluster
bench-cluster: setup-cluster bin bin-static ## Deployments on a real Kubernetes, beside the reference plugins; agents at rest, also among 5,000 pods
	WEFT_BIN_DIR=$(abspath $(STATIC)) $(BIN)/weft-e2e bench cluster
	WEFT_BIN_DIR=$(abspath $(STATIC)) $(BIN)/weft-e2e bench cluster-at-scale

.PHONY: bench-nodes
bench-nodes: setup-cluster bin bin-static ## a hundred agents on a real API server with 1,000 Nodes and 10,000 pods: requests, CPU, memory, waves of restarts
	WEFT_BIN_DIR=$(abspath $(STATIC)) $(BIN)/weft-e2e bench nodes

.PHONY: bin
bin: ## build the programs into one folder
	$(CARGO) build --workspace --locked --profile $(PROFILE) --bin weft-agent --bin weftctl --bin weft-e2e
	$(CARGO) build --locked --release --target $(MUSL) -p weft-cni
	@mkdir -p $(BIN)
	@for b in weft-agent weftctl weft-e2e; do ln -f $(TARGET_DIR)/$(OUT)/$$b $(BIN)/$$b; done
	@ln -f $(TARGET_DIR)/$(MUSL)/release/weft-cni $(BIN)/weft-cni
	@ln -sf weftctl $(BIN)/kubectl-weft

.PHONY: bin-static
bin-static: ## build the programs of the container image, which has no libc
	CC_$(subst -,_,$(MUSL))=musl-gcc $(CARGO) build --locked --profile $(PROFILE) --target $(MUSL) \
		-p weft-agent -p weftctl -p weft-cni
	@mkdir -p $(STATIC)
	@for b in weft-agent weftctl weft-cni; do install -s $(TARGET_DIR)/$(MUSL)/$(OUT)/$$b $(STATIC)/$$b; done

IMAGE ?= ghcr.io/weft-network/weft:0.1.0

.PHONY: image
image: setup-cluster bin-static ## the container image, in buildah's store and as an archive to import on nodes; no registry
	buildah bud --isolation chroot --tag $(IMAGE) --file Dockerfile $(STATIC)
	@rm -f $(STATIC)/weft-image.tar
	buildah push $(IMAGE) oci-archive:$(STATIC)/weft-image.tar:$(IMAGE)
	@echo "$(STATIC)/weft-image.tar: ctr -n k8s.io images import"

.PHONY: dist
dist: ## what a release is made of, for amd64 and arm64: programs, image, chart, SBOMs, checksums, in target/dist
	scripts/setup "x86_64-unknown-linux-musl aarch64-unknown-linux-musl" dist
	scripts/dist $(TARGET_DIR)/dist

.PHONY: setup
setup: ## install what is missing: packages and the static target
	scripts/setup $(MUSL)

.PHONY: setup-cluster
setup-cluster: ## install what a cluster needs beyond that: a container runtime, etcd, Go
	scripts/setup $(MUSL) cluster
