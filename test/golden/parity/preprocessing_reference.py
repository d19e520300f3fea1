"""Preprocessing cases: what a family's own processor of `transformers` makes of picture files and conversations.

A family's `<family>_preprocessing.py` gives the processor and the conversations; this module writes, under <family>/preprocessing,

    model/                    what a user's folder holds but the weights: config, tokenizer, template, preprocessor file
    *.png                     pictures beside those of test/golden/images
    preprocessing.json        per case: messages, pictures, token ids and the text that is trained; per picture: grid and tokens
    preprocessing.safetensors per picture: patches in the order of Drydock's batches
"""

import json
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

import case
import numpy
import torch
from PIL import Image, ImageOps
from safetensors.torch import save_file
from transformers import PreTrainedTokenizerFast

GOLDEN = Path(__file__).parent.parent
IMAGES = GOLDEN / "images"


@dataclass
class Conversation:
    name: str
    messages: list[dict]  # content: list of parts, "image" parts name a file
    is_prompt: bool
    # What is trained, one text an answer; None of prompts.
    trained: list[str] | None = None
    # The text as the processor of transformers gets it, where its template is not the last word (see the family's script).
    rendered: str | None = None
    # Which published form of the model writes this, where the forms differ.
    form: str | None = None


@dataclass
class Processing:
    family: str
    processor: Callable  # a processor of transformers: (images=, text=) to input_ids and pixel_values
    template: str
    conversations: list[Conversation]
    patches_of: Callable[[torch.Tensor], torch.Tensor]  # pixel values [tiles, 3, height, width] to patches
    tiles_of: Callable[[Image.Image], int]
    tokens_of_tile: float
    side: int  # patches a side of a tile
    tokens_of_picture: int | None = None  # where it is not that of its tiles
    grid_of: Callable[[Image.Image], list[int]] | None = None  # time, height, width in patches, where tiles are patches


def text(value: str) -> dict:
    return {"type": "text", "text": value}


def image(name: str) -> dict:
    return {"type": "image", "image": name}


def turn(role: str, *content: dict) -> dict:
    return {"role": role, "content": list(content)}


def noise(width: int, height: int, seed: int) -> Image.Image:
    generator = torch.Generator().manual_seed(seed)
    return Image.fromarray(torch.randint(0, 256, (height, width, 3), generator=generator, dtype=torch.uint8).numpy())


def picture_file(folder: Path, name: str) -> Path:
    own = folder / name
    return own if own.exists() else IMAGES / name


def opened(path: Path) -> Image.Image:
    return ImageOps.exif_transpose(Image.open(path)).convert("RGB")


def fresh_folder(family: str) -> Path:
    folder = Path(__file__).parent / family / "preprocessing"
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "model").mkdir(parents=True)
    return folder


def write(folder: Path, processing: Processing) -> None:
    renderer = PreTrainedTokenizerFast(
        tokenizer_file=str(folder / "model" / "tokenizer.json"),
        chat_template=processing.template,
        **{
            key: value
            for key, value in json.loads((folder / "model" / "tokenizer_config.json").read_text()).items()
            if key in ("bos_token", "eos_token") and isinstance(value, str)
        },
    )
    cases, tensors, pictures = [], {}, {}
    for conversation in processing.conversations:
        names = [part["image"] for message in conversation.messages for part in message["content"] if part["type"] == "image"]
        files = [opened(picture_file(folder, name)) for name in names]
        rendered = conversation.rendered or renderer.apply_chat_template(
            conversation.messages, tokenize=False, add_generation_prompt=conversation.is_prompt
        )
        made = processing.processor(images=files or None, text=rendered, return_tensors="pt")
        cases.append(
            {
                "name": conversation.name,
                "messages": conversation.messages,
                "isPrompt": conversation.is_prompt,
                "images": names,
                "ids": made["input_ids"][0].tolist(),
                "trained": conversation.trained,
                "form": conversation.form,
            }
        )
        tiles = [processing.tiles_of(file) for file in files]
        if files:
            pixels = torch.as_tensor(numpy.stack(list(made["pixel_values"])))
            assert pixels.shape[0] == sum(tiles), (pixels.shape, tiles)
            for name, file, own in zip(names, files, pixels.split(tiles), strict=True):
                tensors[name] = processing.patches_of(own.float()).contiguous()
                grid = processing.grid_of(file) if processing.grid_of else [own.shape[0], processing.side, processing.side]
                tokens = processing.tokens_of_picture or int(own.shape[0] * processing.tokens_of_tile)
                pictures[name] = {"grid": grid, "tokens": tokens}
    lines = lambda values: "[\n" + ",\n".join(json.dumps(value, ensure_ascii=False) for value in values) + "\n]"
    body = f'{{"pictures": {json.dumps(pictures)},\n"cases": {lines(cases)}}}\n'
    (folder / "preprocessing.json").write_text(body)
    save_file(tensors, folder / "preprocessing.safetensors")
    print(f"{processing.family}: {len(cases)} conversations, {len(pictures)} pictures")
    # The family's files are those of both scripts.
    sys.argv[0] = str(Path(__file__).parent / f"{processing.family.replace('-', '_')}.py")
    case.write_made_by(folder.parent)
