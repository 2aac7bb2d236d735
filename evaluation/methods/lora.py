"""The peers that change the U-Net, by low-rank updates of its attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.errors import ACFunError

from ..benchmark import STYLE_WORD, Images, Method, Pair, Task
from . import peers

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
CONTENT_BLOCK = "up_blocks.0.attentions.0."
B_LORA_TARGETS = r"up_blocks\.0\.attentions\.[01]\..*\.(to_q|to_k|to_v|to_out\.0)"
Words = dict[str, dict[str, Tensor]]
Shown = tuple[Tensor, str]
"""An image ``(s, s, 3)`` and its prompt, which holds F* or S*."""


@dataclass(frozen=True, kw_only=True)
class _RareWords(Method):
    """Two rare words, and low-rank updates that learn what is shown under them.

    Real rare words have arbitrary vectors, so these are random, as long as a usual word's.

    rank: of the updates. stand_in: see encode_words.
    """

    learning_rate: float = 1e-3
    rank: int = 8
    stand_in: str = "z"
    seed: int = 0
    targets: ClassVar[list[str] | str] = TARGETS

    def _groups(self, pair: Pair) -> dict[str, list[Shown]]:
        """Return what each group of updates learns, by the group's name in the file."""
        raise NotImplementedError

    def _group_of(self, name: str) -> str:
        """Return the group that an update is taken from when images are generated."""
        raise NotImplementedError

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        words = _rare_words(backbone, self.seed)
        groups = {}
        for group, shown in self._groups(pair).items():
            examples = [self._example(backbone, words, one) for one in shown]
            with lora_updates(backbone, self.rank, self.seed, self.targets) as updates:
                moved = list(updates.values())
                peers.learn_by_noise_loss(
                    backbone, examples, moved, steps, self.learning_rate, self.seed
                )
                groups[group] = {name: update.detach().clone() for name, update in updates.items()}
        peers.write_tensors(path, **words, **groups)

    @torch.no_grad()
    def _example(self, backbone: DiffusersBackbone, words: Words, shown: Shown) -> peers.Example:
        """Return an image under a prompt of rare words, which do not move and are encoded once."""
        image, prompt = shown
        context = peers.encode_words(backbone, prompt, words["style"], words["face"], self.stand_in)
        return peers.Example(peers.encode_square(backbone, image), lambda _: context)

    @override
    @torch.no_grad()
    def generate(self, task: Task) -> Images:
        groups = peers.read_tensors(task.learnt, task.backbone.device)
        with lora_updates(task.backbone, self.rank, self.seed, self.targets) as updates:
            for name, update in updates.items():
                update.copy_(groups[self._group_of(name)][name])
            return peers.sample_words(task, groups, _rare_person(task.pair), self.stand_in)


@dataclass(frozen=True, kw_only=True)
class DreamBoothLora(_RareWords):
    """Two rare words and low-rank updates of the U-Net's attention (Ruiz et al., 2023)."""

    def _groups(self, pair: Pair) -> dict[str, list[Shown]]:
        photo = pair.face, f"a photo of {_rare_person(pair)}"
        return {"unet": [photo, (pair.style, f"a painting in {STYLE_WORD} style")]}

    def _group_of(self, name: str) -> str:
        return "unet"


@dataclass(frozen=True, kw_only=True)
class BLora(_RareWords):
    """B-LoRA (Frenkel et al., 2024): what and how are learnt apart, in two blocks of the decoder.

    Low-rank updates of both blocks learn the photo, others the painting, each under a rare word of
    its own; images are generated with the photo's in the first block and the painting's in the
    second. On SDXL these are the two first transformers of ``up_blocks.0``; a U-Net with one level
    less between its middle and its strokes has them in the same place.
    """

    rank: int = 16
    targets: ClassVar[list[str] | str] = B_LORA_TARGETS

    def _groups(self, pair: Pair) -> dict[str, list[Shown]]:
        return {
            "content": [(pair.face, f"a {peers.FACE_WORD}")],
            "painting": [(pair.style, f"a {STYLE_WORD}")],
        }

    def _group_of(self, name: str) -> str:
        return "content" if CONTENT_BLOCK in name else "painting"

    @override
    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        if len(getattr(backbone.unet.up_blocks[0], "attentions", [])) < 2:
            raise ACFunError(
                "B-LoRA needs two transformers in the first block of the U-Net's decoder, and "
                "this one has fewer. Use an SDXL pipeline."
            )
        super().learn(backbone, pair, steps, path)


@contextmanager
def lora_updates(
    backbone: DiffusersBackbone, rank: int, seed: int, targets: list[str] | str = TARGETS
) -> Iterator[dict[str, Tensor]]:
    """Put low-rank updates on the U-Net's attention for the length of a ``with`` block.

    Yields their weights by name, float32; untrained, they change nothing. targets: ends of the
    modules' names, or an expression for whole names.

    Raises:
        ACFunError: the package peft is missing.
    """
    try:
        from peft import LoraConfig
    except ImportError as error:
        raise ACFunError("The LoRA peer needs the package peft: pip install peft.") from error
    unet = backbone.unet
    config = LoraConfig(r=rank, lora_alpha=rank, target_modules=targets)
    with torch.random.fork_rng(devices=[]):  # peft draws from torch's global generator
        torch.manual_seed(seed)
        unet.add_adapter(config)
    try:
        updates = {n: p for n, p in unet.named_parameters() if "lora_" in n}
        for update in updates.values():
            update.data = update.data.float()
            update.requires_grad_(True)
        yield updates
    finally:
        unet.unload_lora()


def _rare_words(backbone: DiffusersBackbone, seed: int) -> Words:
    """Return the vectors of F* ("face") and S* ("style") in each text encoder."""
    generator = torch.Generator().manual_seed(seed)

    def random_like(usual: Tensor) -> Tensor:
        vector = torch.randn(usual.shape, generator=generator).to(usual.device)
        return vector * (usual.norm() / vector.norm())

    usual = backbone.word_vectors("person")
    return {
        word: {name: random_like(vector) for name, vector in usual.items()}
        for word in ("face", "style")
    }


def _rare_person(pair: Pair) -> str:
    """Return the face's words with the rare word for their article: "F* woman"."""
    return f"{peers.FACE_WORD} {pair.face_words.split(maxsplit=1)[-1]}"
