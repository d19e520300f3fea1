#!/usr/bin/env bash
# Makes the golden files again from the pinned reference implementations (Python; Java and Maven for captions); the diff is the review.
set -euo pipefail
python=$(bash scripts/python-environment.sh golden test/golden/requirements.txt)
"$python" test/golden/make_qwen3_vl.py
"$python" test/golden/make_images.py
# One script a model family.
for script in test/golden/parity/*.py; do
  [[ $(basename "$script") == case.py || $(basename "$script") == *_reference.py ]] || "$python" "$script"
done
"$python" test/golden/adapters/make_adapters.py
quantization=$(bash scripts/python-environment.sh quantization test/golden/quantization/requirements.txt)
"$quantization" test/golden/quantization/make_quantized.py
node test/golden/make-tokenizer.ts
"$python" test/golden/make_text.py
test/golden/captions/make-tokens.sh
