# `make demo`, `make test` (all tests but the longest), `make quick` (the short suite), `make long`
# (tests of a minute and more), `make gpu` (what needs a GPU; `make test` runs it too), `make lint`,
# `make docs` (the site), and `make faults` (some twenty minutes of kills and broken files).
# `make reproduce-sysu ROOT=DIR [GPUS="0 1"] [OPTIONS="KEY VALUE"]` trains the recipes of the real
# data on the SYSU-MM01 in DIR, with CLUSTER=ADDRESS in place of GPUS on the machines of a Ray
# cluster (docs/cluster.md). `make pretrained` trains weights to start from, on rendered visible
# people (configs/SynthVI-S/pretrain_r18.yml). Each installs what it needs into .venv first.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
DEMO_DATA := datasets/demo/SYSU-MM01
PRETRAIN_DATA := datasets/pretrain/Market-1501-v15.09.15
# an empty value: compiled files are kept, or each test process would compile everything again
export PYTHONDONTWRITEBYTECODE :=
PYTEST := $(BIN)/python -m pytest -q -n 2 --dist worksteal
GPU_TESTS := $(BIN)/python -m pytest -q -m gpu tests/test_gpu.py

.PHONY: install demo test quick long gpu lint docs faults pretrained reproduce-sysu

install: $(INSTALLED)

$(INSTALLED): requirements.txt setup.py
	@echo "== Installing into $(VENV) (torch with its CUDA libraries: some 5 GB, a few minutes)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps fastreid==1.4.0
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	@echo "== Rendering people for two modalities and six cameras into $(DEMO_DATA)"
	$(BIN)/python tools/make_demo_data.py --layout sysu --root $(DEMO_DATA) \
		--ids 600 --images-per-camera 2 --test-ids 40 \
		--size 64x32 --difficulty plain --seed 0
	@echo "== Training ICRE (ResNet-18), then scoring it by the SYSU-MM01 protocols"
	$(BIN)/python tools/train_net.py --resume --config-file configs/Demo/icre_r18.yml
	@echo "== Done: output/demo/metrics.json, ranking.png, log.txt"

test: install
	@echo "== Running all tests"
	$(PYTEST) tests
	$(GPU_TESTS)

quick: install
	@echo "== Running the tests that neither train nor start processes"
	$(PYTEST) -m "not slow" tests

long: install
	@echo "== Running the tests of a minute and more"
	$(PYTEST) -m long tests

gpu: install
	@echo "== Running the tests of a GPU (skipped without one)"
	$(GPU_TESTS)

lint: install
	@echo "== Checking style, order of imports and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/mypy

docs: install
	@echo "== Building the documentation into docs/_build"
	$(BIN)/sphinx-build -q -W --keep-going -b html docs docs/_build

faults: install
	@echo "== Killing runs, ranks and disks, and breaking files"
	PYTHONPATH=tests $(BIN)/python -m faults

ABLATE = $(BIN)/python tools/ablate.py configs/ablations/sysu.yml $(if $(GPUS),--gpus $(GPUS)) \
	$(if $(CLUSTER),--cluster $(CLUSTER)) --options DATASETS.ROOT $(ROOT) $(OPTIONS)

pretrained: install
	@echo "== Rendering visible people into $(PRETRAIN_DATA)"
	$(BIN)/python tools/make_demo_data.py --layout market1501 --root $(PRETRAIN_DATA) \
		--ids 750 --images-per-camera 4 --test-ids 50 --test-images-per-camera 3 \
		--size 96x48 --difficulty uniform --seed 201
	@echo "== Training a ResNet-18 to tell them apart"
	$(BIN)/python tools/train_net.py --resume --config-file configs/SynthVI-S/pretrain_r18.yml
	@echo "== Done: MODEL.BACKBONE.PRETRAIN_PATH output/SynthVI-S/pretrain/model_final.pth"

reproduce-sysu: install
	@test -d "$(ROOT)/SYSU-MM01" || { echo "name the folder that holds SYSU-MM01: make reproduce-sysu ROOT=DIR"; exit 2; }
	@echo "== Checking $(ROOT)/SYSU-MM01"
	$(BIN)/python tools/check_dataset.py sysu $(ROOT)
	$(if $(CLUSTER),,@echo "== Timing a hundred steps of every recipe that is not finished")
	$(if $(CLUSTER),,$(ABLATE) --estimate 100)
	@echo "== Training; after a stop the same command goes on"
	$(ABLATE)
