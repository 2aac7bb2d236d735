"""ACFun as a method: whole, with parts left out, and at any strengths."""

import logging
from collections.abc import Container, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from typing_extensions import override

from acfun_ops.backbones.backbone import Context, InsertPoint
from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.method.alignment_loss import AlignmentSettings
from acfun_ops.method.concrete_fusion import InsertAt
from acfun_ops.method.injection import (
    FULL_STRENGTH,
    PartStrengths,
    attach_adapters,
    fold_adapters,
    parts_of,
)
from acfun_ops.pseudo_word import has_pseudo_word
from acfun_ops.style.style_file import load_style, save_style
from acfun_ops.training.config import TrainConfig
from acfun_ops.training.events import TrainImages
from acfun_ops.training.fit import fit
from acfun_ops.training.training_images import prepare_images

from ..benchmark import STYLE_WORD, Images, Method, Pair, Task
from .peers import sample

TrainedPart = Literal["abstract", "encoder", "middle", "decoder"]
ALL_PARTS: tuple[TrainedPart, ...] = ("abstract", "encoder", "middle", "decoder")

DEFAULT_CONFIG = TrainConfig()
RELEASE_0_2 = AlignmentSettings()

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Acfun(Method):
    """ACFun, trained and applied as the product does it.

    config: of the training; its prompt and number of steps are replaced by the pair's and the
    row's. parts: which are trained; the others stay the identity they start as. bare: train and
    draw with the pseudo-word alone (the paper's figure 7). variant: a choice of design undone, see
    :func:`settings_of` and :class:`PartialBackbone`. spliced: learn the pair's spliced face instead
    of its face. abstract_strength, strengths: of the parts at drawing. settings: of the loss; the
    product's own are ``alignment_loss.SETTINGS``.
    """

    config: TrainConfig = DEFAULT_CONFIG
    parts: tuple[TrainedPart, ...] = ALL_PARTS
    bare: bool = False
    variant: str = ""
    spliced: bool = False
    abstract_strength: float = 1.0
    strengths: PartStrengths = FULL_STRENGTH
    settings: AlignmentSettings = RELEASE_0_2

    @override
    def training_key(self) -> "Acfun":
        return replace(self, abstract_strength=1.0, strengths=FULL_STRENGTH)

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        config = replace(
            self.config,
            steps=steps,
            prompt=self._prompt(pair),
            pseudo_word=STYLE_WORD,
            preview_every=0,
        )
        face = pair.spliced if self.spliced and pair.spliced is not None else pair.face
        images = TrainImages(style=pair.style[None], face=face[None])
        partial = PartialBackbone(backbone, self.parts, self.variant)
        prepared = prepare_images(partial, images, config, settings_of(self.variant, self.settings))
        result = fit(partial, prepared, config)
        if result.outcome != "finished":
            log.warning("%s, %s: %s", pair.name, self, result.message)
        save_style(result.style, path)

    @override
    def generate(self, task: Task) -> Images:
        return self.draw(task, self._prompt(task.pair)), self.draw(task, task.pair.other_prompt)

    @torch.no_grad()
    def draw(self, task: Task, prompt: str, blocks: Container[str] | None = None) -> Tensor:
        """Return a task's images ``(n, s, s, 3)`` under a prompt.

        blocks: canonical names of those whose adapters act; None is all.
        """
        backbone, style = task.backbone, load_style(task.learnt)
        partial = PartialBackbone(backbone, self.parts, self.variant)
        fusion = style.abstract_fusion().to(backbone.device)
        inserts = {
            name: insert
            for name, insert in style.inserts().items()
            if blocks is None or name in blocks
        }
        points = backbone.insert_points(style.facts.insert_at)
        modules = {name: point.module for name, point in points.items()}
        vectors = {name: v.float().to(backbone.device) for name, v in style.vectors.items()}
        style_tokens = style.style_tokens.float().to(backbone.device)
        context = partial.encode_prompt(prompt, STYLE_WORD, vectors)
        fused = fusion(context.tokens, style_tokens, self.abstract_strength)
        strengths = self.strengths.block_strengths(inserts)
        with attach_adapters(fold_adapters(inserts, strengths, backbone.device), modules):
            return sample(replace(task, backbone=partial), Context(fused, context.pooled))

    @override
    def settings_changes(self) -> dict[str, float]:
        """Of release 0.2.0."""
        return self.settings.changes()

    def _prompt(self, pair: Pair) -> str:
        return STYLE_WORD if self.bare else pair.prompt


