"""Makes the small prior in lessons: ``python -m evaluation.toy.training.make_prior denoiser``.

Each lesson starts from the weights of the last one, in the work folder or else in ``prior/``, and
can be stopped at any time (Ctrl+C, or the signal TERM): what it learnt is kept. ``write`` puts what
is learnt so far into ``prior/`` as a pipeline folder. ``transformer`` needs ComfyUI, and is no part
of the prior.
"""

import argparse
import json
from contextlib import closing
from functools import partial
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny, UNet2DConditionModel
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPImageProcessor, CLIPTextModel, CLIPVisionModel

from .. import PRIOR
from ..captions import write_tokenizer
from ..drawings import SEED, training_drawings, untaught_drawings
from .autoencoder import new_autoencoder, set_scale, train_autoencoder
from .denoiser import (
    BATCH,
    Chunks,
    Errors,
    Material,
    denoiser_errors,
    new_scheduler,
    new_text_encoder,
    new_tokenizer,
    new_unet,
    teach,
    token_ids,
)
from .image_encoder import new_image_encoder, train_image_encoder
from .session import Course, stop_on_signals
from .transformer import flow_errors, new_transformer

# At most; their latents stay on the GPU, 6 GB of them.
DRAWN_MEANWHILE = 1_500_000
TAUGHT_BY_PROMPTS = ("denoiser", "transformer")
STAGES = ("autoencoder", "decoder", *TAUGHT_BY_PROMPTS, "image_encoder", "write")
# Faces are small and hold most of what captions say, and a smile is a few latents wide.
FACE, MOUTH = np.s_[5:14, 4:12], np.s_[10:14, 6:10]
FACE_WEIGHT, MOUTH_WEIGHT = 2.0, 4.0
IMAGE_ENCODER_STEPS = 600
LEARNING_RATE = 1e-3
SCALE_DRAWINGS = 4000
# Before the names of all weights, as transformers 4 writes them; 5 reads both forms, 4 this alone.
CLIP_PREFIXES = {"text_encoder": "text_model.", "image_encoder": "vision_model."}
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "feature_extractor": ["transformers", "CLIPImageProcessor"],
    "image_encoder": ["transformers", "CLIPVisionModel"],
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderTiny"],
}


