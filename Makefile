# The commands of the README. Each does its own set-up; nothing else is needed beforehand.
#   make demo   four call legs over real RTP, alerts over MQTT, a live table, a summary
#   make test   all tests, with real peers (mosquitto, ffmpeg, GStreamer, PulseAudio)
#   make check  formatting, lint and types
#   make bench  latency and CPU per window on this machine, and the calls it holds: 3 minutes
#   make fuzz   every parser of bytes from outside, a minute each
# Pass options with ARGS, e.g.  make demo ARGS="--json"

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
ARGS ?=

.PHONY: demo test check format bench fuzz clean
.DEFAULT_GOAL := help

.PHONY: help
help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

$(VENV)/.runtime: pyproject.toml constraints.txt
	@bash tools/setup_env.sh "$(PYTHON)" "$(VENV)" runtime >&2
	@touch $@

$(VENV)/.full: pyproject.toml constraints.txt
	@bash tools/setup_env.sh "$(PYTHON)" "$(VENV)" full >&2
	@touch $@ $(VENV)/.runtime

demo: $(VENV)/.runtime
	@bash tools/setup_peers.sh demo >&2
	@$(BIN)/streamguard demo $(ARGS)

test: $(VENV)/.full
	@bash tools/setup_peers.sh test >&2
	@$(BIN)/python -m pytest $(ARGS)

check: $(VENV)/.full
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

format: $(VENV)/.full
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.full
	@$(BIN)/streamguard bench $(ARGS)

fuzz: $(VENV)/.full
	@$(BIN)/python -m tools.fuzz $(ARGS)

clean:
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache
