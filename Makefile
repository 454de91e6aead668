# The commands that people use. Everything real is in CMakePresets.json and tools/; `make help` lists what there is.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := all
.NOTPARALLEL:
.PHONY: all setup demo test bench engine-bench gpu-compile gpu-test gpu-bench gpu-sanitize server-test simulate server-load server-routers asan tsan fuzz lint format install wheel clean help configure

JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 30
SEEDS ?= 0..99999
PREFIX ?= /usr/local
# `make test SETUP=` skips the set-up, for machines that are not Debian.
SETUP ?= setup
export JOBS

# CUDA=1 demands the CUDA backend, CUDA=0 leaves it out; without either it is built where nvcc and a GPU are found.
ifneq ($(CUDA),)
  ifeq ($(filter 0 1,$(CUDA)),)
    $(error CUDA=$(CUDA): expected 0 or 1)
  endif
  CUDA_FLAGS += -DCAJAL_CUDA=$(CUDA)
endif
# CUDA_ARCHITECTURES="80-virtual;90a-real" is what portable kernels are compiled for, as CMake names it.
ifneq ($(CUDA_ARCHITECTURES),)
  CUDA_FLAGS += -DCAJAL_CUDA_ARCHITECTURES="$(CUDA_ARCHITECTURES)"
endif

# Sanitizers of older compilers cannot place their shadow when the kernel randomises more bits than they expect.
FIXED_ADDRESSES = $(shell setarch $$(uname -m) -R true 2>/dev/null && echo setarch $$(uname -m) -R)

## all: build/release/cajal (also plain `make`)
all: configure
	@cmake --build --preset release -j $(JOBS)

configure:
	@cmake --preset release $(CUDA_FLAGS) --log-level=WARNING || { echo "cajal: configuring failed — 'make setup' installs what is missing" >&2; exit 1; }

## setup: install the Debian packages that are missing (tools/packages.txt), and build xgrammar into .deps/
setup:
	@tools/setup.sh

## demo: set-up, build, and an answer from the demo model
demo: $(SETUP) configure
	@cmake --build --preset release -j $(JOBS) --target cajal
	@echo '> Who are you, and what can you do?' >&2
	@build/release/cajal generate --chat --no-enable-thinking --prompt "Who are you, and what can you do?"
	@echo "Go on with: build/release/cajal chat" >&2

## test: set-up, build, and every test that this machine can run
test: $(SETUP) all
	@ctest --preset release -j $(JOBS)

## bench: what the program reaches on this machine, beside what the machine, llama.cpp and ik_llama.cpp can (BENCH_FLAGS=--all: every row)
BENCH_FLAGS ?= --shapes 0.6b,moe-small
bench: all
	@build/release/cajal bench bench/shapes/Qwen3-0.6B --load-format dummy -p 512 -n 64 -r 5
	@python3 bench/compare_llama_cpp.py $(BENCH_FLAGS)

## engine-bench: what the engine adds to the model: streams, books, prefixes and guesses, as ratios of one run
engine-bench: configure
	@cmake --build --preset release -j $(JOBS) --target engine_bench
	@build/release/engine_bench

## gpu-compile: the CUDA backend where nvcc is, with or without a GPU, and those of its tests that need none
gpu-compile:
	@tools/gpu_compile.sh $(JOBS)

