# Every target sets up .venv by itself, from the lock file. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup demo convert predict train profile evaluate reproduce test test-demo test-faults test-flink test-fuzz test-hostile test-jax test-memory
.PHONY: test-prism test-report test-tfio test-workers lint format bench bench-buckets bench-bucket-epochs bench-reading bench-training bench-scale bench-gpu lock clean

# The first Python from 3.10 to 3.13 that can create a virtual environment. PYTHON=... overrides it.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
  && echo $$p && break; done)
# CPU TensorFlow, unless there is an NVIDIA GPU.
TARGET ?= $(shell nvidia-smi -L 2>/dev/null | grep -q GPU && echo gpu || echo cpu)
VENV := .venv
RUN_PYTHON := $(VENV)/bin/python
READY := $(VENV)/ready-$(TARGET)
DEMO := demo
JAX := .venv-jax
TFIO := .venv-tfio
TFIO_PYTHON ?= $(shell for p in python3.11 python3.10 python3; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(sys.version_info[:2] not in ((3, 10), (3, 11)))' 2>/dev/null \
  && echo $$p && break; done)
BENCH := .venv-bench
BENCH_PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
  $$p -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))' 2>/dev/null \
  && echo $$p && break; done)

help: ## Print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Create .venv and install what the lock file pins

