"""Preprocessing cases of PaliGemma. Its tokenizer has no chat template: its processor takes a prompt and the suffix that answers
it, which conversations give here with `|` between the two."""

import json
import os

os.environ["RAYON_NUM_THREADS"] = "1"

import preprocessing_reference as reference  # noqa: E402
from preprocessing_reference import Conversation, Processing, image, text, turn  # noqa: E402
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: E402
from transformers import PaliGemmaProcessor, PreTrainedTokenizerFast  # noqa: E402
from transformers.models.paligemma.processing_paligemma import EXTRA_TOKENS  # noqa: E402
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil  # noqa: E402

# The last pixels make no whole patch.
IMAGE_SIZE, PATCH = 22, 5
SIDE = IMAGE_SIZE // PATCH
SETTINGS = {
    "size": {"height": IMAGE_SIZE, "width": IMAGE_SIZE}, "image_mean": [0.5] * 3, "image_std": [0.5] * 3, "resample": 3,
    "do_resize": True, "do_rescale": True, "do_normalize": True, "do_convert_rgb": None, "image_seq_length": SIDE * SIDE,
}  # fmt: skip
BOX = "<loc0012><loc0000><loc0345><loc1023> red apple ; <loc0100><loc0200><loc0300><loc0400> dog"
CONVERSATIONS = [
    Conversation("one picture", [turn("user", image("wide.png"), text("Is there a red apple?"))], True, rendered="<image>Is there a red apple?"),
    Conversation(
        "two pictures of different size",
        [turn("user", image("turned.jpg"), image("tall.png"), text("Größe 東京?"))],
        True,
        rendered="<image><image>Größe 東京?",
    ),
    Conversation(
        "an answer with boxes",
        [turn("user", image("tall.png"), text("detect red apple ; dog")), turn("assistant", text(BOX))],
        False,
        [f"{BOX}<eos>"],
        rendered=f"<image>detect red apple ; dog|{BOX}",
    ),
    # A newline behind the one that ends the prompt is not joined with it.
    Conversation(
        "an answer that begins with a newline",
        [turn("user", image("square.png"), text("caption")), turn("assistant", text("\n\na dog"))],
        False,
        ["\n\na dog<eos>"],
        rendered="<image>caption|\n\na dog",
    ),
]  # fmt: skip
CORPUS = [
    "Is there a red apple in the picture? no", "Find every green frog. a dog", "caption\n\nYou look at one picture.\n\n\n",
    *[f"detect {index} red apple ; dog" for index in range(100)],
]  # fmt: skip


def gemma_tokenizer() -> Tokenizer:
    """Shaped as Gemma's: marks for spaces, none before a text, bytes for what is unknown."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    # No merge goes over a space, as SentencePiece learns them.
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    bytes_of_text = [f"<0x{byte:02X}>" for byte in range(256)]
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=420, special_tokens=[*specials, *bytes_of_text], show_progress=False)
    )
    state = json.loads(tokenizer.to_str())
    # As Gemma's, whose words are found by merges alone.
    state["pre_tokenizer"] = json.loads(pre_tokenizers.Split(" ", "merged_with_previous").__getstate__())
    state["normalizer"] = json.loads(normalizers.Replace(" ", "▁").__getstate__())
    state["decoder"] = json.loads(
        decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]).__getstate__()
    )
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in specials]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.add_special_tokens([AddedToken("<image>", special=True, normalized=False)])
    tokenizer.add_tokens(EXTRA_TOKENS)
    return tokenizer


def main() -> None:
    folder = reference.fresh_folder("paligemma")
    reference.noise(IMAGE_SIZE, IMAGE_SIZE, 2).save(folder / "square.png")
    tokenizer = gemma_tokenizer()
    write = lambda name, value: (folder / "model" / name).write_text(json.dumps(value, ensure_ascii=False) + "\n")
    write("tokenizer.json", json.loads(tokenizer.to_str()))
    write("tokenizer_config.json", {"bos_token": "<bos>", "eos_token": "<eos>", "clean_up_tokenization_spaces": False})
    write("preprocessor_config.json", {"image_processor_type": "SiglipImageProcessor", **SETTINGS})

    fast = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "model" / "tokenizer.json"), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>",
        unk_token="<unk>", extra_special_tokens={"image_token": "<image>"},
    )  # fmt: skip
    processor = PaliGemmaProcessor(SiglipImageProcessorPil(**SETTINGS), fast)

    def made(images, text, return_tensors):
        prompt, *answers = text.split("|")
        suffix = {"suffix": answers[0]} if answers else {}
        return processor(images=[images], text=[prompt], return_tensors=return_tensors, **suffix)

    def patches_of(pixels):
        whole = pixels[:, :, : SIDE * PATCH, : SIDE * PATCH].reshape(-1, 3, SIDE, PATCH, SIDE, PATCH)
        return whole.permute(0, 2, 4, 1, 3, 5).reshape(-1, 3 * PATCH * PATCH)

    reference.write(folder, Processing("paligemma", made, "", CONVERSATIONS, patches_of, lambda picture: 1, SIDE * SIDE, SIDE))


if __name__ == "__main__":
    main()
