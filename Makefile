# `make demo`, `make test`, and `make faults` (a quarter of an hour of kills and broken files). Each
# installs what it needs into .venv first.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO_DATA := datasets/demo/SYSU-MM01

.PHONY: install demo test faults

install: $(INSTALLED)

$(INSTALLED): requirements.txt setup.py
	@echo "== Installing into .venv (torch with its CUDA libraries: some 5 GB, a few minutes)"
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet -r requirements.txt
	$(BIN)/python -m pip install --quiet --no-deps fastreid==1.4.0
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e .
	@touch $@

demo: install
	@echo "== Rendering people for two modalities and six cameras into $(DEMO_DATA)"
	$(BIN)/python tools/make_demo_data.py --layout sysu --root $(DEMO_DATA) \
		--ids 690 --images-per-camera 4 --test-ids 40 \
		--size 64x32 --difficulty plain --seed 0
	@echo "== Training ICRE (ResNet-18), then scoring it by the SYSU-MM01 protocols"
	$(BIN)/python tools/train_net.py --config-file configs/Demo/icre_r18.yml
	@echo "== Done: output/demo/metrics.json, ranking.png, log.txt"

test: install
	@echo "== Running the tests"
	$(BIN)/python -m pytest -q tests

faults: install
	@echo "== Killing runs, ranks and disks, and breaking files"
	PYTHONPATH=tests $(BIN)/python -m faults
