"""The face restyled by the frozen model itself, without any training (StyleID).

Face and style image are inverted to noise under the empty prompt. The face's noise takes on the
style's channel statistics and is sampled back with the style image's self-attention keys and values
in the decoder, so that strokes come with the colours (Chung et al., CVPR 2024).
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch
from torch import Tensor, nn

from ..backbones.backbone import Backbone, Context
from ..errors import ACFunError
from ..method.alignment_loss import Redrawing, match_statistics
from .sampler import StoppedError, batch_contexts, negative, sample_euler, sampling_sigmas

# StyleID takes the last six of the nine self-attentions in Stable Diffusion's decoder.
SHARE_OF_DECODER = 2 / 3
MOST_BYTES = 4 * 2**30
"""Of what is kept of an inversion in system RAM. A large transformer would need ten times that."""


class InjectionError(ACFunError):
    """Self-attention does not see what the model is given, so nothing can be restyled."""


@dataclass(frozen=True)
class Inversion:
    """A latent inverted to noise, and what the model's self-attentions were given at each sigma."""

    latents: dict[float, Tensor]
    """By sigma, the latent on its way to noise, ``(1, c, h, w)``."""
    inputs: dict[float, list[Tensor]]
    """By sigma, of each self-attention: ``(1, n, d)``, in system RAM; none if that is too much."""

    @property
    def noise(self) -> Tensor:
        """The latent at the highest sigma."""
        return self.latents[max(self.latents)]


class Restyler:
    """Restyles faces under one prompt; deterministic.

    With n steps an inversion takes n + 1 forwards of one sample, a restyling n forwards of two, or
    of one without guidance.

    Args:
        backbone: the model, with nothing hooked onto it.
        plain: the empty prompt, under which latents are inverted.
        prompt: under which faces are sampled; StyleID's is empty too, but words keep the face.
        how: the settings.
        on_step: is called after each forward; True stops.

    Raises:
        InjectionError: the model has no self-attention that a style could be injected into.
    """

    def __init__(
        self,
        backbone: Backbone,
        plain: Context,
        prompt: Context,
        how: Redrawing,
        on_step: Callable[[], bool | None] = lambda: None,
    ) -> None:
        self.backbone, self.how, self.on_step = backbone, how, on_step
        self.plain = negative(plain)
        self.prompts = batch_contexts([prompt] if how.guidance == 1 else [self.plain, prompt])
        self.sigmas = sampling_sigmas(backbone.sigmas, how.steps)
        self.attentions = last_two_thirds(backbone.self_attentions())
        projections = [(a, name) for a in self.attentions for name in ("to_q", "to_k", "to_v")]
        if not projections or not all(hasattr(*one) for one in projections):
            raise _not_seen()

    @torch.no_grad()
    def invert(self, latent: Tensor) -> Inversion:
        """Invert a clean latent ``(1, c, h, w)``.

        Raises:
            StoppedError: ``on_step`` asked for it.
            InjectionError: the self-attentions do not see one whole sample.
        """
        inversion = Inversion({}, {})

        def denoise(noisy: Tensor, sigma: float) -> Tensor:
            with record_inputs(self.attentions) as seen:
                denoised = self._denoise(noisy, sigma, self.plain)
            inversion.latents[sigma] = noisy
            if sum(each.nbytes for each in seen) * self.how.steps <= MOST_BYTES:
                inversion.inputs[sigma] = seen
            return denoised

        path = ddim_invert(denoise, latent, self.sigmas, float(self.backbone.sigmas[0]))
        denoise(path[-1], self.sigmas[0])
        return inversion

    @torch.no_grad()
    def restyle(self, style: Inversion, face: Inversion) -> Tensor:
        """Return a face's clean latent in the style of another's, ``(1, c, h, w)``.

        Raises:
            StoppedError: ``on_step`` asked for it.
            InjectionError: the self-attentions do not see whole samples.
        """
        how, rows = self.how, len(self.prompts.negative)

        def denoise(noisy: Tensor, sigma: float) -> Tensor:
            inputs = self._inputs_at(style, sigma), self._inputs_at(face, sigma)
            with inject_style(self.attentions, *inputs, how.kept_query, how.temperature):
                denoised = self._denoise(noisy.repeat(rows, 1, 1, 1), sigma, self.prompts)
            return torch.lerp(denoised[:1], denoised[-1:], how.guidance)

        return sample_euler(denoise, match_statistics(face.noise, style.noise), self.sigmas)

    def _inputs_at(self, inversion: Inversion, sigma: float) -> list[Tensor]:
        """Return what the self-attentions were given at a sigma, asked for again if need be."""
        if sigma in inversion.inputs:
            return inversion.inputs[sigma]
        with record_inputs(self.attentions) as seen:
            self.backbone.denoise(inversion.latents[sigma], sigma, self.plain)
        return seen

    def _denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        denoised = self.backbone.denoise(noisy, sigma, context).float()
        if self.on_step():
            raise StoppedError
        return denoised


