# Everything takes the dev profile, so that dependencies are compiled once.
CARGO ?= cargo
BIN := $(or $(CARGO_TARGET_DIR),target)/debug
LAB := $(BIN)/phoenix-lab
PHOENIX := $(BIN)/phoenix --config lab/phoenix.yaml
# Tests on labs wait more than they compute.
THREADS ?= $(shell cores=$$(nproc); [ "$$cores" -gt 4 ] && echo "$$cores" || echo 4)
ENGINES ?= bookworm sid bookworm,trixie,sid sid,bookworm
SITES := lab_itself converge failures interrupted certificates registry stack
FUZZ_SECONDS ?= 60
# `address` finds misuse of memory in C as well, and is many times slower.
FUZZ_SANITIZER ?= none
FUZZ_TARGETS := $(basename $(notdir $(wildcard tests/fuzz/fuzz_targets/*.rs)))
# The fuzzer's instrumentation is behind flags that a stable compiler hides.
FUZZ := RUSTC_BOOTSTRAP=1 $(CARGO) fuzz

.PHONY: help demo lab lab-down test test-engines check fuzz bench bench-converge bench-stacks tools \
	fuzz-tools programs

help: ## Say what there is
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 24

demo: lab ## Bring up the lab and take the demo site from nothing to converged, twice
	$(PHOENIX) sync all --reset-portainer
	$(PHOENIX) sync all
	$(PHOENIX) status
	@echo
	@echo 'The demo site is up. To look around:'
	@echo '  $(PHOENIX) plan'
	@echo '  $(PHOENIX) exec drphoenix -- docker ps'
	@echo '  $(PHOENIX) --help'
	@echo 'To take it down: make lab-down'

lab: programs ## Bring up the demo's lab, fill in its site file and leave it up
	@$(LAB) down
	$(LAB) up --site lab

lab-down: programs ## Remove the demo's lab and its site
	$(LAB) down

test: programs ## Check format and lints, run all tests, on labs of their own
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	$(LAB) prepare
	RUST_TEST_THREADS=$(THREADS) $(CARGO) test --workspace --no-fail-fast; status=$$?; \
		$(LAB) down --orphans && exit $$status

# Each node of a mixed lab has an engine of its own, in the order of the nodes.
test-engines: programs ## Run the tests of whole sites and of stacks on other Docker engines too
	$(LAB) prepare
	@status=0; for engines in $(ENGINES); do \
		echo "engines: $$engines"; \
		PHOENIX_LAB_ENGINES=$$engines RUST_TEST_THREADS=$(THREADS) $(CARGO) test --workspace --no-fail-fast \
			$(addprefix --test ,$(SITES)) || status=1; \
	done; $(LAB) down --orphans && exit $$status

check: tools ## Check format, lints and documentation, without running anything
	$(CARGO) fmt --all --check
	$(CARGO) clippy --workspace --all-targets -- -D warnings
	RUSTDOCFLAGS='-D warnings' $(CARGO) doc --workspace --no-deps

# Inputs that break a parser are left in cases/, where the tests replay them: fix, keep, commit.
fuzz: fuzz-tools ## Feed every parser with made-up input for FUZZ_SECONDS (60) each
	@cd tests/fuzz && $(FUZZ) build -s $(FUZZ_SANITIZER) && status=0; \
	for target in $(FUZZ_TARGETS); do \
		mkdir -p corpus/$$target cases/$$target; \
		$(FUZZ) run -s $(FUZZ_SANITIZER) $$target corpus/$$target cases/$$target -- \
			-max_total_time=$(FUZZ_SECONDS) -timeout=10 -print_final_stats=1 \
			-artifact_prefix=cases/$$target/ || status=1; \
	done; exit $$status

bench: tools ## Measure certificates, site files, plans and large stacks
	$(CARGO) bench -p phoenix-benches

bench-converge: programs ## Measure a first and a second sync of the demo site on a lab
	$(LAB) bench

bench-stacks: programs ## Measure deployments of ten services beside the docker CLI's on a lab
	$(LAB) bench-stacks

programs: tools
	$(CARGO) build --workspace --bins

# Cargo needs a C compiler and a linker before the lab can install anything.
tools:
	@command -v cc >/dev/null && test -e /usr/include/stdio.h && exit 0; \
	$(call install,gcc libc6-dev)

# libFuzzer is compiled from C++.
fuzz-tools: tools
	@command -v c++ >/dev/null && exit 0; $(call install,g++)
	@$(CARGO) fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz

# Installs Debian's packages $(1), or says how.
define install
install='apt-get install -y --no-install-recommends $(1)'; \
	if [ "$$(id -u)" != 0 ]; then \
		echo "packages are missing; run: sudo apt-get update && sudo $$install" >&2; exit 2; \
	fi; \
	export DEBIAN_FRONTEND=noninteractive NEEDRESTART_SUSPEND=1; \
	apt-get update -q && $$install
endef
