# Needs git, Go, bash, make and Python 3; no AWS account; root or any user.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := build

export CGO_ENABLED := 0
VERSION := $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

RUNNER := $(CURDIR)/build/gitlab-runner
PYTHON := $(CURDIR)/build/venv/bin/python
DEMO := testdata/projects/breast-cancer

# Packages of tests at once, and seconds before a hanging one shows its stacks.
TEST := go test -timeout 20m
tested := SAGEMAKER_EXECUTOR_RUNNER='$(RUNNER)' SAGEMAKER_EXECUTOR_PYTHON='$(PYTHON)' PATH='$(dir $(RUNNER))':"$$PATH"

.PHONY: build
build: ## bin/sagemaker-executor, one static binary
	go build -trimpath -tags urfave_cli_no_docs -ldflags '-s -w -X main.release=$(VERSION)' -o bin/sagemaker-executor .

.PHONY: runner
runner: ## build/gitlab-runner, the real GitLab Runner (kept in the user's cache)
	@local/gitlab/runner/build.sh '$(RUNNER)' >/dev/null

.PHONY: python
python: ## build/venv, AWS's own clients for the tests
	@testdata/python/install build/venv

.PHONY: test
test: build runner python ## all tests, those with the real runner included
	$(tested) $(TEST) ./...

.PHONY: test-long
test-long: build runner python ## what takes minutes: floods, spot, full disks, the runner's timeouts
	$(tested) SAGEMAKER_EXECUTOR_LONG=1 $(TEST) -timeout 40m -run '^TestLong' ./...

.PHONY: demo
demo: build runner ## the sample project's pipeline, through GitLab Runner and the local SageMaker
	@.ci/demo '$(DEMO)' '$(RUNNER)'

.PHONY: bench
bench: build runner ## the figures in the README
	$(tested) go run ./bench

.PHONY: lint
lint: ## formatting, the import rules of the house, dead code
	go run mvdan.cc/gofumpt@v0.12.0 -l . | { ! grep .; }
	go vet ./...
	go run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run

.PHONY: clean
clean:
	rm -rf bin build

.PHONY: help
help:
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | column -ts $$'\t'
