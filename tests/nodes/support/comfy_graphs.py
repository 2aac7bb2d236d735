"""Prompt graphs of stock nodes, in the API format, to run as they are or to extend."""

from __future__ import annotations

from typing import Any

PromptGraph = dict[str, dict[str, Any]]


def text_to_image(
    checkpoint: str,
    *,
    prompt: str = "a painting of a woman",
    seed: int = 0,
    steps: int = 2,
    size: int = 64,
) -> PromptGraph:
    """Return ComfyUI's default graph, from checkpoint to saved image, at a square size.

    Node ids: checkpoint, positive, negative, latent, sampler, decode, save.
    """
    return {
        "checkpoint": node("CheckpointLoaderSimple", ckpt_name=checkpoint),
        "positive": node("CLIPTextEncode", clip=["checkpoint", 1], text=prompt),
        "negative": node("CLIPTextEncode", clip=["checkpoint", 1], text=""),
        "latent": node("EmptyLatentImage", width=size, height=size, batch_size=1),
        "sampler": node(
            "KSampler",
            model=["checkpoint", 0],
            positive=["positive", 0],
            negative=["negative", 0],
            latent_image=["latent", 0],
            seed=seed,
            steps=steps,
            cfg=7.0,
            sampler_name="euler",
            scheduler="normal",
            denoise=1.0,
        ),
        "decode": node("VAEDecode", samples=["sampler", 0], vae=["checkpoint", 2]),
        "save": node("SaveImage", images=["decode", 0], filename_prefix="test"),
    }


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """Return one node of a graph; a link is a list of a node id and an output number."""
    return {"class_type": class_type, "inputs": inputs}
