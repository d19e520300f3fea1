"""Parity cases of Mllama (Llama 3.2 Vision).

In the reference, what a row gives depends on the rows beside it: rows with fewer pictures than another one are filled up with
empty pictures, and a token before the first picture of its row sees those, too. Drydock gives every row what the reference gives
it alone. So the reference is asked for rows with equally many pictures at a time here, padded on the left as ever.
"""

import functools

import torch
from case import NEW_TOKENS, Family, Picture, Row, generate, randomize, run, words
from transformers import MllamaConfig, MllamaForConditionalGeneration
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.models.mllama.image_processing_pil_mllama import get_all_supported_aspect_ratios
from transformers.models.mllama.processing_mllama import get_cross_attention_token_mask

FIRST_WORD = 10


SHAPES = {
    "four-tiles": {
        "text": {
            "vocab_size": 80, "hidden_size": 32, "intermediate_size": 40, "num_hidden_layers": 5, "num_attention_heads": 4,
            "num_key_value_heads": 2, "cross_attention_layers": [1, 3],
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                "original_max_position_embeddings": 64,
            },
        },
        "vision": {
            "hidden_size": 24, "intermediate_size": 32, "num_hidden_layers": 3, "num_global_layers": 2, "attention_heads": 2,
            "image_size": 8, "patch_size": 4, "max_num_tiles": 4, "intermediate_layers_indices": [0, 2],
        },
    },
    # Looks at pictures twice in a row.
    "two-looks": {
        "text": {
            "vocab_size": 70, "hidden_size": 24, "intermediate_size": 36, "num_hidden_layers": 4, "num_attention_heads": 6,
            "num_key_value_heads": 1, "cross_attention_layers": [1, 2],
            "rope_parameters": {"rope_type": "default", "rope_theta": 5e5},
        },
        "vision": {
            "hidden_size": 16, "intermediate_size": 28, "num_hidden_layers": 2, "num_global_layers": 1, "attention_heads": 4,
            "image_size": 12, "patch_size": 4, "max_num_tiles": 2, "intermediate_layers_indices": [1],
            "supported_aspect_ratios": [[1, 1], [1, 2], [2, 1]],
        },
    },
    "three-tiles": {
        "text": {
            "vocab_size": 75, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 3, "num_attention_heads": 2,
            "num_key_value_heads": 2, "cross_attention_layers": [1],
            "rope_parameters": {
                "rope_type": "llama3", "rope_theta": 5e5, "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 2.0,
                "original_max_position_embeddings": 32,
            },
        },
        "vision": {
            "hidden_size": 20, "intermediate_size": 24, "num_hidden_layers": 4, "num_global_layers": 3, "attention_heads": 1,
            "image_size": 15, "patch_size": 5, "max_num_tiles": 3, "intermediate_layers_indices": [0, 1, 3], "norm_eps": 1e-4,
            "supported_aspect_ratios": [[1, 1], [1, 2], [1, 3], [2, 1], [3, 1]],
        },
    },
}  # fmt: skip

BENCH = {
    "text": {
        "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8, "num_attention_heads": 6,
        "num_key_value_heads": 2, "cross_attention_layers": [2, 5], "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e4},
    },
    "vision": {
        "hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 5, "num_global_layers": 2, "attention_heads": 4,
        "image_size": 64, "patch_size": 8, "max_num_tiles": 4, "intermediate_layers_indices": [1, 3],
    },
}  # fmt: skip


alone = MllamaForConditionalGeneration.forward


@functools.wraps(alone)
def forward(self, input_ids=None, aspect_ratio_ids=None, labels=None, **inputs):
    """The reference over rows with equally many pictures at a time."""
    if aspect_ratio_ids is None or (groups := by_count(aspect_ratio_ids)) is None:
        return alone(self, input_ids=input_ids, aspect_ratio_ids=aspect_ratio_ids, labels=labels, **inputs)
    logits = torch.zeros(*input_ids.shape, self.config.text_config.vocab_size)
    for count, rows in groups.items():
        given = group_inputs({"input_ids": input_ids, "aspect_ratio_ids": aspect_ratio_ids, **inputs}, count, rows)
        logits = logits.index_copy(0, torch.tensor(rows), alone(self, **given).logits)
    loss = None
    if labels is not None:
        loss = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten())
    return CausalLMOutputWithPast(loss=loss, logits=logits)


# A class derived from it would be saved under other names.
MllamaForConditionalGeneration.forward = forward


def by_count(aspect_ratio_ids: torch.Tensor) -> dict[int, list[int]] | None:
    """Rows by their number of pictures; None when all have the same."""
    groups: dict[int, list[int]] = {}
    for row, ids in enumerate(aspect_ratio_ids):
        groups.setdefault(int((ids > 0).sum()), []).append(row)
    return None if len(groups) == 1 else groups


