"""Renders, tokenises and preprocesses a conversation with the Python packages and compares token ids and logits with those of
`drydock model logits`: picture files to logits.

usage: check_pipeline.py MODEL_DIR MESSAGES.json LOGITS.safetensors
"""

import json
import sys
from pathlib import Path

import torch
from PIL import Image, ImageOps
from reference_logits import LIMIT
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoTokenizer
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SETTINGS = ["patch_size", "merge_size", "temporal_patch_size", "min_pixels", "max_pixels", "image_mean", "image_std"]
MARK = "<|image_pad|>"


def main() -> int:
    folder, messages_path, logits_path = map(Path, sys.argv[1:])
    messages = json.loads(messages_path.read_text())
    parts = [part for message in messages if not isinstance(message["content"], str) for part in message["content"]]
    pictures = [
        ImageOps.exif_transpose(Image.open(messages_path.parent / part["image"])).convert("RGB")
        for part in parts
        if part["type"] == "image"
    ]
    settings = json.loads((folder / "preprocessor_config.json").read_text())
    pixels = Qwen2VLImageProcessorPil(**{key: settings[key] for key in SETTINGS})(pictures, return_tensors="pt")

    tokenizer = AutoTokenizer.from_pretrained(folder)
    text, *rest = tokenizer.apply_chat_template(messages, tokenize=False).split(MARK)
    for grid, after in zip(pixels["image_grid_thw"], rest, strict=True):
        text += MARK * (int(grid.prod()) // settings["merge_size"] ** 2) + after
    ids = tokenizer(text, add_special_tokens=False, return_tensors="pt")["input_ids"]

    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        types = (ids == model.config.image_token_id).long()
        expected = model(input_ids=ids, attention_mask=torch.ones_like(ids), mm_token_type_ids=types, **pixels).logits[0]
    ours = load_file(logits_path)
    if not torch.equal(ours["input_ids"], ids[0]):
        print(f"token ids DIFFER: {len(ours['input_ids'])} here, {ids.shape[1]} in transformers")
        return 1
    difference = (ours["logits"] - expected).abs().max().item()
    verdict = "agree" if difference < LIMIT else "DIFFER"
    print(f"pictures to logits: {ids.shape[1]} token ids equal, logits {verdict}: largest difference {difference:.2e} at logits up to {expected.abs().max().item():.2f}")
    return 0 if difference < LIMIT else 1


sys.exit(main())
