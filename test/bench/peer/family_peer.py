"""The peer of `make bench-families`: one model family in PyTorch + transformers (+ PEFT).

usage: family_peer.py FAMILY_SCRIPT FOLDER prepare            writes FOLDER/model and FOLDER/cases.safetensors
       family_peer.py FAMILY_SCRIPT FOLDER full|lora|decode [--steps N] [--threads N]
The family's script names a `bench` shape. Prints one JSON line: seconds per step or per answer, peak resident bytes, tokens.
"""

import argparse
import json
import resource
import runpy
import statistics
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[2] / "golden" / "parity"))
import case  # noqa: E402

ROWS = 8


def family_of(script: str) -> case.Family:
    captured: list[case.Family] = []
    case.run = captured.append
    runpy.run_path(script, run_name="__main__")
    return captured[0]


def rows_of(family: case.Family) -> list[case.Row]:
    """Rows with one picture each, of equal length."""
    generator = torch.Generator().manual_seed(3)
    row = family.make_rows(family.bench, generator)["one-image"][0]
    text = torch.randint(10, 60, (ROWS, 64), generator=generator).tolist()
    return [case.Row(row.ids + words, len(row.ids) + 32, row.pictures) for words in text]


def prepare(family: case.Family, folder: Path) -> None:
    torch.manual_seed(7)
    model = family.make_model(family.bench)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(0.1)
    (family.save_model or (lambda each, path: each.save_pretrained(path)))(model, folder / "model")
    rows = rows_of(family)
    tensors = case.case_tensors(rows, torch.zeros(len(rows), len(rows[0].ids), 1), torch.zeros(len(rows), 1, dtype=torch.long))
    save_file({f"batch/{key}": value.contiguous().clone() for key, value in tensors.items()}, folder / "cases.safetensors")
    print(json.dumps({"parameters": sum(parameter.numel() for parameter in model.parameters())}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("script")
    parser.add_argument("folder", type=Path)
    parser.add_argument("what", choices=["prepare", "full", "lora", "decode"])
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    family = family_of(arguments.script)
    if arguments.what == "prepare":
        return prepare(family, arguments.folder)
    if family.load_model:
        model = family.load_model(arguments.folder / "model")
    else:
        from transformers import AutoModelForImageTextToText

        model = AutoModelForImageTextToText.from_pretrained(arguments.folder / "model", dtype=torch.float32)
    rows = rows_of(family)
    inputs = case.padded_inputs(family, family.bench, rows)
    seconds = decode(family, model, inputs, arguments) if arguments.what == "decode" else train(family, model, inputs, rows, arguments)
    tokens = len(rows) * (case.NEW_TOKENS if arguments.what == "decode" else len(rows[0].ids))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": statistics.median(seconds), "secondsLow": min(seconds), "tokens": tokens, "peakMemoryBytes": peak}))


def decode(family: case.Family, model: torch.nn.Module, inputs: dict, arguments: argparse.Namespace) -> list[float]:
    model.eval()
    seconds = []
    for _ in range(arguments.steps + 1):
        started = time.perf_counter()
        with torch.no_grad():
            (family.greedy or case.generate)(model, inputs)
        seconds.append(time.perf_counter() - started)
    return seconds[1:]


def train(family, model, inputs: dict, rows: list[case.Row], arguments: argparse.Namespace) -> list[float]:
    if arguments.what == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, lora_dropout=0.0, target_modules=family.lora_targets))
    model.train()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0)
    labels = case.padded_labels(rows)
    seconds = []
    for _ in range(arguments.steps + 2):
        started = time.perf_counter()
        model(**inputs, labels=labels).loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        seconds.append(time.perf_counter() - started)
    return seconds[2:]


main()
