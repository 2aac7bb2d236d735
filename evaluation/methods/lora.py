"""The peers that change the U-Net, by low-rank updates of its attention."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from acfun_ops.backbones.diffusers_backbone import DiffusersBackbone
from acfun_ops.errors import ACFunError

from ..benchmark import STYLE_WORD, Pair, Sampling
from .sampling import encode_square, generate_from_noise
from .training import (
    FACE_WORD,
    Example,
    encode_words,
    learn_by_noise_loss,
    read_tensors,
    write_tensors,
)

TARGETS = ["to_q", "to_k", "to_v", "to_out.0"]
CONTENT_BLOCK = "up_blocks.0.attentions.0."
B_LORA_TARGETS = r"up_blocks\.0\.attentions\.[01]\..*\.(to_q|to_k|to_v|to_out\.0)"


@dataclass(frozen=True, kw_only=True)
class DreamBoothLora:
    """Two rare words and low-rank updates of the U-Net's attention (Ruiz et al., 2023).

    Real rare words have arbitrary vectors, so these are drawn at random, as long as a usual word's.

    rank: of the updates. stand_in: see encode_words.
    """

    learning_rate: float = 1e-3
    rank: int = 8
    stand_in: str = "z"
    seed: int = 0
    learns: ClassVar[bool] = True

    def training_key(self) -> "DreamBoothLora":
        """See Method."""
        return self

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """See Method."""
        words = _rare_words(backbone, self.seed)
        examples = [
            _example(backbone, words, self.stand_in, *what)
            for what in (
                (pair.face, f"a photo of {_rare_person(pair)}"),
                (pair.style, f"a painting in {STYLE_WORD} style"),
            )
        ]
        with lora_updates(backbone, self.rank, self.seed) as updates:
            rate, seed = self.learning_rate, self.seed
            learn_by_noise_loss(backbone, examples, list(updates.values()), steps, rate, seed)
            write_tensors(path, **words, unet=updates)

    @torch.no_grad()
    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method."""
        groups = read_tensors(learnt, backbone.device)
        with lora_updates(backbone, self.rank, self.seed) as updates:
            for name, update in updates.items():
                update.copy_(groups["unet"][name])
            return _generate_both(backbone, pair, groups, self.stand_in, noise, sampling)


@dataclass(frozen=True, kw_only=True)
class BLora:
    """B-LoRA (Frenkel et al., 2024): what and how are learnt apart, in two blocks of the decoder.

    Low-rank updates of both blocks learn the photo, others the painting, each under a rare word of
    its own; drawn is with the photo's in the first block and the painting's in the second. On SDXL
    these are the two first transformers of ``up_blocks.0``; a U-Net with one level less between
    its middle and its strokes has them in the same place.

    rank: of the updates. stand_in: see encode_words.
    """

    learning_rate: float = 1e-3
    rank: int = 16
    stand_in: str = "z"
    seed: int = 0
    learns: ClassVar[bool] = True

    def training_key(self) -> "BLora":
        """See Method."""
        return self

    def learn(self, backbone: DiffusersBackbone, pair: Pair, steps: int, path: Path) -> None:
        """See Method."""
        if len(getattr(backbone.unet.up_blocks[0], "attentions", [])) < 2:
            raise ACFunError(
                "B-LoRA needs two transformers in the first block of the U-Net's decoder, and "
                "this one has fewer. Use an SDXL pipeline."
            )
        words = _rare_words(backbone, self.seed)
        learnt = []
        for picture, prompt in ((pair.face, f"a {FACE_WORD}"), (pair.style, f"a {STYLE_WORD}")):
            example = _example(backbone, words, self.stand_in, picture, prompt)
            with lora_updates(backbone, self.rank, self.seed, B_LORA_TARGETS) as updates:
                rate, seed = self.learning_rate, self.seed
                learn_by_noise_loss(backbone, [example], list(updates.values()), steps, rate, seed)
                learnt.append({name: update.detach().clone() for name, update in updates.items()})
        write_tensors(path, **words, content=learnt[0], painting=learnt[1])

    @torch.no_grad()
    def generate(
        self,
        backbone: DiffusersBackbone,
        pair: Pair,
        learnt: Path,
        noise: Tensor,
        sampling: Sampling,
    ) -> tuple[Tensor, Tensor]:
        """See Method."""
        groups = read_tensors(learnt, backbone.device)
        with lora_updates(backbone, self.rank, self.seed, B_LORA_TARGETS) as updates:
            for name, update in updates.items():
                group = "content" if CONTENT_BLOCK in name else "painting"
                update.copy_(groups[group][name])
            return _generate_both(backbone, pair, groups, self.stand_in, noise, sampling)


@contextmanager
def lora_updates(
    backbone: DiffusersBackbone, rank: int, seed: int, targets: list[str] | str = TARGETS
) -> Iterator[dict[str, Tensor]]:
    """Put low-rank updates on the U-Net's attention for the length of a ``with`` block.

    Args:
        backbone: whose U-Net is lora_updates.
        rank: of the updates.
        seed: of their first weights.
        targets: ends of the modules' names, or an expression for whole names.

    Yields:
        The updates' weights by name, float32; untrained, they change nothing.

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


def _rare_words(backbone: DiffusersBackbone, seed: int) -> dict[str, dict[str, Tensor]]:
    """Return the vectors of F* ("face") and S* ("style") in each text encoder."""
    generator = torch.Generator().manual_seed(seed)
    return {word: _rare_vectors(backbone, generator) for word in ("face", "style")}


def _example(
    backbone: DiffusersBackbone,
    words: dict[str, dict[str, Tensor]],
    stand_in: str,
    picture: Tensor,
    prompt: str,
) -> Example:
    """Return a picture under a prompt of rare words, which do not move and are encoded once."""
    with torch.no_grad():
        context = encode_words(backbone, prompt, words["style"], words["face"], stand_in)
    return Example(encode_square(backbone, picture), lambda _: context)


def _generate_both(
    backbone: DiffusersBackbone,
    pair: Pair,
    words: dict[str, dict[str, Tensor]],
    stand_in: str,
    noise: Tensor,
    sampling: Sampling,
) -> tuple[Tensor, Tensor]:
    """Draw a pair's two prompts, the face named by its rare word."""

    def pictures(prompt: str) -> Tensor:
        prompt = prompt.replace(pair.face_words, _rare_person(pair))
        context = encode_words(backbone, prompt, words["style"], words["face"], stand_in)
        return generate_from_noise(backbone, context, noise, sampling)

    return pictures(pair.prompt), pictures(pair.other_prompt)


def _rare_vectors(backbone: DiffusersBackbone, generator: torch.Generator) -> dict[str, Tensor]:
    vectors = {}
    for name, usual in backbone.word_vectors("person").items():
        drawn = torch.randn(usual.shape, generator=generator).to(usual.device)
        vectors[name] = drawn * (usual.norm() / drawn.norm())
    return vectors


def _rare_person(pair: Pair) -> str:
    """Return the face's words with the rare word for their article: "F* woman"."""
    return f"{FACE_WORD} {pair.face_words.split(maxsplit=1)[-1]}"