$(READY): requirements-$(TARGET).lock setup.py
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10-3.13 with venv found; install one (on Debian: apt install \
	python3-venv) or set PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Installing into $(VENV) for $(TARGET) (once, a few minutes) ..."
	@rm -rf $(VENV)
	@$(PYTHON) -m venv $(VENV)
	@$(RUN_PYTHON) -m pip install --quiet --disable-pip-version-check --use-pep517 --no-deps --require-hashes \
	  -r requirements-$(TARGET).lock
	@$(RUN_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable . \
	  2>$(VENV)/install.log || { cat $(VENV)/install.log >&2; exit 1; }
	@touch $@

demo: setup ## The whole job, offline: sample images -> records -> model -> report (a few minutes)
	@rm -rf $(DEMO)
	@echo "1/4 Drawing sample radiographs"
	@$(RUN_PYTHON) -m beam_jobs.sample --output $(DEMO)/images --images 600 --seed 0
	@echo "2/4 Converting them to TFRecords"
	@$(RUN_PYTHON) -m beam_jobs.convert --input $(DEMO)/images --output $(DEMO)/tfrecords/cxr/1.0.0 --preset kermany
	@echo "3/4 Training model3"
	@# Small batches and a few more epochs, because 450 images give few steps per epoch.
	@$(RUN_PYTHON) -m training.train --data $(DEMO)/tfrecords/cxr/1.0.0 --recipe model3 --output $(DEMO)/run \
	  --batch_size 8 --epochs 14
	@echo "4/4 Evaluating it on the test split"
	@$(RUN_PYTHON) -m training.evaluate --run $(DEMO)/run --data $(DEMO)/tfrecords/cxr/1.0.0
	@echo "The images are synthetic: these figures say that the pipeline works, and nothing about medicine."
	@echo "Report: $(DEMO)/run/report.html    Records: $(DEMO)/tfrecords/cxr/1.0.0/preview.png"

# The options of each engine, which the command checks.
ENGINE = $(if $(RUNNER),--runner=$(RUNNER)) $(if $(FLINK_MASTER),--flink_master="$(FLINK_MASTER)") $(if $(PROJECT),--project=$(PROJECT)) \
  $(if $(REGION),--region=$(REGION))
convert: setup ## INPUT=DIR|gs://... OUTPUT=DIR|gs://... [RUNNER=FlinkRunner FLINK_MASTER=HOST:8081 | RUNNER=DataflowRunner PROJECT=... REGION=...] [ARGS=...]: raw images -> TFRecords
	@test -n "$(INPUT)" -a -n "$(OUTPUT)" || { echo "usage: make convert INPUT=... OUTPUT=... [RUNNER=FlinkRunner \
	FLINK_MASTER=HOST:8081 | RUNNER=DataflowRunner PROJECT=... REGION=...] [ARGS=...]" >&2; exit 2; }
	@$(RUN_PYTHON) -m beam_jobs.convert --input "$(INPUT)" --output "$(OUTPUT)" $(ENGINE) $(ARGS)

predict: setup ## MODEL=FILE|gs://... INPUT=DIR|gs://... OUTPUT=DIR|gs://... [RUNNER=... as for convert] [ARGS=...]: an exported model scores raw images
	@test -n "$(MODEL)" -a -n "$(INPUT)" -a -n "$(OUTPUT)" || \
	  { echo "usage: make predict MODEL=... INPUT=... OUTPUT=... [RUNNER=...] [ARGS=...]" >&2; exit 2; }
	@$(RUN_PYTHON) -m beam_jobs.predict --model "$(MODEL)" --input "$(INPUT)" --output "$(OUTPUT)" $(ENGINE) $(ARGS)

train: setup ## DATA=DIR|gs://... [RECIPE=model3] [RUN=runs/RECIPE] [ARGS=...]: TFRecords -> a trained model
	@test -n "$(DATA)" || { echo "usage: make train DATA=... [RECIPE=model3] [RUN=...] [ARGS=...]" >&2; exit 2; }
	@$(RUN_PYTHON) -m training.train --data "$(DATA)" --recipe "$(or $(RECIPE),model3)" \
	  --output "$(or $(RUN),runs/$(or $(RECIPE),model3))" $(ARGS)

profile: setup ## DATA=DIR|gs://... [RECIPE=model3] [RUN=runs/profile] [ARGS=...]: a TensorBoard profile of one epoch
	@test -n "$(DATA)" || { echo "usage: make profile DATA=... [RECIPE=model3] [RUN=...] [ARGS=...]" >&2; exit 2; }
	@$(RUN_PYTHON) -m training.train --data "$(DATA)" --recipe "$(or $(RECIPE),model3)" \
	  --output "$(or $(RUN),runs/profile)" --overwrite --epochs 2 --profile $(ARGS)
	@echo "Profile: $(or $(RUN),runs/profile)/logs; open it with: pip install tensorboard tensorboard-plugin-profile; \
	tensorboard --logdir $(or $(RUN),runs/profile)/logs"

evaluate: setup ## RUN=... DATA=DIR|gs://... [ARGS=...]: a trained model -> metrics and report.html
	@test -n "$(RUN)" -a -n "$(DATA)" || { echo "usage: make evaluate RUN=... DATA=... [ARGS=...]" >&2; exit 2; }
	@$(RUN_PYTHON) -m training.evaluate --run "$(RUN)" --data "$(DATA)" $(ARGS)

REPRODUCED := $(or $(OUTPUT),reproduce)
reproduce: setup ## DATA=DIR|gs://... [SEEDS=5] [OUTPUT=reproduce] [ARGS=...]: the paper's table beside ours, from the Kermany set (40 minutes on two fast CPU cores)
	@test -n "$(DATA)" || { echo "usage: make reproduce DATA=... [SEEDS=5] [OUTPUT=reproduce] [ARGS=...]" >&2; exit 2; }
	@test ! -f $(REPRODUCED)/tfrecords/kermany/1.0.0/manifest.json || test "$$(cat $(REPRODUCED)/data.txt)" = "$(DATA)" || \
	  { echo "error: $(REPRODUCED) was made from other images; delete it, or give OUTPUT=..." >&2; exit 2; }
	@mkdir -p $(REPRODUCED) && echo "$(DATA)" >$(REPRODUCED)/data.txt
	@test -f $(REPRODUCED)/tfrecords/kermany/1.0.0/manifest.json || \
	  $(RUN_PYTHON) -m beam_jobs.convert --input "$(DATA)" --output $(REPRODUCED)/tfrecords/kermany/1.0.0 \
	  --preset kermany --name kermany
	@$(RUN_PYTHON) -m training.reproduce --data $(REPRODUCED)/tfrecords/kermany/1.0.0 --output $(REPRODUCED) \
	  --seeds $(or $(SEEDS),5) $(ARGS)

test: setup ## Run the tests, in several processes [ARGS="-n 0 ..." for one]
	@$(RUN_PYTHON) -m pytest -n auto --maxprocesses 4 --dist worksteal $(ARGS)

test-demo: demo ## Run the demo and check what it leaves
	@$(RUN_PYTHON) -m pytest -m demo tests/test_demo.py

test-faults: setup ## Kill, refuse and damage conversions and reading, on disk and in a bucket (a few minutes)
	@$(RUN_PYTHON) -m pytest -m faults tests/faults tests/gcs $(ARGS)

test-flink: setup ## Convert on a Flink cluster with Java and Maven, if they are there, with workers in .venv-flink (four minutes)
	@$(RUN_PYTHON) -m pytest -m flink tests/engines $(ARGS)

test-prism: setup ## Convert with Beam's engine Prism, built with Go, if it is there (a minute)
	@$(RUN_PYTHON) -m pytest -m prism tests/engines $(ARGS)

test-fuzz: setup ## [SECONDS=60] [SEED=0] [RADRECORDS_FUZZ_FOLDER=DIR]: mutate images, manifests, tables and shards
	@SECONDS=$(or $(SECONDS),60) SEED=$(or $(SEED),0) $(RUN_PYTHON) -m pytest -m fuzz tests/fuzz $(ARGS)

test-memory: setup ## Convert, and score, some and many images and compare the memory use (a few minutes)
	@$(RUN_PYTHON) -m pytest -m memory tests/test_memory.py tests/benchmarks/test_scale.py

test-hostile: setup ## Convert 2,000 unusual files and some bombs (two minutes)
	@$(RUN_PYTHON) -m pytest -m hostile tests/beam_jobs/test_hostile.py $(ARGS)

test-report: setup ## Open report.html and dataset.html in headless Chromium, if there is one [RADRECORDS_REPORT_FOLDER=DIR]
	@$(RUN_PYTHON) -m pytest -m report tests/report $(ARGS)

test-tfio: $(TFIO)/ready ## Compare tensorflow-io's DICOM decoder with pydicom, in .venv-tfio [RADRECORDS_DICOM_FOLDER=...]
	@$(TFIO)/bin/python -m pytest -m "tfio or not tfio" -W ignore -p no:cacheprovider tests/beam_jobs/decoding/test_tfio.py $(ARGS)

$(TFIO)/ready: requirements-tfio.lock
	@test -n "$(TFIO_PYTHON)" || { echo "error: no Python 3.11 or 3.10 with venv found, and tensorflow-io needs one; install \
	it or set TFIO_PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Installing into $(TFIO) (once, a few minutes) ..."
	@rm -rf $(TFIO)
	@$(TFIO_PYTHON) -m venv $(TFIO)
	@$(TFIO)/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 --no-deps --require-hashes \
	  -r requirements-tfio.lock
	@touch $@

test-workers: setup ## Make environments for workers, from the Dockerfile and from what a job sends, and use them (minutes)
	@$(RUN_PYTHON) -m pytest -m workers tests/beam_jobs/remote $(ARGS)

test-jax: $(JAX)/ready ## Train, evaluate and predict with JAX, without TensorFlow, in .venv-jax
	@# The networks are the same layers with every backend, and JAX takes minutes to compile the largest on a CPU. The tests
	@# train the same small models many times, so what is compiled is kept until they end.
	@compiled=$$(mktemp -d) && trap 'rm -rf "$$compiled"' EXIT && \
	  KERAS_BACKEND=jax JAX_COMPILATION_CACHE_DIR="$$compiled" JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
	  $(JAX)/bin/python -m pytest -n auto --maxprocesses 4 --dist worksteal -p no:cacheprovider \
	  tests/training tests/benchmarks/test_gpu.py \
	  --ignore tests/training/models/test_networks.py $(ARGS)

$(JAX)/ready: requirements-jax.lock
	@test -n "$(PYTHON)" || { echo "error: no Python 3.10-3.13 with venv found; set PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Installing into $(JAX) (once, a minute) ..."
	@rm -rf $(JAX)
	@$(PYTHON) -m venv $(JAX)
	@$(JAX)/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 --no-deps --require-hashes \
	  -r requirements-jax.lock
	@touch $@

lint: setup ## Check style and types
	@$(RUN_PYTHON) -m ruff check .
	@$(RUN_PYTHON) -m ruff format --check .
	@$(RUN_PYTHON) -m mypy

format: setup ## Rewrite the code in the project's style
	@$(RUN_PYTHON) -m ruff check --fix .
	@$(RUN_PYTHON) -m ruff format .

bench: setup ## Measure conversion, reading, training and the search for near-duplicates against their limits
	@$(RUN_PYTHON) -m benchmarks.conversion
	@$(RUN_PYTHON) -m benchmarks.reading
	@$(RUN_PYTHON) -m benchmarks.training
	@$(RUN_PYTHON) -m benchmarks.near_duplicates

bench-buckets: setup ## Measure what latency and faults of a bucket cost a conversion (five minutes) [ARGS=...]
	@$(RUN_PYTHON) -m benchmarks.buckets $(ARGS)

bench-bucket-epochs: setup ## The same for an epoch of training (a quarter of an hour) [ARGS=...]
	@$(RUN_PYTHON) -m benchmarks.bucket_epochs $(ARGS)

bench-reading: setup $(BENCH)/ready ## Compare reading with other libraries too, in .venv-bench (6 GB; half an hour) [ARGS=...]
	@$(RUN_PYTHON) -m benchmarks.reading $(ARGS)

bench-training: setup ## Compare training with Keras on arrays: an epoch, the start, the memory (20 minutes) [ARGS=...]
	@$(RUN_PYTHON) -m benchmarks.training $(ARGS)

bench-scale: setup ## Convert up to a million small images, and simulate ten million (an hour) [ARGS=--small]
	@$(RUN_PYTHON) -m benchmarks.scale $(ARGS)

bench-gpu: $(JAX)/ready ## On a machine with an NVIDIA GPU: training with JAX against the limit, in .venv-jax [ARGS=...]
	@if nvidia-smi -L 2>/dev/null | grep -q GPU; then \
	  $(JAX)/bin/python -m pip install --quiet --disable-pip-version-check "jax[cuda12]"; fi
	@KERAS_BACKEND=jax $(JAX)/bin/python -m benchmarks.gpu $(ARGS)

$(BENCH)/ready: requirements-bench.lock
	@test -n "$(BENCH_PYTHON)" || { echo "error: no Python 3.11-3.13 with venv found, and grain needs one; install it or set \
	BENCH_PYTHON=/path/to/python" >&2; exit 2; }
	@echo "Installing into $(BENCH) (once, a few minutes) ..."
	@rm -rf $(BENCH)
	@$(BENCH_PYTHON) -m venv $(BENCH)
	@$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check --use-pep517 --no-deps --require-hashes \
	  -r requirements-bench.lock
	@touch $@

lock: setup ## Pin the newest dependencies that fit setup.py
	@for target in cpu gpu; do \
	  $(RUN_PYTHON) -m uv pip compile --quiet --upgrade setup.py --extra gcp --extra dicom --extra tune --extra export --extra predict --extra dev \
	    --extra $$([ $$target = gpu ] && echo gpu || echo train) --universal --python-version 3.10 --generate-hashes \
	    --no-annotate --no-header -o requirements-$$target.lock || exit 1; \
	done
	@# What an image for workers holds (Dockerfile): the same versions, for what a worker needs.
	@$(RUN_PYTHON) -m uv pip compile --quiet --upgrade setup.py --extra gcp --extra dicom --extra predict --constraint requirements-cpu.lock \
	  --universal --python-version 3.10 --generate-hashes --no-annotate --no-header -o requirements-worker.lock
	@printf 'pytest\npytest-xdist\nfake-gcs-server-python-wrapper\ntrustme\n' | $(RUN_PYTHON) -m uv pip compile --quiet --upgrade setup.py - --extra jax --extra gcp \
	  --universal --python-version 3.10 --generate-hashes --no-annotate --no-header -o requirements-jax.lock
	@printf 'pytest\nfake-gcs-server-python-wrapper\ntrustme\n' | $(RUN_PYTHON) -m uv pip compile --quiet --upgrade setup.py - --extra tfio --universal \
	  --python-version 3.10 --generate-hashes --no-annotate --no-header -o requirements-tfio.lock
	@$(RUN_PYTHON) -m uv pip compile --quiet --upgrade setup.py --extra bench --universal --python-version 3.11 \
	  --generate-hashes --no-annotate --no-header -o requirements-bench.lock

clean: ## Delete everything that make created
	@rm -rf $(VENV) $(JAX) $(TFIO) $(BENCH) .venv-flink $(DEMO) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
