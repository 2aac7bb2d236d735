"""The kinds of models, a row each: what tells them apart, and what users call them."""

from collections.abc import Iterable
from dataclasses import dataclass

OTHER = "another kind of model"


@dataclass(frozen=True, kw_only=True)
class Family:
    """What is fixed by the kind of a model."""

    name: str
    """What users call it; that of "custom" is empty."""
    encoders: tuple[str, ...] = ()
    """ComfyUI's names of its text encoders, sorted and with spaces between; several where its
    models differ. The diffusers side uses them as well."""
    parts: tuple[str, ...] = ()
    """Of its text encoders those whose tokens have places in the encoded prompt, in its order; all
    of them if empty."""
    unet_width: int | None = None
    """Of the prompt embeddings that its U-Net takes; None for a transformer."""
    side: int = 512
    """Of the squares in pixels that it was made for and is trained on."""
    side_of_v: int | None = None
    """That of its models that predict v, where it is another."""
    learns_offsets: bool = False
    """Whether the pseudo-word is learnt as an offset on the encoded prompt and not as a token's
    vector: no gradient then goes through the text encoder."""
    most_inner: int | None = None
    """The widest that AFun's heads may be together; None for a quarter of the embeddings."""
    architecture: str = ""
    """By ModelSpec; empty takes the family's own key."""
    usual_bytes: float | None = None
    """That a style stays below at rank 32 with CLIP ViT-L/14, if it is known."""


def _transformer(
    name: str, *encoders: str, architecture: str, usual_bytes: float, parts: tuple[str, ...] = ()
) -> Family:
    """Return the row of a transformer, whose prompts are encoded by a language model."""
    return Family(
        name=name,
        encoders=encoders,
        parts=parts,
        side=1024,
        learns_offsets=True,
        most_inner=320,
        architecture=architecture,
        usual_bytes=usual_bytes,
    )


FAMILIES = {
    "sd1": Family(
        name="SD1.x",
        encoders=("l",),
        unet_width=768,
        architecture="stable-diffusion-v1",
        usual_bytes=8e6,
    ),
    "sd2": Family(
        name="SD2.x",
        encoders=("h",),
        unet_width=1024,
        side_of_v=768,
        architecture="stable-diffusion-v2-512",
    ),
    "sdxl": Family(
        name="SDXL",
        encoders=("g l",),
        unet_width=2048,
        side=1024,
        architecture="stable-diffusion-xl-v1-base",
        usual_bytes=20e6,
    ),
    "zimage": _transformer("Z-Image", "qwen3_4b", architecture="z-image", usual_bytes=35e6),
    "lumina2": _transformer("Lumina 2", "gemma2_2b", architecture="lumina-2", usual_bytes=23e6),
    # Its CLIP gives a pooled embedding alone.
    "flux": _transformer(
        "Flux.1", "l t5xxl", architecture="flux-1-dev", usual_bytes=50e6, parts=("t5xxl",)
    ),
    "flux2": _transformer(
        "Flux.2", "mistral3_24b", "qwen3_4b", "qwen3_8b", architecture="flux-2", usual_bytes=115e6
    ),
    "chroma": _transformer("Chroma", "t5xxl", architecture="chroma", usual_bytes=50e6),
    "sd3": _transformer(
        "SD3.5",
        "g l t5xxl",
        architecture="stable-diffusion-v3-5",
        usual_bytes=35e6,
        parts=("l", "t5xxl"),  # Those of l and g stand side by side.
    ),
    "qwen_image": _transformer(
        "Qwen-Image", "qwen25_7b", architecture="qwen-image", usual_bytes=50e6
    ),
    # Its network takes T5's tokens as they are.
    "anima": _transformer(
        "Anima",
        "qwen3_06b t5xxl",
        architecture="anima",
        usual_bytes=19e6,
        parts=("qwen3_06b",),
    ),
    "custom": Family(name=""),
}
"""By key, as style files have it."""

_REFINER = "SDXL refiner"
_REFINER_WIDTH = 1280
_REFINER_ENCODERS = "g"


def family_of(context_width: int) -> str:
    """Return the key of a U-Net's family by the width of the prompt embeddings that it takes."""
    of_width = (key for key, row in FAMILIES.items() if row.unet_width == context_width)
    return next(of_width, "custom")


def name_of(family: str, context_width: int) -> str:
    """Return what users call a model of a family that takes prompt embeddings of this width."""
    other = _REFINER if context_width == _REFINER_WIDTH else OTHER
    return FAMILIES[family].name or other


def native_side(family: str, prediction: str) -> int:
    """Return the side in pixels that models of a family were made for, by what they predict."""
    row = FAMILIES[family]
    return row.side_of_v or row.side if prediction == "v" else row.side


def name_by_encoders(encoders: Iterable[str]) -> str:
    """Return what users call the model that these text encoders, "l" and "g" say, belong to."""
    found = " ".join(sorted(encoders))
    if found == _REFINER_ENCODERS:
        return "the SDXL refiner or Stable Cascade"
    return " / ".join(row.name for row in FAMILIES.values() if found in row.encoders) or OTHER
