"""Pictures drawn with a trained style on any Backbone."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context
from ..errors import ACFunError
from ..method.concrete_fusion import FULL_STRENGTH, PartStrengths, attached
from ..method.diffusion import sample_euler, sampling_sigmas
from ..style.style import Style
from .drawing import guided_denoiser


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What to draw and how.

    prompt: any prompt, with the style's pseudo-word where it is wanted. negative: the prompt to
    stay away from. seed: of the noise, drawn on the CPU. steps: of the sampler. guidance: scale of
    classifier-free guidance; 1 is off. size: side in pixels, 0 for the model's own. strength: of
    the style's abstract part (AFun). strengths: of its concrete part (CFun), by part of the U-Net.
    """

    prompt: str
    negative: str = ""
    seed: int = 0
    steps: int = 30
    guidance: float = 7.0
    size: int = 0
    strength: float = 1.0
    strengths: PartStrengths = FULL_STRENGTH

    def __post_init__(self) -> None:
        if self.steps < 1 or self.guidance < 0 or not 0 <= self.seed < 2**64:
            raise ACFunError(
                f"steps is {self.steps}, guidance {self.guidance:g} and seed {self.seed}; expected "
                "steps of 1 or more, guidance of 0 or more and a seed of 0 to 2^64 - 1."
            )
        if self.size < 0 or self.size % 8:
            raise ACFunError(f"size is {self.size}; expected 0 or a multiple of 8 pixels.")


def check_fits(style: Style, backbone: Backbone) -> None:
    """Refuse a style that was trained on another kind of model.

    Raises:
        ACFunError: family, context width or blocks differ.
    """
    points = backbone.insert_points(style.facts.insert_at)
    widths = {block: point.channels for block, point in points.items()}
    context = backbone.encode_prompt("", style.facts.pseudo_word, {}).tokens.shape[-1]
    same = (style.facts.family, style.context_width, style.block_widths)
    if same != (backbone.family, context, widths):
        raise ACFunError(
            f"The style was trained on {style.facts.family} ({len(style.concrete)} blocks, "
            f"embeddings {style.context_width} wide); this model is {backbone.family} "
            f"({len(widths)} blocks, embeddings {context} wide) and differs in these or in block "
            "widths. Use a model like the one it was trained on, or train a new style."
        )


@torch.no_grad()
def draw_picture(
    backbone: Backbone,
    drawing: Drawing,
    style: Style | None = None,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """Return a picture ``(1, s, s, 3)`` in [0, 1]; the same inputs give the same picture.

    Args:
        backbone: the model; it is left as it was.
        drawing: what and how.
        style: applied as the nodes apply it; None draws with the plain model.
        on_step: is called after each step of the sampler.

    Raises:
        ACFunError: the style does not fit the model.
    """
    styled = _context(backbone, drawing, style)
    plain = backbone.encode_prompt(drawing.negative, "", {}) if drawing.guidance != 1 else None
    guided = guided_denoiser(backbone, backbone.compute_dtype, styled, plain, drawing.guidance)

    def denoise(noisy: Tensor, sigma: Tensor) -> Tensor:
        denoised = guided(noisy, sigma)
        on_step()
        return denoised

    side = drawing.size or backbone.native_side
    shape = backbone.encode_pictures(torch.zeros(1, side, side, 3)).shape
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(drawing.seed))
    inserts, modules = {}, {}
    if style is not None:
        inserts = {b: i.to(backbone.device) for b, i in style.inserts().items()}
        points = backbone.insert_points(style.facts.insert_at)
        modules = {block: point.module for block, point in points.items()}
    with attached(inserts, modules, drawing.strengths):
        sigmas = sampling_sigmas(backbone.sigmas, drawing.steps)
        latent = sample_euler(denoise, noise.to(backbone.device), sigmas)
    return backbone.decode_latents(latent)


def _context(backbone: Backbone, drawing: Drawing, style: Style | None) -> Context:
    if style is None:
        return backbone.encode_prompt(drawing.prompt, "", {})
    check_fits(style, backbone)
    context = backbone.encode_prompt(drawing.prompt, style.facts.pseudo_word, style.vectors)
    fusion = style.abstract_fusion().to(backbone.device)
    style_tokens = style.style_tokens.to(backbone.device)
    return Context(fusion(context.tokens, style_tokens, drawing.strength), context.pooled)
