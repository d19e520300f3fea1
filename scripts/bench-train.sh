#!/usr/bin/env bash
# Training speed and memory against the peer, in one run. The peer's packages are installed here and nowhere else.
set -euo pipefail
python=$(bash scripts/python-environment.sh bench test/bench/peer/requirements.txt)
exec node test/bench/train.ts --python "$python" "$@"