def settings_of(variant: str, settings: AlignmentSettings) -> AlignmentSettings:
    """Return a row's settings with the variant's choice of design undone.

    Args:
        variant: "independent levels": each step samples its noise level by itself. "white noise":
            as sampling starts from it. "no colour pull": the face is pulled to its restyled self
            alone; "double colour pull": twice as hard to its colours. "... redrawing": of
            ``drawn``, attention at temperature 4, 20 steps, and no guidance. "no handover": what is
            drawn gives the face its shape, too. Others change nothing here.
        settings: the row's.
    """
    redrawing = settings.redrawing
    changes: dict[str, dict[str, Any]] = {
        "independent levels": {"even_levels": False},
        "white noise": {"noise_offset": 0.0},
        "no colour pull": {"colour_weight": 0.0},
        "double colour pull": {"colour_weight": 2 * settings.colour_weight},
        "sharper redrawing": {"redrawing": replace(redrawing, temperature=4.0)},
        "longer redrawing": {"redrawing": replace(redrawing, steps=20)},
        "unguided redrawing": {"redrawing": replace(redrawing, guidance=1.0)},
        "no handover": {"handover": 10.0},
    }
    return replace(settings, **changes.get(variant, {}))


class PartialBackbone:
    """A backbone that lets some parts of a style learn, and leaves the others the identity.

    An insert of another part hangs on a module that is never called. Without the abstract part the
    pseudo-word does not move, and the style's tokens are zero: AFun has no biases, so it then adds
    exactly nothing, in training and in drawing from the style file.

    Args:
        backbone: what does the work.
        parts: what may learn.
        variant: a choice of design undone. "pooled tokens": AFun sees the mean of the style's
            tokens alone, as with one CLIP vector. "fixed word": S* stays where it starts. "no
            residual": the U-Net gets what AFun adds, without the prompt it adds it to (eq. 2).
    """

    def __init__(
        self, backbone: DiffusersBackbone, parts: tuple[TrainedPart, ...], variant: str
    ) -> None:
        self._backbone = backbone
        self._parts = parts
        self._variant = variant
        self._prompt: Tensor | None = None
        self._plain: Tensor | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backbone, name)

    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        """See Backbone."""
        points = self._backbone.insert_points(where)
        parts = parts_of(points)
        return {
            block: point
            if parts[block] in self._parts
            else InsertPoint(nn.Identity(), point.channels)
            for block, point in points.items()
        }

    def style_tokens(self, pictures: Tensor) -> Tensor:
        """See Backbone."""
        tokens = self._backbone.style_tokens(pictures)
        if self._variant == "pooled tokens":
            tokens = tokens.mean(dim=1, keepdim=True)
        return tokens if "abstract" in self._parts else torch.zeros_like(tokens)

    def encode_prompt(
        self, prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
    ) -> Context:
        """See Backbone."""
        if "abstract" not in self._parts or self._variant == "fixed word":
            vectors = {name: vector.detach() for name, vector in vectors.items()}
        context = self._backbone.encode_prompt(prompt, pseudo_word, vectors)
        if has_pseudo_word(prompt, pseudo_word):
            self._prompt = context.tokens.detach()
        else:
            self._plain = context.tokens
        return context

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """See Backbone."""
        if self._variant == "no residual" and self._prompt is not None:
            bare = context.tokens - self._prompt
            if self._plain is not None:  # Guidance denoises the empty prompt in the same batch.
                is_plain = (context.tokens == self._plain).flatten(1).all(dim=1)
                bare = torch.where(is_plain[:, None, None], context.tokens, bare)
            context = Context(bare, context.pooled)
        return self._backbone.denoise(noisy, sigma, context)
