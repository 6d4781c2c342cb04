# Every target does its own set-up: packages, virtual environment, Caffe. `make help` lists them.
.DEFAULT_GOAL := help
SHELL := /bin/bash
MAKEFLAGS += --no-print-directory

PYTHON_VENV := .venv/bin/python
RUN := $(PYTHON_VENV) -m

# Empty unless the user gives SOURCE, which the lines below do not tell from its default.
SOURCE_GIVEN := $(filter-out undefined,$(origin SOURCE))

# What the user gives is data. Neither make nor the shell may read it as a command: here each
# variable gets the text as it was given, and every recipe takes it from the environment.
GIVEN := N PHOTOS TAUGHT SOURCE DATA GPUS GPU VARIANT BAKE FORMAT RESUME WEIGHTS IMAGES SET ARGS
# All of the command line, misspelled ones too; the environment may have some for other programs.
NAMED := $(sort $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
# Of these, variables that programs read in the environment, to which make hands them.
HANDED_ON := PYTHON TMPDIR XDG_% CAFFE_% MCC_CAFFE_% CUDA% CUDNN% NVIDIA_% OMP_% OPENBLAS_%
TAKEN := $(GIVEN) $(filter $(HANDED_ON),$(NAMED))
$(foreach name,$(TAKEN),$(if $(filter undefined,$(origin $(name))),,\
    $(eval override $(name) := $$(value $(name)))))

N ?= 2000
PHOTOS ?=
TAUGHT ?= data/taught
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
WEIGHTS ?=
RESUME ?= $(if $(WEIGHTS),,auto)
IMAGES ?=
SET ?=
# Further options of a target's command, as in `make train ARGS="--iterations 100"`.
ARGS ?=
export $(TAKEN)

# What each target reads of them. BAKE's companions have no effect without it.
reads_caffe := GPU
reads_prototxt := GPU
reads_synth := N ARGS
reads_teach := PHOTOS TAUGHT VARIANT WEIGHTS ARGS
reads_lmdb := GPU N SOURCE DATA ARGS BAKE $(if $(BAKE),FORMAT VARIANT)
reads_check := GPU SET DATA ARGS
reads_inspect := GPU SET DATA VARIANT ARGS
reads_train := GPU DATA VARIANT GPUS WEIGHTS RESUME ARGS
reads_overfit := GPU ARGS
reads_eval := GPU DATA VARIANT WEIGHTS ARGS
reads_ablation := GPU ARGS
reads_infer := GPU IMAGES VARIANT WEIGHTS ARGS
reads_web := VARIANT WEIGHTS ARGS
reads_demo := GPU ARGS
reads_bench := GPU ARGS
reads_bench-gpu := GPU ARGS
reads_doctor := ARGS
reads_test := GPU ARGS
reads_fuzz := GPU N ARGS

GOALS := $(or $(MAKECMDGOALS),$(.DEFAULT_GOAL))
N_NAMED := $(filter N,$(NAMED))
UNREAD := $(filter-out $(HANDED_ON) $(foreach goal,$(GOALS),$(reads_$(goal))),$(NAMED))
ifneq ($(UNREAD),)
$(error no target of this call reads $(UNREAD)$(if $(filter FORMAT,$(UNREAD)), without BAKE): \
    leave that out, or name a target that does)
endif

# $(call split,NAME) splits the variable NAME into words, as "$${NAME_WORDS[@]}". Quotes hold a word
# with spaces together; a variable that is the path of something is one word.
split = if [ -e "$$$(1)" ]; then $(1)_WORDS=("$$$(1)"); \
    else mapfile -d "" -t $(1)_WORDS < <(printf %s "$$$(1)" | xargs -r printf '%s\0') && \
        { wait $$! || { echo '$(1) has a quote without its partner' >&2; exit 2; }; }; fi

.PHONY: help setup caffe prototxt synth teach lmdb check inspect train overfit eval ablation infer demo \
    web vendor bench bench-gpu doctor lint test fuzz

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

setup:  ## distribution packages (root or sudo) and the virtual environment .venv
	@caffe_build/setup.sh

# CAFFE_SOURCE=DIR builds a tree of yours, CAFFE_PREFIX=DIR uses a Caffe that you have built.
caffe: setup  ## real Caffe, built once and kept in the cache; GPU=1: with CUDA, GPU=0: without
	@$(RUN) caffe_build $${GPU:+--gpu "$$GPU"}

prototxt: caffe  ## write prototxt/ and solver/ again from their generators
	@echo writing prototxt/ and solver/
	@$(RUN) prototxt.generate >/dev/null && $(RUN) solver.generate >/dev/null

make_hands = { [[ "$$N" =~ ^[0-9]{1,9}$$ ]] || \
    { echo "N is '$$N': give a number of hands" >&2; exit 2; }; } && \
    $(RUN) data_tools.synth --out data/synth --train "$$N" --test $$(( 10\#$$N / 10 ))

synth: setup  ## N synthetic hands (2000, and N/10 to test) in OneHand10K's layout, to data/synth
	@$(call split,ARGS); $(make_hands) "$${ARGS_WORDS[@]}"

teach: setup  ## label your own PHOTOS with a teacher: a data set in TAUGHT (data/taught)
	@[ -n "$$PHOTOS" ] || { echo 'give photographs: make teach PHOTOS=folder' >&2; exit 2; }
	@$(call split,PHOTOS); $(call split,ARGS); \
	$(RUN) data_tools.teach "$${PHOTOS_WORDS[@]}" "$$TAUGHT" --variant "$$VARIANT" \
	    $${WEIGHTS:+--weights "$$WEIGHTS"} "$${ARGS_WORDS[@]}"

# False where `make synth` has not run, or was interrupted.
hands_are_made = { [ -d data/synth ] && { [ ! -f data/synth/manifest.json ] || \
    { [ -f data/synth/Train/label_joint.txt ] && \
      ! compgen -G "data/synth/*/truth.partial.jsonl" >/dev/null; }; }; }

# BAKE=8 also writes DATA/baked, as LMDB or, with FORMAT=hdf5, as HDF5.
lmdb: caffe  ## SOURCE (a data set's folder or .json) to the sets DATA/{train,validation}; BAKE=8
	@for name in SOURCE DATA; do \
	    [ -n "$${!name}" ] || { echo "$$name is empty: give a folder, or leave it out" >&2; exit 2; }; done
	@[[ "$${BAKE:-1}" =~ ^0*[1-9][0-9]*$$ ]] || \
	    { echo "BAKE is '$$BAKE': give a number of copies" >&2; exit 2; }
	@[ -n "$$BAKE" ] && [ -d "$$DATA/train" ] && [ -z "$(SOURCE_GIVEN)$(N_NAMED)$$ARGS" ] || { \
	    { if [ "$$SOURCE" = data/synth ] && ! $(hands_are_made); then $(make_hands); \
	      elif [ -n "$(N_NAMED)" ]; then \
	          echo "lmdb: no hands are made, so N=$$N has no effect" >&2; fi; } && \
	    { $(call split,ARGS); } && \
	    $(RUN) data_tools.build_lmdb "$$SOURCE" "$$DATA" "$${ARGS_WORDS[@]}"; }
	@[ -z "$$BAKE" ] || $(RUN) data_tools.bake "$$DATA/train" "$$DATA/baked" --copies "$$BAKE" \
	    --format "$$FORMAT" --variant "$$VARIANT"

check: caffe  ## look for faults in SET (a data set or LMDB sets; default DATA), to out/check
	@SET=$${SET:-$$DATA}; $(call split,SET); $(call split,ARGS); \
	$(RUN) data_tools.check "$${SET_WORDS[@]}" "$${ARGS_WORDS[@]}"

inspect: caffe  ## draw samples of SET, of LMDB sets as the net sees them, to out/inspect*.png
	@SET=$${SET:-$$DATA}; $(call split,SET); $(call split,ARGS); \
	$(RUN) data_tools.inspect "$${SET_WORDS[@]}" --variant "$$VARIANT" "$${ARGS_WORDS[@]}"

train: caffe  ## train VARIANT (mini, paper) on DATA; GPUS=0,1: one process a GPU; resumes
	@$(call split,ARGS); $(RUN) mcc_caffe.train "$$DATA/train" --variant "$$VARIANT" \
	    $${GPUS:+--gpus "$$GPUS"} $${WEIGHTS:+--weights "$$WEIGHTS"} \
	    $${RESUME:+--resume "$$RESUME"} "$${ARGS_WORDS[@]}"

overfit: caffe  ## overfits 8 images: the proof that the whole chain learns
	@[ -d runs/overfit-data/lmdb ] || { \
	    $(RUN) data_tools.synth --out runs/overfit-data/synth --train 8 --test 1 && \
	    $(RUN) data_tools.build_lmdb runs/overfit-data/synth runs/overfit-data/lmdb; }
	@$(call split,ARGS); $(RUN) mcc_caffe.overfit runs/overfit-data/lmdb/train "$${ARGS_WORDS[@]}"

eval: caffe  ## measure WEIGHTS (several allowed) on DATA: tables, curves, worst images
	@$(call split,WEIGHTS); $(call split,ARGS); \
	$(RUN) mcc_caffe.evaluate "$$DATA" --variant "$$VARIANT" \
	    $${WEIGHTS:+--weights "$${WEIGHTS_WORDS[@]}"} "$${ARGS_WORDS[@]}"

ablation: caffe  ## train mini whole, without mask and without pose; report in runs/ablation
	@$(call split,ARGS); $(RUN) mcc_caffe.ablation "$${ARGS_WORDS[@]}"

infer: caffe  ## find the hand in IMAGES="images, videos, folders or globs"
	@[ -n "$$IMAGES" ] || { \
	    echo 'give images: make infer IMAGES="photo.jpg folder clip.mp4"' >&2; exit 2; }
	@$(call split,IMAGES); $(call split,ARGS); \
	$(RUN) mcc_caffe.infer "$${IMAGES_WORDS[@]}" --variant "$$VARIANT" \
	    $${WEIGHTS:+--weights "$$WEIGHTS"} "$${ARGS_WORDS[@]}"

web: setup  ## the page that finds hands live in the browser, at http://127.0.0.1:8000/
	@$(call split,ARGS); $(RUN) mcc_caffe.web --variant "$$VARIANT" \
	    $${WEIGHTS:+--weights "$$WEIGHTS"} "$${ARGS_WORDS[@]}"

vendor: setup  ## bring the files of others that the browser loads again, from npm
	@mcc_caffe/serving/vendor.sh

demo: caffe  ## from nothing to drawings: hands, LMDB, a short training, inference
	@$(call split,ARGS); $(RUN) mcc_caffe.demo "$${ARGS_WORDS[@]}"

bench: caffe  ## measure speed beside other engines, to runs/bench; ARGS=--quick: 12 to 25 minutes
	@$(call split,ARGS); $(RUN) benchmarks "$${ARGS_WORDS[@]}"

bench-gpu: caffe  ## does the GPU compute as the CPU does, and how fast? (make caffe GPU=1)
	@$(call split,ARGS); $(RUN) benchmarks.gpu "$${ARGS_WORDS[@]}"

doctor: setup  ## what works here, and what to do about the rest
	@$(call split,ARGS); $(RUN) mcc_caffe.doctor "$${ARGS_WORDS[@]}"

lint: setup  ## check the code: ruff, mypy, import-linter
	@.venv/bin/ruff check .
	@.venv/bin/ruff format --check .
	@.venv/bin/mypy
	@.venv/bin/lint-imports

# Two files of tests at a time: most of them start commands that use a single core.
test: caffe  ## all tests but those that install the package anew
	@$(call split,ARGS); $(RUN) pytest -q -n 2 --dist loadfile tests "$${ARGS_WORDS[@]}"

fuzz: caffe  ## N mutated files (default 1000) for each reader, which must read or refuse them
	@$(call split,ARGS); $(RUN) tests.fuzz $(if $(N_NAMED),--count "$$N") "$${ARGS_WORDS[@]}"
