"""Self-attention that looks at another picture of the batch (StyleID; Chung et al., 2024)."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

# StyleID takes the last six of the nine self-attentions in Stable Diffusion's decoder.
SHARE_OF_DECODER = 2 / 3


def late(attentions: Sequence[nn.Module]) -> Sequence[nn.Module]:
    """Return the last two thirds of a decoder's self-attentions, which hold its textures."""
    return attentions[-round(SHARE_OF_DECODER * len(attentions)) :]


@contextmanager
def borrowed(
    attentions: Sequence[nn.Module], kept_query: float, temperature: float
) -> Iterator[None]:
    """Let all but the first two of a batch attend to the first, for the length of a block.

    The batch holds a style's latent, a content's latent, and what is drawn. The last take keys and
    values from the first and a part of their query from the second.

    Args:
        attentions: modules with projections ``to_q``, ``to_k`` and ``to_v``, each of which gives
            ``(b, n, d)``.
        kept_query: share of the content's query, 0 to 1.
        temperature: by which attention to the style is sharpened.
    """

    def query(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        content, own = output[1:2].expand_as(output[2:]), output[2:]
        return torch.cat([output[:2], temperature * torch.lerp(own, content, kept_query)])

    def source(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        return torch.cat([output[:2], output[:1].expand_as(output[2:])])

    with ExitStack() as hooks:
        for attention in attentions:
            for projection, hook in (("to_q", query), ("to_k", source), ("to_v", source)):
                module = attention.get_submodule(projection)
                hooks.callback(module.register_forward_hook(hook).remove)
        yield
