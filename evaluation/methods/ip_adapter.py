"""An image-prompt adapter: what it is, how it is taught, and how it hangs on a U-Net for a while.

IP-Adapter (Ye et al., 2023): each cross-attention also attends, by keys and values of its own, to a
few tokens made of one picture's CLIP embedding. The modules are diffusers' own, which also load the
published adapters; the pretraining follows the paper's.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.embeddings import ImageProjection
from torch import Tensor, nn

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone

TOKENS = 4
DROPPED = 0.05

# It would warn at every drawing that an empty list of modules stays in single precision.
WARNS = logging.getLogger("diffusers.models.modeling_utils")

Adapter = dict[str, dict[str, Tensor]]
"""The groups of an IP-Adapter file, ``image_proj`` and ``ip_adapter``, with its names."""


def new_adapter(backbone: DiffusersBackbone, seed: int) -> Adapter:
    """Return an adapter whose keys and values are those of the prompt, untaught."""
    unet = backbone.unet
    with torch.random.fork_rng(devices=[]):  # torch's layers draw from its global generator
        torch.manual_seed(seed)
        blank = torch.zeros(1, backbone.native_side, backbone.native_side, 3)
        width = int(image_embedding(backbone, blank).shape[-1])
        projection = ImageProjection(width, unet.config.cross_attention_dim, TOKENS)
    names = [name for name in unet.attn_processors if name.endswith("attn2.processor")]
    attentions = [unet.get_submodule(name.removesuffix(".processor")) for name in names]
    weights = [{part: getattr(one, f"to_{part}").weight for part in "kv"} for one in attentions]
    return as_adapter(_name_groups(dict(projection.named_parameters()), weights))


@contextmanager
def apply_adapter(
    backbone: DiffusersBackbone, adapter: Adapter, blocks: str = "", scale: float = 1.0
) -> Iterator[list[Tensor]]:
    """Hang an adapter on a U-Net for the length of a ``with`` block.

    Args:
        backbone: whose U-Net it is.
        adapter: of this U-Net.
        blocks: a part of the names of the attentions that see the image; "" is in all.
        scale: of what they see.

    Yields:
        The list of embeddings ``(k, d)`` that the next calls see; put one tensor into it. A batch
        of ``n`` latents has ``n / k`` of each, the first ones first.
    """
    unet = backbone.unet
    before, kind = unet.attn_processors, unet.config.encoder_hid_dim_type
    seen: list[Tensor] = []

    def show(module: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        embeddings = seen[0].repeat_interleave(len(args[0]) // len(seen[0]), dim=0)
        known = kwargs.get("added_cond_kwargs") or {}
        kwargs["added_cond_kwargs"] = {**known, "image_embeds": [embeddings[:, None]]}
        return args, kwargs

    level = WARNS.level
    WARNS.setLevel(logging.ERROR)
    try:
        unet._load_ip_adapter_weights([adapter], low_cpu_mem_usage=False)
    finally:
        WARNS.setLevel(level)
    for name, processor in unet.attn_processors.items():
        if hasattr(processor, "to_k_ip"):
            processor.scale = [scale if blocks in name else 0.0]
    try:
        with unet.register_forward_pre_hook(show, with_kwargs=True):
            yield seen
    finally:
        unet.set_attn_processor(before)
        unet.encoder_hid_proj = None
        unet.config.encoder_hid_dim_type = kind


def adapter_parameters(backbone: DiffusersBackbone) -> dict[str, dict[str, nn.Parameter]]:
    """Return the weights of the adapter that hangs on a U-Net, by group and name, to be taught."""
    unet = backbone.unet
    projection = unet.encoder_hid_proj.image_projection_layers[0]
    weights = [
        {part: getattr(processor, f"to_{part}_ip")[0].weight for part in "kv"}
        for processor in unet.attn_processors.values()
        if hasattr(processor, "to_k_ip")
    ]
    return _name_groups(dict(projection.named_parameters()), weights)


def _name_groups(
    projection: Mapping[str, nn.Parameter], weights: Sequence[Mapping[str, nn.Parameter]]
) -> dict[str, dict[str, nn.Parameter]]:
    """Return the projection's weights, and each cross-attention's for keys and values, by name."""
    return {
        "image_proj": {n.replace("image_embeds", "proj"): p for n, p in projection.items()},
        # As in the published files: the cross-attentions are every second of all attentions.
        "ip_adapter": {
            f"{2 * number + 1}.to_{part}_ip.weight": weight
            for number, pair in enumerate(weights)
            for part, weight in pair.items()
        },
    }


@torch.no_grad()
def image_embedding(backbone: DiffusersBackbone, pictures: Tensor) -> Tensor:
    """Return the CLIP embedding of each of some pictures ``(n, s, s, 3)`` in [0, 1]: ``(n, d)``.

    That of the projection, where the image encoder has one, else its pooled output.
    """
    seen: list[Any] = []
    model = backbone.vision.model
    with model.register_forward_hook(lambda module, args, output: seen.append(output)):
        backbone.style_tokens(pictures)
    embedding = getattr(seen[0], "image_embeds", None)
    return (seen[0].pooler_output if embedding is None else embedding).float()


def drop_conditions(
    tokens: Tensor, embeddings: Tensor, empty: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Return a batch's prompts and embeddings, some empty: the one, the other, or both (5 % each).

    tokens: of the prompts ``(b, t, d)``. embeddings: ``(b, e)``. empty: prompt ``(1, t, d)``.
    """
    chance = torch.rand(len(tokens), generator=generator)
    no_text = (chance < 2 * DROPPED)[:, None, None]
    no_image = ((chance >= DROPPED) & (chance < 3 * DROPPED))[:, None]
    return torch.where(no_text, empty, tokens), embeddings.masked_fill(no_image, 0.0)


def prediction_loss(
    backbone: DiffusersBackbone, clean: Tensor, tokens: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the squared error of the U-Net's own prediction, each at a random time, a scalar.

    clean: latents ``(b, c, h, w)``. tokens: of the prompts ``(b, t, d)``.
    """
    times = torch.randint(len(backbone.sigmas), (len(clean),), generator=generator)
    noise = torch.randn(clean.shape, generator=generator)
    levels = backbone.sigmas.cpu()[times].view(-1, 1, 1, 1)
    alpha = 1 / (1 + levels.square()).sqrt()
    sigma = levels * alpha
    truth = noise if backbone.prediction == "noise" else alpha * noise - sigma * clean
    noisy = (alpha * clean + sigma * noise).to(backbone.device)
    output = backbone.unet(noisy, times.to(backbone.device), tokens.to(backbone.device)).sample
    return (output.float() - truth.to(backbone.device)).square().mean()


def as_adapter(groups: Mapping[str, Mapping[str, Tensor]]) -> Adapter:
    """Return what was read from a file, or is being taught, as an adapter by itself."""
    return {
        group: {name: tensor.detach().clone() for name, tensor in members.items()}
        for group, members in groups.items()
        if group in ("image_proj", "ip_adapter")
    }
