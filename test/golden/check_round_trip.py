"""Loads what Drydock trained and saved in transformers and PEFT and compares logits on the family's `batch` case.

usage: check_round_trip.py FAMILY_SCRIPT SCRATCH
SCRATCH/<shape>/{full,lora} are folders that Drydock wrote, with logits.safetensors beside each (`full.safetensors`, …).
Prints one JSON line a check: {"shape", "check", "difference"}; ends with 1 when something does not load cleanly.
"""

import json
import runpy
import sys
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText

sys.path.insert(0, str(Path(__file__).parent / "parity"))
import case  # noqa: E402


def family_of(script: str) -> case.Family:
    captured: list[case.Family] = []
    case.run = captured.append
    runpy.run_path(script, run_name="__main__")
    return captured[0]


def load(family: case.Family, folder: Path) -> torch.nn.Module:
    if family.load_model:
        return family.load_model(folder)
    model, report = AutoModelForImageTextToText.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager", output_loading_info=True
    )
    problems = {kind: sorted(names) for kind, names in report.items() if names}
    if problems:
        raise SystemExit(f"{folder}: does not load cleanly: {problems}")
    return model.eval()


def with_adapter(base: torch.nn.Module, folder: Path) -> torch.nn.Module:
    model = PeftModel.from_pretrained(base, folder).eval()
    # PEFT only warns of missing or unknown keys; here that is a failure.
    stored, loaded = load_file(folder / "adapter_model.safetensors"), get_peft_model_state_dict(model)
    if stored.keys() != loaded.keys() or not all(torch.equal(stored[name], loaded[name]) for name in stored):
        raise SystemExit(f"{folder}: PEFT holds other tensors than the file: {sorted(stored.keys() ^ loaded.keys())}")
    if all(tensor.eq(0).all() for name, tensor in stored.items() if "lora_B" in name):
        raise SystemExit(f"{folder}: the adapter is that of an untrained model: all B are zero")
    return model


def main() -> None:
    script, scratch = sys.argv[1], Path(sys.argv[2])
    family = family_of(script)
    for name, shape in family.shapes.items():
        rows = family.make_rows(shape, torch.Generator().manual_seed(3))["batch"]
        inputs = case.padded_inputs(family, shape, rows)

        def tell(check: str, model: torch.nn.Module, path: Path) -> None:
            with torch.no_grad():
                expected = case.on_the_right(model(**inputs).logits, rows)
            ours = load_file(path)["logits"].reshape(expected.shape)
            # Not the reference's own mask: rows of some are shorter before features take their places.
            mask = torch.tensor([[at < len(row.ids) for at in range(max(len(row.ids) for row in rows))] for row in rows])
            difference = (expected - ours)[mask].abs().max().item()
            print(json.dumps({"shape": name, "check": check, "difference": difference}))

        tell("round trip, full", load(family, scratch / name / "full"), scratch / name / "full.safetensors")
        if family.lora_targets is not None:
            base = load(family, Path(script).parent / family.name / name / "model")
            adapted = with_adapter(base, scratch / name / "lora")
            tell("round trip, adapter", adapted, scratch / name / "lora.safetensors")
            tell("round trip, adapter merged", adapted.merge_and_unload(), scratch / name / "lora.safetensors")


main()
