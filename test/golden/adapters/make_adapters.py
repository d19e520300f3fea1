"""Golden adapters of PEFT: kinds of LoRA on the `untied` Qwen3-VL of the parity cases, with the logits, gradients and loss curves that they give.

Run by `make golden` after the parity cases. Writes, by kind, adapter/ and values.safetensors: logits of the `batch` case, gradients of what
is trained (by the names of adapter files), loss and gradient norm of 20 AdamW steps; and adapters.json: the options as Drydock has them.
"""

import json
import os
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file
from transformers import Qwen3VLForConditionalGeneration

PARITY = Path(__file__).parent.parent / "parity"
sys.path.insert(0, str(PARITY))
import case  # noqa: E402

FOLDER = Path(__file__).parent
BASE = "test/golden/parity/qwen3-vl/untied/model"
STEPS, RATE = 20, 5e-3
TEXT = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
LAST = r"model\.language_model\.layers\.3\..*_proj"
COMMON = {"r": 4, "lora_alpha": 8, "lora_dropout": 0.0}

# By kind: what PEFT is told, and what Drydock is told for the same.
KINDS = {
    "rslora": ({"target_modules": TEXT, "use_rslora": True}, {"targets": "all-linear", "useRslora": True}),
    "dora": ({"target_modules": TEXT, "use_dora": True}, {"targets": "all-linear", "useDora": True}),
    "regular-expression": ({"target_modules": LAST}, {"targets": LAST}),
    "names": ({"target_modules": ["up_proj", "layers.1.self_attn.v_proj"]}, {"targets": ["up_proj", "layers.1.self_attn.v_proj"]}),
    "vision": ({"target_modules": "all-linear"}, {"targets": "all-linear", "includeVision": True}),
    "excluded": (
        {"target_modules": "all-linear", "exclude_modules": ["qkv", "down_proj"]},
        {"targets": "all-linear", "includeVision": True, "exclude": ["qkv", "down_proj"]},
    ),
    "modules-to-save": (
        {"target_modules": TEXT, "modules_to_save": ["visual.merger", "lm_head"]},
        {"targets": "all-linear", "modulesToSave": ["visual.merger", "lm_head"]},
    ),
    "bias-all": ({"target_modules": "all-linear", "bias": "all"}, {"targets": "all-linear", "includeVision": True, "bias": "all"}),
    "patterns": (
        {"target_modules": TEXT, "rank_pattern": {"q_proj": 2, r"layers\.2\.mlp\.up_proj": 6}, "alpha_pattern": {"q_proj": 16}},
        {"targets": "all-linear", "rankPattern": {"q_proj": 2, r"layers\.2\.mlp\.up_proj": 6}, "alphaPattern": {"q_proj": 16}},
    ),
}  # fmt: skip


def base_model() -> torch.nn.Module:
    model = Qwen3VLForConditionalGeneration.from_pretrained(PARITY / "qwen3-vl/untied/model", dtype=torch.float32)
    model.set_attn_implementation("eager")
    return model.eval()


def settle_config(path: Path) -> None:
    """PEFT writes the base's path on this computer, and sets of names in an order of chance: neither belongs into a golden file."""
    config = json.loads(path.read_text())
    config["base_model_name_or_path"] = BASE
    for key, value in config.items():
        if isinstance(value, list) and all(isinstance(each, str) for each in value):
            config[key] = sorted(value)
    path.write_text(json.dumps(config, indent=2, sort_keys=True))


def family() -> case.Family:
    captured = []
    case.run = captured.append
    sys.argv[0] = str(PARITY / "qwen3_vl.py")
    exec(compile((PARITY / "qwen3_vl.py").read_text(), "qwen3_vl.py", "exec"), {"__name__": "qwen3_vl"})
    return captured[0]


def stored_name(name: str) -> str:
    return name.replace(".default", "").replace(".modules_to_save", "").replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def make(kind: str, told: dict, inputs: dict, labels: torch.Tensor, rows: list[case.Row]) -> None:
    torch.manual_seed(11)
    model = get_peft_model(base_model(), LoraConfig(**COMMON, **told))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.copy_(torch.randn(parameter.shape) * 0.1)
            elif parameter.requires_grad and "lora_A" not in name:
                parameter.mul_(1 + 0.1 * torch.randn(parameter.shape))
    folder = FOLDER / kind
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    model.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    settle_config(folder / "adapter" / "adapter_config.json")
    model.eval()
    with torch.no_grad():
        tensors = {"logits": case.on_the_right(model(**inputs).logits, rows).contiguous().clone()}
    model(**inputs, labels=labels).loss.backward()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            tensors[f"gradient:{stored_name(name)}"] = parameter.grad.clone().contiguous()
    model.zero_grad()
    stored = set(get_peft_model_state_dict(model))
    trained = {key.removeprefix("gradient:") for key in tensors if key.startswith("gradient:")}
    tensors["curve"] = torch.tensor(case.loss_curve(model, inputs, labels, RATE))
    save_file(tensors, folder / "values.safetensors")
    print(f"{kind}: {len(trained)} trained, {len(stored)} stored, not stored: {sorted(trained - stored)[:2]}")


def main() -> None:
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    case.STEPS = STEPS
    qwen = family()
    shape = qwen.shapes["untied"]
    rows = qwen.make_rows(shape, torch.Generator().manual_seed(3))["batch"]
    inputs, labels = case.padded_inputs(qwen, shape, rows), case.padded_labels(rows)
    for kind, (told, _) in KINDS.items():
        make(kind, told, inputs, labels, rows)
    options = {kind: {"rank": COMMON["r"], "alpha": COMMON["lora_alpha"], "dropout": 0, **own} for kind, (_, own) in KINDS.items()}
    (FOLDER / "adapters.json").write_text(json.dumps({"learningRate": RATE, "kinds": options}, indent=1) + "\n")


os.chdir(PARITY)
main()
