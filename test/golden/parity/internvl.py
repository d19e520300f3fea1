"""Parity cases of InternVL, in both published forms: `remote` is saved as the folders with code of their own are, whose class
transformers does not have; its reference is the same model in the native form, which is what the published conversion script says
that it is (`convert_internvl_weights_to_hf.py` of huggingface/transformers)."""

import copy
import json
import re
from pathlib import Path

import torch
from case import Family, Picture, Row, randomize, run, words
from safetensors.torch import load_file, save_file
from transformers import InternVLConfig, InternVLForConditionalGeneration

START, END, IMAGE = 1, 2, 3
FIRST_WORD = 10


def rope(theta: float, **more) -> dict:
    return {"rope_type": "default", "rope_theta": theta, **more}


SHAPES = {
    "qwen3-tied": {
        "text": {
            "model_type": "qwen3", "vocab_size": 96, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rope_parameters": rope(1e4),
        },
        "vision": {
            "num_hidden_layers": 3, "hidden_size": 32, "num_attention_heads": 2, "intermediate_size": 48, "attention_bias": True,
            "image_size": [16, 16], "patch_size": [4, 4],
        },
        "tie": True,
    },
    # Norms of queries and keys and RMS norms are those of the 6B tower; the last block goes unused.
    "qwen2-rms": {
        "text": {
            "model_type": "qwen2", "vocab_size": 80, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2,
            "num_attention_heads": 6, "num_key_value_heads": 2,
            "rope_parameters": rope(1e6, rope_type="dynamic", factor=2.0),
        },
        "vision": {
            "num_hidden_layers": 3, "hidden_size": 18, "num_attention_heads": 3, "intermediate_size": 30, "attention_bias": False,
            "use_qk_norm": True, "norm_type": "rms_norm", "image_size": [12, 12], "patch_size": [2, 2],
        },
        "tie": False,
        "layer": -2,
    },
    "remote": {
        "text": {
            "model_type": "qwen3", "vocab_size": 70, "hidden_size": 20, "intermediate_size": 28, "num_hidden_layers": 2,
            "num_attention_heads": 3, "num_key_value_heads": 1, "head_dim": 16, "rope_parameters": rope(1e6),
        },
        "vision": {
            "num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 1, "intermediate_size": 20, "attention_bias": True,
            "image_size": [10, 10], "patch_size": [5, 5],
        },
        "tie": False,
        "form": "remote",
    },
}  # fmt: skip


BENCH = {
    "text": {
        "model_type": "qwen3", "vocab_size": 8192, "hidden_size": 384, "intermediate_size": 1024, "num_hidden_layers": 8,
        "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 64, "rope_parameters": rope(1e6),
    },
    "vision": {
        "num_hidden_layers": 6, "hidden_size": 256, "num_attention_heads": 4, "intermediate_size": 1024, "attention_bias": True,
        "image_size": [128, 128], "patch_size": [16, 16],
    },
    "tie": True,
}  # fmt: skip


def make_model(shape: dict) -> torch.nn.Module:
    config = InternVLConfig(
        text_config=dict(shape["text"], tie_word_embeddings=shape["tie"]),
        vision_config=shape["vision"],
        image_token_id=IMAGE,
        vision_feature_layer=shape.get("layer", -1),
        tie_word_embeddings=shape["tie"],
    )
    model = InternVLForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    model.published_form = shape.get("form", "native")
    return randomize(model)


