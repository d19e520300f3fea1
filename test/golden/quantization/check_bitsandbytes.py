"""Loads a folder that Drydock quantized to nf4 or fp4 with transformers and bitsandbytes.

    check_bitsandbytes.py QUANTIZED FLOATS

bitsandbytes must dequantize every layer to the weights of FLOATS, the same model as Drydock dequantizes it.
"""

import sys

import bitsandbytes.functional as bnb
import torch
from bitsandbytes.nn import Linear4bit
from transformers import AutoModelForImageTextToText

quantized, floats = (
    AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, device_map="cpu").eval()
    for folder in sys.argv[1:3]
)
worst, layers = 0.0, 0
for path, module in quantized.named_modules():
    if isinstance(module, Linear4bit):
        weight = bnb.dequantize_4bit(module.weight.data, module.weight.quant_state)
        worst = max(worst, (weight - floats.get_submodule(path).weight).abs().max().item())
        layers += 1
print(f"{layers} layers: {worst:.2e}")
assert layers > 0 and worst < 1e-6