# Those of engine_test that run on the device of CAJAL_TEST_DEVICE (tests/engine/test_device.h).
DEVICE_TESTS = HuggingFace/*:Goldens/*:*ManyAtOnce*:EngineCore.*:AssistantDrafter.*:Embedder.*:Reranker.*:Conversation.*:StructuredAnswers.*-*ExportOfGolden*

## gpu-test: the CUDA backend's tests, and whole models on the device
gpu-test:
	@$(MAKE) CUDA=1 configure
	@cmake --build --preset release -j $(JOBS) --target cuda_test engine_test
	@build/release/tests/cuda_test --gtest_brief=1
	@CAJAL_TEST_DEVICE=cuda build/release/tests/engine_test --gtest_brief=1 --gtest_filter='$(DEVICE_TESTS)'

## gpu-sanitize: the CUDA backend's tests on small shapes under compute-sanitizer's memcheck, racecheck and initcheck
gpu-sanitize:
	@$(MAKE) CUDA=1 configure
	@cmake --build --preset release -j $(JOBS) --target cuda_test
	@tools/gpu_sanitize.sh build/release/tests/cuda_test

## gpu-bench: what the CUDA backend reaches of this GPU, kernels and models
gpu-bench:
	@$(MAKE) CUDA=1 configure
	@cmake --build --preset release -j $(JOBS) --target cajal cuda_bench
	@build/release/cuda_bench
	@for test in "8B -p 2048,8192 -n 64 -r 3" "8B -p 0 -n 64 -b 64,128 -r 3" "8B -p 0 -n 32 -d 2000,32000 -r 2" "0.6B -p 2048 -n 64 -r 3" \
	  "30B-A3B -p 2048,8192 -n 32 -b 1 -r 2" "30B-A3B -p 0 -n 32 -b 64,128 -r 2" "32B -p 2048 -n 16 -r 2"; do \
	  build/release/cajal bench bench/shapes/Qwen3-$$test --device cuda --load-format dummy || exit 1; done

## asan: tests under AddressSanitizer and UndefinedBehaviorSanitizer, but the longest
## tsan: tests of the layers that have threads under ThreadSanitizer, but the longest
asan tsan:
	@cmake --preset $@ --log-level=WARNING
	@cmake --build --preset $@ -j $(JOBS)
	@echo "$@: tests/CMakeLists.txt says what is left out here (left_out_*, threaded_layers, every); make test runs all of it"
	@$(FIXED_ADDRESSES) ctest --preset $@ -j $(JOBS)

## server-test: cajal serve and the demo model, seen by the official clients of OpenAI and Anthropic, which come from PyPI
server-test: all build/clients/installed
	@build/clients/bin/python tests/clients/run_tests.py build/release/cajal

build/clients/installed: tools/client_packages.txt
	@python3 -m venv --clear build/clients
	@build/clients/bin/pip install --quiet --disable-pip-version-check -r $< || { echo "cajal: the clients could not be installed — is PyPI within reach?" >&2; exit 1; }
	@touch $@

## simulate: play the engine through SEEDS=0..99999 and stop at the first that shows something wrong
simulate: configure
	@cmake --build --preset release -j $(JOBS) --target simulator
	@build/release/tests/simulator --seeds $(SEEDS)

## server-load: 256 streams for a minute with cancels, slow clients, 2,000 disconnects, overload and nonsense against the server
LOAD_FLAGS ?= --seconds 60 --streams 256 --disconnects 2000
server-load: all
	@python3 tests/server/load_test.py build/release/cajal $(LOAD_FLAGS)

## server-routers: two servers behind routers from PyPI (vllm-router and smg, in build/routers), one of which is drained and one killed
server-routers: all
	@python3 tests/server/router_test.py build/release/cajal --install

## fuzz: every fuzz program for FUZZ_SECONDS=30 seconds each, from the inputs in fuzz/corpus/
fuzz:
	@cmake --preset fuzz --log-level=WARNING
	@cmake --build --preset fuzz -j $(JOBS)
	@tools/fuzz.sh build/fuzz $(FUZZ_SECONDS) $(JOBS)

## lint: format, structure, scripts and clang-tidy
lint: configure
	@tools/lint.sh build/release

## format: put every source into our format
format:
	@tools/sources.sh | xargs -r clang-format -i
	@tools/sources.sh | xargs -r clang-format -i  # it settles some macros at the second time only

## install: the release build into PREFIX=/usr/local
install: all
	@cmake --install build/release --prefix $(PREFIX)

## wheel: the Python package with the library in it, build/python/cajal-*.whl
wheel: all
	@python3 python/build_backend.py build/python build/release/libcajal.so

## clean: remove every build
clean:
	@rm -rf build

## help: this list
help:
	@sed -n 's/^## \([a-z-]*\): /\1\t/p' $(firstword $(MAKEFILE_LIST)) | expand -t 14
