"""NVILA-Lite as its makers publish it, restated: transformers has no class for it.

Sources, in https://github.com/NVlabs/VILA at b760c34: `llava/model/multimodal_projector/base_projector.py` (the bridge),
`llava/model/multimodal_encoder/vision_encoder.py` (which state of the tower is taken), `llava/model/encoders/image/basic.py` (what
follows a picture's features) and `llava/model/llava_arch.py` (`_embed`: where features stand in a row). Tower and decoder are
transformers' own. Names of modules are those that a class of transformers would have; files have the makers' (see `FILE_NAMES`).
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import Qwen2Config, Qwen2Model, SiglipVisionConfig, SiglipVisionModel

IGNORED = -100


class SpaceToChannel(nn.Module):
    """3 by 3 neighbouring patches to the channels of one, row by row; zeros below and to the right fill the last ones up."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tiles, patches, width = x.shape
        side = int(patches**0.5)
        missing = -side % 3
        x = F.pad(x.reshape(tiles, side, side, width), (0, 0, 0, missing, 0, missing))
        cells = (side + missing) // 3
        x = x.reshape(tiles, cells, 3, cells, 3, width).transpose(2, 3)
        return x.reshape(tiles, cells * cells, 9 * width)


class Projector(nn.Module):
    """`mlp_downsample_3x3_fix`; norms have PyTorch's epsilon, 1e-5."""

    def __init__(self, tower_width: int, width: int):
        super().__init__()
        self.layers = nn.Sequential(
            SpaceToChannel(),
            nn.LayerNorm(9 * tower_width),
            nn.Linear(9 * tower_width, 3 * tower_width),
            nn.GELU(),
            nn.LayerNorm(3 * tower_width),
            nn.Linear(3 * tower_width, width),
            nn.GELU(),
            nn.Linear(width, width),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


class Parts(nn.Module):
    def __init__(self, text: Qwen2Config, vision: SiglipVisionConfig):
        super().__init__()
        self.vision_tower = SiglipVisionModel(vision)
        self.mm_projector = Projector(vision.hidden_size, text.hidden_size)
        self.language_model = Qwen2Model(text)


class NvilaLite(nn.Module):
    def __init__(self, text: Qwen2Config, vision: SiglipVisionConfig, image_token: int, line_break: int, select_layer: int = -2):
        super().__init__()
        text._attn_implementation = vision._attn_implementation = "eager"
        self.text, self.vision = text, vision
        self.image_token, self.line_break, self.select_layer = image_token, line_break, select_layer
        self.model = Parts(text, vision)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        if text.tie_word_embeddings:
            self.lm_head.weight = self.model.language_model.embed_tokens.weight

    def encode_images(self, pixel_values: torch.Tensor) -> torch.Tensor:
        """[tiles, 3, height, width] to [tiles, tokens, D]."""
        states = self.model.vision_tower(pixel_values, output_hidden_states=True).hidden_states
        return self.model.mm_projector(states[self.select_layer])

    def embed(self, input_ids: torch.Tensor, mask: torch.Tensor, pixel_values: torch.Tensor | None) -> list[torch.Tensor]:
        """Each row's embeddings: an image token becomes the features of the next tile and the embedding of a line break."""
        table = self.model.language_model.embed_tokens
        tiles = iter([] if pixel_values is None else self.encode_images(pixel_values))
        end = table(torch.tensor([self.line_break]))
        rows = []
        for ids, kept in zip(input_ids, mask.bool()):
            parts = [
                torch.cat([next(tiles), end]) if id == self.image_token else table(torch.tensor([id]))
                for id in ids[kept].tolist()
            ]
            rows.append(torch.cat(parts))
        if next(tiles, None) is not None:
            raise ValueError("not all tiles have a place in the text")
        return rows

    def forward(self, input_ids, attention_mask, pixel_values=None, labels=None):
        """Logits of the rows with features in place, padded on the left; labels are of that length too."""
        rows = self.embed(input_ids, attention_mask, pixel_values)
        length = max(len(row) for row in rows)
        embeds = torch.stack([F.pad(row, (0, 0, length - len(row), 0)) for row in rows])
        mask = torch.tensor([[0] * (length - len(row)) + [1] * len(row) for row in rows])
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        hidden = self.model.language_model(
            inputs_embeds=embeds, attention_mask=mask, position_ids=positions, use_cache=False
        ).last_hidden_state
        logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED)
        return SimpleNamespace(logits=logits, loss=loss)


