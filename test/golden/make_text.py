"""Golden text, run by `make golden` after make-tokenizer.ts: what tokenizers and transformers make of our tokenizer and a template."""

import json
from pathlib import Path

from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast

FOLDER = Path(__file__).parent / "text"

TEXTS = [
    "Find the red apple.", " leading and trailing  ", "two  spaces,\ttab\n\nand lines\r\n  end", "It's, IT'S, they'll, WE'VE, don't",
    '[{"bbox_2d":[0,12,345,1000],"label":"green frog"}]', "1 12 123 1234 12345 3.14159 -7 1,000", "Größe naïve café Ångström",
    "東京の猫と犬", "🐱👩‍🚀🏳️‍🌈 emoji", "e\u0301 composes", "<|im_start|>user\nhi<|im_end|>\n", "<|im_start|><|image_pad|><|image_pad|>x<|not_special|>",
    "null\u0000 and \u200b zero width", "ffi ﬁ ligature ½ ²", "Привет, мир! مرحبا שלום", "a" * 70, "????!!!...---", "\n", "x\n\n\ny", "  \n  ",
]  # fmt: skip

IMAGE = {"type": "image"}


def text(value: str) -> dict:
    return {"type": "text", "text": value}


def turn(role: str, *content: dict) -> dict:
    return {"role": role, "content": list(content)}


CONVERSATIONS = [
    [turn("user", text("Hello"))],
    [turn("system", text("You look.")), turn("user", IMAGE, text("\nWhat is it?")), turn("assistant", text("a dog"))],
    [turn("user", text("Compare "), IMAGE, text(" with "), IMAGE, text(".")), turn("assistant", text("  kept spaces \n")), turn("user", text("And?"))],
    [turn("user", text("Quotes \"'<>& stay, so do {{ braces }} and {% tags %}")), turn("assistant", text("12"))],
]  # fmt: skip


def main() -> None:
    tokenizer = Tokenizer.from_file(str(FOLDER / "model" / "tokenizer.json"))
    encoded = []
    for value in TEXTS:
        ids = tokenizer.encode(value, add_special_tokens=False).ids
        encoded.append({"text": value, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
    template = PreTrainedTokenizerFast(tokenizer_object=tokenizer, chat_template=(FOLDER / "model" / "chat_template.jinja").read_text())
    rendered = [
        {"messages": messages, "prompt": prompt, "text": template.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)}
        for messages in CONVERSATIONS
        for prompt in (False, True)
    ]
    write = lambda name, cases: (FOLDER / name).write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
    write("encoded.json", encoded)
    write("rendered.json", rendered)
    print(f"{len(encoded)} texts, {len(rendered)} conversations, vocabulary {tokenizer.get_vocab_size()}")


main()
