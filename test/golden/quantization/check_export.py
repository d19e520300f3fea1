"""Runs an exported folder with plain onnxruntime.

    check_export.py EXPORT [MODEL]

The examples that the folder holds must come out as Drydock computed them. With MODEL, the folder that was exported (a Qwen3-VL
without pictures in the prompt), a prompt of text is continued by 16 tokens with the inputs that README.md describes, made here,
and each step's logits are compared with those of transformers.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from safetensors.numpy import load_file

TOLERANCE = 1e-4


def session(folder: Path, name: str) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])


def run(graph: onnxruntime.InferenceSession, feeds: dict) -> dict:
    names = [output.name for output in graph.get_outputs()]
    return dict(zip(names, graph.run(names, {given.name: feeds[given.name] for given in graph.get_inputs()})))


def check_examples(folder: Path) -> None:
    examples = sorted(folder.glob("example-*.safetensors"))
    assert examples, f"{folder} holds no examples"
    for path in examples:
        name = path.stem.removeprefix("example-")
        tensors = load_file(path)
        feeds = {key.removeprefix("input:"): value for key, value in tensors.items() if key.startswith("input:")}
        for output, value in run(session(folder, name), feeds).items():
            report(f"{name}, {output}", np.abs(value - tensors[f"output:{output}"]).max())


def report(what: str, difference: float) -> None:
    print(f"{what}: {difference:.2e}")
    assert difference <= TOLERANCE, f"{what} differs by {difference}"


def check_greedy(folder: Path, model: Path) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    reference = AutoModelForImageTextToText.from_pretrained(model, dtype=torch.float32, attn_implementation="eager").eval()
    text = json.loads((folder / "config.json").read_text())["text_config"]
    rope = text.get("rope_parameters") or text
    half = text["head_dim"] // 2
    frequencies = (1 / (rope["rope_theta"] ** (np.arange(half, dtype=np.float32) / half))).astype(np.float32)

    def rotary(positions: np.ndarray) -> dict:
        # All three axes of a text token's position are equal.
        angles = positions.astype(np.float32)[None, :, None] * frequencies
        return {"cos": np.cos(angles), "sin": np.sin(angles)}

    ids = (np.arange(12) * 5 + 1) % 60
    order = np.arange(len(ids))
    feeds = {
        "ids": ids.astype(np.int64),
        **rotary(order),
        "order": order[None].astype(np.float32),
        "reach": order[None].astype(np.float32),
        "rows": np.array([len(ids) - 1], dtype=np.int64),
    }
    results, decode, worst = run(session(folder, "prefill"), feeds), session(folder, "decode"), 0.0
    past = {key.replace("new.", "past."): value for key, value in results.items() if key.startswith("new.")}
    seen = list(ids)
    for _ in range(16):
        with torch.no_grad():
            expected = reference(input_ids=torch.tensor([seen])).logits[0, -1].numpy()
        worst = max(worst, np.abs(results["logits"][0] - expected).max())
        assert results["logits"][0].argmax() == expected.argmax(), f"token {len(seen)} differs"
        seen.append(int(expected.argmax()))
        keys = len(seen)
        feeds = {
            "ids": np.array(seen[-1:], dtype=np.int64),
            **rotary(np.array([keys - 1])),
            "mask": np.zeros((1, 1, 1, keys), dtype=np.float32),
            **past,
        }
        results = run(decode, feeds)
        past = {key: np.concatenate([value, results[key.replace("past.", "new.")]], 2) for key, value in past.items()}
    report("16 tokens against transformers", worst)


if __name__ == "__main__":
    check_examples(Path(sys.argv[1]))
    if len(sys.argv) > 2:
        check_greedy(Path(sys.argv[1]), Path(sys.argv[2]))
