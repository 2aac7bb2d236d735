"""The face and style imagery alignment loss (ACFun sec. 3.4, eq. 4), in five variants.

Eq. 4 asks that a noised image I_i is denoised towards both the style image and the face photo,
and leaves open what I_i is. Every variant here is one batch of two clean latents and, for each of
them, the weights of its two targets:

* ``staged`` (ours): the style image, and the face moved towards the style's latent statistics by
  the ratio of style_weight to face_weight, each with itself as target; the face leads at high
  noise, the style at low noise. The channel means of the restyled face, which are its colours,
  weigh more than its details, and the noise has an offset.
* ``drawn`` (ours, the default): the same, but except at the highest noise the restyled face is one
  that the model itself generates, once, with the style image's self-attention: texture as well as
  colours.
* ``paired``: the style image and the face photo, each with itself as target.
* ``imagery``: an image generated from noise under the current style, twice, with both targets.
* ``blend``: the weighted mean of both latents, twice, with both targets.

The last three are eq. 1 and 4 to the letter: white noise, and no term but those of the equation.
"""

import math
from dataclasses import asdict, dataclass, replace
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import ACFunError
from .diffusion import Prediction, noise_level, prediction_weight

Alignment = Literal["staged", "drawn", "paired", "imagery", "blend"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)


@dataclass(frozen=True, kw_only=True)
class Redrawing:
    """How a face is redrawn in a style, see ``sampling/style_injection.py``."""

    kept_query: float = 0.75
    """Share of the face's own query, 0 to 1: more keeps more of the face."""
    temperature: float = 1.5
    """By which the attention to the style is sharpened."""
    steps: int = 20
    """Of the inversion and of the drawing."""
    guidance: float = 1.0
    """Scale of classifier-free guidance while the face is drawn; 1 is off."""


@dataclass(frozen=True, kw_only=True)
class AlignmentSettings:
    """The numbers of the alignment loss that no user sets.

    The defaults are those of release 0.2.0 and never change, as what differs from them names runs
    and rows; a better number goes into :data:`SETTINGS`. Noise levels are 0 (clean) to 1 (noise).
    """

    stage_threshold: float = 0.55
    """``staged`` and ``drawn``: the noise level above which the face leads."""
    stage_sharpness: float = 12.0
    """Slope of the change at ``stage_threshold`` and at ``handover``."""
    handover: float = 0.85
    """``drawn``: the noise level above which the photo gives the face its shape; 10 is never."""
    face_floor: float = 0.25
    """Weight of the face where the style leads, as a share of that where the face leads."""
    colour_weight: float = 4.0
    """Weight of the face's channel means, relative to ``face_weight``."""
    noise_offset: float = 0.3
    """Offset noise, see ``sample_noise``.

    The noise that sampling starts from has a mean, which would tint each seed's image; a style
    trained with offset noise learns to set the means.
    """
    even_levels: bool = True
    """Whether successive steps cover the noise levels evenly, see ``sample_sigma``."""
    imagery_steps: int = 10
    """``imagery``: sampling steps of I_i."""
    imagery_every: int = 25
    """``imagery``: training steps after which I_i is generated anew."""
    # Sharper than StyleID has it; guided by the words of the prompt, as that keeps the face.
    redrawing: Redrawing = Redrawing(temperature=2.5, steps=10, guidance=2.0)
    """``drawn``: how I_i is made."""

    def changes(self) -> dict[str, float]:
        """Return the numbers that differ from those of release 0.2.0, by name."""
        first = _flat(AlignmentSettings())
        return {name: value for name, value in _flat(self).items() if value != first[name]}


SETTINGS = AlignmentSettings(
    colour_weight=10.0,
    noise_offset=0.1,
    redrawing=replace(AlignmentSettings.redrawing, steps=20),
)
"""The product's, chosen on pairs outside the evaluation's table (``evaluation/README.md``)."""


@dataclass(frozen=True, kw_only=True)
class AlignmentBatch:
    """The inputs of one step, their targets, and the weight of each target."""

    latents: Tensor
    """Clean inputs, ``(2, c, h, w)``."""
    style: Tensor
    """The first target, ``(1, c, h, w)``."""
    face: Tensor
    """The second target, ``(1, c, h, w)``."""
    style_weights: tuple[float, float]
    """Weight of ``style`` as the target of each input, 0 or more."""
    face_weights: tuple[float, float]
    """Weight of ``face`` as the target of each input, 0 or more."""
    colour_weights: tuple[float, float] = (0.0, 0.0)
    """Weight of the channel means of ``face`` as the target of each input's, 0 or more."""
    noise_offset: float = 0.0
    """Offset noise, see ``sample_noise``; 0 is white noise."""


