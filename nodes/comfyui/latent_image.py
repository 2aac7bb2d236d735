"""Preview images of latents by ComfyUI's latent previewers, without the VAE."""

import latent_preview
import torch
from comfy.latent_formats import LatentFormat
from torch import Tensor
from torch.nn import functional as F


def latent_image(latent_format: LatentFormat, latents: Tensor) -> Tensor | None:
    """Return an image ``(1, 8 h, 8 w, 3)`` in [0, 1] of latents ``(1, c, h, w)``, on the CPU.

    Uses the previewer set in ComfyUI, else the one that needs no files.

    Returns:
        The image, or None if ComfyUI has no colours for this latent format.
    """
    previewer = latent_preview.get_previewer(latents.device, latent_format)
    if previewer is None:
        if latent_format.latent_rgb_factors is None:
            return None
        factors, bias = latent_format.latent_rgb_factors, latent_format.latent_rgb_factors_bias
        previewer = latent_preview.Latent2RGBPreviewer(factors, bias)
    image = previewer.decode_latent_to_preview(latents).convert("RGB")
    pixels = torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8)
    preview = pixels.reshape(1, image.height, image.width, 3).movedim(-1, 1).float() / 255
    height, width = latents.shape[-2:]
    return F.interpolate(preview, (8 * height, 8 * width), mode="bilinear").movedim(1, -1)
