"""Parity cases of LLaVA-NeXT: tiles of pictures that are padded above and below, at both sides, or not at all."""

import torch
from case import Family, Picture, Row, randomize, run, words
from transformers import LlavaNextConfig, LlavaNextForConditionalGeneration

IMAGE = 3
FIRST_WORD = 10

SHAPES = {
    "mistral": {
        "text": {
            "model_type": "mistral", "vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "sliding_window": None,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        "vision": {
            "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 16,
            "patch_size": 4,
        },
    },
    "llama-tied": {
        "text": {
            "model_type": "llama", "vocab_size": 75, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 6,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
        },
        "vision": {
            "num_hidden_layers": 2, "hidden_size": 18, "num_attention_heads": 3, "intermediate_size": 30, "image_size": 15,
            "patch_size": 5,
        },
        "tie": True,
    },
    "qwen2": {
        "text": {
            "model_type": "qwen2", "vocab_size": 80, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2,
            "num_attention_heads": 5, "num_key_value_heads": 1,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
        },
        "vision": {
            "num_hidden_layers": 3, "hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 20, "image_size": 12,
            "patch_size": 2,
        },
    },
}  # fmt: skip

BENCH = {
    "text": {
        "model_type": "llama", "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
        "num_attention_heads": 6, "num_key_value_heads": 2,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "vision": {
        "num_hidden_layers": 7, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "image_size": 64,
        "patch_size": 16,
    },
    "tie": True,
}  # fmt: skip


def resolutions(shape: dict) -> list[list[int]]:
    size = shape["vision"]["image_size"]
    return [[size, 2 * size], [2 * size, size], [2 * size, 2 * size], [3 * size, size], [size, 3 * size]]


def make_model(shape: dict) -> torch.nn.Module:
    config = LlavaNextConfig(
        text_config=shape["text"],
        vision_config=dict(shape["vision"], model_type="clip_vision_model"),
        image_token_index=IMAGE,
        image_grid_pinpoints=resolutions(shape),
        tie_word_embeddings=shape.get("tie", False),
    )
    model = LlavaNextForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    return randomize(model)


class Sized(Picture):
    """A picture that knows what it was before it was cut: the reference takes the padding off by that."""

    def __init__(self, patches: torch.Tensor, grid: tuple, tokens: int, tiling: tuple[int, int], size: tuple[int, int]):
        super().__init__(patches, grid, tokens, tiling)
        self.size = size


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    vocabulary, tile, patch = shape["text"]["vocab_size"], shape["vision"]["image_size"], shape["vision"]["patch_size"]
    side = tile // patch
    text = lambda count: words(generator, count, FIRST_WORD, vocabulary)

    def picture(height: int, width: int, columns: int, rows: int) -> Sized:
        tiles = 1 + columns * rows
        pixels = torch.randn(tiles, 3, side, patch, side, patch, generator=generator)
        patches = pixels.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * patch * patch)
        return Sized(patches, (tiles, side, side), tokens_of(height, width, columns, rows, side), (columns, rows), (height, width))

    def row(*parts: list[int] | Picture) -> Row:
        ids = [id for part in parts for id in ([IMAGE] * part.tokens if isinstance(part, Picture) else part)]
        return Row(ids, len(ids) - 5, [part for part in parts if isinstance(part, Picture)])

    # Wider than two tiles, so padded above and below; narrower than its two tiles; four tiles that it fills; one row of three.
    wide, tall = picture(tile // 2, 2 * tile, 2, 1), picture(2 * tile, 2 * tile // 3, 1, 2)
    square, long = picture(2 * tile, 2 * tile, 2, 2), picture(tile, 3 * tile, 3, 1)
    return {
        "one-image": [row(text(2), wide, text(8))],
        "two-images": [row(text(1), tall, text(3), square, text(7))],
        "text": [row(text(12))],
        "batch": [row(long, text(9)), row(text(3), wide, tall, text(6)), row(text(11))],
    }


def tokens_of(height: int, width: int, columns: int, rows: int, side: int) -> int:
    """As `LlavaNextProcessor` counts them."""
    across, down = columns * side, rows * side
    if width / height > across / down:
        down -= (down - int(round(height * (across / width), 7))) // 2 * 2
    else:
        across -= (across - int(round(width * (down / height), 7))) // 2 * 2
    return side * side + down * (across + 1)


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    pictures = [picture for row in rows for picture in row.pictures]
    if not pictures:
        return {}
    patch = shape["vision"]["patch_size"]
    side = shape["vision"]["image_size"] // patch
    pixels = [
        picture.patches.reshape(-1, side, side, 3, patch, patch).permute(0, 3, 1, 4, 2, 5).reshape(-1, 3, side * patch, side * patch)
        for picture in pictures
    ]
    most = max(each.shape[0] for each in pixels)
    padded = [torch.cat([each, torch.zeros(most - each.shape[0], *each.shape[1:])]) for each in pixels]
    return {"pixel_values": torch.stack(padded), "image_sizes": torch.tensor([picture.size for picture in pictures])}


if __name__ == "__main__":
    run(Family("llava-next", SHAPES, make_model, make_rows, model_inputs, bench=BENCH))
