"""Parity cases of one model family: tiny random models of `transformers`, and what they make of four kinds of batches.

A family's script names its shapes and makes models, pictures and inputs; this module runs them and writes, for each shape,

    model/                  the weights, bfloat16 (values are rounded before anything is computed, so nothing is lost)
    adapter/                a PEFT adapter with random values; absent for families that take none
    cases.safetensors       per case: ids, lengths, labels, pictures, patches, logits, greedy tokens; rows padded on the RIGHT
    gradients.safetensors   gradient of every parameter, of the batch case
    curves.json             loss and gradient norm of 20 AdamW steps, full and LoRA, of the batch case

Cases: `one-image`, `two-images` (of different size, in one row), `text`, and `batch`: three rows with and without pictures, padded
on the LEFT when the reference sees them. Everything is fp32, eager attention, one thread, and seeded; norm weights and biases are
random, so that a forgotten one shows.
"""

import copy
import hashlib
import json
import shutil
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file

STEPS = 20
NEW_TOKENS = 64
FULL_RATE, LORA_RATE = 1e-3, 1e-2


@dataclass
class Picture:
    """One picture as Drydock's batches hold it."""

    patches: torch.Tensor  # [time*height*width, values of a patch], in the order in which Drydock's tower takes them
    grid: tuple[int, int, int]  # patches: time (or tiles), height, width
    tokens: int  # visual tokens: places in the row that hold the family's image token
    tiling: tuple[int, int] = (0, 0)  # columns and rows of tiles, where the family cuts pictures into tiles


@dataclass
class Row:
    ids: list[int]
    answer: int  # index of the first token that has a label
    pictures: list[Picture] = field(default_factory=list)


@dataclass
class Family:
    name: str
    shapes: dict[str, dict]
    make_model: Callable[[dict], torch.nn.Module]  # a model in fp32 with random values, eager attention, eval mode
    make_rows: Callable[[dict, torch.Generator], dict[str, list[Row]]]  # rows by case; see `standard_cases`
    # What the model takes beyond input_ids and attention_mask, for rows that are padded on the left.
    model_inputs: Callable[[dict, list[Row], torch.Tensor, torch.Tensor], dict]
    # Learning rates of the loss curves: smaller where a random model is so bent that float32 noise doubles with every step.
    rates: tuple[float, float] = (FULL_RATE, LORA_RATE)
    bench: dict | None = None  # a larger shape for `make bench-families`
    lora_targets: str | None = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    save_model: Callable[[torch.nn.Module, Path], None] | None = None
    # Reads a folder that Drydock wrote; `from_pretrained` of transformers unless given.
    load_model: Callable[[Path], torch.nn.Module] | None = None
    # Tokens [B, NEW_TOKENS] of the reference's greedy search; `generate` of transformers unless given.
    greedy: Callable[[torch.nn.Module, dict], torch.Tensor] | None = None


