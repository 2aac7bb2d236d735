"""A trained style on a diffusers pipeline that the caller has, which keeps all its own features."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..backbones.diffusers_unet import check_unet, insert_points
from ..backbones.text_encoder import encode_prompt, text_encoders
from ..errors import ACFunError
from ..method.block_strengths import read_block_strengths
from ..method.injection import PartStrengths, attach_adapters, fold_adapters
from ..model_families import family_of
from ..style.compatibility import ModelShape, check_fits
from ..style.style import Style
from .generate import Drawing, encode_styled
from .sampler import batch_contexts

Tensors = dict[str, Tensor]


@contextmanager
def styled(
    pipe: Any,
    style: Style,
    abstract: float = 1.0,
    encoder: float = 1.0,
    middle: float = 1.0,
    decoder: float = 1.0,
    block_strengths: str = "",
) -> Iterator[Callable[..., Tensors]]:
    """Apply a style to a diffusers pipeline for the length of a ``with`` block.

    ::

        with styled(pipe, style, decoder=0.8) as encode:
            image = pipe(**encode("a woman in S* style", "blurry")).images[0]

    Scheduler, sizes, batches, ControlNets and callbacks are the pipeline's own business. The
    pipeline is left exactly as it was; blocks may be nested, and the inner ``encode`` then
    fuses the inner style alone.

    Args:
        pipe: a StableDiffusionPipeline, StableDiffusionXLPipeline or one with their U-Net and text
            encoders, on its device.
        style: trained on a model of its family.
        abstract: strength of the abstract part (AFun).
        encoder: strength of the adapters in the U-Net's encoder.
        middle: strength of those in the middle block.
        decoder: strength of those in the decoder.
        block_strengths: of single blocks, see :func:`read_block_strengths`.

    Yields:
        ``encode(prompt, negative=None)``, which takes a prompt or a list of them and returns the
        pipeline's ``prompt_embeds`` and ``negative_prompt_embeds``, and the pooled ones of SDXL.

    Raises:
        ACFunError: the style does not fit the pipeline, or has no such blocks.
    """
    unet: Any = getattr(pipe, "unet", None)
    check_unet(unet)
    points = insert_points(unet, style.facts.insert_at)
    width = unet.config.cross_attention_dim
    widths = {block: point.channels for block, point in points.items()}
    check_fits(style, ModelShape(family_of(width), width, widths))
    texts = text_encoders(pipe)
    device = pipe._execution_device
    parts = PartStrengths(encoder=encoder, middle=middle, decoder=decoder)
    strengths = read_block_strengths(block_strengths, parts, style.concrete, style.facts.family)
    adapters = fold_adapters(style.inserts(), strengths, device)

    @torch.no_grad()
    def encode(prompt: str | Sequence[str], negative: str | Sequence[str] | None = None) -> Tensors:
        prompts: list[str] = [prompt] if isinstance(prompt, str) else list(prompt)
        if negative is None or isinstance(negative, str):
            negatives = [negative or ""] * len(prompts)
        else:
            negatives = list(negative)
        if not prompts or len(negatives) != len(prompts):
            raise ACFunError(
                f"There are {len(prompts)} prompts and {len(negatives)} negative ones; expected "
                "one or more, and one negative prompt for all or for each."
            )
        plain = partial(encode_prompt, texts)
        contexts = [encode_styled(plain, text, style, abstract, device) for text in prompts]
        contexts += [plain(text, "", {}) for text in negatives]
        batch = batch_contexts(contexts)
        named = {"prompt_embeds": batch.tokens.to(device)}
        if batch.pooled is not None:
            named["pooled_prompt_embeds"] = batch.pooled.to(device)
        dtype = list(texts.values())[-1].model.dtype
        # As diffusers does for SDXL, whose empty negative prompt is no prompt at all.
        is_zero = negative is None and pipe.config.get("force_zeros_for_empty_prompt", False)
        arguments = {}
        for name, embeds in named.items():
            wanted, unwanted = embeds.to(dtype).chunk(2)
            arguments[name] = wanted
            arguments[f"negative_{name}"] = torch.zeros_like(unwanted) if is_zero else unwanted
        return arguments

    with attach_adapters(adapters, {block: points[block].module for block in adapters}):
        yield encode


def sample_image(
    pipe: Any, embeddings: Tensors, drawing: Drawing, on_step: Callable[[], None] = lambda: None
) -> Tensor:
    """Return an image ``(1, s, s, 3)`` in [0, 1], sampled by a diffusers pipeline itself.

    Args:
        pipe: the pipeline.
        embeddings: the encoded prompts, see :func:`styled`.
        drawing: seed, steps, guidance and size.
        on_step: is called after each step of the pipeline's scheduler.
    """

    def count_step(pipe: Any, step: int, time: Any, tensors: Tensors) -> Tensors:
        on_step()
        return tensors

    images = pipe(
        **embeddings,
        num_inference_steps=drawing.steps,
        guidance_scale=drawing.guidance,
        height=drawing.size or None,
        width=drawing.size or None,
        generator=torch.Generator().manual_seed(drawing.seed),
        output_type="np",
        callback_on_step_end=count_step,
    ).images
    return torch.from_numpy(images)
