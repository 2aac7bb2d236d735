"""Tiny CLIPs of ComfyUI's own language models, with their real tokenizers where ComfyUI has them.

It ships the vocabularies of CLIP, T5 and Qwen. Gemma's and Mistral's come with their weights; here
Gemma's tokenizer reads another vocabulary of its kind and Mistral's one of single bytes.
"""

from __future__ import annotations

import base64
import importlib
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.sd
import comfy.text_encoders
import torch
from torch import Tensor, nn

WIDTH = 64
ENCODERS = Path(next(iter(comfy.text_encoders.__path__)))
_LLAMA = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
}
_DEEP = _LLAMA | {"num_hidden_layers": 31}
_T5 = {"d_model": WIDTH, "d_ff": 32, "d_kv": 16, "num_heads": 2, "num_layers": 2}
_CLIP = {
    "hidden_size": WIDTH,
    "intermediate_size": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 3,
    "projection_dim": WIDTH,
}
# Module, text encoder, its arguments, tokenizer, settings by ComfyUI's names of encoders.
KINDS: dict[str, tuple[str, str, dict[str, Any], str, dict[str, Any]]] = {
    "zimage": ("z_image", "te", {}, "ZImageTokenizer", {"qwen3_4b": _LLAMA}),
    "lumina2": ("lumina2", "te", {}, "LuminaTokenizer", {"gemma2_2b": _LLAMA}),
    "flux": ("flux", "flux_clip", {}, "FluxTokenizer", {"clip_l": _CLIP, "t5xxl": _T5}),
    "flux2": ("flux", "klein_te", {}, "KleinTokenizer", {"qwen3_4b": _DEEP}),
    "flux2_dev": ("flux", "flux2_te", {}, "Flux2Tokenizer", {"mistral3_24b": _DEEP}),
    "chroma": ("pixart_t5", "pixart_te", {}, "PixArtTokenizer", {"t5xxl": _T5}),
    "sd3": (
        "sd3_clip",
        "sd3_clip",
        {},
        "SD3Tokenizer",
        # ComfyUI writes this width into the encoder.
        {"clip_l": _CLIP, "clip_g": _CLIP, "t5xxl": _T5 | {"d_model": 4096, "num_layers": 1}},
    ),
    "qwen_image": ("qwen_image", "te", {}, "QwenImageTokenizer", {"qwen25_7b": _LLAMA}),
    "anima": ("anima", "te", {}, "AnimaTokenizer", {"qwen3_06b": _LLAMA}),
}
# Of the modules through which one token's encoding takes from others'.
_MIXES = ("o_proj.weight", "SelfAttention.o.weight", "out_proj.weight")


def is_known(kind: str) -> bool:
    """Tell whether the ComfyUI that runs has a kind of text encoder."""
    return hasattr(_module(kind), KINDS[kind][1]) if (ENCODERS / _file(kind)).exists() else False


def build_clip(kind: str, *, mixes: bool = True, **loaded: bool) -> Any:
    """Return a CLIP as ComfyUI's loaders build it, with random weights.

    Args:
        kind: a key of `KINDS`.
        mixes: whether tokens attend to each other; else each is encoded for itself.
        loaded: whether SD3.5 has its `clip_l`, `clip_g` and `t5`.
    """
    module, (_, encoder, arguments, tokenizer, settings) = _module(kind), KINDS[kind]
    target = SimpleNamespace(
        params={},
        clip=getattr(module, encoder)(**arguments, **loaded),
        tokenizer=getattr(module, tokenizer),
    )
    options: dict[str, Any] = {f"{name}_model_config": s for name, s in settings.items()}
    vocabulary = {
        "lumina2": {"spiece_model": _bytes(ENCODERS / "t5_pile_tokenizer" / "tokenizer.model")},
        "flux2_dev": {"tekken_model": torch.tensor(list(_byte_vocabulary()), dtype=torch.uint8)},
    }
    with torch.inference_mode():
        clip = comfy.sd.CLIP(
            target,
            tokenizer_data=vocabulary.get(kind, {}),
            model_options=options | {"dtype": torch.float32},
        )
        _fill(clip.cond_stage_model, mixes)
    return clip


def _file(kind: str) -> str:
    return f"{KINDS[kind][0]}.py"


def _module(kind: str) -> Any:
    return importlib.import_module(f"comfy.text_encoders.{KINDS[kind][0]}")


def _bytes(path: Path) -> Tensor:
    return torch.tensor(list(path.read_bytes()), dtype=torch.uint8)


def _byte_vocabulary() -> bytes:
    special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"]
    special += [f"<SPECIAL_{number}>" for number in range(len(special), 12)]
    tokens = [bytes([number]) for number in range(256)]
    vocabulary = {
        "config": {"default_num_special_tokens": 12, "default_vocab_size": 12 + 256},
        "special_tokens": [{"rank": n, "token_str": text} for n, text in enumerate(special)],
        "vocab": [
            {"rank": n, "token_bytes": base64.b64encode(token).decode()}
            for n, token in enumerate(tokens)
        ],
    }
    return json.dumps(vocabulary).encode()


def _fill(encoder: nn.Module, mixes: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    draw: Callable[..., Tensor] = torch.randn
    for name, weight in sorted(encoder.named_parameters()):
        if ".visual." in name or "logit_scale" in name:
            continue
        if weight.numel() > 1e8:  # Rows of a table that share memory.
            rows = draw(sum(weight.shape), generator=generator)
            weight.data = rows.as_strided(weight.shape, (1, 1))
        elif weight.ndim == 1:
            weight.fill_(float(name.endswith("weight")))
        else:
            is_cut = not mixes and name.endswith(_MIXES)
            scale = 0.0 if is_cut else 1.0 if "embed" in name or "shared" in name else 0.2
            weight.copy_(scale * draw(weight.shape, generator=generator))
