"""The Backbone on a local diffusers pipeline of the SD1.x, SD2.x or SDXL family."""

import math
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import cached_property
from itertools import chain
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderDC
from einops import rearrange
from torch import Tensor, nn

from ..errors import ACFunError, is_out_of_memory
from ..method.concrete_fusion import InsertAt
from ..method.diffusion import Prediction
from ..model_families import family_of
from .backbone import Context, InsertPoint, fingerprint_of
from .diffusers_unet import (
    check_unet,
    check_widths,
    checkpoint_blocks,
    insert_points,
    prediction_of,
    self_attentions,
)
from .image_encoder import VisionEncoder, load_vision_encoder
from .pipeline_files import check_folder
from .pipeline_parts import load_parts
from .text_encoder import encode_prompt, text_encoders

# A schedule rescaled to end in pure noise ends in sigma 4096 instead, as diffusers has it.
_LEAST_ALPHA = 2.0**-24


class DiffusersBackbone:
    """A Backbone on the parts of a loaded diffusers pipeline, which it freezes.

    As a context manager it gives them their flags (training, requires_grad) back at the end.

    Args:
        pipeline: a StableDiffusionPipeline or StableDiffusionXLPipeline on its device, or
            PipelineParts.
        vision: sees the style picture.

    Raises:
        ACFunError: the parts are not those of the SD1.x, SD2.x or SDXL family.
    """

    def __init__(self, pipeline: Any, vision: VisionEncoder) -> None:
        check_unet(pipeline.unet)
        self.unet, self.vae, self.vision = pipeline.unet, pipeline.vae, vision
        self.texts = text_encoders(pipeline)
        width = self.unet.config.cross_attention_dim
        self.family = family_of(width)
        self.prediction: Prediction = prediction_of(pipeline.scheduler)
        text_width = sum(text.model.config.hidden_size for text in self.texts.values())
        check_widths(self.unet, text_width, self.vae.config.latent_channels)
        self.device: torch.device = self.unet.device
        kept = pipeline.scheduler.alphas_cumprod.double().clamp(min=_LEAST_ALPHA)
        sigmas = ((1 - kept) / kept).sqrt().float()
        self.sigmas = sigmas.to(self.device)
        self._log_sigmas = sigmas.log().cpu()
        modules = [module for network in self._networks() for module in network.modules()]
        self._training = [(module, module.training) for module in modules]
        weights = [weight for network in self._networks() for weight in network.parameters()]
        self._trainable = [weight for weight in weights if weight.requires_grad]
        for network in self._networks():
            network.requires_grad_(False).eval()

    def __enter__(self) -> "DiffusersBackbone":
        return self

    def __exit__(self, *error: object) -> None:
        for module, is_training in self._training:
            module.training = is_training
        for weight in self._trainable:
            weight.requires_grad_(True)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of a sample of all weights; ComfyUI's names of them give another hash."""
        return fingerprint_of(chain.from_iterable(map(_weights_by_name, self._networks())))

    @property
    def compute_dtype(self) -> torch.dtype:
        """The dtype of the U-Net's weights."""
        dtype: torch.dtype = self.unet.dtype
        return dtype

    @property
    def native_side(self) -> int:
        """The side in pixels of the latents that the U-Net was made for."""
        return int(self.unet.config.sample_size) * self.latent_scale

    @property
    def latent_scale(self) -> int:
        """Pixels per latent pixel, along a side."""
        if isinstance(self.vae, AutoencoderDC):
            return int(self.vae.spatial_compression_ratio)
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    def latents_shape(self, side: int) -> tuple[int, int, int, int]:
        """Return the shape that the U-Net takes."""
        latent_side = side // self.latent_scale
        return 1, int(self.unet.config.in_channels), latent_side, latent_side

    @torch.no_grad()
    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Encode in the VAE's dtype, to float32 latents on ``device``: the mode, no noise."""
        pixels = rearrange(pictures, "b h w c -> b c h w").to(self.vae.dtype) * 2 - 1
        # One at a time: a VAE needs far more memory for a picture than the picture itself.
        encoded = [self.vae.encode(one.to(self.device)) for one in torch.split(pixels, 1)]
        latents = torch.cat([_latents_of(one).float() for one in encoded])
        return (latents - self._shift) * float(self.vae.config.scaling_factor)

    @torch.no_grad()
    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode in the VAE's dtype, to float32 pictures on the CPU."""
        scaled = latents / self.vae.config.scaling_factor + self._shift
        pixels = self.vae.decode(scaled.to(self.vae.dtype)).sample
        pictures: Tensor = rearrange(pixels.float(), "b c h w -> b h w c") / 2 + 0.5
        return pictures.clamp(0, 1).cpu()

    def preview(self, latents: Tensor) -> Tensor:
        """Return what :meth:`decode_latents` does: here the VAE stays where it is."""
        return self.decode_latents(latents)

    @property
    def _shift(self) -> float:
        return getattr(self.vae.config, "shift_factor", None) or 0.0

    def style_tokens(self, pictures: Tensor) -> Tensor:
        """Return float32 tokens on the vision model's device."""
        return self.vision.tokens(pictures)

    def word_vectors(self, word: str) -> dict[str, Tensor]:
        """Return float32 vectors on each text encoder's device."""
        return {name: text.vector(word) for name, text in self.texts.items()}

    def encode_prompt(
        self, prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
    ) -> Context:
        """Encode to float32. Without vectors the pseudo-word is a word like any other."""
        return encode_prompt(self.texts, prompt, pseudo_word, vectors)

    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        """Return modules of the U-Net itself, under the LDM names that diffusers does not use."""
        return insert_points(self.unet, where)

    def self_attentions(self) -> list[nn.Module]:
        """Return modules of the U-Net itself."""
        return self_attentions(self.unet)

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """Denoise in ``compute_dtype``, to float32, at the schedule's nearest time."""
        batch, dtype = noisy.shape[0], self.compute_dtype
        scale = math.sqrt(1 + sigma**2)
        time = int((self._log_sigmas - math.log(sigma)).abs().argmin())
        output: Tensor = self.unet(
            (noisy / scale).to(dtype),
            noisy.new_full((batch,), time, dtype=torch.long),
            encoder_hidden_states=context.tokens.to(dtype).expand(batch, -1, -1),
            added_cond_kwargs=self._size_conditions(noisy, context),
        ).sample.float()
        if self.prediction == "noise":
            return noisy - sigma * output
        return noisy / scale**2 - output * sigma / scale

    def _size_conditions(self, noisy: Tensor, context: Context) -> dict[str, Tensor] | None:
        """Return what SDXL is told besides the prompt: pooled prompt, sizes and no crop.

        A smaller training is told the model's own size, at which the style will be drawn.
        """
        if context.pooled is None:
            return None
        sides = [side * self.latent_scale for side in noisy.shape[-2:]]
        scale = max(1.0, self.native_side / min(sides))
        height, width = (round(scale * side) for side in sides)
        sizes = noisy.new_tensor([[height, width, 0, 0, height, width]], dtype=self.compute_dtype)
        pooled = context.pooled.to(self.compute_dtype).expand(len(noisy), -1)
        return {"text_embeds": pooled, "time_ids": sizes.expand(len(noisy), -1)}

    def ignore_patches(self) -> AbstractContextManager[None]:
        """Do nothing: what is patched here is the pipeline's own."""
        return nullcontext()

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Use torch's autocast, for a float32 U-Net only.

        Raises:
            ACFunError: the U-Net's weights are of another half precision.
        """
        if dtype == self.compute_dtype:
            return nullcontext()
        if self.compute_dtype != torch.float32:
            raise ACFunError(
                f"precision asks for {dtype}, but the pipeline was loaded in {self.compute_dtype}. "
                "Load it in float32 or set precision to auto."
            )
        return torch.autocast(self.device.type, dtype)

    def gradient_checkpointing(self) -> AbstractContextManager[None]:
        """Turn diffusers' own checkpointing on meanwhile; the text encoder is not recomputed."""
        return checkpoint_blocks(self.unet)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether an error says that the GPU's or the machine's memory is used up."""
        return is_out_of_memory(error)

    def _networks(self) -> list[Any]:
        return [self.unet, self.vae, self.vision.model, *(t.model for t in self.texts.values())]


def load_pipeline(
    folder: str | PathLike[str],
    image_encoder: str | PathLike[str] | None = None,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> DiffusersBackbone:
    """Load a Backbone from a local diffusers folder; nothing is downloaded or unpickled.

    Args:
        folder: a StableDiffusionPipeline or StableDiffusionXLPipeline saved as safetensors.
        image_encoder: the folder of a CLIP vision model, where the pipeline has none.
        device: where all of it computes.
        dtype: of the weights. A VAE that needs float32 (SDXL's) gets it.

    Raises:
        ACFunError: the folder is no such pipeline; the message says what is missing.
    """
    folder = Path(folder)
    check_folder(folder)
    vision = load_vision_encoder(folder, None if image_encoder is None else Path(image_encoder))
    parts = load_parts(folder, device, dtype)
    vision.model.to(device, dtype)
    return DiffusersBackbone(parts, vision)


def _weights_by_name(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield weights under the names of transformers 5, which has one level less than 4."""
    named = list(network.named_parameters())
    for level in ("text_model.", "vision_model."):
        if all(name.startswith(level) for name, _ in named):
            named = [(name.removeprefix(level), weight) for name, weight in named]
    yield from named


def _latents_of(encoded: Any) -> Tensor:
    """Return the latents in what a VAE's ``encode`` returns; each class names them otherwise."""
    if hasattr(encoded, "latent_dist"):
        latents: Tensor = encoded.latent_dist.mode()
    elif hasattr(encoded, "latents"):
        latents = encoded.latents
    else:
        latents = encoded.latent
    return latents
