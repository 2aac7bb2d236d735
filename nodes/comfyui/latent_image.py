"""Preview images of latents by ComfyUI's latent previewers, without the VAE."""

import latent_preview
import torch
from comfy.latent_formats import LatentFormat
from torch import Tensor
from torch.nn import functional as F


def latent_image(latent_format: LatentFormat, latents: Tensor) -> Tensor | None:
    """Return an image ``(1, s h, s w, 3)`` in [0, 1] of latents ``(1, c, h, w)``, on the CPU.

    Uses the previewer set in ComfyUI, else the one that needs no files.

    Returns:
        The image, or None if ComfyUI has no colours for this latent format.
    """
    previewer = latent_preview.get_previewer(latents.device, latent_format)
    if previewer is None:
        if latent_format.latent_rgb_factors is None:
            return None
        colours = [latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias]
        if getattr(latent_format, "latent_rgb_factors_reshape", None):
            colours.append(latent_format.latent_rgb_factors_reshape)
        previewer = latent_preview.Latent2RGBPreviewer(*colours)
    image = previewer.decode_latent_to_preview(latents).convert("RGB")
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    preview = pixels.reshape(1, image.height, image.width, 3).movedim(-1, 1).float() / 255
    scale = getattr(latent_format, "spacial_downscale_ratio", 8)
    height, width = (scale * side for side in latents.shape[-2:])
    return F.interpolate(preview, (height, width), mode="bilinear").movedim(1, -1)
