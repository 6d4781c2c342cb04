# Every target does its own set-up: packages, virtual environment, Caffe. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

PYTHON_VENV := .venv/bin/python
RUN := $(PYTHON_VENV) -m

N ?= 2000
SOURCE ?= data/synth
DATA ?= data/lmdb
GPUS ?=
# 1: the Caffe with CUDA, 0: the one for the CPU; empty: as the last time.
GPU ?=
VARIANT ?= $(if $(GPUS),paper,mini)
# Augmented copies of each training sample for Caffe's own Data layers.
BAKE ?=
# What BAKE writes: lmdb or hdf5.
FORMAT ?= lmdb
RESUME ?= $(if $(WEIGHTS),,auto)
IMAGES ?=
# Further options of a target's command, as in `make train ARGS="--iterations 100"`.
ARGS ?=

.PHONY: help setup caffe prototxt synth lmdb check inspect train overfit eval ablation infer demo \
    bench bench-gpu doctor lint test

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup:  ## distribution packages (root or sudo) and the virtual environment .venv
	@caffe_build/setup.sh

# CAFFE_SOURCE=DIR builds a tree of yours, CAFFE_PREFIX=DIR uses a Caffe that you have built.
caffe: setup  ## real Caffe, built once and kept in the cache; GPU=1: with CUDA, GPU=0: without
	@$(RUN) caffe_build $(if $(GPU),--gpu $(GPU))

prototxt: caffe  ## write prototxt/ and solver/ again from their generators
	@echo writing prototxt/ and solver/
	@$(RUN) prototxt.generate >/dev/null && $(RUN) solver.generate >/dev/null

synth: setup  ## N synthetic hands (and N/10 to test) in OneHand10K's layout, to data/synth
	@$(RUN) data_tools.synth --out data/synth --train $(N) --test $$(( $(N) / 10 )) $(ARGS)

# BAKE=8 also writes DATA/baked, as LMDB or, with FORMAT=hdf5, as HDF5.
lmdb: caffe  ## SOURCE (a data set's folder or .json) to the sets DATA/{train,validation}; BAKE=8
	@[ -n "$(BAKE)" ] && [ -d $(DATA)/train ] || { \
	    { [ -d $(SOURCE) ] || [ $(SOURCE) != data/synth ] || $(MAKE) synth ARGS=; } && \
	    $(RUN) data_tools.build_lmdb $(SOURCE) $(DATA) $(ARGS); }
	@[ -z "$(BAKE)" ] || $(RUN) data_tools.bake $(DATA)/train $(DATA)/baked --copies $(BAKE) \
	    --format $(FORMAT) --variant $(VARIANT)

check: caffe  ## look for faults in SET (a data set or LMDB sets; default DATA), to out/check
	@$(RUN) data_tools.check $(or $(SET),$(DATA)) $(ARGS)

inspect: caffe  ## draw samples of SET, of LMDB sets as the net sees them, to out/inspect.png
	@$(RUN) data_tools.inspect $(or $(SET),$(DATA)) $(ARGS)

train: caffe  ## train VARIANT (mini, paper) on DATA; GPUS=0,1: one process a GPU; resumes
	@$(RUN) mcc_caffe.train $(DATA)/train --variant $(VARIANT) $(if $(GPUS),--gpus $(GPUS)) \
	    $(if $(WEIGHTS),--weights $(WEIGHTS)) $(if $(RESUME),--resume $(RESUME)) $(ARGS)

overfit: caffe  ## 8 images learnt by heart: the proof that the whole chain learns
	@[ -d runs/overfit-data/lmdb ] || { \
	    $(RUN) data_tools.synth --out runs/overfit-data/synth --train 8 --test 1 && \
	    $(RUN) data_tools.build_lmdb runs/overfit-data/synth runs/overfit-data/lmdb; }
	@$(RUN) mcc_caffe.overfit runs/overfit-data/lmdb/train $(ARGS)

eval: caffe  ## measure WEIGHTS (several allowed) on DATA: tables, curves, worst pictures
	@$(RUN) mcc_caffe.evaluate $(DATA) --variant $(VARIANT) \
	    $(if $(WEIGHTS),--weights $(WEIGHTS)) $(ARGS)

ablation: caffe  ## train mini whole, without mask and without pose; report in runs/ablation
	@$(RUN) mcc_caffe.ablation $(ARGS)

infer: caffe  ## find the hand in IMAGES="images, videos, folders or globs"
	@[ -n "$(IMAGES)" ] || { \
	    echo 'give images: make infer IMAGES="photo.jpg folder clip.mp4"' >&2; exit 2; }
	@$(RUN) mcc_caffe.infer $(IMAGES) --variant $(VARIANT) \
	    $(if $(WEIGHTS),--weights $(WEIGHTS)) $(ARGS)

demo: prototxt  ## from nothing to pictures: prototxts, hands, LMDB, a short training, inference
	@$(RUN) mcc_caffe.demo

bench: caffe  ## measure speed beside other engines, to runs/bench; ARGS=--quick: 10 minutes
	@$(RUN) benchmarks $(ARGS)

bench-gpu: caffe  ## does the GPU compute as the CPU does, and how fast? (make caffe GPU=1)
	@$(RUN) benchmarks.gpu $(ARGS)

doctor: setup  ## what works here, and what to do about the rest
	@$(RUN) mcc_caffe.doctor

lint: setup  ## check the code: ruff, mypy, import-linter
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

test: caffe  ## all tests
	@$(RUN) pytest -q tests $(ARGS)
