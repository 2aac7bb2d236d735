"""Makes the small prior: ``python -m benchmarks.nano.make_prior``, under two hours on two cores.

Stages write to the work folder and are not done twice; ``make_prior decoder`` does one of them.
"""

import argparse
import json
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderDC, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPVisionModel

from .autoencoder import (
    component_deviations,
    new_autoencoder,
    pixels_of,
    set_encoder,
    train_decoder,
)
from .denoiser import (
    Lesson,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    token_ids,
    train_denoiser,
)
from .drawings import SEED, Drawings, training_drawings
from .image_encoder import new_image_encoder, train_image_encoder

HERE = Path(__file__).parent
ENCODER_DRAWINGS = 3000
DECODER_STEPS = 1800
BATCH = 48
FIRST = {"steps": 8000, "horizon": 15_000, "learning_rate": 1e-3, "seed": SEED}
SECOND = {"steps": 6000, "horizon": 6000, "learning_rate": 7e-4, "seed": SEED + 1}
FACE = np.s_[:, 2:7, 2:6]
MOUTH = np.s_[:, 5:7, 3:5]
FACE_WEIGHT, MOUTH_WEIGHT = 3.0, 4.0
IMAGE_ENCODER_STEPS = 600
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModel"],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderDC"],
}


def main() -> None:
    """Run the stages that are asked for, or all that are missing and write the prior's folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stages", nargs="*", metavar="stage")
    parser.add_argument("--work", type=Path, default=Path("out/nano"))
    parser.add_argument("--out", type=Path, default=HERE / "prior")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    making = Making(options.work)
    for stage in options.stages:
        getattr(making, stage)()
    if not options.stages:
        making.write(options.out)


class Making:
    """The stages, each of which leaves its result in the work folder.

    Args:
        work: the work folder.
    """

    def __init__(self, work: Path) -> None:
        self.work, self.log = work, work / "log.txt"
        self.tokenizer = new_tokenizer(work / "tokenizer")

    def write(self, out: Path) -> None:
        """Write the prior as a pipeline folder in half precision, doing what is missing first."""
        unet, text_encoder = self.denoiser()
        for name, network in {
            "vae": self.decoder(),
            "unet": unet,
            "text_encoder": text_encoder,
            "image_encoder": self.image_encoder(),
        }.items():
            network.half().save_pretrained(out / name)
        new_scheduler().save_pretrained(out / "scheduler")
        self.tokenizer.save_pretrained(out / "tokenizer")
        CLIPImageProcessor(
            size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
        ).save_pretrained(out / "feature_extractor")
        (out / "model_index.json").write_text(json.dumps(INDEX, indent=1) + "\n", encoding="utf-8")
        (out / "log.txt").write_text(self.log.read_text(encoding="utf-8"), encoding="utf-8")

    def denoiser(self) -> tuple[UNet2DConditionModel, CLIPTextModel]:
        """Return the U-Net and its text encoder; in a second lesson the mouth counts more."""
        torch.manual_seed(SEED)
        untaught = new_unet(), new_text_encoder(len(self.tokenizer))
        first = self._lesson("first", untaught, 1.0, FIRST)
        return self._lesson("denoiser", first, MOUTH_WEIGHT, SECOND)

    def decoder(self) -> AutoencoderDC:
        """Return the autoencoder, whose decoder is trained."""
        folder = self.work / "vae"
        if not folder.exists():
            start = time.perf_counter()
            model = self._encoder()
            pictures = self._drawings.pictures
            error = train_decoder(model, pictures, DECODER_STEPS, SEED)
            model.save_pretrained(folder)
            self._note(f"decoder: mean absolute error {error:.4f} of 2", start)
        return AutoencoderDC.from_pretrained(folder)

    def image_encoder(self) -> CLIPVisionModel:
        """Return the image encoder."""
        folder = self.work / "image_encoder"
        if not folder.exists():
            start = time.perf_counter()
            torch.manual_seed(SEED)
            model, text_encoder = new_image_encoder(), new_text_encoder(len(self.tokenizer))
            drawn = self._drawings
            ids = token_ids(self.tokenizer, drawn.captions)
            found = train_image_encoder(
                model, text_encoder, drawn.pictures, ids, IMAGE_ENCODER_STEPS, SEED
            )
            model.save_pretrained(folder)
            self._note(f"image encoder: finds its caption among 128 in {found:.3f}", start)
        return CLIPVisionModel.from_pretrained(folder)

    def _lesson(
        self,
        name: str,
        networks: tuple[UNet2DConditionModel, CLIPTextModel],
        mouth_weight: float,
        course: dict[str, Any],
    ) -> tuple[UNet2DConditionModel, CLIPTextModel]:
        folder = self.work / name
        if not folder.exists():
            start = time.perf_counter()
            drawn, encoder = self._drawings, self._encoder()
            unet, text_encoder = train_denoiser(
                networks[0].to(memory_format=torch.channels_last).train(),
                networks[1].train(),
                Lesson(
                    latents=_latents(encoder, drawn.pictures),
                    ids=token_ids(self.tokenizer, drawn.captions),
                    weights=loss_weights(encoder, mouth_weight),
                    batch=BATCH,
                    log=self.log,
                    **course,
                ),
            )
            unet.save_pretrained(folder / "unet")
            text_encoder.save_pretrained(folder / "text_encoder")
            self._note(f"{name}: {course['steps']} steps of {BATCH}", start)
        return (
            UNet2DConditionModel.from_pretrained(folder / "unet"),
            CLIPTextModel.from_pretrained(folder / "text_encoder"),
        )

    def _encoder(self) -> AutoencoderDC:
        torch.manual_seed(SEED)
        model = new_autoencoder().to(memory_format=torch.channels_last)
        set_encoder(model, self._drawings.pictures[:ENCODER_DRAWINGS])
        return model

    @cached_property
    def _drawings(self) -> Drawings:
        drawn, line = training_drawings(self.work)
        if line:
            self._note(line, None)
        return drawn

    def _note(self, text: str, start: float | None) -> None:
        took = "" if start is None else f"; {time.perf_counter() - start:.0f} s"
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"{text}{took}\n")


def loss_weights(autoencoder: AutoencoderDC, mouth_weight: float) -> Tensor:
    """Return how much the error of each latent value counts, ``(c, 8, 8)`` with mean 1.

    Whitening made faint components as loud as strong ones: this leans back half-way. Faces are
    small and hold most of what captions say, and a smile is a few pixels wide.
    """
    weights = component_deviations(autoencoder).sqrt().view(-1, 1, 1).repeat(1, 8, 8)
    weights[FACE] *= FACE_WEIGHT
    weights[MOUTH] *= mouth_weight
    return weights / weights.mean()


@torch.no_grad()
def _latents(autoencoder: AutoencoderDC, pictures: np.ndarray) -> Tensor:
    batches = np.array_split(pictures, len(pictures) // 250)
    return torch.cat([autoencoder.encode(pixels_of(batch)).latent for batch in batches])


if __name__ == "__main__":
    main()
