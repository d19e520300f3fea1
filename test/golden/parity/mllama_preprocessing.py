"""Preprocessing cases of Mllama, with the published template of Llama-3.2-11B-Vision-Instruct less its tools, and with the date that
it names where no clock is at hand."""

import json

import preprocessing_reference as reference
from preprocessing_reference import Conversation, Processing, image, text, turn
from transformers import MllamaProcessor, PreTrainedTokenizerFast
from transformers.models.mllama.image_processing_pil_mllama import (
    MllamaImageProcessorPil,
    get_image_size_fit_to_canvas,
    get_optimal_tiled_canvas,
)

TEMPLATE = """{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = "26 Jul 2024" %}
{%- endif %}

{#- This block extracts the system message, so we can slot it into the right place. #}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}

{#- Find out if there are any images #}
{% set image_ns = namespace(has_images=false) %}
{%- for message in messages %}
    {%- for content in message['content'] %}
        {%- if content['type'] == 'image' %}
            {%- set image_ns.has_images = true %}
        {%- endif %}
    {%- endfor %}
{%- endfor %}

{#- Error out if there are images and system message #}
{%- if image_ns.has_images and not system_message == "" %}
    {{- raise_exception("Prompting with images is incompatible with system messages.") }}
{%- endif %}

{#- System message if there are no images #}
{%- if not image_ns.has_images %}
    {{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
    {{- "Cutting Knowledge Date: December 2023\\n" }}
    {{- "Today Date: " + date_string + "\\n\\n" }}
    {{- system_message }}
    {{- "<|eot_id|>" }}
{%- endif %}

{%- for message in messages %}
    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}
    {%- if message['content'] is string %}
        {{- message['content'] }}
    {%- else %}
        {%- for content in message['content'] %}
            {%- if content['type'] == 'image' %}
                {{- '<|image|>' }}
            {%- elif content['type'] == 'text' %}
                {{- content['text'] }}
            {%- endif %}
        {%- endfor %}
    {%- endif %}
    {{- '<|eot_id|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}
{%- endif %}
"""
SPECIALS = [
    "<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>", "<|python_tag|>", "<|image|>",
]  # fmt: skip
TILE, PATCH = 16, 4
SIDE = TILE // PATCH
SETTINGS = {
    "size": {"height": TILE, "width": TILE}, "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 2, "max_image_tiles": 4, "do_pad": True,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
}  # fmt: skip

ASKED = turn("user", image("wide.png"), text("Is there a red apple?"))
CONVERSATIONS = [
    Conversation("one picture", [ASKED], True),
    Conversation(
        "pictures of different size, some that are enlarged",
        [turn("user", image("turned.jpg"), text(" or "), image("strip.png"), image("small.png"), image("post.png"), text("?"))],
        True,
    ),
    Conversation("no picture", [turn("user", text("Größe 東京?"))], True),
    Conversation(
        "answers, a picture in the second question",
        [turn("user", text("Hello.")), turn("assistant", text("no")), ASKED, turn("assistant", text("a\n\nred dog"))],
        False,
        ["no<|eot_id|>", "a\n\nred dog<|eot_id|>"],
    ),
    Conversation(
        "a system message without pictures",
        [turn("system", text("You look.")), turn("user", text("And?")), turn("assistant", text("\nyes"))],
        False,
        ["\nyes<|eot_id|>"],
        # The template takes system messages as plain text only.
        rendered="<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nCutting Knowledge Date: December 2023\n"
        "Today Date: 26 Jul 2024\n\nYou look.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nAnd?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n\nyes<|eot_id|>",
    ),
]


def canvases() -> list[list[int]]:
    """Width and height of pictures, columns and rows of their tiles, width and height in them."""
    sizes = [(width, height) for width in (1, 5, 15, 16, 17, 31, 33, 48, 64, 65, 100, 333) for height in (1, 7, 16, 30, 32, 47, 64, 90, 200)]
    made = []
    for width, height in sizes:
        if max(width, height) > 200 * min(width, height):
            continue
        canvas_height, canvas_width = map(int, get_optimal_tiled_canvas(height, width, SETTINGS["max_image_tiles"], TILE))
        fitted_height, fitted_width = map(int, get_image_size_fit_to_canvas(height, width, canvas_height, canvas_width, TILE))
        made.append([width, height, canvas_width // TILE, canvas_height // TILE, fitted_width, fitted_height])
    return made


def main() -> None:
    folder = reference.fresh_folder("mllama")
    reference.noise(120, 18, 1).save(folder / "strip.png")
    reference.noise(9, 5, 2).save(folder / "small.png")
    reference.noise(7, 29, 3).save(folder / "post.png")
    tokenizer = json.loads((reference.GOLDEN / "text" / "model" / "tokenizer.json").read_text())
    first = 1 + max(*[token["id"] for token in tokenizer["added_tokens"]], *tokenizer["model"]["vocab"].values())
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"] += [{"id": first + index, "content": token, **plain} for index, token in enumerate(SPECIALS)]
    write = lambda name, value: (folder / "model" / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("tokenizer.json", tokenizer)
    write("tokenizer_config.json", {"bos_token": "<|begin_of_text|>", "eos_token": "<|eot_id|>", "clean_up_tokenization_spaces": False})
    write("preprocessor_config.json", {"image_processor_type": "MllamaImageProcessor", **SETTINGS})
    (folder / "model" / "chat_template.jinja").write_text(TEMPLATE)
    (folder / "canvases.json").write_text(json.dumps(canvases()) + "\n")

    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "model" / "tokenizer.json"), bos_token="<|begin_of_text|>", eos_token="<|eot_id|>",
        extra_special_tokens={"image_token": "<|image|>"},
    )  # fmt: skip
    processor = MllamaProcessor(MllamaImageProcessorPil(**SETTINGS), fast)

    def made(images, text, return_tensors):
        inputs = processor(images=[images] if images else None, text=[text], return_tensors=return_tensors)
        # Without the tiles that pictures do not have.
        tiles = {"pixel_values": inputs["pixel_values"][inputs["aspect_ratio_mask"].bool()]} if images else {}
        return {"input_ids": inputs["input_ids"], **tiles}

    def tiles_of(picture):
        height, width = get_optimal_tiled_canvas(picture.height, picture.width, SETTINGS["max_image_tiles"], TILE)
        return int(height * width // TILE**2)

    def patches_of(pixels):
        split = pixels.reshape(-1, 3, SIDE, PATCH, SIDE, PATCH)
        return split.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * PATCH * PATCH)

    reference.write(
        folder, Processing("mllama", made, TEMPLATE, CONVERSATIONS, patches_of, tiles_of, 1, SIDE, tokens_of_picture=1)
    )


if __name__ == "__main__":
    main()
