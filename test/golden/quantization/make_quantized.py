"""Golden values of quantization, made by bitsandbytes on the CPU.

    weights.safetensors     random weights in nf4 and fp4, with plain and with nested scales: bitsandbytes' bytes, its state, and
                            what it dequantizes them to
    nf4-nested, fp4         a tiny Qwen3-VL that transformers quantized with bitsandbytes and saved, vision tower included, with
                            cases.safetensors as test/golden/parity/case.py writes them

Run by scripts/golden.sh with the packages of requirements.txt beside this file.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import bitsandbytes.functional as bnb
import torch
from bitsandbytes.nn import Linear4bit
from safetensors.torch import save_file
from transformers import BitsAndBytesConfig, Qwen3VLForConditionalGeneration

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "parity"))
import case  # noqa: E402

# A family's script runs its family when it is loaded; here the family itself is wanted.
FAMILIES: list[case.Family] = []
case.run = FAMILIES.append
import qwen3_vl  # noqa: E402

# Rows and columns: whole blocks, blocks that cross rows, and a last block that is short.
SIZES = {"whole": (64, 64), "crossing": (48, 40), "short": (5, 34), "many": (130, 256)}
FORMATS = {"nf4": ("nf4", False), "nf4-nested": ("nf4", True), "fp4": ("fp4", False)}

# Widths are whole blocks: bitsandbytes' CPU product takes no others.
SHAPE = {
    "text": {
        "vocab_size": 96, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
        "rope_parameters": qwen3_vl.rope(1e4, [4, 2, 2]),
    },
    "vision": {
        "depth": 2, "hidden_size": 64, "num_heads": 2, "intermediate_size": 64, "patch_size": 8, "spatial_merge_size": 2,
        "num_position_embeddings": 16, "deepstack_visual_indexes": [0], "out_hidden_size": 64,
    },
    "tie": True,
}  # fmt: skip


def make_weights(target: Path) -> None:
    torch.manual_seed(11)
    tensors = {}
    for name, shape in SIZES.items():
        weight = torch.randn(shape) * 0.3
        tensors[name] = weight
        for form, (quant_type, nested) in FORMATS.items():
            packed, state = bnb.quantize_4bit(weight, blocksize=64, quant_type=quant_type, compress_statistics=nested)
            tensors[f"{name}/{form}"] = packed
            tensors[f"{name}/{form}/dequantized"] = bnb.dequantize_4bit(packed, state)
            for key, value in state.as_dict(packed=True).items():
                tensors[f"{name}/{form}/{key}"] = value
    save_file({key: value.contiguous().clone() for key, value in tensors.items()}, target / "weights.safetensors")


def make_folder(target: Path, name: str, quant_type: str, nested: bool) -> None:
    torch.manual_seed(7)
    family = FAMILIES[0]
    shape = SHAPE
    model = family.make_model(shape)
    cases = family.make_rows(shape, torch.Generator().manual_seed(3))
    with tempfile.TemporaryDirectory() as plain:
        model.save_pretrained(plain)
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quant_type,
            bnb_4bit_use_double_quant=nested,
            bnb_4bit_compute_dtype=torch.float32,
        )
        model = Qwen3VLForConditionalGeneration.from_pretrained(
            plain, quantization_config=config, dtype=torch.float32, device_map="cpu", attn_implementation="eager"
        ).eval()
    folder = target / name
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder / "model")
    (folder / "model" / "generation_config.json").unlink(missing_ok=True)
    use_dequantized(model)
    tensors = {}
    for kind in ("one-image", "text"):
        rows = cases[kind]
        inputs = case.padded_inputs(family, shape, rows)
        with torch.no_grad():
            logits = model(**inputs).logits
        greedy = torch.zeros((len(rows), 0), dtype=torch.int64)
        for key, value in case.case_tensors(rows, logits, greedy).items():
            tensors[f"{kind}/{key}"] = value.contiguous().clone()
    save_file(tensors, folder / "cases.safetensors")
    print(name, {kind: tensors[f"{kind}/logits"].abs().max().item() for kind in ("one-image", "text")})


def use_dequantized(model: torch.nn.Module) -> None:
    """Puts plain float32 layers with bitsandbytes' own dequantized weights in place of its layers, whose product on the CPU is
    computed in bfloat16 on some processors."""
    for path, module in list(model.named_modules()):
        if not isinstance(module, Linear4bit):
            continue
        plain = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
        plain.weight.data = bnb.dequantize_4bit(module.weight.data, module.weight.quant_state).float()
        if module.bias is not None:
            plain.bias.data = module.bias.data.float()
        parent, _, leaf = path.rpartition(".")
        setattr(model.get_submodule(parent), leaf, plain)


if __name__ == "__main__":
    torch.set_num_threads(1)
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE
    make_weights(target)
    for name in ("nf4-nested", "fp4"):
        make_folder(target, name, *FORMATS[name])
