"""A feed-forward network for arbitrary style transfer, pretrained once.

Of the kind of SANet (Park and Lee, 2019), StyTr2 (Deng et al., 2022) and AesPA-Net (Hong et al.,
2023), and none of them: encoder and decoder are the prior's own autoencoder in place of VGG and a
decoder trained for the purpose; only the network between them is learned.
"""

import math
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.images import to_squares
from evaluation.toy.reader import GROUPS

from ..benchmark import Images, LearnsOnce, Pair, Task
from .peers import encode_square, read_tensors, repeat_image, write_tensors
from .pretraining import load_first_drawings, pretrain

WIDTH, LAYERS, HEADS = 64, 3, 4
# In latents: where an even area has nothing else that tells one patch from the next.
PERIODS = (3, 5, 8)
PATCH = 3
CONTENT, STATISTICS, PATCHES, IDENTITY = 1.0, 3.0, 2.0, 2.0


class PatchTransfer(nn.Module):
    """Latents of a content, redrawn from the patches of a style's latents."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.patches = _convolutions(channels + 4 * len(PERIODS))
        self.layers = nn.ModuleList(PatchAttention() for _ in range(LAYERS))
        self.out = nn.Conv2d(WIDTH, channels, PATCH, padding=PATCH // 2)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """Return latents ``(b, c, h, w)`` for two of that shape; the style's may be larger."""
        drawn, patches = (self.patches(_add_position(latents)) for latents in (content, style))
        for layer in self.layers:
            drawn = layer(drawn, patches)
        return self.out(drawn)


class PatchAttention(nn.Module):
    """Each patch of the content takes in the style's patches that are like it (SANet's eq. 2)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value, self.back = (nn.Conv2d(WIDTH, WIDTH, 1) for _ in range(4))
        self.mix = _convolutions(WIDTH)

    def forward(self, content: Tensor, style: Tensor) -> Tensor:
        """Return features ``(b, d, h, w)`` of the content; likeness is without colour's scale."""
        tokens = partial(rearrange, pattern="b (n d) h w -> b n (h w) d", n=HEADS)
        query = tokens(self.query(F.instance_norm(content)))
        key = tokens(self.key(F.instance_norm(style)))
        taken = F.scaled_dot_product_attention(query, key, tokens(self.value(style)))
        taken = rearrange(taken, "b n (h w) d -> b (n d) h w", h=content.shape[2])
        content = content + self.back(taken)
        return content + self.mix(content)


