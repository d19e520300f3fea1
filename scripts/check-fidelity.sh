#!/usr/bin/env bash
# Loads what Drydock writes in PEFT and transformers (pinned versions) and compares logits.
set -euo pipefail
python=$(bash scripts/python-environment.sh golden test/golden/requirements.txt)
exec node test/golden/check-fidelity.ts --python "$python" "$@"