def greedy(model: NvilaLite, inputs: dict, count: int) -> torch.Tensor:
    """Tokens [B, count] of the greedy search, by whole passes."""
    inputs, answers = dict(inputs), []
    for _ in range(count):
        with torch.no_grad():
            answers.append(model(**inputs).logits[:, -1].argmax(-1, keepdim=True))
        inputs["input_ids"] = torch.cat([inputs["input_ids"], answers[-1]], 1)
        inputs["attention_mask"] = F.pad(inputs["attention_mask"], (0, 1), value=1)
    return torch.cat(answers, 1)


# From names in memory to those of files; the first part is the sub-folder's name where each part has one.
FILE_NAMES = [
    (r"^lm_head\.", "llm.lm_head."),
    (r"^model\.language_model\.", "llm.model."),
    (r"^model\.vision_tower\.", "vision_tower.vision_model."),
    (r"^model\.mm_projector\.", "mm_projector."),
]
PARTS = ["llm", "vision_tower", "mm_projector"]


def file_name(name: str) -> str:
    for pattern, replacement in FILE_NAMES:
        name = re.sub(pattern, replacement, name)
    return name


def save(model: NvilaLite, folder: Path, layout: str) -> None:
    """`parts`: a sub-folder a part, as `LlavaMetaModel.save_pretrained` writes them; `flat`: one folder, `nvila_lite`."""
    tensors = {file_name(name): tensor.detach().to(torch.bfloat16).contiguous() for name, tensor in model.named_parameters()}
    folder.mkdir(parents=True)
    write = lambda path, value: path.write_text(json.dumps(value, indent=2) + "\n")
    text = {key: value for key, value in model.text.to_dict().items() if key != "_attn_implementation"}
    vision = model.vision.to_dict()
    if layout == "flat":
        config = {"architectures": ["NVILALiteForConditionalGeneration"], "model_type": "nvila_lite", "image_token_id": model.image_token}
        config |= {"mm_vision_select_layer": model.select_layer} if model.select_layer != -2 else {}
        write(folder / "config.json", {**config, "text_config": text, "vision_config": vision})
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    bridge = {"model_type": "v2l_projector", "mm_projector_type": "mlp_downsample_3x3_fix"}
    configs = dict(zip(PARTS, [text, vision, bridge], strict=True))
    top = {
        "architectures": ["LlavaLlamaModel"], "model_type": "llava_llama", "image_aspect_ratio": "dynamic", "min_tiles": 1, "max_tiles": 12,
        "mm_vision_select_layer": model.select_layer, "mm_vision_select_feature": "cls_patch", "mm_use_im_start_end": False,
        "image_encoder": '{"_target_": "llava.model.encoders.BasicImageEncoder"}',
    }  # fmt: skip
    write(folder / "config.json", {**top, **{f"{part}_cfg": config for part, config in configs.items()}})
    for part, config in configs.items():
        (folder / part).mkdir()
        write(folder / part / "config.json", config)
        own = {name[len(part) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(f"{part}.")}
        save_file(own, folder / part / "model.safetensors", metadata={"format": "pt"})


def load(folder: Path, image_token: int, line_break: int) -> NvilaLite:
    """A folder of either layout. Fails when a tensor is missing or too many."""
    config = json.loads((folder / "config.json").read_text())
    is_flat = config["model_type"] == "nvila_lite"
    if is_flat:
        text, vision, stored = config["text_config"], config["vision_config"], load_file(folder / "model.safetensors")
    else:
        text, vision = (json.loads((folder / part / "config.json").read_text()) for part in PARTS[:2])
        stored = {f"{part}.{name}": tensor for part in PARTS for name, tensor in load_file(folder / part / "model.safetensors").items()}
    model = NvilaLite(
        Qwen2Config(**text), SiglipVisionConfig(**vision), image_token, line_break, config.get("mm_vision_select_layer", -2)
    )
    own = {name: stored.pop(file_name(name)).float() for name, _ in model.named_parameters()}
    if stored:
        raise SystemExit(f"{folder}: holds tensors that the model does not have: {sorted(stored)}")
    problems = model.load_state_dict(own, strict=False)
    missing = [name for name in problems.missing_keys if not name.endswith(("lm_head.weight", "position_ids"))]
    if missing:
        raise SystemExit(f"{folder}: lacks {missing}")
    return model.float().eval()
