"""Preprocessing cases of LLaVA-1.5. Its published template writes no end token behind answers, while its makers train with one
(`conv_vicuna_v1`, separators " " and "</s>"); conversations with answers are restated here as the makers write them, and so is the
prompt that follows an answer. Prompts without earlier answers are the published template's."""

import json
import os

os.environ["RAYON_NUM_THREADS"] = "1"

import preprocessing_reference as reference  # noqa: E402
from preprocessing_reference import Conversation, Processing, image, text, turn  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers  # noqa: E402
from transformers import LlavaProcessor, PreTrainedTokenizerFast  # noqa: E402
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil  # noqa: E402

TEMPLATE = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{# Render all images first #}{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\\n' }}{% endfor %}"
    "{# Render all text next #}{% if message['role'] != 'assistant' %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{{ content['text'] + ' '}}{% endfor %}{% else %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)
IMAGE_SIZE, PATCH = 20, 4
SETTINGS = {
    "size": {"shortest_edge": IMAGE_SIZE}, "crop_size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "do_center_crop": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711], "resample": 3,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": True,
}  # fmt: skip

ASKED = turn("user", image("wide.png"), text("Is there a red apple?"))
CONVERSATIONS = [
    Conversation("one picture", [ASKED], True),
    Conversation("two pictures of different size", [turn("user", image("turned.jpg"), image("tall.png"), text("Compare them."))], True),
    Conversation("no picture", [turn("system", text("You look.")), turn("user", text("Größe 東京?"))], True),
    Conversation(
        "two answers, each ended",
        [turn("system", text("You look.")), ASKED, turn("assistant", text("no")), turn("user", text("And?")), turn("assistant", text("a dog  \n"))],
        False,
        ["no</s>", "a dog  \n</s>"],
        rendered="You look. USER: <image>\nIs there a red apple? ASSISTANT: no</s>USER: And? ASSISTANT: a dog  \n</s>",
    ),
    Conversation(
        "a prompt behind an answer",
        [ASKED, turn("assistant", text("no")), turn("user", text("And?"))],
        True,
        rendered="USER: <image>\nIs there a red apple? ASSISTANT: no</s>USER: And? ASSISTANT:",
    ),
]  # fmt: skip
CORPUS = [
    "USER: Is there a red apple in the picture? ASSISTANT: no", "USER: Find every green frog. ASSISTANT: a dog", "You look at one picture.",
    *[f"[0.{index}, 0.{100 - index}] red apple" for index in range(100)],
]  # fmt: skip


def llama_tokenizer() -> Tokenizer:
    """Shaped as the one of Llama 2: marks for spaces, bytes for what is unknown, `<s>` before every text."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    # No merge goes over a space, as SentencePiece learns them; only then is the text one piece.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(content=" ", left=1)]
    )
    bytes_of_text = [f"<0x{byte:02X}>" for byte in range(256)]
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=480, special_tokens=["<unk>", "<s>", "</s>", *bytes_of_text], show_progress=False)
    )
    # The bytes are words of the vocabulary, not special tokens.
    state = json.loads(tokenizer.to_str())
    state["pre_tokenizer"] = None
    state["normalizer"] = json.loads(normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]).__getstate__())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in ("<unk>", "<s>", "</s>")]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([AddedToken("<image>", special=True, normalized=False)])
    start = tokenizer.token_to_id("<s>")
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", start)])
    return tokenizer


def main() -> None:
    folder = reference.fresh_folder("llava")
    tokenizer = llama_tokenizer()
    write = lambda name, value: (folder / "model" / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("tokenizer.json", json.loads(tokenizer.to_str()))
    write("tokenizer_config.json", {"bos_token": "<s>", "eos_token": {"content": "</s>"}, "clean_up_tokenization_spaces": False})
    write("preprocessor_config.json", {"image_processor_type": "CLIPImageProcessor", **SETTINGS})
    (folder / "model" / "chat_template.jinja").write_text(TEMPLATE)

    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "model" / "tokenizer.json"), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(**SETTINGS), fast, patch_size=PATCH, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=TEMPLATE,
    )  # fmt: skip
    side = IMAGE_SIZE // PATCH

    def patches_of(pixels):
        split = pixels.reshape(-1, 3, side, PATCH, side, PATCH)
        return split.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * PATCH * PATCH)

    reference.write(
        folder, Processing("llava", processor, TEMPLATE, CONVERSATIONS, patches_of, lambda picture: 1, side * side, side)
    )


if __name__ == "__main__":
    main()
