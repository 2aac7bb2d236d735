"""What the peers share: drawing, the usual noise loss, two pseudo-words in one prompt, files."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from acfun_ops.backbones.backbone import Backbone, Context
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.errors import ACFunError
from acfun_ops.file_io import write_whole
from acfun_ops.images import to_squares
from acfun_ops.method.diffusion import add_noise, prediction_weight, sample_sigma
from acfun_ops.sampling.sampler import Guidance, draw_latents, initial_noise, sampling_sigmas

from ..benchmark import STYLE_WORD, Images, Task

Start = tuple[Tensor, list[float]]
"""Noisy latents ``(n, c, h, w)``, and the falling sigmas from theirs to 0."""


def encode_square(backbone: Backbone, image: Tensor) -> Tensor:
    """Return the latent ``(1, c, h, w)`` of an image ``(s, s, 3)`` in [0, 1], on the device."""
    square = to_squares(image[None], backbone.native_side, "picture")
    return backbone.encode_pictures(square).to(backbone.device)


def image_start(task: Task, latent: Tensor, strength: float) -> Start:
    """Return a clean latent ``(1, c, h, w)`` made noisy (img2img; SDEdit, 2022).

    strength: share of the sampling steps that is done, above 0 and up to 1.
    """
    done = max(1, round(strength * task.sampling.steps))
    sigmas = sampling_sigmas(task.backbone.sigmas, task.sampling.steps)[-done - 1 :]
    return add_noise(latent, task.noise.to(task.backbone.device), sigmas[0]), sigmas


@torch.no_grad()
def sample(task: Task, context: Context, start: Start | None = None) -> Tensor:
    """Return images ``(n, s, s, 3)`` under a prompt, from noise or from another start."""
    backbone, scale = task.backbone, task.sampling.guidance
    if start is None:
        sigmas = sampling_sigmas(backbone.sigmas, task.sampling.steps)
        start = initial_noise(sigmas[0], task.noise), sigmas
    empty = None if scale == 1 else backbone.encode_prompt("", STYLE_WORD, {})
    guidance = Guidance(context, empty, scale)
    return backbone.decode_latents(draw_latents(backbone, *start, guidance))


def sample_both(task: Task, encode: Callable[[str], Context], start: Start | None = None) -> Images:
    """Return the images of a pair's two prompts."""
    pair = task.pair
    return sample(task, encode(pair.prompt), start), sample(task, encode(pair.other_prompt), start)


def sample_plain(task: Task, words: Callable[[str], str], start: Start | None = None) -> Images:
    """Return the images of a pair's two prompts in plain words, such as without S*."""
    return sample_both(task, lambda p: task.backbone.encode_prompt(words(p), STYLE_WORD, {}), start)


def repeat_image(task: Task, latent: Tensor) -> Images:
    """Return one latent ``(1, c, h, w)`` as every image, for a method that reads no prompt."""
    images = task.backbone.decode_latents(latent).expand(len(task.noise), -1, -1, -1)
    return images, images


FACE_WORD = "F*"
MAX_GRAD_NORM = 1.0

Vectors = Mapping[str, Tensor]


@dataclass(frozen=True)
class Example:
    """A clean latent ``(1, c, h, w)`` and its prompt, encoded anew in each step, for its sigma."""

    latent: Tensor
    encode: Callable[[float], Context]


def noise_loss(
    backbone: Backbone, example: Example, step: int, generator: torch.Generator
) -> Tensor:
    """Return the squared error of the model's own prediction at a step's noise level, a scalar."""
    sigma = sample_sigma(backbone.sigmas.cpu(), step, generator)
    noise = torch.randn(example.latent.shape, generator=generator).to(backbone.device)
    with backbone.autocast(backbone.compute_dtype):
        context = example.encode(sigma)
        denoised = backbone.denoise(add_noise(example.latent, noise, sigma), sigma, context)
    error = (denoised.float() - example.latent).square().mean()
    return prediction_weight(sigma, backbone.prediction) * error


