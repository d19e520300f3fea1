"""Preprocessing cases of Qwen2.5-VL: its own defaults for pixels, its template with a system message of its own."""

import json

import preprocessing_reference as reference
from preprocessing_reference import Conversation, Processing, image, text, turn
from transformers import PreTrainedTokenizerFast, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

# As published, white space included.
TEMPLATE = (
    "{% set image_count = namespace(value=0) %}{% set video_count = namespace(value=0) %}{% for message in messages %}"
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}{{ message['content'] }}<|im_end|>\n{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' or 'image' in content or 'image_url' in content %}"
    "{% set image_count.value = image_count.value + 1 %}{% if add_vision_id %}Picture {{ image_count.value }}: {% endif %}"
    "<|vision_start|><|image_pad|><|vision_end|>{% elif content['type'] == 'video' or 'video' in content %}"
    "{% set video_count.value = video_count.value + 1 %}{% if add_vision_id %}Video {{ video_count.value }}: {% endif %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}<|im_end|>\n"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Mean, deviation, patch and cell are left to the processor's defaults: factor 28.
SETTINGS = {"min_pixels": 3136, "max_pixels": 8 * 28 * 28}
FACTOR = 28
BOX = '```json\n[{"bbox_2d": [3, 0, 84, 56], "label": "red apple"}]\n```'

ASKED = turn("user", image("wide.png"), text("Is there a red apple?"))
CONVERSATIONS = [
    Conversation("one picture, the template's own system message", [ASKED], True),
    Conversation(
        "two pictures of different size",
        [turn("user", text(" Compare "), image("turned.jpg"), text(" with "), image("tall.png"), text(".\n"))],
        True,
    ),
    Conversation("no picture, a system message", [turn("system", text("You look.")), turn("user", text("Größe 東京?"))], True),
    Conversation("a picture with a side of less than half a cell", [turn("user", image("thin.png"), text("What is it?"))], True),
    Conversation(
        "answers with boxes, a picture in the second question",
        [turn("user", image("strip.png"), text("Find it.")), turn("assistant", text(BOX)), ASKED, turn("assistant", text("no"))],
        False,
        [f"{BOX}<|im_end|>", "no<|im_end|>"],
    ),
]


def main() -> None:
    folder = reference.fresh_folder("qwen2-5-vl")
    reference.noise(200, 30, 1).save(folder / "strip.png")
    reference.noise(300, 10, 2).save(folder / "thin.png")
    tokenizer = json.loads((reference.GOLDEN / "text" / "model" / "tokenizer.json").read_text())
    write = lambda name, value: (folder / "model" / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("tokenizer.json", tokenizer)
    write("tokenizer_config.json", {"eos_token": "<|im_end|>", "clean_up_tokenization_spaces": False})
    write("preprocessor_config.json", {"image_processor_type": "Qwen2VLImageProcessor", **SETTINGS})
    (folder / "model" / "chat_template.jinja").write_text(TEMPLATE)
    Qwen2_5_VLProcessor.check_argument_for_proper_class = lambda self, name, argument: None
    fast = PreTrainedTokenizerFast(tokenizer_file=str(folder / "model" / "tokenizer.json"))
    images = Qwen2VLImageProcessorPil(**SETTINGS)
    processor = Qwen2_5_VLProcessor(images, fast, chat_template=TEMPLATE)

    def grid_of(picture):
        height, width = smart_resize(picture.height, picture.width, FACTOR, SETTINGS["min_pixels"], SETTINGS["max_pixels"])
        return [1, height // 14, width // 14]

    patches = lambda picture: grid_of(picture)[1] * grid_of(picture)[2]
    reference.write(
        folder,
        Processing("qwen2-5-vl", processor, TEMPLATE, CONVERSATIONS, lambda rows: rows, patches, 1 / 4, 0, grid_of=grid_of),
    )


if __name__ == "__main__":
    main()
