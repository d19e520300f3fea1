"""The peer of `make bench-train`: PyTorch + transformers + PEFT on the model, batch and thread count that Drydock has.

Reads a Hugging Face model folder and one batch (safetensors, written by the benchmark), takes steps of
forward + backward + clip + AdamW, and prints one JSON line: seconds per step, peak resident bytes, first and last loss.
"""

import argparse
import json
import resource
import statistics
import time

import torch
from safetensors.torch import load_file
from transformers import Qwen3VLForConditionalGeneration


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--batch", required=True)
    parser.add_argument("--mode", choices=["full", "lora"], required=True)
    parser.add_argument("--rank", type=int, default=16)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--warmup", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--matrices", choices=["float32", "bfloat16", "float16"], default="bfloat16", help="autocast type on a GPU")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    model = Qwen3VLForConditionalGeneration.from_pretrained(arguments.model, dtype=torch.float32).to(arguments.device)
    if arguments.mode == "lora":
        from peft import LoraConfig, get_peft_model

        names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
        targets = r".*language_model.*\.(" + "|".join(names) + ")"
        model = get_peft_model(model, LoraConfig(r=arguments.rank, lora_alpha=32, lora_dropout=0.0, target_modules=targets))
    model.train()
    trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trainable, lr=1e-4, weight_decay=0.0)
    batch = {name: tensor.to(arguments.device) for name, tensor in load_file(arguments.batch).items()}
    cast = arguments.device == "cuda" and arguments.matrices != "float32"
    precision = torch.autocast(arguments.device, dtype=getattr(torch, arguments.matrices), enabled=cast)

    seconds, losses = [], []
    for step in range(arguments.warmup + arguments.steps):
        started = time.perf_counter()
        with precision:
            loss = model(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())
        if step >= arguments.warmup:
            seconds.append(time.perf_counter() - started)

    print(
        json.dumps(
            {
                "tokensPerStep": batch["input_ids"].numel(),
                "deviceMemoryBytes": torch.cuda.max_memory_reserved() if arguments.device == "cuda" else None,
                "secondsPerStep": statistics.median(seconds),
                "secondsPerStepLow": min(seconds),
                "secondsPerStepHigh": max(seconds),
                "peakMemoryBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
                "trainableParameters": sum(parameter.numel() for parameter in trainable),
                "firstLoss": losses[0],
                "lastLoss": losses[-1],
                "torch": torch.__version__,
            }
        )
    )


main()