def match_statistics(face: Tensor, style: Tensor) -> Tensor:
    """Return a face latent with a style latent's channel means and deviations.

    It is AdaIN (Huang and Belongie, 2017) on latents ``(1, c, h, w)``: a cheap stand-in for the
    paper's I_i, the image between the two.
    """
    variance, mean = torch.var_mean(face, dim=(2, 3), keepdim=True, correction=0)
    style_variance, style_mean = torch.var_mean(style, dim=(2, 3), keepdim=True, correction=0)
    return (face - mean) * torch.sqrt((style_variance + 1e-6) / (variance + 1e-6)) + style_mean


def alignment_batch(
    alignment: Alignment,
    style: Tensor,
    face: Tensor,
    sigma: float,
    style_weight: float,
    face_weight: float,
    imagery: Tensor | None = None,
    settings: AlignmentSettings = SETTINGS,
) -> AlignmentBatch:
    """Return the batch of one step under a variant of eq. 4.

    Args:
        alignment: the variant.
        style: latent of the style image, ``(1, c, h, w)``.
        face: latent of the face photo, ``(1, c, h, w)``.
        sigma: the step's noise level; only ``staged`` and ``drawn`` look at it.
        style_weight: raising it must give more style; 0 or more.
        face_weight: raising it must give more of the face; 0 or more.
        imagery: I_i for the variants ``imagery`` and ``drawn``, ``(1, c, h, w)``.
        settings: the numbers of ``staged`` and ``drawn``.

    Raises:
        ACFunError: an unknown variant, or ``imagery`` without I_i.
    """
    if alignment == "staged" or (alignment == "drawn" and imagery is not None):
        restyled = match_statistics(face, style)
        if alignment == "drawn" and imagery is not None:
            handover = _lead(sigma, settings.handover, settings)
            restyled = torch.lerp(imagery, restyled, handover)
        share = style_weight / max(style_weight, face_weight)
        restyled = torch.lerp(face, restyled, share)
        lead = _lead(sigma, settings.stage_threshold, settings)
        floor = settings.face_floor
        return AlignmentBatch(
            latents=torch.cat([style, restyled]),
            style=style,
            face=restyled,
            style_weights=(2 * style_weight * (1 - lead), 0.0),
            face_weights=(0.0, 2 * face_weight * (floor + (1 - floor) * lead)),
            colour_weights=(0.0, settings.colour_weight * face_weight),
            noise_offset=settings.noise_offset,
        )
    if alignment == "paired":
        return AlignmentBatch(
            latents=torch.cat([style, face]),
            style=style,
            face=face,
            style_weights=(style_weight, 0.0),
            face_weights=(0.0, face_weight),
        )
    if alignment == "blend":
        shared = (style_weight * style + face_weight * face) / (style_weight + face_weight)
    elif alignment == "imagery" and imagery is not None:
        shared = imagery
    else:
        raise ACFunError(
            "'{alignment}' is no reading of the alignment loss that can be used here; "
            "expected {choices}, and a generated picture for 'imagery' and 'drawn'.",
            alignment=alignment,
            choices=", ".join(ALIGNMENTS),
        )
    return AlignmentBatch(
        latents=torch.cat([shared, shared]),
        style=style,
        face=face,
        style_weights=(style_weight / 2, style_weight / 2),
        face_weights=(face_weight / 2, face_weight / 2),
    )


def alignment_loss(
    denoised: Tensor,
    batch: AlignmentBatch,
    sigma: float,
    prediction: Prediction,
    face_mask: Tensor | None = None,
) -> Tensor:
    """Return eq. 4 for one step, a scalar.

    Args:
        denoised: the model's clean latents for ``batch.latents`` noised, ``(2, c, h, w)``.
        batch: inputs, targets and weights, from :func:`alignment_batch`.
        sigma: the step's noise level.
        prediction: what the checkpoint predicts; the loss is its own squared error (eq. 1).
        face_mask: ``(1, 1, h, w)`` with mean 1, weights the face term in space.
    """
    terms = [denoised.new_zeros(())]
    weights = (batch.style_weights, batch.face_weights, batch.colour_weights)
    for clean, to_style, to_face, to_colours in zip(denoised.unsqueeze(1), *weights, strict=True):
        if to_style:
            terms.append(to_style * (clean - batch.style).square().mean())
        if to_face:
            error = (clean - batch.face).square()
            terms.append(to_face * (error if face_mask is None else error * face_mask).mean())
        if to_colours:
            means = (clean - batch.face).mean(dim=(2, 3))
            terms.append(to_colours * means.square().mean())
    return prediction_weight(sigma, prediction) * torch.stack(terms).sum()


def _lead(sigma: float, threshold: float, settings: AlignmentSettings) -> float:
    # The logistic function, of an argument that never overflows.
    return 1 / (1 + math.exp(-settings.stage_sharpness * (noise_level(sigma) - threshold)))


def _flat(settings: AlignmentSettings) -> dict[str, float]:
    flat = asdict(settings)
    redrawing = flat.pop("redrawing")
    return flat | {f"redrawing_{name}": value for name, value in redrawing.items()}