@torch.no_grad()
def ddim_invert(
    denoise: Callable[[Tensor, float], Tensor],
    latents: Tensor,
    sigmas: Sequence[float],
    least: float,
) -> list[Tensor]:
    """Return clean latents on their way to noise, from clean on (DDIM inversion).

    Args:
        denoise: maps noisy latents ``(b, c, h, w)`` and a sigma to clean latents.
        latents: ``(b, c, h, w)``, clean.
        sigmas: falling, ending in 0.
        least: the model's lowest sigma; it is asked there in place of 0.

    Returns:
        The latents at each sigma, the clean ones first.
    """
    path = [latents]
    for low, high in pairwise(reversed(sigmas)):
        asked = max(low, least)
        slope = (path[-1] - denoise(path[-1], asked)) / asked
        path.append(path[-1] + slope * (high - low))
    return path


def last_two_thirds(attentions: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Return the last two thirds of a decoder's self-attentions, which hold its textures."""
    return attentions[-round(SHARE_OF_DECODER * len(attentions)) :]


@contextmanager
def record_inputs(attentions: Sequence[nn.Module]) -> Iterator[list[Tensor]]:
    """Collect in system RAM what self-attentions are given in one call of the model on one sample.

    Args:
        attentions: modules with a projection ``to_q`` of ``(1, n, d)``, in the order of the model.

    Raises:
        InjectionError: one is given another batch, or is not called once in its turn.
    """
    inputs: list[Tensor] = []

    def record(module: nn.Module, args: tuple[Tensor, ...], number: int) -> None:
        if len(args[0]) != 1 or number != len(inputs):
            raise _not_seen()
        inputs.append(args[0].cpu())

    with ExitStack() as hooks:
        for number, attention in enumerate(attentions):
            hook = partial(record, number=number)
            projection = attention.get_submodule("to_q")
            hooks.callback(projection.register_forward_pre_hook(hook).remove)
        yield inputs
    if len(inputs) != len(attentions):
        raise _not_seen()


@contextmanager
def inject_style(
    attentions: Sequence[nn.Module],
    styles: Sequence[Tensor],
    faces: Sequence[Tensor],
    kept_query: float,
    temperature: float,
) -> Iterator[None]:
    """Let all samples of one call of the model attend to a style, with a part of a face's query.

    Args:
        attentions: modules with projections ``to_q``, ``to_k`` and ``to_v`` of ``(b, n, d)``.
        styles: what each was given of the style, ``(1, n, d)``, see :func:`record_inputs`.
        faces: the same of the face.
        kept_query: share of the face's query, 0 to 1.
        temperature: by which attention to the style is sharpened.

    Raises:
        InjectionError: a projection is given samples of another size, or is not called.
    """
    called: set[nn.Module] = set()

    def blend(module: nn.Module, args: tuple[Tensor, ...], other: Tensor, share: float) -> Tensor:
        # The projections are linear: of mixed inputs they give mixed outputs.
        own = args[0]
        if own.shape[1:] != other.shape[1:]:
            raise _not_seen()
        called.add(module)
        return torch.lerp(own, other.to(own), share)

    def sharpen(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return temperature * output

    with ExitStack() as hooks:
        for attention, style, face in zip(attentions, styles, faces, strict=True):
            query = attention.get_submodule("to_q")
            hooks.callback(query.register_forward_hook(sharpen).remove)
            for name, other, share in (
                ("to_q", face, kept_query),
                ("to_k", style, 1.0),
                ("to_v", style, 1.0),
            ):
                hook = partial(blend, other=other, share=share)
                projection = attention.get_submodule(name)
                hooks.callback(projection.register_forward_pre_hook(hook).remove)
        yield
    if len(called) != 3 * len(attentions):
        raise _not_seen()


def _not_seen() -> InjectionError:
    return InjectionError(
        "The face cannot be redrawn in the style: a patch on this model splits the batch of its "
        "self-attention, or replaces the attention."
    )
