"""The prior's image encoder: a small CLIP vision tower, trained against captions."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm
from transformers import CLIPVisionConfig, CLIPVisionModel

from acfun_ops.backbones.image_encoder import CLIP_MEAN, CLIP_STD

WIDTH = 96
BATCH = 128


def new_image_encoder() -> CLIPVisionModel:
    """Return the image encoder of 64 x 64 pictures in 8 x 8 patches, untrained."""
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=3 * WIDTH,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=64,
        patch_size=8,
        projection_dim=WIDTH,
    )
    return CLIPVisionModel(config)


def train_image_encoder(
    model: CLIPVisionModel,
    text_encoder: nn.Module,
    pictures: np.ndarray,
    ids: Tensor,
    steps: int,
    seed: int,
) -> float:
    """Train both towers by CLIP's contrastive loss; return how often an image finds its caption.

    text_encoder: a fresh one, only used here. pictures: ``(n, 64, 64, 3)`` in uint8. ids: of the
    captions ``(n, t)``.
    """
    generator = torch.Generator().manual_seed(seed)
    heads = nn.ModuleList([nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, WIDTH)])
    scale = nn.Parameter(torch.tensor(2.5))
    parameters = [*model.parameters(), *text_encoder.parameters(), *heads.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, steps, pct_start=0.1)
    spoken = torch.nonzero(ids[:, 1] != ids[:, -1])[:, 0]
    recent: list[float] = []
    for _ in tqdm(range(steps), "image encoder", mininterval=20):
        chosen = spoken[torch.randint(len(spoken), (BATCH,), generator=generator)]
        seen = model(normalize(pictures[chosen.numpy()])).pooler_output
        read = text_encoder(ids[chosen]).pooler_output
        logits = scale.exp() * F.normalize(heads[0](seen)) @ F.normalize(heads[1](read)).T
        truth = torch.arange(BATCH)
        loss = F.cross_entropy(logits, truth) + F.cross_entropy(logits.T, truth)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        schedule.step()
        recent = [*recent[-99:], float((logits.argmax(dim=1) == truth).float().mean())]
    return sum(recent) / len(recent)


def normalize(pictures: np.ndarray) -> Tensor:
    """Return uint8 ``(n, s, s, 3)`` as CLIP's pixels ``(n, 3, s, s)``."""
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    mean, std = (pixels.new_tensor(v).view(3, 1, 1) for v in (CLIP_MEAN, CLIP_STD))
    return (pixels - mean) / std
