# `make demo` needs the lean runtime only; `make test` everything.
PYTHON ?= python3
SAMPLES := $(sort $(wildcard mfer_edge/samples/*.mp4))
DEMO := demo

PACKAGE := .venv-package

# Parts of the tests, the longest first: JOBS of them run side by side, one more than there are
# cores, as tests of live streams and of the page mostly wait.
JOBS ?= 3
PARTS := test-runtime test-commands test-export test-train test-data test-rest test-versions \
	test-types
COMMANDS := $(addprefix tests/mfer_edge/,bench cli live serve)
DATA := $(addprefix tests/train/,data models voices)
PYTEST := .venv-test/bin/python -m pytest --durations=10 --durations-min=3

# The tests start hundreds of processes, which need not compile the same modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test $(PARTS) package arm64 clean

demo: .venv/done
	@mkdir -p $(DEMO)
	@.venv/bin/mfer-edge infer $(firstword $(SAMPLES)) \
		--video $(DEMO)/overlay.mp4 --plot $(DEMO)/timeline.png --json $(DEMO)/result.json
	@.venv/bin/mfer-edge infer $(wordlist 2,9,$(SAMPLES))
	@echo "The clip with the result drawn: $(DEMO)/overlay.mp4"
	@echo "Its timeline:                   $(DEMO)/timeline.png"

test: .venv-test/done
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	@$(MAKE) --no-print-directory --jobs=$(JOBS) --keep-going --output-sync=target $(PARTS)

test-train test-data test-commands test-runtime test-export test-rest: export OMP_NUM_THREADS ?= 1

# Training: its commands, loops and figures, then the data and networks that they work with.
test-train:
	$(PYTEST) tests/train $(addprefix --ignore ,$(DATA))

test-data:
	$(PYTEST) $(DATA)

# The commands, which mostly wait for processes, sockets and a browser.
test-commands:
	$(PYTEST) $(COMMANDS)

test-runtime:
	$(PYTEST) tests/mfer_edge $(addprefix --ignore ,$(COMMANDS))

test-export:
	$(PYTEST) tests/export

test-rest:
	$(PYTEST) tests --ignore tests/train --ignore tests/mfer_edge --ignore tests/export

test-types:
	.venv-test/bin/mypy

# The oldest declared versions of the runtime's dependencies on the oldest Python, the newest on the
# newest Python: .venv-min and .venv-new.
test-versions:
	$(PYTHON) -m tests.versions

# The wheel in an environment that has nothing else, run in a folder that has nothing of this one.
package: .venv-test/done
	rm -rf dist $(PACKAGE)
	.venv-test/bin/python -m build --outdir dist .
	$(PYTHON) -m venv $(PACKAGE)
	$(PACKAGE)/bin/python -m pip install --quiet --constraint constraints.txt \
		"$$(echo dist/*.whl)[cpu,export]"
	rm -rf $(PACKAGE)/empty && mkdir $(PACKAGE)/empty
	cd $(PACKAGE)/empty && PATH="$(CURDIR)/$(PACKAGE)/bin:$$PATH" && mfer-edge doctor && \
		mfer-edge export --fp16 --out fp16 && \
		mfer-edge infer --bundle fp16 ../lib/python*/site-packages/mfer_edge/samples/*.mp4 && \
		mfer-edge bench --runs 3

# On an x86-64 Debian or Ubuntu: the lean package on emulated aarch64, beside itself on this machine.
arm64: .venv/done
	.venv/bin/python -m benchmarks.cpu.arm64

.venv/done: pyproject.toml
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --editable '.[cpu]'
	touch $@

# facenet-pytorch, funasr and silero-vad pin or pull packages that have no place here; their weights
# and their Python code serve as oracles without those.
.venv-test/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/python -m pip install --quiet --editable '.[dev]' --constraint constraints.txt
	.venv-test/bin/python -m pip install --quiet --no-deps facenet-pytorch==2.6.0 \
		funasr==1.4.16 silero-vad==6.2.3
	touch $@

clean:
	rm -rf .venv .venv-test .venv-min .venv-new $(PACKAGE) $(DEMO) build dist *.egg-info