def group_inputs(inputs: dict, count: int, rows: list[int]) -> dict:
    of_text = {"input_ids", "attention_mask"}
    of_pictures = {"pixel_values", "aspect_ratio_ids", "aspect_ratio_mask"}
    given = {name: inputs[name][rows] for name in of_text}
    if count > 0:
        given |= {name: inputs[name][rows][:, :count] for name in of_pictures}
        given["cross_attention_mask"] = inputs["cross_attention_mask"][rows][:, :, :count]
    return given


def greedy(model: torch.nn.Module, inputs: dict) -> torch.Tensor:
    groups = by_count(inputs["aspect_ratio_ids"]) if "aspect_ratio_ids" in inputs else None
    if groups is None:
        return generate(model, inputs)
    tokens = torch.zeros(len(inputs["input_ids"]), NEW_TOKENS, dtype=torch.long)
    for count, rows in groups.items():
        tokens[rows] = generate(model, group_inputs(inputs, count, rows))
    return tokens


def image_token(shape: dict) -> int:
    return shape["text"]["vocab_size"]  # the first of the eight tokens behind the vocabulary


def make_model(shape: dict) -> torch.nn.Module:
    vision = shape["vision"]
    config = MllamaConfig(
        text_config=dict(shape["text"], pad_token_id=0, bos_token_id=1, eos_token_id=2),
        vision_config=dict(
            vision, vision_output_dim=vision["hidden_size"] * (1 + len(vision["intermediate_layers_indices"]))
        ),
        image_token_index=image_token(shape),
    )
    model = MllamaForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    return randomize(model)


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    vision, vocabulary = shape["vision"], shape["text"]["vocab_size"]
    side, patch = vision["image_size"] // vision["patch_size"], vision["patch_size"]
    text = lambda count: words(generator, count, FIRST_WORD, vocabulary)

    def picture(rows: int, columns: int) -> Picture:
        patches = torch.randn(rows * columns * side * side, 3 * patch * patch, generator=generator)
        return Picture(patches, (rows * columns, side, side), 1, (columns, rows))

    def row(*parts: list[int] | Picture, answer: int = 5) -> Row:
        ids = [id for part in parts for id in ([image_token(shape)] if isinstance(part, Picture) else part)]
        return Row(ids, len(ids) - answer, [part for part in parts if isinstance(part, Picture)])

    one, wide, tall, other = picture(1, 1), picture(1, 2), picture(2, 1), picture(1, 1)
    most = picture(1, 3) if vision["max_num_tiles"] == 3 else picture(*[2, 2] if vision["max_num_tiles"] == 4 else [2, 1])
    return {
        "one-image": [row(text(2), wide, text(9))],
        "two-images": [row(text(3), tall, text(4), most, text(7))],
        "text": [row(text(12))],
        "batch": [
            row(one, text(9)),
            row(text(2), most, wide, text(3), other, text(6), answer=4),
            row(text(11), answer=7),
            row(text(3), tall, text(4), answer=3),
        ],
    }


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    vision = shape["vision"]
    most, tiles, size, patch = max(len(row.pictures) for row in rows), vision["max_num_tiles"], vision["image_size"], vision["patch_size"]
    if most == 0:
        return {}
    ratios = [tuple(ratio) for ratio in vision.get("supported_aspect_ratios", get_all_supported_aspect_ratios(tiles))]
    pixels = torch.zeros(len(rows), most, tiles, 3, size, size)
    ratio_ids = torch.zeros(len(rows), most, dtype=torch.long)
    ratio_mask = torch.zeros(len(rows), most, tiles, dtype=torch.long)
    cross = torch.zeros(*ids.shape, most, tiles, dtype=torch.long)
    for index, row in enumerate(rows):
        padding = ids.shape[1] - len(row.ids)
        ranges = get_cross_attention_token_mask(row.ids, image_token(shape))
        for at, (picture, (start, end)) in enumerate(zip(row.pictures, ranges)):
            count, height, width = picture.grid
            cut = picture.patches.reshape(count, height, width, 3, patch, patch)
            pixels[index, at, :count] = cut.permute(0, 3, 1, 4, 2, 5).flatten(4).flatten(2, 3)
            columns, lines = picture.tiling
            ratio_ids[index, at] = ratios.index((lines, columns)) + 1
            ratio_mask[index, at, :count] = 1
            cross[index, padding + start : (None if end == -1 else padding + end), at, :count] = 1
    return {
        "pixel_values": pixels,
        "aspect_ratio_ids": ratio_ids,
        "aspect_ratio_mask": ratio_mask,
        "cross_attention_mask": cross,
    }


if __name__ == "__main__":
    run(Family("mllama", SHAPES, make_model, make_rows, model_inputs, bench=BENCH, greedy=greedy))
