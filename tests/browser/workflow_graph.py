"""What the pack's workflows have in common: loaders, prompts, the note beside them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).resolve().parent))

from page_setup import MODEL_FILES, STYLE_FILE
from workflow_files import DOWNLOADS, Slot, WorkflowFile

WOMAN = "A painting of a woman with long red hair and glasses"
MAN = "A painting of a man with beard"
TEXT = f"{WOMAN} in S* style"
AGAINST = "photo, blurry, deformed, text, watermark"
CHECKPOINT = (
    "*Load Checkpoint*: of the style's family (SD1.x, SD2.x, SDXL). For SDXL set the size to "
    "1024 x 1024."
)
STYLE = "*Load ACFun Style*: a file of **models/acfun**. Press R if a new one is missing."
EXAMPLES = "The example images come with the pack."
FORM = "https://github.com/acfun-comfy/ComfyUI-ACFun/issues/new?template=results.yml"
SAMPLER = {"steps": 40, "cfg": 7, "sampler_name": "euler", "scheduler": "normal", "denoise": 1}
DOWNLOAD = (
    "**A model is missing?** Press *Download* in the panel that opens, or put the file into the "
    "folder yourself: "
)


class Graph(WorkflowFile):
    """A workflow file with what most of these have in common.

    Args:
        name: of the file, without suffix.
        info: ComfyUI's description of all nodes.
        about: the note's title.
        choices: what the user chooses before the first run, in order.
        text: the paragraphs below.
        width: of the nodes.
    """

    def __init__(
        self,
        name: str,
        info: Mapping[str, Any],
        about: str,
        *choices: str,
        text: str,
        width: int = 290,
    ) -> None:
        steps = "\n".join(f"{n}. {choice}" for n, choice in enumerate(choices, start=1))
        note = f"# {about}\n\n**Choose before you run**\n\n{steps}\n\n**Then press Run.** {text}"
        super().__init__(name, info, note, width)

    def write(self, folder: Path) -> None:
        """Write the file; the note ends with the models that the workflow names."""
        named = {value for node in self.nodes for value in node["widgets_values"] or []}
        links = [f"[{n}]({DOWNLOADS[n]['url']})" for n in DOWNLOADS if n in named]
        self.nodes[0]["widgets_values"][0] += f"\n\n{DOWNLOAD}{', '.join(links)}."
        super().write(folder)

    def load_checkpoint(self) -> None:
        """Add the loader of the checkpoint."""
        name = MODEL_FILES["checkpoints"]
        self.model, self.clip, self.vae = self.add("CheckpointLoaderSimple", ckpt_name=name)

    def load_parts(self, network: str, encoder: str, kind: str, vae: str) -> None:
        """Add the loaders of a network, in fp8, of its text encoder of a kind, and of its VAE."""
        (self.model,) = self.add("UNETLoader", unet_name=network, weight_dtype="fp8_e4m3fn")
        (self.clip,) = self.add("CLIPLoader", clip_name=encoder, type=kind)
        (self.vae,) = self.add("VAELoader", vae_name=vae)

    def load(self, title: str | None = None) -> None:
        """Add the loaders of checkpoint and style; a title is that of the style."""
        self.column("Models and images")
        self.load_checkpoint()
        self.style = self.load_style(title)

    def load_style(self, title: str | None) -> Slot:
        """Add a Load ACFun Style."""
        return self.add("ACFunLoadStyle", title, style_file=STYLE_FILE)[0]

    def load_image(self, name: str, title: str) -> Slot:
        """Add a Load Image."""
        return self.add("LoadImage", title, image=name)[0]

    def load_mask(self, name: str, title: str) -> Slot:
        """Add a Load Image (as Mask)."""
        return self.add("LoadImageMask", title, image=name, channel="red")[0]

    def scale_image(self, image: Slot) -> Slot:
        """Add what brings an image to as many pixels as a square of 512."""
        inputs = {"upscale_method": "lanczos", "megapixels": 0.25, "resolution_steps": 8}
        return self.add("ImageScaleToTotalPixels", image=image, **inputs)[0]

    def empty_latent(self, width: int = 512) -> Slot:
        """Add an empty latent."""
        return self.add("EmptyLatentImage", width=width, height=512)[0]

    def encode_image(self, image: Slot) -> Slot:
        """Add a VAE Encode."""
        return self.add("VAEEncode", pixels=image, vae=self.vae)[0]

    def negative(self) -> Slot:
        """Add the negative prompt."""
        return self.add("CLIPTextEncode", "Negative prompt", clip=self.clip, text=AGAINST)[0]

    def apply_embedding(self, text: str = TEXT) -> Slot:
        """Add Apply AFun Embedding."""
        inputs = {"style": self.style, "clip": self.clip, "text": text}
        return self.add("ACFunApplyEmbedding", **inputs)[0]

    def apply_adapters(self) -> Slot:
        """Add Apply CFun Adapters."""
        return self.add("ACFunApplyAdapters", model=self.model, style=self.style)[0]

    def apply_style(self, title: str | None = None, **inputs: Any) -> list[Slot]:
        """Add Apply ACFun Style, on the loaded model unless told; return model and prompt."""
        inputs = {"model": self.model, "clip": self.clip, "style": self.style, **inputs}
        return self.add("ACFunApplyStyle", title, **inputs)

    def apply_halves(self) -> tuple[Slot, Slot, Slot]:
        """Add both halves and the negative prompt; return model, positive and negative."""
        positive = self.apply_embedding()
        styled = self.apply_adapters()
        return styled, positive, self.negative()

    def sample(self, title: str | None = None, **inputs: Any) -> Slot:
        """Add a KSampler."""
        return self.add("KSampler", title, **{**SAMPLER, "seed": 0, **inputs})[0]

    def decode(self, latents: Slot) -> Slot:
        """Add a VAE Decode."""
        return self.add("VAEDecode", samples=latents, vae=self.vae)[0]

    def draw(
        self, styled: Slot, positive: Slot, negative: Slot, latent: Slot, **inputs: Any
    ) -> Slot:
        """Add a KSampler and a VAE Decode; return the image."""
        inputs |= {"model": styled, "positive": positive, "negative": negative}
        return self.decode(self.sample(latent_image=latent, **inputs))

    def save(self, image: Slot, title: str = "Styled image") -> None:
        """Add a Save Image."""
        self.add("SaveImage", title, images=image, filename_prefix="ACFun")
