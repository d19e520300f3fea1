"""Preprocessing cases of LLaVA-NeXT: its pictures in tiles; tokenizer and template are those of LLaVA-1.5's cases, as published for
the models with Vicuna."""

import json

import preprocessing_reference as reference
from llava_preprocessing import TEMPLATE, llama_tokenizer
from preprocessing_reference import Conversation, Processing, image, text, turn
from transformers import LlavaNextProcessor, PreTrainedTokenizerFast
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

IMAGE_SIZE, PATCH = 16, 4
SETTINGS = {
    "size": {"shortest_edge": IMAGE_SIZE}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "do_center_crop": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True, "do_pad": True,
    "image_grid_pinpoints": [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]],
}  # fmt: skip
CONVERSATIONS = [
    Conversation("a wide picture", [turn("user", image("wide.png"), text("Is there a red apple?"))], True),
    Conversation("a picture turned by its EXIF data", [turn("user", image("turned.jpg"), text("What is it?"))], True),
    Conversation("a tall picture", [turn("user", image("tall.png"), text("What is it?"))], True),
    Conversation("a strip", [turn("user", image("strip.png"), text("What is it?"))], True),
    Conversation("a square", [turn("user", image("square.png"), text("What is it?"))], True),
]


def main() -> None:
    folder = reference.fresh_folder("llava-next")
    reference.noise(120, 18, 1).save(folder / "strip.png")
    reference.noise(40, 40, 2).save(folder / "square.png")
    write = lambda name, value: (folder / "model" / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("tokenizer.json", json.loads(llama_tokenizer().to_str()))
    write("tokenizer_config.json", {"bos_token": "<s>", "eos_token": "</s>", "clean_up_tokenization_spaces": False})
    write("preprocessor_config.json", {"image_processor_type": "LlavaNextImageProcessor", **SETTINGS})
    (folder / "model" / "chat_template.jinja").write_text(TEMPLATE)
    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "model" / "tokenizer.json"), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(**SETTINGS), fast, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    )  # fmt: skip
    side = IMAGE_SIZE // PATCH

    def one_by_one(images=None, **others):
        made = processor(images=images, **others)
        # [1, tiles, 3, height, width] of the one picture of each conversation.
        made["pixel_values"] = made["pixel_values"][0]
        return made

    def tiles_of(picture) -> int:
        return processor.image_processor([picture], return_tensors="np")["pixel_values"].shape[1]

    def patches_of(pixels):
        split = pixels.reshape(-1, 3, side, PATCH, side, PATCH)
        return split.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * PATCH * PATCH)

    # Rows of patches differ in number, so that no tile has so many tokens of its own.
    processing = Processing("llava-next", one_by_one, TEMPLATE, CONVERSATIONS, patches_of, tiles_of, 0, side)
    reference.write(folder, processing)


if __name__ == "__main__":
    main()
