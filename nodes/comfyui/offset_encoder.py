"""The text encoder of a training whose pseudo-word is an offset: needed before step 1 only."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.model_management as mm
import torch
from torch import Tensor

from ...acfun_ops.pseudo_word import has_pseudo_word
from .prompt_offsets import add_offsets, list_parts, offset_scales, read_prompt


@dataclass(frozen=True)
class _Encoded:
    """A prompt as it was encoded; see ``WordPrompt`` for the scales of its word's offsets."""

    tokens: Tensor
    pooled: Tensor | None
    extra: dict[str, Any]
    scales: dict[str, Tensor]


class OffsetEncoder:
    """Encodes the prompts of a training, each once, and then leaves the card to the network.

    Args:
        clip: ComfyUI's CLIP of the family.
        family: a key of ``model_families.FAMILIES`` that learns offsets.
        device: where the network computes.
    """

    def __init__(self, clip: Any, family: str, device: torch.device) -> None:
        self.clip, self.family, self.device, self.word = clip, family, device, ""
        self._encoded: dict[tuple[str, bool], _Encoded] = {}

    def zero_offsets(self, word: str, width: int) -> dict[str, Tensor]:
        """Take the word that offsets are added to, and return offsets ``(width,)`` of 0."""
        self.word = word
        self._encoded.clear()
        return {part: torch.zeros(width) for part in list_parts(self.clip, self.family)}

    def encode(
        self, prompt: str, pseudo_word: str, offsets: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor | None, dict[str, Any]]:
        """Encode a prompt as CLIP Text Encode does, differentiably in the offsets on it.

        Returns:
            The encoding ``(1, t, d)`` and what else the text encoder gave: its pooled output, and
            masks and the like by ComfyUI's names.

        Raises:
            ACFunError: a pseudo-word has no place of its own.
        """
        has_word = bool(offsets) and has_pseudo_word(prompt, pseudo_word)
        if (prompt, has_word) not in self._encoded:
            # Guidance asks for the empty prompt later, when the encoder has gone.
            self._encoded["", False] = self._encode("", pseudo_word, False)
            self._encoded[prompt, has_word] = self._encode(prompt, pseudo_word, has_word)
            _leave_card(self.clip.patcher)
        encoded = self._encoded[prompt, has_word]
        tokens = add_offsets(encoded.tokens, encoded.scales, offsets)
        return tokens, encoded.pooled, encoded.extra

    def _encode(self, prompt: str, pseudo_word: str, has_word: bool) -> _Encoded:
        clip, placed = self.clip, None
        if has_word:
            placed = read_prompt(clip, prompt, pseudo_word, self.word, self.family)
        tokens = clip.tokenize(prompt) if placed is None else placed.tokens
        with torch.inference_mode():
            output = clip.encode_from_tokens(tokens, return_pooled=True, return_dict=True)
        extra = {name: self._move(value) for name, value in output.items()}
        encoding, pooled = extra.pop("cond").float(), extra.pop("pooled_output")
        scales = {} if placed is None else offset_scales(placed, encoding)
        return _Encoded(encoding, pooled, extra, scales)

    def _move(self, value: Any) -> Any:
        # Tensors of inference mode are of no use to a training.
        return value.clone().to(self.device) if isinstance(value, Tensor) else value


def _leave_card(patcher: Any) -> None:
    """Have ComfyUI unload a text encoder, which the training no longer needs."""
    if not mm.is_device_cpu(patcher.load_device):
        loaded = mm.current_loaded_models
        others = [m for m in loaded if m.model is None or not m.model.is_clone(patcher)]
        mm.free_memory(1e30, patcher.load_device, others)
