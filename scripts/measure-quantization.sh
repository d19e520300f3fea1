#!/usr/bin/env bash
# What quantization costs on the demo's data; writes docs/fidelity-quantization.md. Needs Python for the exports.
set -euo pipefail
python=$(bash scripts/python-environment.sh quantization test/golden/quantization/requirements.txt)
status=0
node test/golden/measure-quantization.ts --python "$python" "$@" || status=$?
npx oxfmt docs/fidelity-quantization.md
exit "$status"
