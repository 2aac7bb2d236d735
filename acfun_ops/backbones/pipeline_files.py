"""The files of a diffusers pipeline on disk: what must be there, and whole weights."""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import ACFunError, first_line
from ..model_families import OTHER

WANTED = "a diffusers folder of an SD1.x, SD2.x or SDXL pipeline"
_WEIGHTS = ("unet", "vae", "text_encoder")
_VARIANT = re.compile(r"\.([^.]+?)(?:-\d+-of-\d+)?\.safetensors$")
_NAMES = {
    "StableDiffusionXL": "SDXL",
    "StableDiffusion3": "SD3",
    "StableDiffusion": "Stable Diffusion",
    "Flux": "Flux",
}
# Buffers that some versions of transformers save and others compute.
_COMPUTED = ("position_ids",)
_SETTINGS = ("tokenizer", "scheduler")
# What says how DDPM's noise grows; schedulers of other kinds of noise have neither.
_SCHEDULES = {"beta_start", "trained_betas"}


@dataclass(frozen=True, kw_only=True)
class PipelineParts:
    """The parts of a diffusers pipeline that are used here, by diffusers' names for them."""

    unet: Any
    """A UNet2DConditionModel."""
    vae: Any
    """An AutoencoderKL, AutoencoderTiny or AutoencoderDC."""
    scheduler: Any
    """Knows the noise schedule and what is predicted."""
    tokenizer: Any
    """A CLIPTokenizer."""
    text_encoder: Any
    """A CLIPTextModel."""
    tokenizer_2: Any = None
    """A CLIPTokenizer; SDXL's second."""
    text_encoder_2: Any = None
    """A CLIPTextModelWithProjection; SDXL's second."""


def check_folder(folder: Path) -> None:
    """Refuse what is no diffusers pipeline with a U-Net, in safetensors.

    Raises:
        ACFunError: the message says what is missing.
    """
    if folder.is_file():
        raise ACFunError(
            "{file} is a file; expected {wanted}. Use it in ComfyUI, which reads such files, or "
            'make a folder of it, for SDXL with StableDiffusionXLPipeline: python -c "from '
            "diffusers import StableDiffusionPipeline as P; "
            'P.from_single_file({file!r}).save_pretrained({folder!r})"',
            file=str(folder),
            wanted=WANTED,
            folder=str(folder.with_suffix("")),
        )
    if not (folder / "model_index.json").is_file():
        found = "has no model_index.json" if folder.is_dir() else "does not exist"
        raise ACFunError(f"{folder} {found}; expected {WANTED}. Give the folder of one.")
    pipeline = _name_of(str(read_json(folder / "model_index.json").get("_class_name")))
    if not (folder / "unet").is_dir():
        raise ACFunError(
            f"ACFun works on the ResBlocks of a U-Net; {folder} holds {pipeline} without one. "
            f"Give {WANTED}."
        )
    for part in (*_WEIGHTS, *_SETTINGS):
        if not (folder / part).is_dir():
            raise ACFunError(
                f"{folder} holds {pipeline} without {part}; expected {WANTED}. Give the folder "
                "of a whole one, and no refiner."
            )
    for part in _WEIGHTS:
        if not list((folder / part).glob("*.safetensors")):
            raise ACFunError(
                f"{folder / part} holds no .safetensors file; other kinds of weights can run code "
                "when they are read. Get the pipeline in safetensors."
            )
    kind = read_json(folder / "unet" / "config.json").get("_class_name")
    if kind != "UNet2DConditionModel":
        raise ACFunError(
            f"ACFun works on the ResBlocks of a U-Net; {folder / 'unet'} holds another "
            f"kind of network ({kind}). Give {WANTED}."
        )
    _check_schedule(folder)


def _check_schedule(folder: Path) -> None:
    schedule = read_json(folder / "scheduler" / "scheduler_config.json")
    if not schedule.keys() & _SCHEDULES:
        raise ACFunError(
            f"{folder} adds noise in another way than Stable Diffusion does, as flow matching and "
            f"EDM do ({schedule.get('_class_name')}). Give {WANTED}."
        )
    if read_json(folder / "vae" / "config.json").get("latents_mean") is not None:
        raise ACFunError(
            f"{folder / 'vae'} scales each channel of its latents by itself, which Stable "
            f"Diffusion's does not. Give {WANTED}."
        )


def _name_of(pipeline: str) -> str:
    """Return what users call a pipeline by diffusers' class of it."""
    return next((name for start, name in _NAMES.items() if pipeline.startswith(start)), OTHER)


def load_part(kind: Any, part: Path, **options: Any) -> Any:
    """Load a network of diffusers or transformers from its folder, with all of its weights.

    Args:
        kind: the class, with a ``from_pretrained`` that would fill missing weights at random.
        part: the folder; only its safetensors files are read.
        options: further arguments of ``from_pretrained``.

    Raises:
        ACFunError: a weight is missing or has another shape.
    """
    network, found = kind.from_pretrained(
        part,
        local_files_only=True,
        use_safetensors=True,
        variant=weights_variant(part),
        output_loading_info=True,
        ignore_mismatched_sizes=True,
        **options,
    )
    check_weights(part, found["missing_keys"], [entry[0] for entry in found["mismatched_keys"]])
    return network


def check_weights(part: Path, missing: Collection[str], mismatched: Collection[str]) -> None:
    """Refuse a part whose files lack weights, or hold some of another shape.

    Args:
        part: the folder, named as diffusers names the part.
        missing: names of weights that no file has.
        mismatched: names of weights that do not have the shape of the configuration.

    Raises:
        ACFunError: there are any.
    """
    missing = sorted(name for name in missing if not name.endswith(_COMPUTED))
    if not missing and not mismatched:
        return
    name = missing[0] if missing else min(mismatched)
    fault = "are missing" if missing else "have another shape than its config.json says"
    raise ACFunError(
        f"{len(missing or mismatched)} weights of the {part.name} in {part} {fault}, such as "
        f"{name}. Download or save that folder again; if a newer diffusers or transformers saved "
        "it, update yours."
    )


def weights_variant(part: Path) -> str | None:
    """Return the variant, such as "fp16", of a part that has no plain weights, else None."""
    found = [_VARIANT.search(path.name) for path in part.glob("*.safetensors")]
    variants = sorted({match[1] for match in found if match is not None})
    if not variants or None in found:
        return None
    return "fp16" if "fp16" in variants else variants[0]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON table.

    Raises:
        ACFunError: the file is missing, no JSON or no table.
    """
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise ACFunError(
            f"{path} could not be read as JSON: {first_line(error)}. Get the pipeline again."
        ) from error
    if not isinstance(table, dict):
        raise ACFunError(f"{path} holds no table of settings. Get the pipeline again.")
    return table
