#!/usr/bin/env bash
# Training on a GPU against the peer, in one run. The peer's packages are installed only where there is a GPU.
set -euo pipefail
if command -v nvidia-smi >/dev/null && nvidia-smi -L >/dev/null 2>&1; then
  python=$(bash scripts/python-environment.sh bench test/bench/peer/requirements.txt)
  exec node test/bench/gpu.ts --python "$python" "$@"
fi
exec node test/bench/gpu.ts "$@"
