"""Parity cases of Qwen2.5-VL (and Cosmos-Reason1, which has its architecture)."""

import torch
from case import Family, Picture, Row, randomize, run, words
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

START, END, IMAGE = 1, 2, 3
FIRST_WORD = 10


def rope(theta: float, section: list[int]) -> dict:
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": section}


# Windows of 2 and of 3 cells: pictures of the cases do not fill them.
SHAPES = {
    "tied": {
        "text": {
            "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "rms_norm_eps": 1e-6,
            "num_attention_heads": 4, "num_key_value_heads": 2, "rope_parameters": rope(1e4, [2, 1, 1]),
        },
        "vision": {
            "depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 40, "patch_size": 4, "spatial_merge_size": 2,
            "window_size": 16, "fullatt_block_indexes": [1], "out_hidden_size": 32,
        },
        "tie": True,
    },
    "untied": {
        "text": {
            "vocab_size": 80, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "rms_norm_eps": 1e-5,
            "num_attention_heads": 3, "num_key_value_heads": 1, "rope_parameters": rope(1e6, [1, 1, 2]),
        },
        "vision": {
            "depth": 4, "hidden_size": 24, "num_heads": 3, "intermediate_size": 28, "patch_size": 4, "spatial_merge_size": 2,
            "window_size": 24, "fullatt_block_indexes": [1, 3], "out_hidden_size": 24,
        },
        "tie": False,
    },
    "all-windowed": {
        "text": {
            "vocab_size": 70, "hidden_size": 32, "intermediate_size": 28, "num_hidden_layers": 2, "rms_norm_eps": 1e-6,
            "num_attention_heads": 2, "num_key_value_heads": 2, "rope_parameters": rope(1e5, [4, 2, 2]),
        },
        "vision": {
            "depth": 2, "hidden_size": 16, "num_heads": 1, "intermediate_size": 20, "patch_size": 6, "spatial_merge_size": 2,
            "window_size": 12, "fullatt_block_indexes": [], "out_hidden_size": 32,
        },
        "tie": False,
    },
}  # fmt: skip

BENCH = {
    "text": {
        "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "rms_norm_eps": 1e-6,
        "num_attention_heads": 6, "num_key_value_heads": 2, "rope_parameters": rope(1e6, [8, 12, 12]),
    },
    "vision": {
        "depth": 6, "hidden_size": 256, "num_heads": 4, "intermediate_size": 700, "patch_size": 14, "spatial_merge_size": 2,
        "window_size": 112, "fullatt_block_indexes": [2, 5], "out_hidden_size": 384,
    },
    "tie": True,
}  # fmt: skip


def make_model(shape: dict) -> torch.nn.Module:
    config = Qwen2_5_VLConfig(
        text_config=dict(shape["text"], tie_word_embeddings=shape["tie"]),
        vision_config=shape["vision"],
        image_token_id=IMAGE,
        video_token_id=IMAGE + 1,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=shape["tie"],
    )
    model = Qwen2_5_VLForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    randomize(model)
    with torch.no_grad():
        model.model.visual.merger.ln_q.weight.copy_((torch.randn(shape["vision"]["hidden_size"]) * 0.3 + 1).bfloat16().float())
    return model


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    vocabulary, patch = shape["text"]["vocab_size"], shape["vision"]["patch_size"]
    text = lambda count: words(generator, count, FIRST_WORD, vocabulary)

    def picture(height: int, width: int) -> Picture:
        patches = torch.randn(height * width, 3 * 2 * patch * patch, generator=generator)
        return Picture(patches, (1, height, width), height * width // 4)

    def marked(shown: Picture) -> list[int]:
        return [START] + [IMAGE] * shown.tokens + [END]

    one, wide, tall, small = picture(10, 6), picture(4, 8), picture(8, 2), picture(2, 2)
    batch = [
        Row(marked(one) + text(9), 0, [one]),
        Row(text(3) + marked(small) + marked(tall) + text(5), 0, [small, tall]),
        Row(text(11), 0),
    ]
    for row in batch:
        row.answer = len(row.ids) - 4
    two = Row(text(1) + marked(wide) + text(3) + marked(tall) + text(6), 20, [wide, tall])
    return {"one-image": [Row(text(2) + marked(one) + text(7), 20, [one])], "two-images": [two], "text": [Row(text(12), 4)], "batch": batch}


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    # Without the types the reference silently falls back to plain 1-D positions.
    inputs = {"mm_token_type_ids": (ids == IMAGE).long() * mask}
    pictures = [picture for row in rows for picture in row.pictures]
    if pictures:
        inputs["pixel_values"] = torch.cat([picture.patches for picture in pictures])
        inputs["image_grid_thw"] = torch.tensor([picture.grid for picture in pictures])
    return inputs


run(Family("qwen2-5-vl", SHAPES, make_model, make_rows, model_inputs, bench=BENCH))
