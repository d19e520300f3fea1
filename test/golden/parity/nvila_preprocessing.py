"""Preprocessing cases of NVILA-Lite. Its makers' processing is restated from https://github.com/NVlabs/VILA at b760c34:
`dynamic_preprocess` of `llava/mm_utils.py`, `generate_content` of `llava/model/llava_arch.py` (a picture that is alone is cut into
tiles, pixels are rounded to half precision), `tokenize_conversation` of `llava/utils/tokenizer.py` and `qwen2.jinja`."""

import json

import preprocessing_reference as reference
import torch
from PIL import Image
from preprocessing_reference import Conversation, Processing, image, text, turn
from tokenizers import Tokenizer
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

IMAGE_SIZE, PATCH, MAX_TILES = 16, 4, 12
SIDE = IMAGE_SIZE // PATCH
TOKENS = (-(-SIDE // 3)) ** 2
SETTINGS = {
    "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "rescale_factor": 1 / 255,
}  # fmt: skip
TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}{{ '<|im_start|>system\\nYou are a helpful assistant<|im_end|>\\n' }}{% endif %}"
    "{% for message in messages if message['content'] is not none %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def grid_of(picture: Image.Image) -> tuple[int, int]:
    """Columns and rows (`find_closest_aspect_ratio`)."""
    width, height = picture.size
    grids = {
        (i, j) for n in range(1, MAX_TILES + 1) for i in range(1, n + 1) for j in range(1, n + 1) if 1 <= i * j <= MAX_TILES
    }
    best, least = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - columns / rows)
        if difference < least:
            best, least = (columns, rows), difference
        elif difference == least and width * height > 0.5 * IMAGE_SIZE * IMAGE_SIZE * columns * rows:
            best = (columns, rows)
    return best


def tiles_of(picture: Image.Image) -> list[Image.Image]:
    columns, rows = grid_of(picture)
    resized = picture.resize((IMAGE_SIZE * columns, IMAGE_SIZE * rows))
    corners = [(column * IMAGE_SIZE, row * IMAGE_SIZE) for row in range(rows) for column in range(columns)]
    tiles = [resized.crop((left, top, left + IMAGE_SIZE, top + IMAGE_SIZE)) for left, top in corners]
    return tiles + [picture.resize((IMAGE_SIZE, IMAGE_SIZE))] if len(tiles) > 1 else tiles


def rendered(messages: list[dict], folder, is_prompt: bool) -> str:
    parts = [part for message in messages for part in message["content"]]
    shown = [part["image"] for part in parts if part["type"] == "image"]
    marks = {}
    for name in shown:
        tiles = tiles_of(reference.opened(reference.picture_file(folder, name)))
        marks[name] = "<image>\n" * len(tiles) if len(shown) == 1 else "<image>"
    value = lambda part: marks[part["image"]] if part["type"] == "image" else part["text"]
    lines = [{"role": m["role"], "content": "".join(map(value, m["content"])).strip()} for m in messages]
    if lines[0]["role"] != "system":
        lines.insert(0, {"role": "system", "content": "You are a helpful assistant"})
    body = "".join(f"<|im_start|>{line['role']}\n{line['content']}<|im_end|>\n" for line in lines)
    return body + ("<|im_start|>assistant\n" if is_prompt else "")


ASKED = turn("user", image("wide.png"), text("Is there a red apple?"))
CONVERSATIONS = [
    ("a picture of several tiles", [ASKED], True, None),
    ("text that begins with a line break melts with the last tile's line", [turn("user", image("tall.png"), text("\n Where?"))], True, None),
    ("a picture of one tile in the middle", [turn("user", text(" Look: "), image("square.png"), text("?  "))], True, None),
    ("a picture without a word", [turn("user", image("strip.png"))], True, None),
    ("two pictures are one tile each", [turn("user", image("whole.png"), text("or"), image("small.png"), text("?"))], True, None),
    ("no picture, a system message", [turn("system", text("You look.")), turn("user", text("Größe 東京?"))], True, None),
    (
        "two answers",
        [turn("user", image("turned.jpg"), text("Find it.")), turn("assistant", text(" no ")), turn("user", text("Sure?")), turn("assistant", text("yes"))],
        False,
        ["no<|im_end|>", "yes<|im_end|>"],
    ),
]  # fmt: skip


def main() -> None:
    folder = reference.fresh_folder("nvila")
    reference.noise(120, 18, 1).save(folder / "strip.png")
    reference.noise(IMAGE_SIZE, IMAGE_SIZE, 2).save(folder / "square.png")
    reference.noise(50, 20, 3).save(folder / "whole.png")
    reference.noise(9, 30, 4).save(folder / "small.png")
    tokenizer = json.loads((reference.GOLDEN / "text" / "model" / "tokenizer.json").read_text())
    first = max(1 + max(token["id"] for token in tokenizer["added_tokens"]), len(tokenizer["model"]["vocab"]))
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    names = ["<vila/sentinel>", "<image>", "<vila/video>"]
    tokenizer["added_tokens"] += [{"id": first + index, "content": token, **plain} for index, token in enumerate(names)]
    for part in ("llm", "vision_tower"):
        (folder / "model" / part).mkdir()
    write = lambda name, value: (folder / "model" / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("llm/tokenizer.json", tokenizer)
    write("llm/tokenizer_config.json", {"eos_token": "<|im_end|>", "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE})
    write("vision_tower/preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor", **SETTINGS})
    # Where the renderer of preprocessing_reference looks; not part of the folder.
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).write_text((folder / "model" / "llm" / name).read_text())
    encoder, processor = Tokenizer.from_str(json.dumps(tokenizer)), SiglipImageProcessorPil(**SETTINGS)
    image_id, line_break = first + 1, encoder.encode("\n").ids

    def made(images, text, return_tensors):
        ids = []
        for id in encoder.encode(text).ids:
            ids += [image_id] * TOKENS + line_break if id == image_id else [id]
        pictures = images or []
        tiles = tiles_of(pictures[0]) if len(pictures) == 1 else pictures
        pixels = [torch.as_tensor(processor.preprocess(tile, return_tensors="pt")["pixel_values"][0]).half().numpy() for tile in tiles]
        return {"input_ids": torch.tensor([ids]), "pixel_values": pixels}

    def patches_of(pixels):
        split = pixels.reshape(-1, 3, SIDE, PATCH, SIDE, PATCH)
        return split.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * PATCH * PATCH)

    conversations = [
        Conversation(name, messages, is_prompt, trained, rendered(messages, folder, is_prompt))
        for name, messages, is_prompt, trained in CONVERSATIONS
    ]
    several = {"whole.png", "small.png"}
    sizes = {path.name: reference.opened(path) for path in [*folder.glob("*.png"), *reference.IMAGES.glob("*.png"), *reference.IMAGES.glob("*.jpg")]}
    alone = {picture.tobytes(): name not in several for name, picture in sizes.items()}
    count = lambda picture: len(tiles_of(picture)) if alone[picture.tobytes()] else 1
    reference.write(folder, Processing("nvila", made, TEMPLATE, conversations, patches_of, count, TOKENS, SIDE))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / "model" / name).unlink()
    reference.case.write_made_by(folder.parent)


if __name__ == "__main__":
    main()
