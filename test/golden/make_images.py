"""Golden pictures: what Pillow's bicubic resize gives (horizontal pass first) for odd sizes of noise."""

import json
from pathlib import Path

import numpy
from PIL import Image

SIZES = [(61, 47, 64, 48), (100, 66, 48, 32), (17, 45, 32, 80), (160, 120, 48, 32)]


def main() -> None:
    random = numpy.random.default_rng(0)
    cases = []
    for width, height, to_width, to_height in SIZES:
        pixels = random.integers(0, 256, (height, width, 3), dtype=numpy.uint8)
        # One axis a call fixes the order of the passes, which depends on Pillow's version otherwise.
        across = Image.fromarray(pixels).resize((to_width, height), Image.BICUBIC)
        resized = numpy.asarray(across.resize((to_width, to_height), Image.BICUBIC))
        cases.append({"width": width, "height": height, "pixels": pixels.tobytes().hex(), "toWidth": to_width, "toHeight": to_height, "resized": resized.tobytes().hex()})
    (Path(__file__).parent / "bicubic.json").write_text(json.dumps(cases) + "\n")


main()
