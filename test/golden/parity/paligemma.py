"""Parity cases of PaliGemma: answers of which every row has one, prompts that are read in both directions."""

import torch
from case import Family, Picture, Row, randomize, run, words
from transformers import PaliGemmaConfig, PaliGemmaForConditionalGeneration

IMAGE = 3
FIRST_WORD = 10


SHAPES = {
    "one-key-head": {
        "text": {
            "vocab_size": 90, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 1, "head_dim": 8,
        },
        "vision": {
            "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "image_size": 16,
            "patch_size": 4,
        },
    },
    "wide-heads": {
        "text": {
            "vocab_size": 75, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 16,
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
        # A picture whose last pixels make no whole patch.
        "vision": {
            "num_hidden_layers": 2, "hidden_size": 18, "num_attention_heads": 3, "intermediate_size": 30, "image_size": 16,
            "patch_size": 5,
        },
    },
    "grouped": {
        "text": {
            "vocab_size": 80, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 3, "head_dim": 4, "rms_norm_eps": 1e-5,
        },
        "vision": {
            "num_hidden_layers": 1, "hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 20, "image_size": 10,
            "patch_size": 5,
        },
        # The picture's token may stand behind the vocabulary.
        "image": 80,
    },
    # PaliGemma 2. Answers, and prompts, are longer than the window; caps are low enough to bend.
    "gemma2": {
        "decoder": "gemma2",
        "text": {
            "vocab_size": 85, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8, "query_pre_attn_scalar": 20, "sliding_window": 4,
            "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0,
        },
        "vision": {
            "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 8,
            "patch_size": 4,
        },
    },
}  # fmt: skip

BENCH = {
    "text": {
        "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6,
        "num_key_value_heads": 2, "head_dim": 64,
    },
    "vision": {
        "num_hidden_layers": 7, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "image_size": 128,
        "patch_size": 16,
    },
}  # fmt: skip


def image_token(shape: dict) -> int:
    return shape.get("image", IMAGE)


def make_model(shape: dict) -> torch.nn.Module:
    config = PaliGemmaConfig(
        text_config=dict(shape["text"], model_type=shape.get("decoder", "gemma"), pad_token_id=0),
        vision_config=dict(shape["vision"], model_type="siglip_vision_model", vision_use_head=False),
        image_token_index=image_token(shape),
        projection_dim=shape["text"]["hidden_size"],
        hidden_size=shape["text"]["hidden_size"],
    )
    model = PaliGemmaForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    randomize(model)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "language_model" in name and "norm" in name:
                parameter.copy_((parameter - 1).to(torch.bfloat16).float())  # stored as the distance from 1
    return model


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    vocabulary, size, patch = shape["text"]["vocab_size"], shape["vision"]["image_size"], shape["vision"]["patch_size"]
    side = size // patch
    text = lambda count: words(generator, count, FIRST_WORD, vocabulary)

    def picture() -> Picture:
        pixels = torch.randn(3, side, patch, side, patch, generator=generator)
        patches = pixels.permute(1, 3, 0, 2, 4).reshape(side * side, 3 * patch * patch)
        return Picture(patches, (1, side, side), side * side)

    def row(*parts: list[int] | Picture, answer: int = 5) -> Row:
        image = image_token(shape)
        ids = [id for part in parts for id in ([image] * part.tokens if isinstance(part, Picture) else part)]
        return Row(ids, len(ids) - answer, [part for part in parts if isinstance(part, Picture)])

    one, two, three = picture(), picture(), picture()
    return {
        "one-image": [row(one, text(9))],
        # Every picture becomes one square, whatever its size.
        "two-images": [row(one, two, text(9), answer=4)],
        "text": [row(text(12))],
        "batch": [row(one, text(9)), row(two, text(2), three, text(6), answer=3), row(text(11), answer=7)],
    }


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    length = ids.shape[1]
    types = [[0] * (length - len(row.ids) + row.answer) + [1] * (len(row.ids) - row.answer) for row in rows]
    inputs = {"token_type_ids": torch.tensor(types)}
    pictures = [picture for row in rows for picture in row.pictures]
    if not pictures:
        return inputs
    size, patch = shape["vision"]["image_size"], shape["vision"]["patch_size"]
    pixels = torch.zeros(len(pictures), 3, size, size)
    for index, picture in enumerate(pictures):
        _, height, width = picture.grid
        whole = picture.patches.reshape(height, width, 3, patch, patch).permute(2, 0, 3, 1, 4).flatten(3).flatten(1, 2)
        pixels[index, :, : height * patch, : width * patch] = whole
    return {**inputs, "pixel_values": pixels}


if __name__ == "__main__":
    run(Family("paligemma", SHAPES, make_model, make_rows, model_inputs, bench=BENCH))