def learn_by_noise_loss(
    backbone: Backbone,
    examples: Sequence[Example],
    parameters: Sequence[Tensor],
    steps: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Move parameters by AdamW; each step sees every example once.

    Gradients are clipped and noise levels follow each other as ACFun's do, so that the methods
    differ in what they learn alone.

    Raises:
        ACFunError: the U-Net computes in fp16, whose gradients vanish without a loss scaler.
    """
    if backbone.compute_dtype == torch.float16:
        raise ACFunError("The peers do not learn in fp16; load the pipeline in bf16 or fp32.")
    generator = torch.Generator().manual_seed(seed)
    adamw = torch.optim.AdamW(parameters, lr=learning_rate)
    for step in range(steps):
        for example in examples:
            torch.autograd.backward(noise_loss(backbone, example, step, generator))
        torch.nn.utils.clip_grad_norm_(parameters, MAX_GRAD_NORM)
        adamw.step()
        adamw.zero_grad()


def encode_words(
    backbone: DiffusersBackbone, prompt: str, style: Vectors, face: Vectors, stand_in: str
) -> Context:
    """Encode a prompt that may hold two pseudo-words, differentiably in the vectors of both.

    The backbone knows one pseudo-word, which is S*; F* goes in as a rare word of the tokenizer,
    the stand-in, whose embedding is replaced for the length of the call. style, face: the vectors
    ``(d,)`` of S* and F* in each text encoder.

    Raises:
        ACFunError: the stand-in is no single token of this pipeline's tokenizer.
    """
    with ExitStack() as hooks:
        for name, text in backbone.texts.items():
            put = partial(_put, token=_token(text.tokenizer, stand_in), vector=face[name])
            embedding = text.model.get_input_embeddings()
            hooks.callback(embedding.register_forward_hook(put).remove)
        return backbone.encode_prompt(prompt.replace(FACE_WORD, stand_in), STYLE_WORD, style)


def sample_words(
    task: Task, words: Mapping[str, Vectors], face_words: str, stand_in: str
) -> Images:
    """Return the images of a pair's prompts, the face named by words that hold F*.

    words: the vectors of F* ("face") and S* ("style"). stand_in: see :func:`encode_words`.
    """

    def encode(prompt: str) -> Context:
        named = prompt.replace(task.pair.face_words, face_words)
        return encode_words(task.backbone, named, words["style"], words["face"], stand_in)

    return sample_both(task, encode)


def trainable_words(backbone: DiffusersBackbone, word: str) -> dict[str, Tensor]:
    """Return a word's vector ``(d,)`` in each text encoder, to be moved."""
    vectors = backbone.word_vectors(word)
    return {name: vector.clone().requires_grad_() for name, vector in vectors.items()}


def write_tensors(path: Path, **groups: Vectors) -> None:
    """Write groups of tensors to a safetensors file, whole or not at all."""
    tensors = {
        f"{group}/{name}": tensor.detach().cpu().contiguous()
        for group, members in groups.items()
        for name, tensor in members.items()
    }
    write_whole(save(tensors), path, "peer's file")


def read_tensors(path: Path, device: torch.device) -> dict[str, dict[str, Tensor]]:
    """Read what :func:`write_tensors` wrote, by group and name."""
    groups: dict[str, dict[str, Tensor]] = {}
    for key, tensor in load_file(path).items():
        group, name = key.split("/", 1)
        groups.setdefault(group, {})[name] = tensor.to(device)
    return groups


def _token(tokenizer: Any, word: str) -> int:
    ids: list[int] = tokenizer(word, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise ACFunError(
            f"The stand-in word '{word}' is {len(ids)} tokens in this pipeline; name one that is "
            "a single token."
        )
    return ids[0]


def _put(module: nn.Module, args: Any, output: Tensor, token: int, vector: Tensor) -> Tensor:
    here = (args[0] == token)[..., None]
    return torch.where(here, vector.to(output.device, output.dtype), output)
