"""InstantStyle: an adapter that sees the style image in one block of the U-Net."""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.images import to_squares

from ..benchmark import PAINTING, STYLE_WORD, Images, LearnsOnce, Pair, Task
from . import ip_adapter
from .peers import encode_square, image_start, read_tensors, sample_plain, write_tensors
from .pretraining import (
    TRIAL_PAIRS,
    Trial,
    blocks,
    load_first_drawings,
    pretrain,
    style_block,
)

BATCH = 32
BATCH_READ = 250
RIDGE = 1e-2
# What a caption says of a painting's manner, which the adapter is to see.
MANNER = re.compile(r" in \w+ style| with (fine|bold) strokes( and outlines)?| with outlines")


@dataclass(frozen=True, kw_only=True)
class InstantStyle(LearnsOnce):
    """InstantStyle (Wang et al., 2024): an adapter that sees the style, in the style's block alone.

    The adapter is taught once, in all blocks, on paintings of the training set under captions that
    say whom they show and not how. Before a style picture's embedding goes in, the embedding of
    what it shows is taken off. CLIP foretells that from words; the encoders of a prior that share
    no space do not, so it is what the words foretell of the drawings' embeddings, by ridge
    regression. The face gets in by the words of the prompt; with a strength below 1 also by the
    photo, made noisy.

    scale: of the adapter. named: name the style in words, too. strength: share of the sampling
    steps that is done from the photo on; 1 starts from noise. block: a part of the names of the
    attentions that see the style; "" is the style's block, which is found after the pretraining, on
    paintings that it left out. subtracted: how much of the content's embedding is taken off.
    spliced: the photo is the pair's spliced one.
    """

    scale: float = 1.0
    named: bool = False
    strength: float = 1.0
    block: str = ""
    subtracted: float = 1.0
    spliced: bool = False
    learning_rate: float = 1e-3
    seed: int = 0

    @override
    def training_key(self) -> "InstantStyle":
        return InstantStyle(learning_rate=self.learning_rate, seed=self.seed)

    @override
    def prepare(self, folder: Path, workers: int) -> None:
        load_first_drawings(folder, workers=workers)

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """Every pair gives the same."""
        paintings = _Paintings(backbone, path.parent)
        adapter = ip_adapter.new_adapter(backbone, self.seed)
        with ip_adapter.apply_adapter(backbone, adapter) as seen:
            groups = ip_adapter.adapter_parameters(backbone)
            parameters = [p.requires_grad_() for group in groups.values() for p in group.values()]

            def loss(generator: torch.Generator) -> Tensor:
                latents, tokens, embeddings = paintings.batch(generator)
                seen[:] = [embeddings.to(backbone.device)]
                return ip_adapter.prediction_loss(backbone, latents, tokens, generator)

            pretrain(parameters, loss, steps, self.learning_rate, self.seed)
            taught = ip_adapter.as_adapter(groups)
        trial = paintings.trial()
        block = style_block(backbone, taught, trial, path.with_suffix(".log"))
        content = {
            "predicted": paintings.prediction_matrix(),
            "mean": paintings.embeddings.mean(dim=0),
        }
        write_tensors(path, **taught, content=content, block={"number": torch.tensor(block)})

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        backbone, pair = task.backbone, task.pair
        groups = read_tensors(task.learnt, backbone.device)
        square = to_squares(pair.style[None], backbone.native_side, "style")
        content = text_features(backbone, [content_words(pair.remove_style(pair.style_prompt))])
        deviation = content @ groups["content"]["predicted"] - groups["content"]["mean"]
        embedding = ip_adapter.image_embedding(backbone, square) - self.subtracted * deviation
        block = self.block or blocks(backbone)[int(groups["block"]["number"])]
        photo = pair.spliced if self.spliced and pair.spliced is not None else pair.face
        start = None
        if self.strength < 1:
            start = image_start(task, encode_square(backbone, photo), self.strength)
        words = pair.name_style if self.named else pair.remove_style
        blank = [torch.zeros_like(embedding)] * (task.sampling.guidance != 1)
        adapter = ip_adapter.as_adapter(groups)
        with ip_adapter.apply_adapter(backbone, adapter, block, self.scale) as seen:
            seen[:] = [torch.cat([embedding, *blank])]
            return sample_plain(task, words, start)