def make_rows(shape: dict, generator: torch.Generator) -> dict[str, list[Row]]:
    vocabulary, vision = shape["text"]["vocab_size"], shape["vision"]
    patch = vision["patch_size"][0]
    side = vision["image_size"][0] // patch
    text = lambda count: words(generator, count, FIRST_WORD, vocabulary)

    def picture(tiles: int) -> Picture:
        pixels = torch.randn(tiles, 3, side * patch, side * patch, generator=generator)
        return Picture(cells(pixels, patch), (tiles, side, side), tiles * side * side // 4)

    def marked(shown: Picture) -> list[int]:
        return [START] + [IMAGE] * shown.tokens + [END]

    one, wide, tall, small = picture(3), picture(4), picture(3), picture(1)
    two = Row(text(1) + marked(wide) + text(3) + marked(tall) + text(6), 0, [wide, tall])
    batch = [
        Row(marked(one) + text(9), 0, [one]),
        Row(text(3) + marked(small) + marked(one) + text(5), 0, [small, one]),
        Row(text(11), 4),
    ]
    for row in [two, *batch[:2]]:
        row.answer = len(row.ids) - 4
    return {
        "one-image": [Row(text(2) + marked(one) + text(7), 2 + one.tokens + 4, [one])],
        "two-images": [two],
        "text": [Row(text(12), 4)],
        "batch": batch,
    }


def cells(pixels: torch.Tensor, patch: int) -> torch.Tensor:
    """[tiles, 3, height, width] to patches [n, 3*patch*patch], the four that become one token behind each other."""
    tiles, _, height, width = pixels.shape
    rows, columns = height // patch // 2, width // patch // 2
    split = pixels.reshape(tiles, 3, rows, 2, patch, columns, 2, patch)
    return split.permute(0, 2, 5, 3, 6, 1, 4, 7).reshape(-1, 3 * patch * patch)


def pixels_of(picture: Picture, patch: int) -> torch.Tensor:
    tiles, rows, columns = picture.grid
    split = picture.patches.reshape(tiles, rows // 2, columns // 2, 2, 2, 3, patch, patch)
    return split.permute(0, 5, 1, 3, 6, 2, 4, 7).reshape(tiles, 3, rows * patch, columns * patch)


def model_inputs(shape: dict, rows: list[Row], ids: torch.Tensor, mask: torch.Tensor) -> dict:
    pictures = [picture for row in rows for picture in row.pictures]
    if not pictures:
        return {}
    return {"pixel_values": torch.cat([pixels_of(picture, shape["vision"]["patch_size"][0]) for picture in pictures])}


# From names of files of the form with code of its own to those of the native form's files.
REMOTE_NAMES = [
    (r"^mlp1\.0\.", "multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "multi_modal_projector.linear_2."),
    (r"^vision_model\.", "vision_tower."),
    (r"\.embeddings\.class_embedding$", ".embeddings.cls_token"),
    (r"\.embeddings\.position_embedding$", ".embeddings.position_embeddings"),
    (r"\.embeddings\.patch_embedding\.", ".embeddings.patch_embeddings.projection."),
    (r"^(vision_tower)\.encoder\.layers\.", r"\1.encoder.layer."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.ls([12])$", r".lambda_\1"),
]


def native_name(name: str) -> str:
    for pattern, replacement in REMOTE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def to_native(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    native = {}
    for name, tensor in tensors.items():
        if ".attn.qkv." in name:
            for part, third in zip("qkv", tensor.chunk(3)):
                native[native_name(name).replace(".attn.qkv.", f".attention.{part}_proj.")] = third.contiguous()
        else:
            native[native_name(name)] = tensor
    return native


def to_remote(tensors: dict[str, torch.Tensor], blocks: int) -> dict[str, torch.Tensor]:
    """The inverse of `to_native`, by trying the names that a remote file has."""
    block = ["norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias", "attn.proj.weight", "attn.proj.bias", "ls1", "ls2"]
    block += [f"mlp.fc{n}.{kind}" for n in (1, 2) for kind in ("weight", "bias")]
    names = [f"vision_model.encoder.layers.{index}.{name}" for index in range(blocks) for name in block]
    names += [f"vision_model.embeddings.{name}" for name in ("class_embedding", "position_embedding")]
    names += [f"vision_model.embeddings.patch_embedding.{kind}" for kind in ("weight", "bias")]
    names += [f"mlp1.{index}.{kind}" for index in (0, 1, 3) for kind in ("weight", "bias")]
    names += [name for name in tensors if name.startswith("language_model.")]
    remote = {name: tensors[native_name(name)] for name in names}
    for index in range(blocks):
        for kind in ("weight", "bias"):
            parts = [tensors[f"vision_tower.encoder.layer.{index}.attention.{part}_proj.{kind}"] for part in "qkv"]
            remote[f"vision_model.encoder.layers.{index}.attn.qkv.{kind}"] = torch.cat(parts)
    return remote


def save_model(model: torch.nn.Module, folder: Path) -> None:
    copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    if model.published_form == "native":
        return
    config = json.loads((folder / "config.json").read_text())
    vision, text = config["vision_config"], config["text_config"]
    remote = to_remote(load_file(folder / "model.safetensors"), vision["num_hidden_layers"])
    save_file(remote, folder / "model.safetensors", metadata={"format": "pt"})
    text["rope_theta"] = text.pop("rope_parameters")["rope_theta"]
    published = {
        "architectures": ["InternVLChatModel"],
        "model_type": "internvl_chat",
        "downsample_ratio": config["downsample_ratio"],
        "dynamic_image_size": True,
        "force_image_size": vision["image_size"][0],
        "min_dynamic_patch": 1,
        "max_dynamic_patch": 12,
        "ps_version": "v2",
        "select_layer": -1,
        "template": "internvl2_5",
        "use_thumbnail": True,
        "llm_config": text,
        "vision_config": {
            "model_type": "intern_vit_6b",
            "hidden_act": "gelu",
            "hidden_size": vision["hidden_size"],
            "image_size": vision["image_size"][0],
            "intermediate_size": vision["intermediate_size"],
            "layer_norm_eps": vision["layer_norm_eps"],
            "norm_type": "layer_norm",
            "num_attention_heads": vision["num_attention_heads"],
            "num_channels": 3,
            "num_hidden_layers": vision["num_hidden_layers"],
            "patch_size": vision["patch_size"][0],
            "qk_normalization": False,
            "qkv_bias": True,
        },
    }
    (folder / "config.json").write_text(json.dumps(published, indent=2) + "\n")
    # The code of these folders looks the picture's token up by name.
    special = [("<img>", START), ("</img>", END), ("<IMG_CONTEXT>", IMAGE)]
    tokens = [{"id": id, "content": content, "special": True} for content, id in special]
    (folder / "tokenizer.json").write_text(json.dumps({"added_tokens": tokens}) + "\n")


def load_model(folder: Path) -> torch.nn.Module:
    """What Drydock wrote; the form with code of its own by the conversion that transformers' script makes."""
    config = json.loads((folder / "config.json").read_text())
    if config["model_type"] == "internvl":
        model, report = InternVLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
        problems = {kind: sorted(names) for kind, names in report.items() if names}
        if problems:
            raise SystemExit(f"{folder}: does not load cleanly: {problems}")
    else:
        model = make_model(SHAPES["remote"])
        tensors = to_native(load_file(folder / "model.safetensors"))
        in_memory = {
            re.sub(r"^language_model\.lm_head", "lm_head", re.sub(r"^language_model\.model", "model.language_model", name)): tensor
            for name, tensor in tensors.items()
        }
        named = {name if name.startswith(("model.", "lm_head")) else f"model.{name}": tensor for name, tensor in in_memory.items()}
        model.load_state_dict({name: tensor.float() for name, tensor in named.items()})
    model.set_attn_implementation("eager")
    return model.eval()


if __name__ == "__main__":
    run(Family("internvl", SHAPES, make_model, make_rows, model_inputs, bench=BENCH, save_model=save_model, load_model=load_model))
