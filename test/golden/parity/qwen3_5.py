"""Parity cases of Qwen3.5: gated DeltaNet and gated attention. Rows of `two-images` and of `batch` are longer than a chunk of 64."""

import torch
from case import Family, Picture, Row, randomize, run, words
from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

START, END, IMAGE = 1, 2, 3
FIRST_WORD = 10


def rope(theta: float, section: list[int], share: float) -> dict:
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": section, "mrope_interleaved": True, "partial_rotary_factor": share}


def layers(kinds: str) -> list[str]:
    return ["linear_attention" if kind == "L" else "full_attention" for kind in kinds]


SHAPES = {
    "hybrid": {
        "text": {
            "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "layer_types": layers("LLLF"),
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 32, "rope_parameters": rope(1e5, [2, 1, 1], 0.25),
            "linear_conv_kernel_dim": 4, "linear_num_key_heads": 2, "linear_key_head_dim": 8, "linear_num_value_heads": 4,
            "linear_value_head_dim": 8,
        },
        "vision": {
            "depth": 2, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "patch_size": 8, "spatial_merge_size": 2,
            "num_position_embeddings": 16, "out_hidden_size": 32,
        },
        "tie": True,
    },
    "equal-heads": {
        "text": {
            "vocab_size": 80, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 3, "layer_types": layers("FLL"),
            "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16, "rope_parameters": rope(1e7, [2, 1, 1], 0.5),
            "linear_conv_kernel_dim": 2, "linear_num_key_heads": 2, "linear_key_head_dim": 16, "linear_num_value_heads": 2,
            "linear_value_head_dim": 12,
        },
        "vision": {
            "depth": 2, "hidden_size": 24, "num_heads": 3, "intermediate_size": 40, "patch_size": 4, "spatial_merge_size": 2,
            "num_position_embeddings": 25, "out_hidden_size": 24,
        },
        "tie": False,
    },
    "one-of-each": {
        "text": {
            "vocab_size": 70, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2, "layer_types": layers("LF"),
            "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16, "rope_parameters": rope(1e6, [2, 1, 1], 0.5),
            "linear_conv_kernel_dim": 4, "linear_num_key_heads": 1, "linear_key_head_dim": 8, "linear_num_value_heads": 3,
            "linear_value_head_dim": 8,
        },
        "vision": {
            "depth": 1, "hidden_size": 16, "num_heads": 1, "intermediate_size": 20, "patch_size": 4, "spatial_merge_size": 2,
            "num_position_embeddings": 9, "out_hidden_size": 20,
        },
        "tie": True,
    },
}  # fmt: skip

BENCH = {
    "text": {
        "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "layer_types": layers("LLLFLLLF"),
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "rope_parameters": rope(1e6, [4, 2, 2], 0.25),
        "linear_conv_kernel_dim": 4, "linear_num_key_heads": 4, "linear_key_head_dim": 64, "linear_num_value_heads": 8,
        "linear_value_head_dim": 64,
    },
    "vision": {
        "depth": 6, "hidden_size": 256, "num_heads": 4, "intermediate_size": 1024, "patch_size": 16, "spatial_merge_size": 2,
        "num_position_embeddings": 196, "out_hidden_size": 384,
    },
    "tie": True,
}  # fmt: skip


def make_model(shape: dict) -> torch.nn.Module:
    config = Qwen3_5Config(
        text_config=dict(shape["text"], tie_word_embeddings=shape["tie"]),
        vision_config=shape["vision"],
        image_token_id=IMAGE,
        video_token_id=IMAGE + 1,
        vision_start_token_id=START,
        vision_end_token_id=END,
        tie_word_embeddings=shape["tie"],
    )
    model = Qwen3_5ForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    randomize(model, 0.12)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # States that outlive a chunk. Where they fade by e^-100 in one, float32 sums of logarithms differ by 1e-5 in the
            # reference and here, and random layers make 1e-3 of that.
            if name.endswith("A_log"):
                parameter.copy_((parameter - 2.5).bfloat16().float())
            # Gains that are stored as their distance from 1, rounded again.
            if "language_model" in name and name.endswith("norm.weight") and "linear_attn" not in name:
                parameter.copy_((parameter - 1.0).bfloat16().float())
    return model


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    vocabulary, patch = shape["text"]["vocab_size"], shape["vision"]["patch_size"]
    text = lambda count: words(generator, count, FIRST_WORD, vocabulary)

    def picture(height: int, width: int) -> Picture:
        patches = torch.randn(height * width, 3 * 2 * patch * patch, generator=generator)
        return Picture(patches, (1, height, width), height * width // 4)

    def marked(shown: Picture) -> list[int]:
        return [START] + [IMAGE] * shown.tokens + [END]

    one, wide, tall, small = picture(6, 4), picture(4, 8), picture(8, 2), picture(2, 2)
    batch = [
        Row(marked(one) + text(9), 10, [one]),
        Row(text(50) + marked(small) + marked(tall) + text(15), 66, [small, tall]),
        Row(text(2), 1),
    ]
    return {
        "one-image": [Row(text(2) + marked(one) + text(7), 10, [one])],
        "two-images": [Row(text(1) + marked(wide) + text(50) + marked(tall) + text(70), 70, [wide, tall])],
        "text": [Row(text(12), 4)],
        "batch": batch,
    }


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    # Without the types the reference silently falls back to plain 1-D positions.
    inputs = {"mm_token_type_ids": (ids == IMAGE).long() * mask}
    pictures = [picture for row in rows for picture in row.pictures]
    if pictures:
        inputs["pixel_values"] = torch.cat([picture.patches for picture in pictures])
        inputs["image_grid_thw"] = torch.tensor([picture.grid for picture in pictures])
    return inputs


run(
    Family(
        "qwen3-5", SHAPES, make_model, make_rows, model_inputs, bench=BENCH, rates=(2e-4, 2e-3),
        lora_targets=r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj|in_proj_qkv|in_proj_z|in_proj_a|in_proj_b|out_proj)",
    )
)  # fmt: skip
