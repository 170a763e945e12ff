# Berth. `make help` lists what there is.

export CGO_ENABLED := 0
export GOFLAGS     := -buildvcs=false

VERSION := $(shell hack/version)
LDFLAGS := -s -w -X main.version=$(VERSION)
BIN     ?= bin

.DEFAULT_GOAL := help
.PHONY: help build run test lint bench conformance vm-test kubelet-test install deb package-test clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

build: ## Build the static binaries berth, berth-monitor and berth-init into bin/
	go build -trimpath -ldflags '$(LDFLAGS)' -o '$(BIN)/' ./cmd/...

run: build ## Build, then run the daemon in the foreground with its builtin network (as root)
	@go run ./hack/serve $(ARGS)

test: ## Build and run every test, the end-to-end tests included (as root)
	hack/install-test-tools
	$(MAKE) --no-print-directory build
	go run ./hack/gotest -exec $(CURDIR)/hack/isolate -timeout 20m $(ARGS) ./...

lint: ## Check formatting, vet, staticcheck and the rules of the house
	hack/lint

bench: ## Measure CRI runtimes side by side: make bench ARGS='berth=/run/berth/berth.sock ...'
	go run ./test/bench $(ARGS)

conformance: ## Run critest against a daemon started for it: see test/conformance/README.md
	test/conformance/run $(ARGS)

vm-test: ## Test on cgroup v2 with systemd and AppArmor, in an emulated VM (as root): see test/vm/README.md
	test/vm/suite $(ARGS)

install: build ## Install to PREFIX (/usr/local) below DESTDIR: programs, unit, default configuration, manual, completions
	packaging/install

deb: ## Build the Debian package into dist/, for this machine or ARCH=arm64
	packaging/deb/build $(ARCH)

package-test: ## Install, upgrade, restart, remove and purge the package under running pods, in the VM (as root)
	test/packaging/run $(ARGS)

kubelet-test: ## Run a real kubelet against Berth (as root): see docs/kubelet.md
	hack/install-test-tools
	cd test/kubelet && go test -count 1 -v -timeout 30m $(ARGS) .

clean: ## Remove what was built
	rm -rf bin dist
