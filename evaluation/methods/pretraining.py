"""Pretraining of what serves every pair, and the search for the U-Net's style block.

In SDXL the style block is ``up_blocks.0.attentions.1`` (InstantStyle), which no other U-Net has in
that place.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor
from tqdm import tqdm

from acfun_ops.backbones.backbone import Context
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.file_io import write_whole
from acfun_ops.sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas
from evaluation.toy.drawings import COUNT, SEED, Drawings, load_drawings

from ..metrics.image_statistics import colour_distance, structure_correlation, texture_distance
from .ip_adapter import Adapter, apply_adapter, image_embedding

DRAWINGS = 12_000
WARM_UP = 50
MAX_GRAD_NORM = 1.0


def load_first_drawings(folder: Path, count: int = DRAWINGS, workers: int = 1) -> Drawings:
    """Return the first drawings of the prior's training set, drawn once and kept in a folder.

    None of them is of a held-out style or family, as none of the training set is. They are the
    same, however many workers draw them.
    """
    return load_drawings(folder / f"drawings-{count}.npz", COUNT, SEED, workers, first=count)


def pretrain(
    parameters: Sequence[Tensor],
    loss: Callable[[torch.Generator], Tensor],
    steps: int,
    learning_rate: float,
    seed: int = 0,
) -> None:
    """Move parameters by AdamW along the loss of batches; the learning rate falls to nothing."""
    optimizer = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=0.01)
    for step in tqdm(range(steps), "pretraining", mininterval=20):
        rate = min(1, (step + 1) / WARM_UP) * math.cos(step / steps * math.pi / 2) ** 2
        for group in optimizer.param_groups:
            group["lr"] = learning_rate * rate
        lost = loss(torch.Generator().manual_seed(seed * 1_000_003 + step))
        optimizer.zero_grad()
        torch.autograd.backward(lost)
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        optimizer.step()


TRIAL_PAIRS = 8
TRIAL_STEPS, TRIAL_GUIDANCE, TRIAL_SEED = 20, 2.0, 5


@dataclass(frozen=True)
class Trial:
    """Style pictures ``(n, s, s, 3)``, as many prompts ``(n, t, d)``, and the empty one."""

    styles: Tensor
    tokens: Tensor
    empty: Tensor


def blocks(backbone: DiffusersBackbone) -> list[str]:
    """Return the names of the U-Net's transformers, as "up_blocks.1.attentions.0."."""
    cut = ".transformer_blocks."
    names = [name.split(cut)[0] + "." for name in backbone.unet.attn_processors]
    return list(dict.fromkeys(names))


def style_block(backbone: DiffusersBackbone, adapter: Adapter, trial: Trial, log: Path) -> int:
    """Return the number of the block through which the pictures' style comes over best.

    Each is tried alone. What counts, by the mean of its ranks, is how near colours and texture are
    to the style picture's, and how little of its layout is taken over. The log gets a line each.
    """
    names = blocks(backbone)
    found = np.array([_try_block(backbone, adapter, name, trial) for name in names])
    ranks = rankdata(found, axis=0).mean(axis=1)
    lines = [
        f"{name}: colours off {colour:.2f}, texture off {texture:.3f}, "
        f"layout of the style picture {layout:.3f}; mean rank {rank:.2f}\n"
        for name, (colour, texture, layout), rank in zip(names, found, ranks, strict=True)
    ]
    write_whole("".join(lines).encode(), log, "log")
    return int(ranks.argmin())


@torch.no_grad()
def _try_block(
    backbone: DiffusersBackbone, adapter: Adapter, block: str, trial: Trial
) -> Sequence[float]:
    """Return the means of what is off when only one block sees the pictures; lower is better."""
    shape = (len(trial.styles), *backbone.latents_shape(trial.styles.shape[1])[1:])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(TRIAL_SEED))
    sigmas = sampling_sigmas(backbone.sigmas, TRIAL_STEPS)
    embeddings = image_embedding(backbone, trial.styles)
    latents = []
    with apply_adapter(backbone, adapter, block) as seen:
        for tokens, embedding, own in zip(trial.tokens, embeddings, noise, strict=True):
            seen[:] = [torch.stack([embedding, torch.zeros_like(embedding)])]
            prompts = [Context(t.to(backbone.device)) for t in (tokens[None], trial.empty)]
            start = initial_noise(sigmas[0], own[None])
            latents.append(
                draw_latents(backbone, start, sigmas, Guidance(*prompts, TRIAL_GUIDANCE))
            )
    drawn = backbone.decode_latents(torch.cat(latents)).numpy()
    pairs = list(zip(drawn, trial.styles.numpy(), strict=True))
    figures = (colour_distance, texture_distance, structure_correlation)
    return [float(np.mean([figure(ours, style) for ours, style in pairs])) for figure in figures]