def randomize(model: torch.nn.Module, scale: float = 0.2) -> torch.nn.Module:
    """Random values that bfloat16 holds exactly; gains of norms around 1, biases and other vectors not zero."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_gain = "norm" in name.lower() and name.endswith("weight") and parameter.dim() == 1
            values = torch.randn(parameter.shape) * (scale if parameter.dim() > 1 else 0.3) + (1.0 if is_gain else 0.0)
            parameter.copy_(values.to(torch.bfloat16).float())
    return model


def words(generator: torch.Generator, count: int, first: int, end: int) -> list[int]:
    return torch.randint(first, end, (count,), generator=generator).tolist()


def run(family: Family) -> None:
    """Makes all cases of a family under test/golden/parity/<name>, or under the folder given on the command line."""
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent) / family.name
    for name, shape in family.shapes.items():
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make_shape(family, name, shape, folder)
    write_made_by(target)


def write_made_by(target: Path) -> None:
    """What the files were made of, and what they are: made-by.test.ts fails when files and scripts disagree."""
    own = Path(__file__).parent
    family_script = Path(sys.argv[0]).resolve()
    scripts = [own / "case.py", family_script, own.parent / "requirements.txt"]
    # Not by a pattern: `llava_next.py` is another family's.
    further = [own / f"{family_script.stem}_{kind}.py" for kind in ("preprocessing", "reference")]
    scripts += [path for path in further if path.exists()]
    files = sorted(path for path in target.rglob("*") if path.is_file() and path.name != "made-by.json")
    digest = lambda path: hashlib.sha256(path.read_bytes()).hexdigest()
    made_by = {
        "scripts": {path.relative_to(own.parent).as_posix(): digest(path) for path in scripts},
        "files": {path.relative_to(target).as_posix(): digest(path) for path in files},
    }
    (target / "made-by.json").write_text(json.dumps(made_by, indent=1) + "\n")


def make_shape(family: Family, name: str, shape: dict, folder: Path) -> None:
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(3)
    model = family.make_model(shape)
    save_model(family, model, folder / "model")
    cases = family.make_rows(shape, generator)
    tensors, largest = {}, 0.0
    for case, rows in cases.items():
        inputs = padded_inputs(family, shape, rows)
        with torch.no_grad():
            logits = model(**inputs).logits
        largest = max(largest, logits.abs().max().item())
        greedy = (family.greedy or generate)(model, inputs)
        for key, value in case_tensors(rows, logits, greedy).items():
            tensors[f"{case}/{key}"] = value.contiguous().clone()

    rows = cases["batch"]
    inputs, labels = padded_inputs(family, shape, rows), padded_labels(rows)
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    gradients = {key: p.grad.clone().contiguous() for key, p in model.named_parameters() if p.grad is not None}
    save_file(gradients, folder / "gradients.safetensors")
    model.zero_grad()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    curves = {"loss": loss.item(), "full": {"learningRate": family.rates[0], "steps": loss_curve(model, inputs, labels, family.rates[0])}}
    model.load_state_dict(before)

    if family.lora_targets is not None:
        adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=family.lora_targets))
        with torch.no_grad():
            for parameter_name, parameter in adapted.named_parameters():
                if "lora_B" in parameter_name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
        adapted.save_pretrained(folder / "adapter")
        (folder / "adapter" / "README.md").unlink(missing_ok=True)
        adapted.eval()
        with torch.no_grad():
            tensors["batch/adapter-logits"] = on_the_right(adapted(**inputs).logits, rows).contiguous().clone()
        curves["lora"] = {"learningRate": family.rates[1], "steps": loss_curve(adapted, inputs, labels, family.rates[1])}
    (folder / "curves.json").write_text(json.dumps(curves) + "\n")
    save_file(tensors, folder / "cases.safetensors")
    parameters = sum(p.numel() for p in model.parameters())
    print(f"{family.name} {name}: {parameters} parameters, largest logit {largest:.2f}, loss {curves['loss']:.4f}")


def save_model(family: Family, model: torch.nn.Module, folder: Path) -> None:
    if family.save_model:
        family.save_model(model, folder)
    else:
        copy.deepcopy(model).to(torch.bfloat16).save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)


def padded_inputs(family: Family, shape: dict, rows: list[Row]) -> dict:
    length = max(len(row.ids) for row in rows)
    ids = torch.tensor([[0] * (length - len(row.ids)) + row.ids for row in rows])
    mask = torch.tensor([[0] * (length - len(row.ids)) + [1] * len(row.ids) for row in rows])
    return {"input_ids": ids, "attention_mask": mask, **family.model_inputs(shape, rows, ids, mask)}


def padded_labels(rows: list[Row]) -> torch.Tensor:
    length = max(len(row.ids) for row in rows)
    return torch.tensor([[-100] * (length - len(row.ids) + row.answer) + row.ids[row.answer :] for row in rows])


def on_the_right(values: torch.Tensor, rows: list[Row]) -> torch.Tensor:
    """[B, T, ...] padded on the left to the same padded on the right, padding 0."""
    moved = torch.zeros_like(values)
    for index, row in enumerate(rows):
        moved[index, : len(row.ids)] = values[index, values.shape[1] - len(row.ids) :]
    return moved


def case_tensors(rows: list[Row], logits: torch.Tensor, greedy: torch.Tensor) -> dict[str, torch.Tensor]:
    length = max(len(row.ids) for row in rows)
    fill = lambda values, padding: values + [padding] * (length - len(values))
    pictures = [(index, *p.grid, *p.tiling, p.tokens) for index, row in enumerate(rows) for p in row.pictures]
    patches = [p.patches for row in rows for p in row.pictures]
    tensors = {
        "ids": torch.tensor([fill(row.ids, 0) for row in rows]),
        "lengths": torch.tensor([len(row.ids) for row in rows]),
        "labels": torch.tensor([fill([-100] * row.answer + row.ids[row.answer :], -100) for row in rows]),
        "logits": on_the_right(logits, rows),
        "greedy": greedy,
    }
    if pictures:
        tensors["pictures"] = torch.tensor(pictures)
        tensors["patches"] = torch.cat(patches).float()
    return tensors


def generate(model: torch.nn.Module, inputs: dict) -> torch.Tensor:
    tokens = model.generate(
        **inputs, max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0
    )
    return tokens[:, -NEW_TOKENS:]


def loss_curve(model: torch.nn.Module, inputs: dict, labels: torch.Tensor, learning_rate: float) -> list[list[float]]:
    """[loss, gradient norm before clipping] of each AdamW step; dropout is 0, so the mode does not matter."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=learning_rate, weight_decay=0.0)
    curve = []
    for _ in range(STEPS):
        loss = model(**inputs, labels=labels).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        curve.append([loss.item(), norm.item()])
    return curve
