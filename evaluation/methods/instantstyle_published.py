"""InstantStyle with a published IP-Adapter, for models of Stable Diffusion's size."""

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModelWithProjection
from typing_extensions import override

from acfun_ops.errors import ACFunError, first_line

from ..benchmark import Images, Task
from .instantstyle import AdapterGeneration
from .ip_adapter import Adapter

# The blocks that the authors name for style alone.
SD1_BLOCK, SDXL_BLOCK = "up_blocks.1.", "up_blocks.0.attentions.1."
PROJECTION = "proj.weight"


@dataclass(frozen=True, kw_only=True)
class PublishedInstantStyle(AdapterGeneration):
    """InstantStyle (Wang et al., 2024): the style picture by an IP-Adapter, in one block alone.

    The face gets in by the words of the prompt; with a strength below 1 also by the photo, made
    noisy, where the authors hold the content by a ControlNet. The content's embedding is not taken
    off, which needs the text half of the adapter's CLIP; the authors find the one block enough.

    adapter: a plain IP-Adapter's file. image_encoder: the folder of the CLIP vision model that it
    was taught with.
    """

    adapter: str
    image_encoder: str

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        backbone = task.backbone
        embedding = clip_embedding(self.image_encoder, task.pair.style)
        embedding = embedding.to(backbone.device, backbone.compute_dtype)
        block = SDXL_BLOCK if len(backbone.texts) > 1 else SD1_BLOCK
        adapter = read_adapter(self.adapter)
        return self.generate_both(task, task.pair.face, adapter, block, embedding)


def instant_styles(adapter: Path) -> dict[str, PublishedInstantStyle]:
    """Return InstantStyle's rows: plain, with the style in words, and from the photo made noisy.

    Args:
        adapter: the file; the folder ``image_encoder`` lies beside it, as it is published.

    Raises:
        ACFunError: either is missing, or the file is no plain IP-Adapter.
    """
    encoder = adapter.parent / "image_encoder"
    if not (encoder / "config.json").is_file():
        raise ACFunError(
            f"There is no {encoder}. The IP-Adapter sees pictures by a CLIP vision model of its "
            "own; keep its folder image_encoder beside the file, as it is published."
        )
    if PROJECTION not in read_adapter(str(adapter)).get("image_proj", {}):
        raise ACFunError(
            f"{adapter} is no plain IP-Adapter (it lacks image_proj.{PROJECTION}). Use "
            "ip-adapter_sd15.safetensors or ip-adapter_sdxl.safetensors."
        )
    plain = PublishedInstantStyle(adapter=str(adapter), image_encoder=str(encoder))
    return {
        "InstantStyle": plain,
        "InstantStyle, style in words too": replace(plain, named=True),
        "InstantStyle from the photo": replace(plain, strength=0.7),
    }


@lru_cache(maxsize=1)
def read_adapter(path: str) -> Adapter:
    """Read an IP-Adapter's safetensors file.

    Raises:
        ACFunError: it cannot be read.
    """
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise ACFunError(
            f"{path} could not be read as an IP-Adapter: {first_line(error)}. Give the "
            "safetensors file of one."
        ) from error
    groups: Adapter = {}
    for name, tensor in tensors.items():
        group, _, rest = name.partition(".")
        groups.setdefault(group, {})[rest] = tensor
    return groups


@torch.no_grad()
def clip_embedding(image_encoder: str, picture: Tensor) -> Tensor:
    """Return the embedding ``(1, d)`` that a CLIP vision model has of a picture ``(s, s, 3)``."""
    model = _encoder(image_encoder)
    side = model.config.image_size
    processor = CLIPImageProcessor(size=side, crop_size=side)
    pixels = processor(images=[picture.numpy()], do_rescale=False, return_tensors="pt")
    return model(pixels.pixel_values).image_embeds


@lru_cache(maxsize=1)
def _encoder(folder: str) -> Any:
    return CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True).eval()
