# `make` lists the commands. All of them install what is missing first (scripts/bootstrap).
SHELL := /bin/bash
JOBS ?= $(shell nproc)
FUZZ_SECONDS ?= 60
PREFIX ?= /usr/local
ASAN_LAYERS = graph model quant artifact score exec adapt
CMAKE_ARGS ?=
SOURCES = $(shell find src apps tests bench examples cmake -name '*.h' -o -name '*.cpp' -o -name '*.cu' 2>/dev/null)

.PHONY: help build demo test fuzz format check-format asan asan-core install clean

help:  ## list the commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

build:  ## install what is missing and build the program into build/
	@scripts/bootstrap
	cmake --preset release -DFAIRWAY_TESTS=OFF $(CMAKE_ARGS)
	cmake --build build -j $(JOBS)

demo: build  ## build, train the demo model (a few minutes on two cores), print its score and the path of its results
	build/bin/fairway run

test:  ## install what is missing, build everything and run all tests
	@scripts/bootstrap --test
	cmake --preset release -DFAIRWAY_TESTS=ON $(CMAKE_ARGS)
	cmake --build build -j $(JOBS)
	ctest --test-dir build -j $(JOBS) --output-on-failure --no-tests=error --output-junit junit.xml

fuzz:  ## run each fuzz target for FUZZ_SECONDS (60)
	@scripts/bootstrap --test
	FUZZ_SECONDS=$(FUZZ_SECONDS) JOBS=$(JOBS) scripts/fuzz

asan:  ## run all tests under the address and undefined-behaviour sanitizers (slow)
	@scripts/bootstrap --test
	cmake --preset asan -DFAIRWAY_CUDA=OFF $(CMAKE_ARGS)
	cmake --build build-asan -j $(JOBS)
	ctest --test-dir build-asan -j $(JOBS) --output-on-failure --no-tests=error

asan-core:  ## the same, unit tests of the layers from the graph to test-time training only (minutes)
	@scripts/bootstrap --test
	cmake --preset asan -DFAIRWAY_CUDA=OFF $(CMAKE_ARGS)
	cmake --build build-asan -j $(JOBS) --target $(ASAN_LAYERS:%=test_%)
	@for layer in $(ASAN_LAYERS); do \
	  ASAN_OPTIONS=allocator_may_return_null=1 build-asan/tests/$$layer/test_$$layer --gtest_brief=1 || exit 1; done

format:  ## lay out all sources by .clang-format
	clang-format -i $(SOURCES)

check-format:  ## tell which sources are not laid out by .clang-format
	@scripts/check-format

install: build  ## install program, library, headers and CMake package below PREFIX (/usr/local)
	cmake --install build --prefix $(PREFIX)

clean:  ## remove all build folders
	rm -rf build build-debug build-asan build-fuzz
