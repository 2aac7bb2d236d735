"""The text encoder of a training whose pseudo-word is an offset: needed before step 1 only."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ...acfun_ops.backbones.backbone import Context
from ...acfun_ops.errors import ACFunError
from ...acfun_ops.pseudo_word import has_pseudo_word
from .prompt_offsets import (
    add_offsets,
    is_clip_of,
    list_parts,
    offset_scales,
    other_clip,
    read_prompt,
)


class OffsetEncoder:
    """Encodes the prompts of a training, each once, and then leaves the card to the network.

    Args:
        clip: ComfyUI's CLIP of the family.
        family: a key of ``model_families.FAMILIES`` that learns offsets.
        width: of the encoded prompts that the network takes.
        device: where it computes.

    Attributes:
        encoded: the prompts that are encoded, by text and whether a word has an offset in it, each
            with the scales of the offsets.
    """

    def __init__(self, clip: Any, family: str, width: int, device: torch.device) -> None:
        self.clip, self.family, self.width, self.device = clip, family, width, device
        self.word = ""
        self.encoded: dict[tuple[str, bool], tuple[Context, dict[str, Tensor]]] = {}

    def zero_offsets(self, word: str) -> dict[str, Tensor]:
        """Take the word that offsets are added to, and return offsets ``(d,)`` of 0.

        Raises:
            ACFunError: the CLIP is of another family, or the word is empty.
        """
        if not is_clip_of(self.clip, self.family):
            raise other_clip(self.clip, self.family, self.width)
        if not word.strip():
            raise ACFunError(
                "The initial word '{word}' has no token in this CLIP. Use a common word.", word=word
            )
        self.word = word
        self.encoded.clear()
        return {part: torch.zeros(self.width) for part in list_parts(self.clip, self.family)}

    def encode(self, prompt: str, pseudo_word: str, offsets: Mapping[str, Tensor]) -> Context:
        """Encode a prompt as CLIP Text Encode does, differentiably in the offsets on it.

        Raises:
            ACFunError: a pseudo-word has no place of its own, or the CLIP is of another family.
        """
        has_word = bool(offsets) and has_pseudo_word(prompt, pseudo_word)
        if (prompt, has_word) not in self.encoded:
            # Guidance asks for the empty prompt later, when the encoder has gone.
            self.encoded["", False] = self._encode("", pseudo_word, False)
            self.encoded[prompt, has_word] = self._encode(prompt, pseudo_word, has_word)
            _leave_card(self.clip.patcher)
        context, scales = self.encoded[prompt, has_word]
        return replace(context, tokens=add_offsets(context.tokens, scales, offsets))

    def _encode(
        self, prompt: str, pseudo_word: str, has_word: bool
    ) -> tuple[Context, dict[str, Tensor]]:
        clip, placed = self.clip, None
        if has_word:
            placed = read_prompt(clip, prompt, pseudo_word, self.word, self.family)
        tokens = clip.tokenize(prompt) if placed is None else placed.tokens
        with torch.inference_mode():
            output = clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
        extra = {name: self._move(value) for name, value in output.items()}
        encoding, pooled = extra.pop("cond").float(), extra.pop("pooled_output")
        if encoding.shape[-1] != self.width:
            raise other_clip(self.clip, self.family, self.width)
        scales = {} if placed is None else offset_scales(placed, encoding)
        return Context(encoding, pooled, extra=extra, is_joint=True), scales

    def _move(self, value: Any) -> Any:
        # Tensors of inference mode are of no use to a training.
        return value.clone().to(self.device) if isinstance(value, Tensor) else value


def _leave_card(patcher: Any) -> None:
    """Have ComfyUI unload a text encoder, which the training no longer needs."""
    if not mm.is_device_cpu(patcher.load_device):
        loaded = mm.current_loaded_models
        others = [m for m in loaded if m.model is None or not m.model.is_clone(patcher)]
        mm.free_memory(1e30, patcher.load_device, others)
