#!/usr/bin/env bash
# Every model family against the peer, in one run.
set -euo pipefail
python=$(bash scripts/python-environment.sh golden test/golden/requirements.txt)
exec node test/bench/families.ts --python "$python" "$@"
