"""A small transformer on the prior's latents: ComfyUI's own class, of Z-Image's kind."""

from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor, nn
from transformers import CLIPTextModel

from evaluation.comfyui_host import load, start

from .autoencoder import CHANNELS
from .denoiser import WIDTH, Errors

SETTINGS: dict[str, Any] = {
    "patch_size": 2,
    "in_channels": CHANNELS,
    "dim": 256,
    "n_layers": 8,
    # The text encoder was taught for these images: its words need no layers of their own.
    "n_refiner_layers": 0,
    "n_heads": 4,
    "multiple_of": 32,
    "ffn_dim_multiplier": 8 / 3,
    "qk_norm": True,
    "cap_feat_dim": WIDTH,
    "axes_dims": [16, 24, 24],
    "axes_lens": [1536, 512, 512],
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
}


def new_transformer() -> nn.Module:
    """Return the transformer, untrained: its blocks change nothing yet, as in DiT."""
    start(cpu=not torch.cuda.is_available(), use_pytorch_cross_attention=True)
    # Torch's layers, as ComfyUI's begin without weights.
    network: nn.Module = load("comfy.ldm.lumina.model").NextDiT(operations=nn, **SETTINGS)
    for name, weight in network.named_parameters():
        if "adaLN_modulation" in name or name.startswith("final_layer.linear"):
            nn.init.zeros_(weight)
    return network


def network_of(network: nn.Module) -> Any:
    """Return what the pack's nodes know of it: a Network of Z-Image's kind."""
    families = load("acfun_pack.nodes.comfyui.families")
    return families.Network(network, "zimage", families.LAYOUTS["zimage"])


def plain_kernels(network: nn.Module) -> AbstractContextManager[None]:
    """Let ComfyUI compute by functions that have a backward and take torch's layers meanwhile."""
    kernels: AbstractContextManager[None] = load(
        "acfun_pack.nodes.comfyui.transformer_training"
    ).exact_gradients(network_of(network))
    return kernels


def flow_errors(network: nn.Module, text_encoder: CLIPTextModel) -> Errors:
    """Return what it is trained by as a rectified flow (Liu et al., 2022).

    Times are logit-normal (Esser et al., 2024). text_encoder: stays as it is.
    """

    def errors(clean: Tensor, ids: Tensor, generator: torch.Generator) -> Tensor:
        noise = torch.randn(clean.shape, generator=generator, device=clean.device)
        times = torch.randn(len(clean), generator=generator, device=clean.device).sigmoid()
        with torch.no_grad():
            context = text_encoder(ids).last_hidden_state
        noisy = clean.lerp(noise, times.view(-1, 1, 1, 1))
        with plain_kernels(network):
            return network(noisy, times, context, ids.shape[1]) - (noise - clean)

    return errors