def _convolutions(channels: int) -> nn.Sequential:
    """Return two convolutions to features ``(b, WIDTH, h, w)``."""
    first, second = (nn.Conv2d(n, WIDTH, PATCH, padding=PATCH // 2) for n in (channels, WIDTH))
    return nn.Sequential(first, nn.GELU(), second)


def transfer_loss(
    backbone: DiffusersBackbone, network: PatchTransfer, content: Tensor, style: Tensor
) -> Tensor:
    """Return the loss of redrawing images ``(b, s, s, 3)`` in [0, 1] in styles, a scalar.

    Kept is what the content's features are without their statistics; taken over are means and
    deviations at every scale (SANet) and the nearest patches (Li and Wand, 2016); a picture in its
    own style is itself (SANet's identity loss, here of latents).
    """
    latents = [backbone.encode_pictures(pictures) for pictures in (content, style)]
    redrawn = network(*latents)
    with torch.no_grad():
        vae, pixels = backbone.vae, partial(rearrange, pattern="b h w c -> b c h w")
        kept, taken = (
            features(backbone, pixels(one).to(backbone.device, vae.dtype) * 2 - 1)
            for one in (content, style)
        )
    seen = features(backbone, _decode(backbone, redrawn))
    off_content = F.mse_loss(F.instance_norm(seen[-1]), F.instance_norm(kept[-1]))
    off_statistics = torch.stack([*map(statistics_loss, seen, taken)]).mean()
    off_patches = torch.stack([*map(patch_loss, seen[1:], taken[1:])]).mean()
    off_itself = torch.stack([F.mse_loss(network(one, one), one) for one in latents]).mean()
    return (
        CONTENT * off_content
        + STATISTICS * off_statistics
        + PATCHES * off_patches
        + IDENTITY * off_itself
    )


def features(backbone: DiffusersBackbone, pixels: Tensor) -> list[Tensor]:
    """Return what the autoencoder's encoder sees in pixels ``(b, 3, s, s)``, the finest first.

    Of each size the last convolution's output counts, but for the one that gives latents.
    """
    encoder = backbone.vae.encoder
    convolutions = [m for m in encoder.modules() if isinstance(m, nn.Conv2d)][:-1]
    seen: dict[int, Tensor] = {}

    def keep(module: nn.Module, args: Any, output: Tensor) -> None:
        seen[output.shape[-1]] = output

    with ExitStack() as hooks:
        for convolution in convolutions:
            hooks.enter_context(convolution.register_forward_hook(keep))
        encoder(pixels)
    return [seen[side] for side in sorted(seen, reverse=True)]


def statistics_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return how far means and deviations of channels ``(b, d, h, w)`` are, in the style's unit."""
    unit = theirs.std() + 1e-6
    pairs = zip(torch.std_mean(ours, dim=(2, 3)), torch.std_mean(theirs, dim=(2, 3)), strict=True)
    return torch.stack([F.mse_loss(a / unit, b / unit) for a, b in pairs]).sum()


def patch_loss(ours: Tensor, theirs: Tensor) -> Tensor:
    """Return how far each patch of features is from the style's patch that is most like it."""
    unit = theirs.std() + 1e-6
    mine, its = (
        F.unfold(one / unit, PATCH, stride=max(1, one.shape[-1] // 16)).transpose(1, 2)
        for one in (ours, theirs)
    )
    with torch.no_grad():
        likeness = F.normalize(mine, dim=-1) @ F.normalize(its, dim=-1).transpose(1, 2)
        nearest = likeness.argmax(dim=-1, keepdim=True).expand(-1, -1, its.shape[-1])
    return F.mse_loss(mine, its.gather(1, nearest))


def _add_position(latents: Tensor) -> Tensor:
    """Return latents with waves of their places as further channels."""
    waves = []
    for axis in (2, 3):
        shape = [1, 1, 1, 1]
        shape[axis] = latents.shape[axis]
        place = torch.arange(latents.shape[axis], device=latents.device).view(shape)
        for period in PERIODS:
            turn = 2 * math.pi * place / period
            waves += [turn.sin(), turn.cos()]
    whole = [wave.expand(len(latents), 1, *latents.shape[2:]) for wave in waves]
    return torch.cat([latents, *whole], dim=1)


def _decode(backbone: DiffusersBackbone, latents: Tensor) -> Tensor:
    """Decode as :meth:`DiffusersBackbone.decode_latents` does, to pixels, with gradients."""
    config = backbone.vae.config
    scaled = latents / config.scaling_factor + (getattr(config, "shift_factor", None) or 0.0)
    return backbone.vae.decode(scaled.to(backbone.vae.dtype)).sample


BATCH = 8
PAINTED = list(GROUPS).index("medium")


@dataclass(frozen=True, kw_only=True)
class PatchTransferPeer(LearnsOnce):
    """Stands for AesPA-Net and StyTr2 as what it is: see :class:`PatchTransfer`.

    Taught on photos and paintings of the training set. It reads no prompt, and the samples of a
    pair are one picture.
    """

    learning_rate: float = 1e-3
    seed: int = 0

    @override
    def prepare(self, folder: Path, workers: int) -> None:
        load_first_drawings(folder, workers=workers)

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """Every pair gives the same."""
        drawn = load_first_drawings(path.parent)
        is_painting = drawn.labels[:, PAINTED] > 0
        sets = [np.flatnonzero(~is_painting), np.flatnonzero(is_painting)]
        network = _network(backbone, self.seed)

        def loss(generator: torch.Generator) -> Tensor:
            chosen = (n[torch.randint(len(n), (BATCH,), generator=generator).numpy()] for n in sets)
            images = (torch.from_numpy(drawn.images[numbers]).float() / 255 for numbers in chosen)
            squares = (to_squares(one, backbone.native_side, "drawings") for one in images)
            return transfer_loss(backbone, network, *squares)

        pretrain(list(network.parameters()), loss, steps, self.learning_rate, self.seed)
        write_tensors(path, network=network.state_dict())

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        backbone, pair = task.backbone, task.pair
        network = _network(backbone, self.seed)
        network.load_state_dict(read_tensors(task.learnt, backbone.device)["network"])
        face, style = (encode_square(backbone, image) for image in (pair.face, pair.style))
        return repeat_image(task, network(face, style))


def _network(backbone: DiffusersBackbone, seed: int) -> PatchTransfer:
    with torch.random.fork_rng(devices=[]):  # torch's layers draw from its global generator
        torch.manual_seed(seed)
        network = PatchTransfer(int(backbone.unet.config.in_channels))
    return network.to(backbone.device)
