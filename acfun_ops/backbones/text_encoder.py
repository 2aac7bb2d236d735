"""Prompts through CLIP text encoders of transformers, with the pseudo-word's vector put in."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn

from ..errors import ACFunError
from ..model_families import name_by_encoders
from ..pseudo_word import has_pseudo_word, pseudo_word_pattern
from .backbone import Context

SD2_WIDTH = 1024


@dataclass(frozen=True)
class TextEncoder:
    """A CLIP text encoder with its tokenizer."""

    tokenizer: Any
    """A CLIPTokenizer."""
    model: Any
    """A CLIPTextModel or CLIPTextModelWithProjection."""
    penultimate: bool
    """Whether the U-Net wants the last layer but one, without the final norm, as SDXL does."""

    def vector(self, word: str) -> Tensor:
        """Return a word's mean token embedding ``(d,)``, float32.

        Raises:
            ACFunError: the word has no tokens.
        """
        ids = self.tokenizer(word, add_special_tokens=False)["input_ids"]
        if not ids:
            raise ACFunError(
                f"The initial word '{word}' has no token in this text encoder. Use a common word."
            )
        table: Tensor = self.model.get_input_embeddings().weight
        return table[ids].float().mean(dim=0)

    def encode(
        self, prompt: str, pseudo_word: str, vector: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        """Encode a prompt, differentiably in the pseudo-word's vector.

        A prompt longer than the encoder is encoded in chunks, as ComfyUI does.

        Args:
            prompt: any prompt; taken literally, without weights.
            pseudo_word: "S*", as a word of its own, any number of times.
            vector: its vector ``(d,)``; None leaves the word as any other.

        Returns:
            The embedding ``(1, t, d)`` and, of encoders that have one, the first chunk's pooled
            embedding ``(1, p)``; float32.
        """
        ids, places = self._token_ids(prompt, pseudo_word, vector is not None)
        with _replace_vector(self.model.get_input_embeddings(), places, vector):
            output = self.model(ids.to(self.model.device), output_hidden_states=True)
        hidden = output.hidden_states[-2] if self.penultimate else output.last_hidden_state
        pooled = getattr(output, "text_embeds", None)
        embedding: Tensor = rearrange(hidden, "k t d -> 1 (k t) d").float()
        return embedding, None if pooled is None else pooled[:1].float()

    def _token_ids(self, prompt: str, pseudo_word: str, is_learnt: bool) -> tuple[Tensor, Tensor]:
        """Return ids ``(k, t)`` in framed chunks, and where the learnt word stands in them."""
        tokenizer = self.tokenizer
        pieces = pseudo_word_pattern(pseudo_word).split(prompt) if is_learnt else [prompt]
        ids: list[int] = []
        places: list[bool] = []
        for number, piece in enumerate(pieces):
            if number:
                ids.append(tokenizer.bos_token_id)
                places.append(True)
            plain = tokenizer(piece, add_special_tokens=False, verbose=False)["input_ids"]
            ids += plain
            places += [False] * len(plain)
        length = self.model.config.max_position_embeddings - 2
        chunks, marks = [], []
        for start in range(0, max(1, len(ids)), length):
            part, mark = ids[start : start + length], places[start : start + length]
            padding = length - len(part)
            ends = [tokenizer.eos_token_id] + [tokenizer.pad_token_id] * padding
            chunks.append([tokenizer.bos_token_id, *part, *ends])
            marks.append([False, *mark, *[False] * (padding + 1)])
        return torch.tensor(chunks), torch.tensor(marks)


def encode_prompt(
    texts: Mapping[str, TextEncoder], prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
) -> Context:
    """Encode a prompt with all text encoders of a pipeline, to float32; see Backbone.

    Raises:
        ACFunError: the vectors are for other text encoders.
    """
    if vectors and has_pseudo_word(prompt, pseudo_word) and vectors.keys() != texts.keys():
        raise ACFunError(
            f"The style was trained with the text encoders of {name_by_encoders(vectors)}; "
            f"this pipeline has those of {name_by_encoders(texts)}. Use a pipeline of the "
            "family it was trained on."
        )
    encoded = [text.encode(prompt, pseudo_word, vectors.get(name)) for name, text in texts.items()]
    length = min(embedding.shape[1] for embedding, _ in encoded)
    tokens = torch.cat([embedding[:, :length] for embedding, _ in encoded], dim=-1)
    return Context(tokens, encoded[-1][1] if len(encoded) > 1 else None)


def text_encoders(pipeline: Any) -> dict[str, TextEncoder]:
    """Return a pipeline's text encoders under ComfyUI's names for them.

    They are "l" (SD1), "h" (SD2), "l" and "g" (SDXL), and "l" for one of any other width.

    Raises:
        ACFunError: the pipeline was loaded without its text encoder.
    """
    if getattr(pipeline, "text_encoder", None) is None:
        raise ACFunError(
            "The pipeline was loaded without its text encoder, which encodes the prompt with the "
            "style. Load it whole."
        )
    second = getattr(pipeline, "text_encoder_2", None)
    if second is None:
        name = "h" if pipeline.unet.config.cross_attention_dim == SD2_WIDTH else "l"
        return {name: TextEncoder(pipeline.tokenizer, pipeline.text_encoder, False)}
    return {
        "l": TextEncoder(pipeline.tokenizer, pipeline.text_encoder, True),
        "g": TextEncoder(pipeline.tokenizer_2, second, True),
    }


@contextmanager
def _replace_vector(embedding: nn.Module, places: Tensor, vector: Tensor | None) -> Iterator[None]:
    """Put a vector where the pseudo-word stands, for the length of a ``with`` block."""
    if vector is None or not places.any():
        yield
        return

    def put(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        where = places.to(output.device)[..., None]
        return torch.where(where, vector.to(output.device, output.dtype), output)

    hook = embedding.register_forward_hook(put)
    try:
        yield
    finally:
        hook.remove()
