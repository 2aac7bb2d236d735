"""All that training may change: AFun, the adapters of CFun and the pseudo-word's vectors."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import ACFunError
from ..messages import Message
from ..method.abstract_fusion import AbstractFusion
from ..method.concrete_fusion import ConcreteFusion
from ..model_families import name_by_encoders
from ..style.compatibility import ModelShape, misfit
from ..style.style import Style, StyleFacts
from .config import TrainConfig


class TrainableStyle(nn.Module):
    """The trainable members of a style, float32 whatever the network computes in.

    Args:
        config: of the run: layers, heads and dropout of AFun, rank and statistics of CFun.
        text_dim: width of the prompt embedding.
        image_dim: width of the style picture's CLIP tokens.
        widths: channels of each block that gets an adapter, by canonical name.
        vectors: the pseudo-word's initial vector or offset ``(d,)`` by text encoder.
        generator: samples the initial weights.
        inner: width of AFun's heads together, see :class:`AbstractFusion`.
    """

    def __init__(
        self,
        config: TrainConfig,
        *,
        text_dim: int,
        image_dim: int,
        widths: Mapping[str, int],
        vectors: Mapping[str, Tensor],
        generator: torch.Generator,
        inner: int | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.blocks = config.heads, tuple(widths)
        with torch.random.fork_rng(devices=[]):  # torch's layers sample from the global generator.
            self.abstract = AbstractFusion(
                text_dim, image_dim, config.layers, config.heads, config.dropout, inner
            )
            adapters = [ConcreteFusion(c, config.rank, config.statistics) for c in widths.values()]
        self.concrete = nn.ModuleList(adapters)
        self.abstract.reset_parameters(generator)
        for adapter in adapters:
            adapter.reset_parameters(generator)
        self.vectors = nn.ParameterDict(
            {name: nn.Parameter(vector.clone().float()) for name, vector in vectors.items()}
        )

    def inserts(self) -> dict[str, ConcreteFusion]:
        """Return CFun's adapters by canonical block name."""
        return dict(zip(self.blocks, self.concrete, strict=True))  # type: ignore[arg-type]

    def to_style(self, facts: StyleFacts, style_tokens: Tensor) -> Style:
        """Return the present weights as a style; ``style_tokens`` is ``(n, image_dim)``."""
        return Style(
            facts=facts,
            abstract=_to_half(self.abstract.state_dict()),
            vectors=_to_half(dict(self.vectors.items())),
            style_tokens=to_half(style_tokens),
            concrete={
                block: _to_half(insert.state_dict()) for block, insert in self.inserts().items()
            },
        )

    def style_size(self, style_tokens: Tensor) -> int:
        """Return about how many bytes this style has in its file."""
        numbers = sum(p.numel() for p in self.parameters()) + style_tokens.numel()
        return torch.float16.itemsize * numbers

    def load_style(self, style: Style, family: str) -> None:
        """Take over a style's weights; ``family`` is that of the model to train.

        Raises:
            ACFunError: the style has other widths, rank or layers than this one, or is a
                blend of several.
        """
        if style.others:
            raise ACFunError(
                "resume_from is a blend of styles, which cannot be trained further. Go on from one "
                "of the styles it was blended from."
            )
        if style.style_tokens.shape[-1] != self.abstract.image_dim:
            raise ACFunError(
                "resume_from was trained with CLIP image tokens {shape} wide; this CLIP vision "
                "model gives {image_dim}. Use the one that the style was trained with.",
                shape=style.style_tokens.shape[-1],
                image_dim=self.abstract.image_dim,
            )
        widths = {block: insert.channels for block, insert in self.inserts().items()}
        reason = misfit(style, ModelShape(family, self.abstract.text_dim, widths))
        if reason is None and style.vectors.keys() != self.vectors.keys():
            reason = Message(
                "was trained with the text encoders of {encoders}",
                encoders=name_by_encoders(style.vectors),
            )
        if reason is not None:
            raise ACFunError(
                "resume_from {reason}. Use the model that it was trained on, or train without "
                "resume_from.",
                reason=reason,
            )
        if style.facts.heads != self.heads:
            raise ACFunError(
                "resume_from was trained with {heads} attention heads, this training asks "
                "for {wanted}. Set heads to {heads}.",
                heads=style.facts.heads,
                wanted=self.heads,
            )
        try:
            self.abstract.load_state_dict(style.abstract)
            for block, insert in self.inserts().items():
                insert.load_state_dict(style.concrete[block])
        except RuntimeError as error:
            raise ACFunError(
                "resume_from was trained with another rank or another number of layers than this "
                "training asks for. Set the rank it was trained with, or train without resume_from."
            ) from error
        with torch.no_grad():
            for name, vector in self.vectors.items():
                vector.copy_(style.vectors[name])


def to_half(tensor: Tensor) -> Tensor:
    """Return a tensor as a style holds it: float16, finite, on the CPU."""
    limit = torch.finfo(torch.float16).max
    return tensor.detach().clamp(-limit, limit).to("cpu", torch.float16).clone()


def _to_half(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: to_half(tensor) for name, tensor in state.items()}
