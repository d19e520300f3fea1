"""Parity cases of NVILA-Lite, in both published layouts. Its reference is nvila_reference.py: transformers has no class for it."""

import json
from pathlib import Path

import torch
from case import NEW_TOKENS, Family, Picture, Row, randomize, run, words
from nvila_reference import NvilaLite, greedy, load, save
from transformers import Qwen2Config, SiglipVisionConfig

BREAK, IMAGE = 2, 3
FIRST_WORD = 10

SHAPES = {
    # 4 by 4 patches are filled up to 6 by 6: four tokens a tile.
    "parts-tied": {
        "text": {
            "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": True,
        },
        "vision": {
            "num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 16, "patch_size": 4,
        },
        "layout": "parts",
    },
    # 6 by 6 patches need no filling up.
    "parts-untied": {
        "text": {
            "vocab_size": 80, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3,
            "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": False, "rms_norm_eps": 1e-5,
        },
        "vision": {
            "num_hidden_layers": 2, "hidden_size": 12, "num_attention_heads": 3, "intermediate_size": 20, "image_size": 12, "patch_size": 2,
        },
        "layout": "parts",
    },
    # 5 by 5 patches, a column and a row of zeros; the state before the last but one block.
    "flat": {
        "text": {
            "vocab_size": 70, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2,
            "num_attention_heads": 5, "num_key_value_heads": 1, "tie_word_embeddings": False,
        },
        "vision": {
            "num_hidden_layers": 4, "hidden_size": 14, "num_attention_heads": 1, "intermediate_size": 18, "image_size": 15, "patch_size": 3,
        },
        "layout": "flat",
        "select": -3,
    },
}  # fmt: skip

BENCH = {
    "text": {
        "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
        "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True,
    },
    "vision": {
        "num_hidden_layers": 6, "hidden_size": 192, "num_attention_heads": 4, "intermediate_size": 768, "image_size": 128, "patch_size": 16,
    },
    "layout": "parts",
}  # fmt: skip


def make_model(shape: dict) -> torch.nn.Module:
    text = Qwen2Config(max_position_embeddings=512, rope_parameters={"rope_type": "default", "rope_theta": 1e6}, **shape["text"])
    vision = SiglipVisionConfig(vision_use_head=False, **shape["vision"])
    model = randomize(NvilaLite(text, vision, IMAGE, BREAK, shape.get("select", -2)).float().eval())
    model.layout = shape["layout"]
    with torch.no_grad():
        for index in (1, 4):
            gain = model.model.mm_projector.layers[index].weight
            gain.copy_((torch.randn(gain.shape) * 0.3 + 1).bfloat16().float())
    return model


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    """Ids as Drydock has them: a place for each token of a tile, then the line break, which is an ordinary token."""
    vision = shape["vision"]
    patch = vision["patch_size"]
    side = vision["image_size"] // patch
    tokens = (-(-side // 3)) ** 2
    text = lambda count: words(generator, count, FIRST_WORD, shape["text"]["vocab_size"])

    def picture(tiles: int) -> Picture:
        patches = torch.randn(tiles * side * side, 3 * patch * patch, generator=generator).half().float()
        return Picture(patches, (tiles, side, side), tiles * tokens)

    def marked(shown: Picture) -> list[int]:
        tile = [IMAGE] * tokens + [BREAK]
        # Several tiles are several pictures to the text, a line each.
        return ([*tile, BREAK] * shown.grid[0])[:-1]

    def row(*parts: list[int] | Picture) -> Row:
        ids = [id for part in parts for id in (marked(part) if isinstance(part, Picture) else part)]
        return Row(ids, len(ids) - 4, [part for part in parts if isinstance(part, Picture)])

    tiled, single, other = picture(3), picture(1), picture(1)
    return {
        "one-image": [row(text(2), tiled, [BREAK], text(7))],
        # Pictures that share a row are one tile each, whatever their size.
        "two-images": [row(single, text(3), other, text(6))],
        "text": [row(text(12))],
        "batch": [row(tiled, [BREAK], text(9)), row(text(3), single, other, text(5)), row(text(11))],
    }


def unwritten(ids: list[int], tokens: int) -> list[int]:
    """Ids as the reference gets them: one token a tile."""
    result, at = [], 0
    while at < len(ids):
        result.append(ids[at])
        if ids[at] == IMAGE:
            assert ids[at : at + tokens + 1] == [IMAGE] * tokens + [BREAK]
            at += tokens
        at += 1
    return result


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    patch = shape["vision"]["patch_size"]
    side = shape["vision"]["image_size"] // patch
    short = [unwritten(row.ids, (-(-side // 3)) ** 2) for row in rows]
    length = max(len(row) for row in short)
    inputs = {
        "input_ids": torch.tensor([[0] * (length - len(row)) + row for row in short]),
        "attention_mask": torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in short]),
    }
    pictures = [picture for row in rows for picture in row.pictures]
    if pictures:
        split = torch.cat([picture.patches for picture in pictures]).reshape(-1, side, side, 3, patch, patch)
        inputs["pixel_values"] = split.permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, side * patch, side * patch)
    return inputs


def save_model(model: torch.nn.Module, folder: Path) -> None:
    save(model, folder, model.layout)
    if model.layout == "parts":
        # The code of these folders looks the picture's token up by name.
        tokens = [{"id": IMAGE, "content": "<image>", "special": True}]
        (folder / "llm" / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}) + "\n")


FAMILY = Family(
    "nvila", SHAPES, make_model, make_rows, model_inputs, bench=BENCH, lora_targets=None, save_model=save_model,
    load_model=lambda folder: load(folder, IMAGE, BREAK), greedy=lambda model, inputs: greedy(model, inputs, NEW_TOKENS),
)  # fmt: skip

if __name__ == "__main__":
    run(FAMILY)
