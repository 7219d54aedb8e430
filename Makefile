# Two commands do everything: `make run` and `make test`. Each sets up .venv first if it is missing.
PYTHON ?= python3
OUT    ?= outputs
BIN    := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help setup run demo change-demo change-table test check format bench bench-composite bench-segment bench-cog bench-vectorize gallery vectors schedule prefect weights weights-sentinel2 weights-aerial aerial-picture sentinel2-maps pictures lock clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'
	@echo
	@echo "  make run REGION=nantes PERIOD=2024-06-01/2024-08-31 [CATALOG=URL|index.parquet] [MODEL=x.safetensors] [OUT=outputs]"
	@echo "  REGION is a name under regions/, a YAML, GeoJSON, GeoPackage or shapefile, W,S,E,N in degrees, or your"
	@echo "  images themselves: an index made by landcover index, or one GeoTIFF."

setup: .venv/.ready ## Build .venv from requirements.lock (about 2 minutes, 7 GB)

.venv/.ready: requirements.lock pyproject.toml
	@echo "Setting up .venv from requirements.lock (about 2 minutes, 7 GB) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

ifdef REGION
run: setup ## Map a region: REGION=... [PERIOD=] [CATALOG=] [MODEL=] [OUT=]; without REGION, the demo
	@$(BIN)/landcover run --out "$(OUT)" $(if $(PERIOD),--period "$(PERIOD)") \
		$(if $(CATALOG),--catalog "$(CATALOG)") $(if $(MODEL),--model "$(MODEL)") -- "$(REGION)"
else
run: demo
endif

demo: setup ## Simulate a region with known truth, map it, report the accuracy
	@$(BIN)/landcover demo --out "$(OUT)" $(if $(MODEL),--model "$(MODEL)")

test: setup ## Run the tests, files side by side in up to four processes, the longest first
	@$(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

check: setup ## Lint, formatting, types
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: setup ## Format the code
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: bench-composite bench-segment bench-cog bench-vectorize ## Run all benchmarks

bench-composite: setup ## Speed and memory of compositing against reading alone and odc-stac
	@$(BIN)/python tests/benchmarks/bench_composite.py

.peers/.ready: tests/benchmarks/peers.txt .venv/.ready
	@echo "Setting up .peers from tests/benchmarks/peers.txt (about a minute, 430 MB) ..."
	@rm -rf .peers
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --target .peers -r tests/benchmarks/peers.txt
	@touch $@

bench-segment: setup .peers/.ready ## Speed of the segmentation engine against the bare model and other packages
	@$(BIN)/python tests/benchmarks/bench_segment.py

bench-cog: setup ## Speed of writing a class COG with overviews against the plain tiled file
	@$(BIN)/python tests/benchmarks/bench_cog.py

bench-vectorize: setup .peers/.ready ## Speed and memory of polygons against GDAL, rasterio and xarray-spatial
	@$(BIN)/python tests/benchmarks/bench_vectorize.py

schedule: setup ## Print what calls monthly_change every day: RUNNER=cron|systemd|kubernetes [INSTALL=1] [REGIONS=] [OUT=]
	@$(BIN)/python -m workflows.schedule --runner "$(or $(RUNNER),cron)" --regions "$(or $(REGIONS),regions)" \
		--out "$(OUT)" $(if $(INSTALL),--install)

.prefect/.ready: requirements-prefect.lock .venv/.ready
	@echo "Setting up .prefect from requirements.lock and requirements-prefect.lock (about 3 minutes, 7 GB) ..."
	@test -x .prefect/bin/python || $(PYTHON) -m venv .prefect
	@.prefect/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@.prefect/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-prefect.lock
	@.prefect/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

prefect: .prefect/.ready ## Do the runs that the Prefect server at PREFECT_API_URL orders: [REGIONS=] [OUT=]
	@.prefect/bin/python -m workflows.monthly_change_flow --regions "$(or $(REGIONS),regions)" --out "$(OUT)"

weights: setup ## Train the shipped demo weights again (about 40 minutes on 2 cores)
	@$(BIN)/python -m pipeline.train_demo --out pipeline/weights/demo.safetensors

RGBN := outputs/train/sentinel2-rgbn
TRAIN_RGBN = $(BIN)/python -m pipeline.train_sentinel2 --bands 4 --regions 300 --precision bf16 --cache $(RGBN)/regions
weights-sentinel2: setup ## Train the shipped Sentinel-2 weights again, needs LANDCOVER_SHARED_DATA (about an hour on 2 cores)
	@$(BIN)/python -m pipeline.train_sentinel2 --out pipeline/weights/sentinel2.safetensors
	@$(TRAIN_RGBN) --steps 3500 --simulated 15 --real 0 --learning-rate 2e-3 --start pipeline/weights/sentinel2.safetensors \
		--out $(RGBN)/simulated.safetensors
	@$(TRAIN_RGBN) --steps 500 --keep 0.5 --start $(RGBN)/simulated.safetensors --out pipeline/weights/sentinel2-rgbn.safetensors

weights-aerial: setup ## Train the shipped aerial weights again, needs LANDCOVER_SHARED_DATA (75 minutes on one core)
	@test -e outputs/train/photographs/dataset.yml || $(BIN)/landcover dataset simulate --kind photograph --regions 150 \
		--size 384 --seed 7 -o outputs/train/photographs
	@$(BIN)/landcover train examples/train-aerial-first.yml
	@$(BIN)/landcover train examples/train-aerial-second.yml
	@$(BIN)/landcover train examples/train-aerial.yml
	@cp outputs/train/aerial-rgb/model.safetensors pipeline/weights/aerial-rgb.safetensors

aerial-picture: setup ## Draw the map of a held-back tile beside its labels, from LANDCOVER_SHARED_DATA
	@$(BIN)/python -m docs.make_aerial

sentinel2-maps: setup ## Draw the class maps of the real scenes under LANDCOVER_SHARED_DATA by those weights
	@$(BIN)/python -m docs.make_sentinel2_maps

vectors: setup ## Vectorize real and odd rasters under LANDCOVER_SHARED_DATA, and print their table
	@$(BIN)/python docs/make_vectors.py

change-demo: setup ## Two simulated dates with known change: what each guard is worth
	@$(BIN)/landcover demo-change --out "$(OUT)"

change-table: setup ## Change in the real pairs under LANDCOVER_SHARED_DATA against their truth
	@$(BIN)/python -m docs.make_change_table

gallery: setup ## Composite and draw every image set under LANDCOVER_SHARED_DATA, into outputs/gallery
	@$(BIN)/python docs/make_gallery.py $(OUT)/gallery

pictures: run ## Draw the pictures of the README again from the demo (needs QGIS)
	@$(BIN)/python docs/make_pictures.py $(OUT)/demo/*/

lock: ## Resolve requirements.lock again from pyproject.toml (needs uv)
	uv pip compile --universal --python-version 3.11 --extra dev --no-annotate --no-emit-package gdal --no-emit-package openvino-telemetry \
		--custom-compile-command "make lock" pyproject.toml --output-file requirements.lock

clean: ## Remove .venv, outputs and caches
	rm -rf .venv .peers .prefect outputs .pytest_cache .mypy_cache .ruff_cache .hypothesis
