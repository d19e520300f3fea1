"""Parity cases of LLaVA-1.5: towers whose last blocks go unused, decoders of three types, both ways to choose features."""

import torch
from case import Family, Picture, Row, randomize, run, words
from transformers import LlavaConfig, LlavaForConditionalGeneration

IMAGE = 3
FIRST_WORD = 10


SHAPES = {
    "llama": {
        "text": {
            "model_type": "llama", "vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 4, "rms_norm_eps": 1e-5,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        "vision": {
            "num_hidden_layers": 4, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 16,
            "patch_size": 4,
        },
        "layer": -2,
        "strategy": "default",
    },
    "mistral-full": {
        "text": {
            "model_type": "mistral", "vocab_size": 75, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 6, "sliding_window": 4096,
            "rope_parameters": {"rope_type": "linear", "rope_theta": 1e4, "factor": 2.0},
        },
        "vision": {
            "num_hidden_layers": 2, "hidden_size": 18, "num_attention_heads": 3, "intermediate_size": 30, "image_size": 15,
            "patch_size": 5, "hidden_act": "gelu",
        },
        "layer": -1,
        "strategy": "full",
        "bias": False,
    },
    "qwen2-tied": {
        "text": {
            "model_type": "qwen2", "vocab_size": 80, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2,
            "num_attention_heads": 5, "num_key_value_heads": 1, "tie_word_embeddings": True,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        "vision": {
            "num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 20, "image_size": 10,
            "patch_size": 5,
        },
        "layer": -3,
        "strategy": "default",
    },
}  # fmt: skip


BENCH = {
    "text": {
        "model_type": "llama", "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
        "num_attention_heads": 6, "num_key_value_heads": 2, "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "vision": {
        "num_hidden_layers": 7, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "image_size": 128,
        "patch_size": 16,
    },
    "layer": -2,
    "strategy": "default",
}  # fmt: skip


def make_model(shape: dict) -> torch.nn.Module:
    config = LlavaConfig(
        text_config=shape["text"],
        vision_config=dict(shape["vision"], model_type="clip_vision_model"),
        image_token_index=IMAGE,
        vision_feature_layer=shape["layer"],
        vision_feature_select_strategy=shape["strategy"],
        multimodal_projector_bias=shape.get("bias", True),
    )
    model = LlavaForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    return randomize(model)


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    vocabulary, size, patch = shape["text"]["vocab_size"], shape["vision"]["image_size"], shape["vision"]["patch_size"]
    side = size // patch
    text = lambda count: words(generator, count, FIRST_WORD, vocabulary)

    def picture() -> Picture:
        pixels = torch.randn(3, side, patch, side, patch, generator=generator)
        patches = pixels.permute(1, 3, 0, 2, 4).reshape(side * side, 3 * patch * patch)
        return Picture(patches, (1, side, side), side * side + (shape["strategy"] == "full"))

    def row(*parts: list[int] | Picture) -> Row:
        ids = [id for part in parts for id in ([IMAGE] * part.tokens if isinstance(part, Picture) else part)]
        return Row(ids, len(ids) - 5, [part for part in parts if isinstance(part, Picture)])

    one, two, three = picture(), picture(), picture()
    return {
        "one-image": [row(text(2), one, text(8))],
        # Every picture becomes one square, whatever its size.
        "two-images": [row(text(1), one, text(3), two, text(7))],
        "text": [row(text(12))],
        "batch": [row(one, text(9)), row(text(3), two, three, text(6)), row(text(11))],
    }


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    pictures = [picture for row in rows for picture in row.pictures]
    if not pictures:
        return {}
    patch = shape["vision"]["patch_size"]
    pixels = [
        picture.patches.reshape(*picture.grid[1:], 3, patch, patch).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
        for picture in pictures
    ]
    return {"pixel_values": torch.stack(pixels)}


if __name__ == "__main__":
    run(Family("llava", SHAPES, make_model, make_rows, model_inputs, bench=BENCH))
