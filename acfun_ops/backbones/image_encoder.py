"""The CLIP vision model of a diffusers folder: where it is found, and what it sees."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPVisionConfig, CLIPVisionModel

from ..errors import ACFunError, first_line
from .pipeline_files import check_weights, load_part

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True)
class VisionEncoder:
    """A CLIP vision model and the colours it was trained on."""

    model: Any
    """A CLIPVisionModel or CLIPVisionModelWithProjection."""
    mean: Sequence[float] = CLIP_MEAN
    """Of each RGB channel, in [0, 1]."""
    std: Sequence[float] = CLIP_STD
    """Standard deviation of each RGB channel, in [0, 1]."""

    @torch.no_grad()
    def tokens(self, pictures: Tensor) -> Tensor:
        """Return patch tokens (penultimate layer) ``(b, n, di)``, float32, as ComfyUI does.

        Args:
            pictures: RGB squares ``(b, s, s, 3)`` in [0, 1].
        """
        # ComfyUI's pixels exactly; transformers' CLIPImageProcessor is up to 2 of 255 levels off.
        side = self.model.config.image_size
        pixels = rearrange(pictures, "b h w c -> b c h w").float().to(self.model.device)
        pixels = F.interpolate(pixels, size=(side, side), mode="bicubic", antialias=True)
        levels = (pixels.clamp(0, 1) * 255).round() / 255
        mean, std = (levels.new_tensor(v).view(3, 1, 1) for v in (self.mean, self.std))
        normal = ((levels - mean) / std).to(self.model.dtype)
        output = self.model(normal, output_hidden_states=True)
        tokens: Tensor = output.hidden_states[-2].float()
        return tokens


def load_vision_encoder(pipeline: Path, image_encoder: Path | None) -> VisionEncoder:
    """Load the CLIP vision model of a pipeline; nothing is downloaded or unpickled.

    It is taken from ``image_encoder``, else from the pipeline's folder ``image_encoder``, else from
    its safety checker, which in SD1.x pipelines holds a whole ViT-L/14; the checker never runs.

    Args:
        pipeline: a diffusers folder.
        image_encoder: a folder with a CLIPVisionModel or CLIPVisionModelWithProjection.

    Raises:
        ACFunError: there is none, or it cannot be read.
    """
    inside, checker = pipeline / "image_encoder", pipeline / "safety_checker"
    folder = image_encoder or (inside if inside.is_dir() else checker)
    if not (folder / "config.json").is_file() or not list(folder.glob("*.safetensors")):
        raise ACFunError(
            f"There is no CLIP vision model in {image_encoder or pipeline} (config.json and a "
            ".safetensors file), and one must see the style picture. Give --clip-vision the "
            "folder of one, such as CLIP ViT-L/14."
        )
    try:
        model = _load_checker(folder) if folder == checker else load_part(CLIPVisionModel, folder)
        mean, std = _colours([folder, pipeline / "feature_extractor"])
    except ACFunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ACFunError(
            f"{folder} could not be read as a CLIP vision model: {first_line(error)}. Give "
            "--clip-vision the folder of another one."
        ) from error
    return VisionEncoder(model, mean, std)


def _load_checker(folder: Path) -> Any:
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    model = CLIPVisionModel(CLIPVisionConfig(**config["vision_config"]))
    inside = "vision_model."
    # Some versions of transformers hold the network one level deeper than others.
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    outer = inside if all(name.startswith(inside) for name in shapes) else ""
    state = {}
    for path in sorted(folder.glob("*.safetensors"))[:1]:
        for name, tensor in load_file(path).items():
            if name.startswith(inside * 2) and not name.endswith("position_ids"):
                state[outer + name.removeprefix(inside * 2)] = tensor
    other = [n for n in shapes.keys() & state.keys() if shapes[n] != state[n].shape]
    check_weights(folder, shapes.keys() - state.keys(), other)
    model.load_state_dict(state)
    return model


def _colours(folders: list[Path]) -> tuple[Sequence[float], Sequence[float]]:
    for folder in folders:
        path = folder / "preprocessor_config.json"
        if path.is_file():
            config = json.loads(path.read_text(encoding="utf-8"))
            mean, std = config.get("image_mean", CLIP_MEAN), config.get("image_std", CLIP_STD)
            if len(mean) == len(std) == 3:
                return [float(value) for value in mean], [float(value) for value in std]
    return CLIP_MEAN, CLIP_STD
