"""What the pack's workflows have in common: loaders, prompts, the note beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))

from conftest import MODEL_FILES, STYLE_FILE
from workflow_files import Slot, WorkflowFile

WOMAN = "A painting of a woman with long red hair and glasses"
TEXT = f"{WOMAN} in S* style"
AGAINST = "photo, blurry, deformed, text, watermark"
CHECKPOINT = (
    "1. *Load Checkpoint*: a checkpoint of the style's family (SD1.x, SD2.x, SDXL), for example\n"
    "   [v1-5-pruned-emaonly-fp16.safetensors](https://huggingface.co/Comfy-Org/"
    "stable-diffusion-v1-5-archive/resolve/main/v1-5-pruned-emaonly-fp16.safetensors) in "
    "**models/checkpoints**.\n"
)
STYLE = "2. *Load ACFun Style*: a file of **models/acfun**. Press R if a new one is missing.\n"
EXAMPLES = (
    "The example pictures come with the pack; the page puts them into ComfyUI's input folder."
)
SAMPLER = {"steps": 40, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}


class Graph(WorkflowFile):
    """A workflow file with what most of these have in common."""

    def __init__(self, name: str, info: Mapping[str, Any], about: str, *choices: str) -> None:
        steps = "".join(f"{n}. {text}\n" for n, text in enumerate(choices, start=3))
        note = f"# {about}\n\n**Choose before you run**\n\n{CHECKPOINT}{STYLE}{steps}"
        super().__init__(name, info, note + "\n**Then press Run.**")

    def say(self, text: str) -> None:
        """Add a paragraph to the note."""
        self.nodes[0]["widgets_values"][0] += f" {text}"

    def load(self, title: str | None = None) -> None:
        """Add the loaders of checkpoint and style; a title is that of the style."""
        self.column("Models and pictures")
        name = MODEL_FILES["checkpoints"]
        self.model, self.clip, self.vae = self.add("CheckpointLoaderSimple", ckpt_name=name)
        self.style = self.load_style(title)

    def load_style(self, title: str | None = None) -> Slot:
        """Add a Load ACFun Style."""
        return self.add("ACFunLoadStyle", title, style_file=STYLE_FILE)[0]

    def empty(self) -> Slot:
        """Add an empty latent."""
        return self.add("EmptyLatentImage", width=512, height=512)[0]

    def picture(self, name: str, title: str) -> Slot:
        """Add a picture of as many pixels as a square of 512; what is painted on it still fits."""
        (image, _) = self.add("LoadImage", title, image=name)
        (scaled,) = self.add(
            "ImageScaleToTotalPixels",
            image=image,
            upscale_method="lanczos",
            megapixels=0.25,
            resolution_steps=8,
        )
        return scaled

    def batch(self, latents: list[Slot]) -> Slot:
        """Add what makes one batch of latents."""
        batch = latents[0]
        for following in latents[1:]:
            (batch,) = self.add("LatentBatch", samples1=batch, samples2=following)
        return batch

    def prompt(self, text: str = TEXT, title: str | None = None) -> Slot:
        """Add Apply AFun Embedding."""
        inputs = {"style": self.style, "clip": self.clip, "text": text}
        return self.add("ACFunApplyEmbedding", title, **inputs)[0]

    def apply_style(self, title: str, **inputs: Any) -> list[Slot]:
        """Add Apply ACFun Style, on the loaded model unless told; return model and prompt."""
        inputs = {"model": self.model, "clip": self.clip, "style": self.style, **inputs}
        return self.add("ACFunApplyStyle", title, **inputs)

    def apply(self) -> tuple[Slot, Slot]:
        """Add the negative prompt and the adapters; return both."""
        (negative,) = self.add("CLIPTextEncode", "Negative prompt", clip=self.clip, text=AGAINST)
        (styled,) = self.add("ACFunApplyAdapters", model=self.model, style=self.style)
        return negative, styled

    def sample(self, title: str | None = None, **inputs: Any) -> Slot:
        """Add a KSampler."""
        return self.add("KSampler", title, **SAMPLER | inputs)[0]

    def save(self, latents: Slot) -> None:
        """Decode and save."""
        (images,) = self.add("VAEDecode", samples=latents, vae=self.vae)
        self.add("SaveImage", "Styled picture", images=images, filename_prefix="ACFun")
