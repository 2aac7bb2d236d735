"""Which cross-attention of a U-Net is the style's: tried out once an adapter is taught.

In SDXL it is ``up_blocks.0.attentions.1`` (InstantStyle), which no other U-Net has in that place.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from acfun_ops.backbones.backbone import Context
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.method.diffusion import noise_at, sampling_sigmas
from acfun_ops.sampling.sampler import Guidance, draw_latents

from ..metrics.image_statistics import colour_distance, structure_correlation, texture_distance
from .ip_adapter import Adapter, adapted, image_embedding

TRIAL_PAIRS = 8
STEPS, GUIDANCE, SEED = 20, 2.0, 5


@dataclass(frozen=True)
class Trial:
    """Style pictures ``(n, s, s, 3)``, as many prompts ``(n, t, d)``, and the empty one."""

    styles: Tensor
    tokens: Tensor
    empty: Tensor

    def noise_shape(self, backbone: DiffusersBackbone) -> tuple[int, int, int, int]:
        """Return the shape of the latents of as many pictures."""
        channels, side = int(backbone.unet.config.in_channels), self.styles.shape[1]
        return len(self.styles), channels, *(side // backbone.latent_scale,) * 2


def blocks(backbone: DiffusersBackbone) -> list[str]:
    """Return the names of the U-Net's transformers, as "up_blocks.1.attentions.0."."""
    cut = ".transformer_blocks."
    names = [name.split(cut)[0] + "." for name in backbone.unet.attn_processors]
    return list(dict.fromkeys(names))


def style_block(backbone: DiffusersBackbone, adapter: Adapter, trial: Trial, log: Path) -> int:
    """Return the number of the block through which the pictures' style comes over best.

    Each is tried alone. What counts, by the mean of its ranks, is how near colours and texture are
    to the style picture's, and how little of its layout is taken over.

    Args:
        backbone: the model.
        adapter: taught in all blocks.
        trial: what is drawn.
        log: gets a line for each block.
    """
    names = blocks(backbone)
    found = np.array([_tried(backbone, adapter, name, trial) for name in names])
    ranks = rankdata(found, axis=0).mean(axis=1)
    with log.open("a", encoding="utf-8") as lines:
        for name, (colour, texture, layout), rank in zip(names, found, ranks, strict=True):
            lines.write(
                f"{name}: colours off {colour:.2f}, texture off {texture:.3f}, "
                f"layout of the style picture {layout:.3f}; mean rank {rank:.2f}\n"
            )
    return int(ranks.argmin())


@torch.no_grad()
def _tried(
    backbone: DiffusersBackbone, adapter: Adapter, block: str, trial: Trial
) -> Sequence[float]:
    """Return the means of what is off when only one block sees the pictures; lower is better."""
    noise = torch.randn(trial.noise_shape(backbone), generator=torch.Generator().manual_seed(SEED))
    sigmas = sampling_sigmas(backbone.sigmas, STEPS)
    embeddings = image_embedding(backbone, trial.styles)
    latents = []
    with adapted(backbone, adapter, block) as seen:
        for tokens, embedding, own in zip(trial.tokens, embeddings, noise, strict=True):
            seen[:] = [torch.stack([embedding, torch.zeros_like(embedding)])]
            prompts = [Context(t.to(backbone.device)) for t in (tokens[None], trial.empty)]
            start = noise_at(sigmas[0], own[None])
            latents.append(draw_latents(backbone, start, sigmas, Guidance(*prompts, GUIDANCE)))
    drawn = backbone.decode_latents(torch.cat(latents)).numpy()
    pairs = list(zip(drawn, trial.styles.numpy(), strict=True))
    figures = (colour_distance, texture_distance, structure_correlation)
    return [float(np.mean([figure(ours, style) for ours, style in pairs])) for figure in figures]
