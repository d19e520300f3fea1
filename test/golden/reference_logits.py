"""Logits of the reference for the inputs in a safetensors file, and how far the file's own logits are from them."""

import torch
from safetensors.torch import load_file

# The bound for fp32.
LIMIT = 1e-4


def inputs_of(path: str, image_token: int) -> tuple[dict, torch.Tensor]:
    """Keyword arguments of the model, and the logits [B, T, V] to compare with."""
    tensors = load_file(path)
    logits = tensors.pop("logits")
    ids, mask = tensors["input_ids"], tensors["attention_mask"]
    # Without these the reference silently falls back to plain 1-D positions.
    tensors["mm_token_type_ids"] = (ids == image_token).long() * mask
    return tensors, logits.reshape(*ids.shape, -1)


def compare(model: torch.nn.Module, path: str, what: str) -> int:
    """Prints the largest difference where there is a token, and answers the exit status."""
    inputs, logits = inputs_of(path, model.config.image_token_id)
    with torch.no_grad():
        expected = model(**inputs).logits
    difference = (expected - logits)[inputs["attention_mask"] == 1].abs().max().item()
    largest = expected.abs().max().item()
    verdict = "agree" if difference < LIMIT else "DIFFER"
    print(f"{what}: logits {verdict}: largest difference {difference:.2e} at logits up to {largest:.2f} (limit {LIMIT:.0e})")
    return 0 if difference < LIMIT else 1
