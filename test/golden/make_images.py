"""Golden pictures, run by `make golden`: Pillow's bicubic resize, smart_resize, and pixel_values of the Qwen2-VL processor.

Resized bytes are kept as SHA-256, their input as the rule that makes it, so that many sizes cost little.
"""

import hashlib
import json
from pathlib import Path

import numpy
from PIL import Image
from safetensors.numpy import save_file
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil, smart_resize

FOLDER = Path(__file__).parent / "images"

# Width, height, width after, height after: up, down, mixed, one axis only, thin, ties of Pillow 13's rule for the order.
SIZES = [
    (61, 47, 64, 48), (100, 66, 48, 32), (17, 45, 32, 80), (160, 120, 48, 32), (640, 480, 644, 476), (33, 33, 32, 32),
    (64, 64, 64, 32), (64, 64, 32, 64), (1, 1, 32, 32), (1, 90, 32, 64), (200, 3, 96, 32), (50, 40, 48, 36), (50, 41, 48, 36),
    (40, 30, 44, 20), (30, 40, 20, 44), (257, 129, 96, 64), (31, 200, 32, 96), (7, 5, 224, 160), (300, 200, 31, 199),
]  # fmt: skip
# Pictures that the processor resizes: the first with Pillow's rows first, the second with columns first.
PICTURES = {"wide": (50, 37), "tall": (45, 75)}
PROCESSOR = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}
# As Qwen2.5-VL is published: patches of 14 pixels, mean and deviation of CLIP.
CLIP_PROCESSOR = {
    "patch_size": 14, "merge_size": 2, "temporal_patch_size": 2,
    "image_mean": [0.48145466, 0.4578275, 0.40821073], "image_std": [0.26862954, 0.26130258, 0.27577711],
}  # fmt: skip
BOUNDS = [(28, 3136, 12845056), (32, 65536, 16777216), (32, 4096, 262144), (16, 4096, 65536)]
SHAPES = [
    (1080, 1920), (2160, 3840), (720, 1280), (1280, 800), (1680, 1050), (1440, 3440), (768, 1366), (768, 1024), (10000, 10000),
    (70, 42), (98, 98), (10, 1500), (13, 900), (1200, 13), (15, 1500), (30, 3000), (1, 1), (1, 200), (48, 80), (16, 16), (333, 777),
]  # fmt: skip


def noise(width: int, height: int, seed: int) -> numpy.ndarray:
    """Bytes of a linear congruential generator (Numerical Recipes), the top byte of each 32-bit state."""
    state, values = seed, []
    for _ in range(width * height * 3):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(state >> 24)
    return numpy.array(values, dtype=numpy.uint8).reshape(height, width, 3)


def digest(image: Image.Image) -> str:
    return hashlib.sha256(numpy.asarray(image).tobytes()).hexdigest()


def resizes() -> list[dict]:
    cases = []
    for seed, (width, height, to_width, to_height) in enumerate(SIZES):
        image = Image.fromarray(noise(width, height, seed))
        # One axis a call fixes the order of the passes, which Pillow 13 chooses by the sizes.
        across = image.resize((to_width, height), Image.BICUBIC)
        cases.append(
            {
                "seed": seed,
                "from": [width, height],
                "to": [to_width, to_height],
                "horizontalFirst": digest(across.resize((to_width, to_height), Image.BICUBIC)),
                "pillow13": digest(image.resize((to_width, to_height), Image.BICUBIC)),
            }
        )
    return cases


def smart_resizes() -> list[dict]:
    cases = []
    for factor, low, high in BOUNDS:
        for height, width in SHAPES:
            after_height, after_width = smart_resize(height, width, factor, low, high)
            cases.append({"factor": factor, "bounds": [low, high], "from": [width, height], "to": [after_width, after_height]})
    return cases


def pixel_values() -> None:
    processor = Qwen2VLImageProcessorPil(min_pixels=1024, max_pixels=4096, **PROCESSOR)
    tensors = {}
    for seed, (name, (width, height)) in enumerate(PICTURES.items()):
        image = Image.fromarray(noise(width, height, 100 + seed))
        image.save(FOLDER / f"{name}.png")
        made = processor(image, return_tensors="np")
        tensors[f"{name}.pixel_values"] = made["pixel_values"].astype(numpy.float32)
        tensors[f"{name}.grid"] = made["image_grid_thw"].astype(numpy.int64)
        clip = Qwen2VLImageProcessorPil(min_pixels=3136, max_pixels=12845056, **CLIP_PROCESSOR)(image, return_tensors="np")
        tensors[f"{name}.clip.pixel_values"] = clip["pixel_values"].astype(numpy.float32)
        tensors[f"{name}.clip.grid"] = clip["image_grid_thw"].astype(numpy.int64)
        print(name, made["pixel_values"].shape, made["image_grid_thw"].tolist())
    save_file(tensors, FOLDER / "pixel-values.safetensors")


def turned_picture() -> None:
    """A JPEG that its EXIF data turns, for check-fidelity.ts."""
    turn = Image.Exif()
    turn[0x0112] = 6
    Image.fromarray(noise(53, 24, 200)).resize((211, 97), Image.BICUBIC).save(FOLDER / "turned.jpg", quality=85, exif=turn)


def lines(cases: list[dict]) -> str:
    return "[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    (FOLDER / "resize.json").write_text(lines(resizes()))
    (FOLDER / "smart-resize.json").write_text(lines(smart_resizes()))
    pixel_values()
    turned_picture()


main()
