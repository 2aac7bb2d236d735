"""The kinds of models: what tells them apart, and what users call them."""

from collections.abc import Iterable

OTHER = "another kind of model"

_BY_WIDTH = {768: "sd1", 1024: "sd2", 2048: "sdxl"}
FAMILIES = (*_BY_WIDTH.values(), "custom")
NAMES = {"sd1": "SD1.x", "sd2": "SD2.x", "sdxl": "SDXL"}
"""What users call a family; those that are not in it have no name of their own."""
_REFINER = "SDXL refiner"
_REFINER_WIDTH = 1280
# By ComfyUI's names of text encoders, which the diffusers side uses as well.
_BY_ENCODERS = {
    "l": NAMES["sd1"],
    "h": NAMES["sd2"],
    "g": "the SDXL refiner or Stable Cascade",
    "g l": NAMES["sdxl"],
    "g l t5xxl": "SD3",
    "l t5xxl": "Flux",
}


def family_of(context_width: int) -> str:
    """Return the family of a U-Net by the width of the prompt embeddings that it takes.

    It is one of ``FAMILIES``, as style files have it.
    """
    return _BY_WIDTH.get(context_width, "custom")


def name_of(family: str, context_width: int) -> str:
    """Return what users call a model of a family that takes prompt embeddings of this width."""
    other = _REFINER if context_width == _REFINER_WIDTH else OTHER
    return NAMES.get(family, other)


def name_by_encoders(encoders: Iterable[str]) -> str:
    """Return what users call the model that these text encoders, "l" and "g" say, belong to."""
    return _BY_ENCODERS.get(" ".join(sorted(encoders)), OTHER)
