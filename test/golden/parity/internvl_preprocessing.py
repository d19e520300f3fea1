"""Preprocessing cases of InternVL. The form with code of its own has no processor in transformers: its conversation is restated
below from `conversation.py` of the InternVL repository (template `internvl2_5`), and goes through the same processor."""

import json

import preprocessing_reference as reference
from internvl import cells
from preprocessing_reference import Conversation, Processing, image, text, turn
from transformers import InternVLProcessor, PreTrainedTokenizerFast
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}{% if message['content'] is string %}{{ message['content'] }}"
    "{% else %}{% for content in message['content'] %}{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}"
    "{% elif content['type'] == 'video' %}{{ '<video>\\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}{% endif %}{% endfor %}"
    "{% endif %}{{'<|im_end|>\\n'}}{% endfor %}{% if add_generation_prompt %}{{'<|im_start|>assistant\\n' }}{% endif %}"
)
REMOTE_SYSTEM = "你是书生·万象，英文名是InternVL，是由上海人工智能实验室、清华大学及多家合作单位联合开发的多模态大语言模型。"
SPECIALS = ["<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>", "<video>"]
IMAGE_SIZE, PATCH = 16, 4
SETTINGS = {
    "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
    "crop_to_patches": True, "min_patches": 1, "max_patches": 12, "resample": 3,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
}  # fmt: skip
BOX = "<ref>red apple</ref><box>[[12, 0, 345, 1000]]</box>"

ASKED = turn("user", image("wide.png"), text("Is there a red apple?"))
SEVERAL = turn("user", text("Compare "), image("turned.jpg"), text(" with "), image("strip.png"), text("."))
CONVERSATIONS = [
    Conversation("one picture", [ASKED], True),
    Conversation("two pictures of different size", [SEVERAL], True),
    Conversation("no picture", [turn("system", text("You look.")), turn("user", text("Größe 東京?"))], True),
    Conversation(
        "answers with boxes, a picture in the second question",
        [turn("user", image("tall.png"), text("Find it.")), turn("assistant", text(BOX)), ASKED, turn("assistant", text("no"))],
        False,
        [f"{BOX}<|im_end|>", "no<|im_end|>"],
    ),
    Conversation(
        "no system message in the form with code of its own",
        [turn("user", image("square.png"), text("What is it?"))],
        True,
        rendered=f"<|im_start|>system\n{REMOTE_SYSTEM}<|im_end|>\n<|im_start|>user\n<IMG_CONTEXT>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n",
        form="remote",
    ),
]


def with_images_alone(processor_class: type) -> None:
    """Lets a processor be made without the processor of videos, which needs torchvision."""
    processor_class.check_argument_for_proper_class = lambda self, name, argument: None


def main() -> None:
    folder = reference.fresh_folder("internvl")
    reference.noise(120, 18, 1).save(folder / "strip.png")
    reference.noise(IMAGE_SIZE, IMAGE_SIZE, 2).save(folder / "square.png")
    tokenizer = json.loads((reference.GOLDEN / "text" / "model" / "tokenizer.json").read_text())
    first = 1 + max(token["id"] for token in tokenizer["added_tokens"])
    first = max(first, len(tokenizer["model"]["vocab"]))
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    tokenizer["added_tokens"] += [{"id": first + index, "content": token, **plain} for index, token in enumerate(SPECIALS)]
    write = lambda name, value: (folder / "model" / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("tokenizer.json", tokenizer)
    write("tokenizer_config.json", {"eos_token": "<|im_end|>", "clean_up_tokenization_spaces": False})
    write("preprocessor_config.json", {"image_processor_type": "GotOcr2ImageProcessorFast", **SETTINGS})
    (folder / "model" / "chat_template.jinja").write_text(TEMPLATE)

    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "model" / "tokenizer.json"),
        extra_special_tokens={
            "start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>", "video_token": "<video>",
        },
    )  # fmt: skip
    tokens = (IMAGE_SIZE // PATCH // 2) ** 2
    images = GotOcr2ImageProcessorPil(**SETTINGS)
    with_images_alone(InternVLProcessor)
    processor = InternVLProcessor(images, fast, image_seq_length=tokens, chat_template=TEMPLATE)
    reference.write(
        folder,
        Processing(
            "internvl", processor, TEMPLATE, CONVERSATIONS, lambda pixels: cells(pixels, PATCH),
            lambda picture: images.get_number_of_image_patches(picture.height, picture.width), tokens, IMAGE_SIZE // PATCH,
        ),
    )  # fmt: skip


if __name__ == "__main__":
    main()
