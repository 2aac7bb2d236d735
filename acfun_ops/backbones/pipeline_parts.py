"""The parts of a diffusers pipeline, loaded from its folder whole or for training."""

from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    DDPMScheduler,
    SchedulerMixin,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
)
from safetensors import SafetensorError
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from ..errors import ACFunError, first_line
from .pipeline_files import WANTED, PipelineParts, check_folder, load_part, read_json

_VAES = {kind.__name__: kind for kind in (AutoencoderKL, AutoencoderTiny, AutoencoderDC)}


def load_parts(folder: Path, device: torch.device | str, dtype: torch.dtype) -> PipelineParts:
    """Load what training needs of a pipeline but the image encoder.

    Args:
        folder: one that :func:`check_folder` has let pass.
        device: where all of it computes.
        dtype: of the weights. A VAE that needs float32 (SDXL's) gets it.

    Raises:
        ACFunError: a part cannot be read, or lacks weights.
    """
    try:
        parts = _load_parts(folder, dtype)
    except ACFunError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ACFunError(
            f"{folder} could not be read as a pipeline: {first_line(error)}. "
            "Download or save it again, with safetensors."
        ) from error
    for network in (parts.unet, parts.vae):
        network.to(device)
    for network in (parts.text_encoder, parts.text_encoder_2):
        if network is not None:
            network.to(device, dtype)
    return parts


def load_text_to_image(
    folder: Path, device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Any:
    """Load a StableDiffusionPipeline or StableDiffusionXLPipeline with the folder's own scheduler.

    Args:
        folder: a pipeline saved as safetensors; neither safety checker nor image encoder is read.
        device: where all of it computes.
        dtype: of the weights.

    Raises:
        ACFunError: the folder is no such pipeline; the message says what is missing.
    """
    check_folder(folder)
    settings = read_json(folder / "scheduler" / "scheduler_config.json")
    kind = getattr(diffusers, str(settings.get("_class_name")), None)
    is_known = isinstance(kind, type) and issubclass(kind, SchedulerMixin)
    if kind is None or not is_known:
        raise ACFunError(
            f"{folder / 'scheduler'} names a scheduler that the installed diffusers lacks "
            f"({settings.get('_class_name')}). Update diffusers, or get the pipeline again."
        )
    parts = load_parts(folder, device, dtype)
    if isinstance(parts.vae, AutoencoderDC):
        raise ACFunError(
            f"{folder / 'vae'} holds an AutoencoderDC, with which diffusers cannot generate here. "
            f"Give {WANTED} with an AutoencoderKL or AutoencoderTiny."
        )
    shared = {
        "unet": parts.unet,
        "vae": parts.vae.to(dtype),  # SDXL's pipeline turns it into float32 while it decodes.
        "scheduler": kind.from_config(settings),
        "tokenizer": parts.tokenizer,
        "text_encoder": parts.text_encoder,
    }
    if parts.text_encoder_2 is None:
        pipeline = StableDiffusionPipeline(
            **shared, safety_checker=None, feature_extractor=None, requires_safety_checker=False
        )
    else:
        second = {"tokenizer_2": parts.tokenizer_2, "text_encoder_2": parts.text_encoder_2}
        pipeline = StableDiffusionXLPipeline(**shared, **second, add_watermarker=False)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _load_parts(folder: Path, dtype: torch.dtype) -> PipelineParts:
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    vae = read_json(folder / "vae" / "config.json")
    overflows = vae.get("force_upcast", True)
    vae_kind = _VAES.get(vae.get("_class_name"), AutoencoderKL)
    vae_dtype = torch.float32 if overflows and dtype == torch.float16 else dtype
    second = folder / "text_encoder_2"
    has_second = second.is_dir()
    return PipelineParts(
        unet=_diffusers_part(UNet2DConditionModel, folder / "unet", dtype),
        vae=_diffusers_part(vae_kind, folder / "vae", vae_dtype),
        scheduler=DDPMScheduler.from_config(scheduler),
        tokenizer=_tokenizer(folder / "tokenizer"),
        text_encoder=load_part(CLIPTextModel, folder / "text_encoder"),
        tokenizer_2=_tokenizer(folder / "tokenizer_2") if has_second else None,
        text_encoder_2=(
            load_part(CLIPTextModelWithProjection, folder / "text_encoder_2")
            if has_second
            else None
        ),
    )


def _diffusers_part(kind: Any, part: Path, dtype: torch.dtype) -> Any:
    return load_part(kind, part, torch_dtype=dtype, low_cpu_mem_usage=False)


def _tokenizer(part: Path) -> Any:
    return CLIPTokenizer.from_pretrained(part, local_files_only=True)
