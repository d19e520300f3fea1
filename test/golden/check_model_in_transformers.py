"""Loads a model folder that Drydock wrote in transformers and compares logits.

usage: check_model_in_transformers.py MODEL_DIR LOGITS.safetensors
"""

import sys

import torch
from reference_logits import compare
from transformers import AutoModelForImageTextToText


def main() -> int:
    folder, path = sys.argv[1:]
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {kind: sorted(names) for kind, names in report.items() if names}
    if problems:
        print(f"{folder}: does not load cleanly: {problems}")
        return 1
    return compare(model.eval(), path, "model in transformers")


sys.exit(main())
