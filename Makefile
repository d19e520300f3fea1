# Each target is one line onto a script; `make help` lists them.
SHELL := /bin/bash
export PATH := $(CURDIR)/node_modules/.bin:$(PATH)
export ONNXRUNTIME_NODE_INSTALL := skip
INSTALLED := node_modules/.package-lock.json

.PHONY: bench-memory help install demo up test check fix golden fidelity quantization tiny-base bench bench-train bench-api bench-plan bench-ranks bench-storage bench-cluster bench-gpu bench-delta bench-families bench-sweep chaos clean

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  %-12s %s\n", $$1, $$2 }'

install: $(INSTALLED) ## Install the packages (no CUDA download)
$(INSTALLED): package-lock.json
	npm install --no-save --no-audit --no-fund --loglevel=error
	@touch $(INSTALLED)

chaos: install ## Break what runs and check from outside what must hold all the same; the table goes to .drydock/chaos/report.md
	vitest run test/chaos

demo: install ## From a clean clone to a fine-tuned model: LoRA and full side by side, report and summary in .drydock/demo
	node demo/run-demo.ts

up: install ## Start everything on this computer and stay up
	npx drydock up

test: install ## Everything: format, lint, types, unused code, unit, golden, database, end-to-end and cluster tests
	bash scripts/test.sh

check: install ## Format, lint, types, unused code
	npm run --silent check

fix: install ## Repair format and lint
	npm run --silent fix

golden: install ## Make the golden files again (needs Python; pinned versions)
	bash scripts/golden.sh

fidelity: install ## Compare with transformers and PEFT in every way, and write docs/fidelity.md (needs Python)
	bash scripts/check-fidelity.sh

quantization: install ## What int8 and 4 bits cost on the demo's data, and exports in plain onnxruntime; writes docs/fidelity-quantization.md (needs Python)
	bash scripts/measure-quantization.sh

tiny-base: install ## Train models/drydock-tiny-vl from random weights
	node demo/tiny-base/train-tiny-base.ts

bench: bench-plan bench-api bench-storage bench-ranks bench-train bench-families ## All benchmarks; figures go to .drydock/bench

bench-train: install ## Training tokens/s and memory against PyTorch + transformers, as ratios
	bash scripts/bench-train.sh

bench-families: install ## Every model family: training and decoding tokens/s and memory against transformers, as ratios
	bash scripts/bench-families.sh

bench-sweep: install ## A grid and a successive halving over the demo's learning rates: what each finds, in how many steps
	npx node test/bench/sweep.ts

bench-delta: install ## One gated DeltaNet layer over 8,192 tokens: time and memory
	node test/bench/delta-net.ts

bench-gpu: install ## Training on a GPU: tokens/s, memory, ratio to PyTorch + PEFT; measures nothing where there is none
	bash scripts/bench-gpu.sh

bench-api: install ## API latency: 200 clients, 2,000 plans, 500 runs
	node test/bench/api.ts

bench-memory: install ## Training on the CPU: the largest memory of the process against what the planner says; a 2B model in bf16; 8k tokens
	node test/bench/memory.ts $(ARGS)

bench-storage: install ## Object storage: a folder against a real S3 server, MB/s and peak memory
	node test/bench/storage.ts

bench-plan: install ## Planner: time per plan
	node test/bench/planner.ts

bench-cluster: install ## 100 simulated nodes: a burst of runs and gangs through Drydock, and beside it through Kueue (full size: ARGS="--nodes 1000 --runs 5000 --gangs 500")
	node test/bench/cluster-throughput.ts $(ARGS)

bench-ranks: install ## 2, 4 and 8 ranks: time and bytes of an all-reduce, cost to a training step
	node test/bench/ranks.ts

cluster-tools: install ## Build the servers of the test cluster from their Go modules, once (about 15 minutes on 2 cores)
	node test/cluster/build/build-tools.ts

cluster-up: cluster-tools ## Start a Kubernetes cluster on this computer: NODES=n simulated GPU nodes and one real one
	node test/cluster/cluster-command.ts up --nodes $(or $(NODES),4)

cluster-down: ## End that cluster
	node test/cluster/cluster-command.ts down

clean: ## Remove state and installed packages
	rm -rf .drydock node_modules
