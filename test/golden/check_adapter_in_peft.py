"""Loads an adapter that Drydock wrote in PEFT and compares logits, with the adapter beside the base and merged into it.

usage: check_adapter_in_peft.py BASE_DIR ADAPTER_DIR LOGITS.safetensors
"""

import sys

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from reference_logits import compare
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText


def main() -> int:
    base_folder, adapter_folder, path = sys.argv[1:]
    base = AutoModelForImageTextToText.from_pretrained(base_folder, dtype=torch.float32, attn_implementation="eager")
    model = PeftModel.from_pretrained(base, adapter_folder).eval()
    # PEFT only warns of missing or unknown keys; here that is a failure.
    stored = load_file(f"{adapter_folder}/adapter_model.safetensors")
    loaded = get_peft_model_state_dict(model)
    if stored.keys() != loaded.keys() or not all(torch.equal(stored[name], loaded[name]) for name in stored):
        print(f"{adapter_folder}: PEFT holds other tensors than the file: {sorted(stored.keys() ^ loaded.keys())}")
        return 1
    if all(tensor.eq(0).all() for name, tensor in stored.items() if "lora_B" in name):
        print(f"{adapter_folder}: the adapter is that of an untrained model: all B are zero")
        return 1
    beside = compare(model, path, "adapter in PEFT")
    return beside or compare(model.merge_and_unload(), path, "adapter merged by PEFT")


sys.exit(main())
