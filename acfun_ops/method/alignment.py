"""The face and style imagery alignment loss (ACFun sec. 3.4, eq. 4), in four readings.

Eq. 4 asks that a noised picture I_i is denoised towards both the style picture and the face photo,
and leaves open what I_i is. Every reading here is one batch of two clean latents and, for each of
them, how much it is pulled to either target:

* ``staged`` (ours, the default): the style picture and the face carried into the style's latent
  statistics as far as style_weight comes to face_weight, each pulled to itself; the face leads at
  high noise, the style at low noise. The channel means of the restyled face, which are its colours,
  count more than its details.
* ``paired``: the style picture and the face photo, each pulled to itself.
* ``imagery``: a picture drawn from noise under the current style, twice, pulled to both.
* ``blend``: the weighted mean of both latents, twice, pulled to both.
"""

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..errors import ACFunError
from .diffusion import Prediction, noise_level, prediction_weight

Alignment = Literal["staged", "paired", "imagery", "blend"]
ALIGNMENTS: tuple[Alignment, ...] = get_args(Alignment)

STAGE_THRESHOLD = 0.55
STAGE_SHARPNESS = 12.0
FACE_FLOOR = 0.25
COLOUR_PULL = 4.0


@dataclass(frozen=True)
class AlignmentBatch:
    """What one step noises, and what it pulls each of the two pictures to.

    latents: clean inputs ``(2, c, h, w)``. style, face: the two targets ``(1, c, h, w)``.
    style_weights, face_weights: ``(2,)``, the pull of each input to either target. colour_weights:
    ``(2,)``, the pull of each input's channel means to those of ``face``.
    """

    latents: Tensor
    style: Tensor
    face: Tensor
    style_weights: Tensor
    face_weights: Tensor
    colour_weights: Tensor


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
    sigma: Tensor,
    style_weight: float,
    face_weight: float,
    imagery: Tensor | None = None,
) -> AlignmentBatch:
    """Return the batch of one step under a reading of eq. 4.

    Args:
        alignment: the reading.
        style: latent of the style picture, ``(1, c, h, w)``.
        face: latent of the face photo, ``(1, c, h, w)``.
        sigma: the step's noise level, a scalar; only ``staged`` looks at it.
        style_weight: raising it must give more style; 0 or more.
        face_weight: raising it must give more of the face; 0 or more.
        imagery: I_i for the reading ``imagery``, ``(1, c, h, w)``.

    Raises:
        ACFunError: an unknown reading, or ``imagery`` without I_i.
    """
    if alignment in ("staged", "paired"):
        style_pull, face_pull, colour_pull = style_weight, face_weight, 0.0
        if alignment == "staged":
            share = style_weight / max(style_weight, face_weight)
            face = torch.lerp(face, restyle(face, style), share)
            lead = float(torch.sigmoid(STAGE_SHARPNESS * (noise_level(sigma) - STAGE_THRESHOLD)))
            style_pull = 2 * style_weight * (1 - lead)
            face_pull = 2 * face_weight * (FACE_FLOOR + (1 - FACE_FLOOR) * lead)
            colour_pull = COLOUR_PULL * face_weight
        pulls = [style_pull, 0.0], [0.0, face_pull], [0.0, colour_pull]
        return _batch([style, face], style, face, *pulls)
    if alignment == "blend":
        shared = (style_weight * style + face_weight * face) / (style_weight + face_weight)
    elif alignment == "imagery" and imagery is not None:
        shared = imagery
    else:
        raise ACFunError(
            f"'{alignment}' is no reading of the alignment loss that can be used here; expected "
            f"{', '.join(ALIGNMENTS)}, and a generated picture for 'imagery'."
        )
    pulls = [style_weight / 2] * 2, [face_weight / 2] * 2, [0.0, 0.0]
    return _batch([shared, shared], style, face, *pulls)


def alignment_loss(
    denoised: Tensor,
    batch: AlignmentBatch,
    sigma: Tensor,
    prediction: Prediction,
    face_mask: Tensor | None = None,
) -> Tensor:
    """Return eq. 4 for one step, a scalar.

    Args:
        denoised: the model's clean latents for ``batch.latents`` noised, ``(2, c, h, w)``.
        batch: inputs, targets and pulls, from :func:`alignment_batch`.
        sigma: the step's noise level, a scalar.
        prediction: what the checkpoint predicts; the loss is its own squared error (eq. 1).
        face_mask: ``(1, 1, h, w)`` with mean 1, weights the face term in space.
    """
    style_error = (denoised - batch.style).square().mean(dim=(1, 2, 3))
    face_error = (denoised - batch.face).square()
    if face_mask is not None:
        face_error = face_error * face_mask
    colour_error = (denoised - batch.face).mean(dim=(2, 3)).square().mean(dim=1)
    pull = batch.style_weights * style_error + batch.face_weights * face_error.mean(dim=(1, 2, 3))
    pull = pull + batch.colour_weights * colour_error
    return prediction_weight(sigma, prediction) * pull.sum()


def _batch(
    latents: list[Tensor],
    style: Tensor,
    face: Tensor,
    style_weights: list[float],
    face_weights: list[float],
    colour_weights: list[float],
) -> AlignmentBatch:
    return AlignmentBatch(
        latents=torch.cat(latents),
        style=style,
        face=face,
        style_weights=style.new_tensor(style_weights),
        face_weights=style.new_tensor(face_weights),
        colour_weights=style.new_tensor(colour_weights),
    )