class _Paintings:
    """Paintings of the training set, stored in a folder, as the adapter's pretraining sees them."""

    def __init__(self, backbone: DiffusersBackbone, folder: Path) -> None:
        drawn = load_first_drawings(folder)
        chosen = [n for n, text in enumerate(drawn.captions) if text and "a photo" not in text]
        chosen, left_out = chosen[:-TRIAL_PAIRS], chosen[-TRIAL_PAIRS:]
        words = [content_words(drawn.captions[number]) for number in chosen]
        self.backbone = backbone
        self.left_out = drawn.images[left_out]
        self.features = text_features(backbone, words).cpu()
        self.embeddings, self.latents = _encode(backbone, drawn.images[chosen])
        with torch.no_grad():
            known = {
                text: backbone.encode_prompt(text, STYLE_WORD, {}).tokens.cpu()
                for text in {"", *words}
            }
        # Attention over repeated tokens is attention over the tokens.
        length = math.lcm(*(tokens.shape[1] for tokens in known.values()))
        whole = {t: tokens.repeat(1, length // tokens.shape[1], 1) for t, tokens in known.items()}
        self.tokens, self.empty = [whole[text][0] for text in words], whole[""]

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Return latents, prompts and embeddings of a batch, of which some see nothing."""
        chosen = torch.randint(len(self.latents), (BATCH,), generator=generator)
        tokens = torch.stack([self.tokens[int(number)] for number in chosen])
        kept = ip_adapter.drop_conditions(tokens, self.embeddings[chosen], self.empty, generator)
        return self.latents[chosen], *kept

    def trial(self) -> Trial:
        """Return paintings that are not taught, and the prompts of others."""
        styles = torch.from_numpy(self.left_out).float() / 255
        squares = to_squares(styles, self.backbone.native_side, "drawings")
        return Trial(squares, torch.stack(self.tokens[: len(squares)]), self.empty)

    def prediction_matrix(self) -> Tensor:
        """Return the matrix ``(f, d)`` that foretells embeddings from features of words."""
        features, embeddings = self.features.double(), self.embeddings.double()
        own = features.T @ features
        own += RIDGE * own.diagonal().mean() * torch.eye(len(own), dtype=own.dtype)
        return torch.linalg.solve(own, features.T @ embeddings).float()


def content_words(caption: str) -> str:
    """Return a caption without what it says of the manner: "a painting of a woman"."""
    plain = MANNER.sub("", caption)
    return PAINTING + plain[plain.index(" of ") :] if " of " in plain else PAINTING


@torch.no_grad()
def text_features(backbone: DiffusersBackbone, prompts: list[str]) -> Tensor:
    """Return what the text encoder says of prompts in all and one constant ``(n, d + 1)``."""
    known = {
        text: backbone.encode_prompt(text, STYLE_WORD, {}).tokens[0, -1] for text in set(prompts)
    }
    features = torch.stack([known[text] for text in prompts])
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


@torch.no_grad()
def _encode(backbone: DiffusersBackbone, pictures: np.ndarray) -> tuple[Tensor, Tensor]:
    """Return the embeddings ``(n, d)`` and the latents ``(n, c, h, w)`` of uint8 pictures."""
    embeddings, latents = [], []
    for part in np.array_split(pictures, max(1, len(pictures) // BATCH_READ)):
        squares = to_squares(torch.from_numpy(part).float() / 255, backbone.native_side, "drawings")
        embeddings.append(ip_adapter.image_embedding(backbone, squares).cpu())
        latents.append(backbone.encode_pictures(squares).cpu())
    return torch.cat(embeddings), torch.cat(latents)
