"""The face and style imagery alignment loss (ACFun sec. 3.4, eq. 4), in five readings.

Eq. 4 asks that a noised picture I_i is denoised towards both the style picture and the face photo,
and leaves open what I_i is. Every reading here is one batch of two clean latents and, for each of
them, how much it is pulled to either target:

* ``staged`` (ours): the style picture and the face carried into the style's latent
  statistics as far as style_weight comes to face_weight, each pulled to itself; the face leads at
  high noise, the style at low noise. The channel means of the restyled face, which are its colours,
  count more than its details, and those of the noise stray.
* ``drawn`` (ours, the default): likewise, but at all but the highest noise the restyled face is
  one that the model itself draws, once, with the style picture's self-attention: texture as well as
  colours.
* ``paired``: the style picture and the face photo, each pulled to itself.
* ``imagery``: a picture drawn from noise under the current style, twice, pulled to both.
* ``blend``: the weighted mean of both latents, twice, pulled to both.

The last three are eq. 1 and 4 to the letter: white noise, and no pull but those of the equation.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import ACFunError
from .diffusion import Prediction, noise_level, prediction_weight

Alignment = Literal["staged", "drawn", "paired", "imagery", "blend"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)

STAGE_THRESHOLD = 0.55
STAGE_SHARPNESS = 12.0
# Above this noise level only a face's place and shape are learnt, and the photo knows them best.
HANDOVER = 0.85
FACE_FLOOR = 0.25
COLOUR_PULL = 4.0
# What starts pure noise is not quite without its own mean, which would tint each seed's picture;
# with means that stray in training a style learns to set them.
NOISE_OFFSET = 0.3


@dataclass(frozen=True, kw_only=True)
class AlignmentBatch:
    """What one step noises, and what it pulls each of the two pictures to."""

    latents: Tensor
    """Clean inputs, ``(2, c, h, w)``."""
    style: Tensor
    """The first target, ``(1, c, h, w)``."""
    face: Tensor
    """The second target, ``(1, c, h, w)``."""
    style_weights: tuple[float, float]
    """Pull of each input to ``style``, 0 or more."""
    face_weights: tuple[float, float]
    """Pull of each input to ``face``, 0 or more."""
    colour_weights: tuple[float, float] = (0.0, 0.0)
    """Pull of each input's channel means to those of ``face``, 0 or more."""
    noise_offset: float = 0.0
    """By how much the channel means of the noise stray, see ``sample_noise``; 0 is white noise."""


def restyle(face: Tensor, style: Tensor) -> Tensor:
    """Carry a face latent into a style latent's channel means and deviations.

    It is AdaIN (Huang and Belongie, 2017) on latents ``(1, c, h, w)``: a cheap stand-in for the
    paper's I_i, the picture between the two.
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
) -> AlignmentBatch:
    """Return the batch of one step under a reading of eq. 4.

    Args:
        alignment: the reading.
        style: latent of the style picture, ``(1, c, h, w)``.
        face: latent of the face photo, ``(1, c, h, w)``.
        sigma: the step's noise level; only ``staged`` and ``drawn`` look at it.
        style_weight: raising it must give more style; 0 or more.
        face_weight: raising it must give more of the face; 0 or more.
        imagery: I_i for the readings ``imagery`` and ``drawn``, ``(1, c, h, w)``.

    Raises:
        ACFunError: an unknown reading, or ``imagery`` without I_i.
    """
    if alignment == "staged":
        return _staged(style, face, restyle(face, style), sigma, style_weight, face_weight)
    if alignment == "drawn" and imagery is not None:
        between = torch.lerp(imagery, restyle(face, style), _lead(sigma, HANDOVER))
        return _staged(style, face, between, sigma, style_weight, face_weight)
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
        batch: inputs, targets and pulls, from :func:`alignment_batch`.
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


def _staged(
    style: Tensor,
    face: Tensor,
    restyled: Tensor,
    sigma: float,
    style_weight: float,
    face_weight: float,
) -> AlignmentBatch:
    share = style_weight / max(style_weight, face_weight)
    restyled = torch.lerp(face, restyled, share)
    lead = _lead(sigma, STAGE_THRESHOLD)
    return AlignmentBatch(
        latents=torch.cat([style, restyled]),
        style=style,
        face=restyled,
        style_weights=(2 * style_weight * (1 - lead), 0.0),
        face_weights=(0.0, 2 * face_weight * (FACE_FLOOR + (1 - FACE_FLOOR) * lead)),
        colour_weights=(0.0, COLOUR_PULL * face_weight),
        noise_offset=NOISE_OFFSET,
    )


def _lead(sigma: float, threshold: float) -> float:
    # The logistic function, of an argument that never overflows.
    return 1 / (1 + math.exp(-STAGE_SHARPNESS * (noise_level(sigma) - threshold)))
