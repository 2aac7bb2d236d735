"""Pictures drawn with a trained style on any Backbone."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context
from ..errors import ACFunError
from ..method.concrete_fusion import FoldedFusion
from ..method.injection import FULL_STRENGTH, PartStrengths, Site, attach_adapters, fold_adapters
from ..style.compatibility import ModelShape, check_fits
from ..style.style import Style
from .sampler import Guidance, draw_latents, initial_noise, sampling_sigmas


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What to draw and how."""

    prompt: str
    """Any prompt, with the style's pseudo-word where it is wanted."""
    negative: str = ""
    """The prompt to stay away from."""
    seed: int = 0
    """Of the noise, which is sampled on the CPU."""
    steps: int = 30
    """Of the sampler, 1 or more."""
    guidance: float = 7.0
    """Scale of classifier-free guidance, 0 or more; 1 is off."""
    size: int = 0
    """Side in pixels, a multiple of 8; 0 for the model's own."""
    strength: float = 1.0
    """Of the style's abstract part (AFun)."""
    strengths: PartStrengths = FULL_STRENGTH
    """Of its concrete part (CFun), by part of the U-Net."""

    def __post_init__(self) -> None:
        if self.steps < 1 or self.guidance < 0 or not 0 <= self.seed < 2**64:
            raise ACFunError(
                f"steps is {self.steps}, guidance {self.guidance:g} and seed {self.seed}; expected "
                "steps of 1 or more, guidance of 0 or more and a seed of 0 to 2^64 - 1."
            )
        if self.size < 0 or self.size % 8:
            raise ACFunError(f"size is {self.size}; expected 0 or a multiple of 8 pixels.")


@torch.no_grad()
def draw_picture(
    backbone: Backbone,
    drawing: Drawing,
    style: Style | None = None,
    on_step: Callable[[], bool | None] = lambda: None,
) -> Tensor:
    """Return a picture ``(1, s, s, 3)`` in [0, 1]; the same inputs give the same picture.

    Args:
        backbone: the model; it is left as it was.
        drawing: what and how.
        style: applied as the nodes apply it; None draws with the plain model.
        on_step: is called after each step of the sampler; True stops with StoppedError.

    Raises:
        ACFunError: the style does not fit the model.
    """
    plain = backbone.encode_prompt(drawing.negative, "", {})
    adapters: dict[str, FoldedFusion] = {}
    modules: dict[str, Site] = {}
    if style is None:
        context = backbone.encode_prompt(drawing.prompt, "", {})
    else:
        points = backbone.insert_points(style.facts.insert_at)
        widths = {block: point.channels for block, point in points.items()}
        check_fits(style, ModelShape(backbone.family, plain.tokens.shape[-1], widths))
        context = encode_styled(
            backbone.encode_prompt, drawing.prompt, style, drawing.strength, backbone.device
        )
        strengths = drawing.strengths.block_strengths(style.concrete)
        adapters = fold_adapters(style.inserts(), strengths, backbone.device)
        modules = {block: point.module for block, point in points.items()}
    shape = backbone.latents_shape(drawing.size or backbone.native_side)
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(drawing.seed))
    sigmas = sampling_sigmas(backbone.sigmas, drawing.steps)
    guidance = Guidance(context, plain if drawing.guidance != 1 else None, drawing.guidance)
    with attach_adapters(adapters, modules):
        latents = draw_latents(
            backbone, initial_noise(sigmas[0], noise), sigmas, guidance, on_step=on_step
        )
    return backbone.decode_latents(latents)


def encode_styled(
    encode: Callable[[str, str, Mapping[str, Tensor]], Context],
    prompt: str,
    style: Style,
    strength: float,
    device: torch.device,
) -> Context:
    """Encode a prompt with a style: S* placed, and fused with each abstract part.

    Args:
        encode: a model's ``encode_prompt``, see Backbone.
        prompt: any prompt, with the style's pseudo-word where it is wanted.
        style: fits the model.
        strength: of the abstract part (AFun).
        device: where AFun computes.
    """
    contexts = []
    for share, member in style.members:
        context = encode(prompt, style.facts.pseudo_word, member.vectors)
        fusion = member.abstract_fusion().to(device)
        fused = fusion(context.tokens.to(device), member.style_tokens.to(device), strength)
        contexts.append((share, Context(fused, context.pooled)))
    return _sum_contexts(contexts) if len(contexts) > 1 else contexts[0][1]


def _sum_contexts(contexts: list[tuple[float, Context]]) -> Context:
    tokens = torch.stack([share * context.tokens for share, context in contexts]).sum(dim=0)
    pooled = [share * context.pooled for share, context in contexts if context.pooled is not None]
    return Context(tokens, torch.stack(pooled).sum(dim=0) if pooled else None)
