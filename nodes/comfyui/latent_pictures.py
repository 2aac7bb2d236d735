"""Latents as small pictures, by ComfyUI's own latent previewers; the VAE stays where it is."""

import latent_preview
import torch
from comfy.latent_formats import LatentFormat
from torch import Tensor
from torch.nn import functional as F


def latent_picture(latent_format: LatentFormat, latents: Tensor) -> Tensor | None:
    """Return a picture ``(1, 8 h, 8 w, 3)`` in [0, 1] of latents ``(1, c, h, w)``, on the CPU.

    It is made by the previewer that the user has chosen, else by the one that needs no files.

    Returns:
        The picture, or None where ComfyUI knows no colours for this kind of latents.
    """
    previewer = latent_preview.get_previewer(latents.device, latent_format)
    if previewer is None:
        if latent_format.latent_rgb_factors is None:
            return None
        factors, bias = latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
        previewer = latent_preview.Latent2RGBPreviewer(factors, bias)
    image = previewer.decode_latent_to_preview(latents).convert("RGB")
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    picture = pixels.reshape(1, image.height, image.width, 3).movedim(-1, 1).float() / 255
    height, width = latents.shape[-2:]
    return F.interpolate(picture, (8 * height, 8 * width), mode="bilinear").movedim(1, -1)
