# Short names for what a developer runs. `bash tests/run` sets up the environment, .venv, first.
export VIRTUAL_ENV := $(CURDIR)/.venv
export PATH := $(CURDIR)/.venv/bin:$(PATH)
# The tests' models are too small to share among threads.
export OMP_NUM_THREADS ?= 1
# Each process would compile torch and ComfyUI anew.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: check fast test main-job demo evaluate

check:  ## Lint, format and types.
	bash tests/check

fast: check  ## Also the tests that need neither ComfyUI nor the command line nor networks.
	pytest --quiet --numprocesses 2 --dist loadgroup -m "not slow" \
		tests/ops tests/test_*.py --ignore tests/ops/cli --ignore tests/ops/backbones

test:  ## Everything, as CONTRIBUTING says it; sets up the environment.
	bash tests/run

main-job:  ## Train and apply a style in a real ComfyUI: make main-job ARGS="--steps 50".
	bash tests/run main-job $(ARGS)

demo:  ## The demo without ComfyUI.
	python -m acfun_ops demo $(ARGS)

evaluate:  ## The evaluation: make evaluate ARGS="--help".
	python -m evaluation $(ARGS)