def main() -> None:
    """Give the lesson that is asked for, or write what was learnt."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=STAGES)
    parser.add_argument("--minutes", type=float, default=100)
    parser.add_argument("--anneal", action="store_true", help="let the learning rate fall")
    parser.add_argument("--work", type=Path, default=Path("out/nano2"))
    parser.add_argument("--out", type=Path, default=PRIOR)
    parser.add_argument("--batch", type=int, default=BATCH, help="drawings in a step")
    parser.add_argument(
        "--drawers",
        type=int,
        default=0,
        help="processes that draw new portraits while a GPU learns; 0: the kept set",
    )
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    making = Making(options.work, options.out)
    if options.stage == "autoencoder" and making.has("unet"):
        parser.error("the U-Net knows this encoder's latents: teach the decoder alone")
    if options.stage in ("write", "image_encoder"):
        getattr(making, options.stage)()
        return
    log = options.work / "log.txt"
    course = Course(
        name=options.stage,
        minutes=options.minutes,
        learning_rate=LEARNING_RATE,
        anneal=options.anneal,
        # Another seed for each lesson, so that it does not see the last one's noise again.
        seed=SEED + (len(log.read_text(encoding="utf-8")) if log.exists() else 0),
        folder=options.work,
        log=log,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
    )
    if course.device.type == "cuda":
        # Matrix products in TF32, as convolutions are already.
        torch.set_float32_matmul_precision("high")
    with stop_on_signals(course):
        sizes = (options.batch, options.drawers) if options.stage in TAUGHT_BY_PROMPTS else ()
        getattr(making, options.stage)(course, *sizes)


class Making:
    """The prior's parts: as the last lesson left them, or untrained.

    work: the folder with drawings, log and states. out: the pipeline folder, in half precision.
    """

    def __init__(self, work: Path, out: Path) -> None:
        self.work, self.out = work, out
        log, earlier = work / "log.txt", out / "log.txt"
        if earlier.exists() and not log.exists():
            # Elsewhere lessons were given before: their log goes on, and with it the seeds.
            log.write_text(earlier.read_text(encoding="utf-8"), encoding="utf-8")
        self.tokenizer = new_tokenizer(work / "tokenizer")

    def decoder(self, course: Course) -> None:
        """Give the decoder alone a lesson: the latents keep their meaning."""
        self.autoencoder(course, is_encoder_fixed=True)

    def autoencoder(self, course: Course, is_encoder_fixed: bool = False) -> None:
        """Give the autoencoder a lesson on all drawings."""
        torch.manual_seed(SEED)
        model = self._last(AutoencoderTiny, "vae") or new_autoencoder()
        model.encoder.requires_grad_(not is_encoder_fixed)
        self._note_start(course, "vae")
        model.to(course.device, memory_format=torch.channels_last).train()
        drawn = training_drawings(self.work)
        # Like Stable Diffusion's, it has seen strokes that the U-Net has not.
        pictures = np.concatenate([drawn.images, untaught_drawings(self.work).images])
        average = train_autoencoder(model, pictures, course).average
        if not is_encoder_fixed:
            set_scale(average, drawn.images[:SCALE_DRAWINGS])
        average.save_pretrained(self.work / "vae")

    def denoiser(self, course: Course, batch: int = BATCH, drawers: int = 0) -> None:
        """Give the U-Net and its text encoder a lesson, on the kept set or on what is drawn."""
        torch.manual_seed(SEED)
        self._note_start(course, "unet")
        unet = self._last(UNet2DConditionModel, "unet") or new_unet()
        text_encoder = self._last(CLIPTextModel, "text_encoder")
        text_encoder = text_encoder or new_text_encoder(len(self.tokenizer))
        unet.to(course.device, memory_format=torch.channels_last).train()
        text_encoder.to(course.device).train()
        both, errors = nn.ModuleList([unet, text_encoder]), denoiser_errors(unet, text_encoder)
        average = self._teach(both, errors, course, batch, drawers)
        average[0].save_pretrained(self.work / "unet")
        average[1].save_pretrained(self.work / "text_encoder")

    def transformer(self, course: Course, batch: int = BATCH, drawers: int = 0) -> None:
        """Give a transformer such a lesson, with the text encoder that the U-Net's left."""
        torch.manual_seed(SEED)
        network = new_transformer().to(course.device).train()
        text_encoder = self._last(CLIPTextModel, "text_encoder").to(course.device)
        self._teach(network, flow_errors(network, text_encoder), course, batch, drawers)

    def _teach(
        self, model: nn.Module, errors: Errors, course: Course, batch: int, drawers: int
    ) -> nn.Module:
        """Return the average of what learns from the kept set or from what is drawn meanwhile."""
        autoencoder = self._last(AutoencoderTiny, "vae").to(course.device)
        course.note(f"the face counts {FACE_WEIGHT:g} times, its mouth {MOUTH_WEIGHT:g} times that")
        learn = partial(teach, model, errors, weights=loss_weights(), course=course, batch=batch)
        if drawers:
            with closing(Chunks(DRAWN_MEANWHILE, drawers)) as chunks:
                material = Material(autoencoder, self.tokenizer, DRAWN_MEANWHILE, chunks)
                average = learn(material=material).average
            course.note(f"{material.known} drawings in batches of {batch}")
            return average
        drawn = training_drawings(self.work)
        material = Material(autoencoder, self.tokenizer, len(drawn.captions))
        material.add(drawn)
        return learn(material=material).average

    def image_encoder(self) -> None:
        """Train the image encoder, all at once."""
        torch.manual_seed(SEED)
        model, text_encoder = new_image_encoder(), new_text_encoder(len(self.tokenizer))
        drawn = training_drawings(self.work)
        ids = token_ids(self.tokenizer, drawn.captions)
        found = train_image_encoder(
            model, text_encoder, drawn.images, ids, IMAGE_ENCODER_STEPS, SEED
        )
        model.save_pretrained(self.work / "image_encoder")
        with (self.work / "log.txt").open("a", encoding="utf-8") as log:
            log.write(f"image encoder: finds its caption among 128 in {found:.3f}\n")

    def write(self) -> None:
        """Write what was learnt so far as a pipeline folder in half precision."""
        kinds = {
            "vae": AutoencoderTiny,
            "unet": UNet2DConditionModel,
            "text_encoder": CLIPTextModel,
            "image_encoder": CLIPVisionModel,
        }
        for name, kind in kinds.items():
            network: nn.Module | None = self._last(kind, name)
            if network is not None:
                network.half().save_pretrained(self.out / name)
                if name in CLIP_PREFIXES:
                    write_prefix(self.out / name / "model.safetensors", CLIP_PREFIXES[name])
        new_scheduler().save_pretrained(self.out / "scheduler")
        self.tokenizer.save_pretrained(self.out / "tokenizer")
        write_tokenizer(self.out / "tokenizer")  # transformers 4 reads these files alone
        CLIPImageProcessor(
            size={"shortest_edge": 64}, crop_size={"height": 64, "width": 64}
        ).save_pretrained(self.out / "feature_extractor")
        index = json.dumps(INDEX, indent=1) + "\n"
        (self.out / "model_index.json").write_text(index, encoding="utf-8")
        whole = (self.work / "log.txt").read_text(encoding="utf-8")
        (self.out / "log.txt").write_text(whole, encoding="utf-8")

    def has(self, name: str) -> bool:
        """Tell whether a part has had a lesson."""
        return self._folder(name) is not None

    def _folder(self, name: str) -> Path | None:
        folders = (self.work / name, self.out / name)
        return next((one for one in folders if (one / "config.json").exists()), None)

    def _note_start(self, course: Course, name: str) -> None:
        if self._folder(name) == self.out / name and not (self.work / f"{course.name}.pt").exists():
            course.note("goes on from the weights that were written; samples are counted anew")

    def _last(self, kind: type, name: str) -> nn.Module | None:
        """Return a part as the last lesson left it, in single precision; None before the first."""
        folder = self._folder(name)
        return None if folder is None else kind.from_pretrained(folder).float()


def write_prefix(path: Path, prefix: str) -> None:
    """Write a prefix before the name of each tensor in a safetensors file that lacks it."""
    named = {prefix + name.removeprefix(prefix): tensor for name, tensor in load_file(path).items()}
    save_file(named, path, metadata={"format": "pt"})


def loss_weights() -> Tensor:
    """Return how much the error of each latent counts, ``(16, 16)`` with mean 1."""
    weights = torch.ones(16, 16)
    weights[FACE] *= FACE_WEIGHT
    weights[MOUTH] *= MOUTH_WEIGHT
    return weights / weights.mean()


if __name__ == "__main__":
    main()
