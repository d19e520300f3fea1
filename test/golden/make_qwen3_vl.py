"""Golden values of Qwen3-VL from transformers and PEFT: two tiny random models, their logits, gradients and loss curves.

Run by `make golden`. Everything is fp32, eager attention, one thread, and seeded; norm weights and biases are random, so
that a forgotten one shows. Rows: picture + text, text + picture + text, text only, padded on the right.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import save_file
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration

STEPS = 20
LORA_TARGETS = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"


def rope(theta: float, section: list[int]) -> dict:
    return {"rope_type": "default", "rope_theta": theta, "mrope_section": section, "mrope_interleaved": True}


SHAPES = {
    "tied": {
        "text": {
            "vocab_size": 160, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3,
            "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rope_parameters": rope(1e4, [4, 2, 2]),
        },
        "vision": {
            "depth": 3, "hidden_size": 32, "num_heads": 2, "intermediate_size": 48, "patch_size": 16, "spatial_merge_size": 2,
            "num_position_embeddings": 16, "deepstack_visual_indexes": [0, 1], "out_hidden_size": 32,
        },
        "tie": True,
        "image_token": 3,
    },
    "untied": {
        "text": {
            "vocab_size": 300, "hidden_size": 48, "intermediate_size": 80, "num_hidden_layers": 4,
            "num_attention_heads": 6, "num_key_value_heads": 2, "head_dim": 8, "rope_parameters": rope(5e6, [2, 1, 1]),
        },
        "vision": {
            "depth": 4, "hidden_size": 40, "num_heads": 2, "intermediate_size": 64, "patch_size": 8, "spatial_merge_size": 2,
            "num_position_embeddings": 25, "deepstack_visual_indexes": [1, 2, 3], "out_hidden_size": 48,
        },
        "tie": False,
        "image_token": 5,
    },
}  # fmt: skip


def make_model(shape: dict) -> Qwen3VLForConditionalGeneration:
    image = shape["image_token"]
    config = Qwen3VLConfig(
        text_config=dict(shape["text"], tie_word_embeddings=shape["tie"]),
        vision_config=shape["vision"],
        image_token_id=image,
        video_token_id=image + 1,
        vision_start_token_id=1,
        vision_end_token_id=2,
        tie_word_embeddings=shape["tie"],
    )
    model = Qwen3VLForConditionalGeneration(config).float().eval()
    model.set_attn_implementation("eager")
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            is_norm = "norm" in name and name.endswith("weight")
            scale = 0.2 if parameter.dim() > 1 else 0.3
            parameter.copy_(torch.randn(parameter.shape) * scale + (1.0 if is_norm else 0.0))
    return model


def make_inputs(shape: dict, generator: torch.Generator) -> tuple[dict, torch.Tensor]:
    image, vocabulary, patch = shape["image_token"], shape["text"]["vocab_size"], shape["vision"]["patch_size"]

    def words(count: int) -> list[int]:
        return torch.randint(10, vocabulary, (count,), generator=generator).tolist()

    rows = [[1] + [image] * 6 + [2] + words(9), words(3) + [1] + [image] * 4 + [2] + words(5), words(11)]
    answers = [10, 11, 4]
    length = max(map(len, rows))
    ids = torch.tensor([row + [0] * (length - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (length - len(row)) for row in rows])
    labels = torch.full_like(ids, -100)
    for index, (row, start) in enumerate(zip(rows, answers)):
        labels[index, start : len(row)] = ids[index, start : len(row)]
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "pixel_values": torch.randn(6 * 4 + 4 * 4, 3 * 2 * patch * patch, generator=generator),
        "image_grid_thw": torch.tensor([[1, 6, 4], [1, 4, 4]]),
        # Without these the reference silently falls back to plain 1-D positions.
        "mm_token_type_ids": (ids == image).long() * mask,
    }
    return inputs, labels


def loss_curve(model, inputs: dict, labels: torch.Tensor, learning_rate: float) -> list[list[float]]:
    """[loss, gradient norm before clipping] of each AdamW step."""
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


def make(name: str, shape: dict, folder: Path) -> None:
    torch.manual_seed(7)
    generator = torch.Generator().manual_seed(3)
    model = make_model(shape)
    model.save_pretrained(folder / "model")
    inputs, labels = make_inputs(shape, generator)
    positions, _ = model.model.get_rope_index(
        inputs["input_ids"],
        mm_token_type_ids=inputs["mm_token_type_ids"],
        image_grid_thw=inputs["image_grid_thw"],
        attention_mask=inputs["attention_mask"],
    )
    with torch.no_grad():
        logits = model(**inputs).logits
    loss = model(**inputs, labels=labels).loss
    loss.backward()
    gradients = {name: parameter.grad.clone().contiguous() for name, parameter in model.named_parameters() if parameter.grad is not None}
    save_file(gradients, folder / "gradients.safetensors")
    sample = {key: value for key, value in inputs.items() if key != "mm_token_type_ids"}
    save_file({**sample, "labels": labels, "position_ids": positions.contiguous(), "logits": logits}, folder / "sample.safetensors")

    model.zero_grad()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    curves = {"loss": loss.item(), "full": {"learningRate": 1e-3, "steps": loss_curve(model, inputs, labels, 1e-3)}}
    model.load_state_dict(before)

    adapted = get_peft_model(model, LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules=LORA_TARGETS))
    with torch.no_grad():
        for parameter_name, parameter in adapted.named_parameters():
            if "lora_B" in parameter_name:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    adapted.save_pretrained(folder / "adapter")
    (folder / "adapter" / "README.md").unlink(missing_ok=True)
    adapted.eval()
    with torch.no_grad():
        save_file({"logits": adapted(**inputs).logits}, folder / "adapter-logits.safetensors")
    adapted.train()
    curves["lora"] = {"learningRate": 1e-2, "steps": loss_curve(adapted, inputs, labels, 1e-2)}
    (folder / "curves.json").write_text(json.dumps(curves, indent=1) + "\n")
    print(f"{name}: largest logit {logits.abs().max().item():.2f}, loss {curves['loss']:.4f}")


def main() -> None:
    torch.set_num_threads(1)
    target = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent / "qwen3-vl")
    for name, shape in SHAPES.items():
        folder = target / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        make(name, shape, folder)


main()
