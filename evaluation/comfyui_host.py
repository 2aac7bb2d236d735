"""ComfyUI, the pack and models with random weights, in this process, for benchmarks."""

import importlib.util
import os
import re
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
COMFYUI = Path(os.environ.get("COMFYUI_PATH", "~/comfy/ComfyUI")).expanduser()
SAMPLING_STEPS = 3
SIDE = 256
PROMPT = "A painting of a woman in S* style"
# Channels of the ResBlocks of encoder, middle and decoder, in any order.
WIDTHS = {
    "sd1": [320] * 5 + [640] * 5 + [1280] * 12,
    "sdxl": [320] * 5 + [640] * 5 + [1280] * 7,
}
CONTEXT_WIDTHS = {"sd1": {"l": 768}, "sdxl": {"l": 768, "g": 1280}}

sys.path[:0] = [str(COMFYUI), str(ROOT / "tests" / "nodes" / "support")]

import comfy.cli_args  # noqa: E402

comfy.cli_args.args.cpu = not torch.cuda.is_available()

import comfy.clip_vision  # noqa: E402
import comfy.model_management  # noqa: E402
import comfy.sd  # noqa: E402
import simulated_training  # noqa: E402
import tiny_models  # noqa: E402
from comfy_api.latest import io  # noqa: E402
from comfy_extras.nodes_train import TrainLoraNode  # noqa: E402

import nodes as stock  # noqa: E402


def _import_pack() -> Any:
    spec = importlib.util.spec_from_file_location("acfun_pack", ROOT / "__init__.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["acfun_pack"] = module
    spec.loader.exec_module(module)
    return module


_import_pack()
from acfun_pack.acfun_ops.style.style import StyleFacts, style_bytes  # noqa: E402
from acfun_pack.acfun_ops.style.style_file import load_style, save_style  # noqa: E402
from acfun_pack.acfun_ops.training.config import TrainConfig  # noqa: E402
from acfun_pack.acfun_ops.training.events import PreviewEvent, StepEvent, TrainPictures  # noqa: E402
from acfun_pack.acfun_ops.training.fit import fit  # noqa: E402
from acfun_pack.acfun_ops.training.previews import due_steps  # noqa: E402
from acfun_pack.acfun_ops.training.trainable_style import Trainables  # noqa: E402
from acfun_pack.nodes.apply_adapters import ApplyAFunEmbedding, ApplyCFunAdapters  # noqa: E402
from acfun_pack.nodes.comfyui.backbone import training_backbone  # noqa: E402


def _run(node: Any, *inputs: Any) -> Any:
    """Execute one of the pack's nodes as ComfyUI does; return its first output."""
    prepared = node.PREPARE_CLASS_CLONE({"hidden_inputs": {io.Hidden.unique_id: "benchmark"}})
    return node.execute.__func__(prepared, *inputs).args[0]


def finish() -> None:
    """Wait until a GPU has done what it was told."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def write_small(folder: Path) -> Path:
    """Write the small SD1-layout checkpoint of the tests and a CLIP vision model beside it."""
    tiny_models.write_sd1_checkpoint(folder / "small.safetensors")
    tiny_models.write_clip_vision(folder / "clip_vision.safetensors")
    return folder / "small.safetensors"


def write_full(folder: Path) -> Path:
    """Write a full-size SD1.5 checkpoint with random weights beside the small one."""
    unet = simulated_training.FULL_UNETS["sd1"]
    tiny_models.write_sd1_checkpoint(folder / "full.safetensors", unet=unet)
    return folder / "full.safetensors"


def previews_share(preview: float, step: float) -> float:
    """Return what the previews of a default training cost, as a share of its steps."""
    config = TrainConfig()
    return len(due_steps(config.preview_every, config.steps)) * preview / (config.steps * step)


def load(checkpoint: Path) -> "Loaded":
    """Load a checkpoint as ComfyUI's loaders do."""
    with torch.inference_mode():
        model, clip, vae, _ = comfy.sd.load_checkpoint_guess_config(str(checkpoint))
        vision = comfy.clip_vision.load(str(checkpoint.parent / "clip_vision.safetensors"))
    return Loaded(model, clip, vae, vision)


def style_megabytes(family: str) -> float:
    """Return the size of a full-size family's style with ViT-L/14 image tokens, in MB."""
    encoders = CONTEXT_WIDTHS[family]
    trainables = Trainables(
        text_dim=sum(encoders.values()),
        image_dim=1024,
        widths={f"input_blocks.{i}.0": c for i, c in enumerate(WIDTHS[family])},
        vectors={name: torch.zeros(size) for name, size in encoders.items()},
        layers=2,
        heads=8,
        dropout=0.0,
        rank=32,
        statistics="std",
        generator=torch.Generator(),
    )
    facts = StyleFacts(
        format=1,
        family=family,
        prompt=PROMPT,
        pseudo_word="S*",
        heads=8,
        insert_at="resblock",
        statistics="std",
        steps=150,
        seed=0,
        settings={},
        style_hash="0" * 64,
        checkpoint="0" * 64,
        run="0" * 16,
        parent="",
        version="0",
    )
    return len(style_bytes(trainables.to_style(facts, torch.zeros(257, 1024)))) / 1e6


@dataclass
class Loaded:
    """A checkpoint and a CLIP vision model, loaded, and what is measured on them."""

    model: Any
    clip: Any
    vae: Any
    vision: Any
    side: int = SIDE
    """Of the pictures, in pixels."""
    sampling_steps: int = SAMPLING_STEPS

    def __post_init__(self) -> None:
        generator = torch.Generator().manual_seed(0)
        side, small = self.side, self.side // 8
        pair = [torch.rand(1, side, side, 3, generator=generator) for _ in range(2)]
        self.pictures = TrainPictures(style=pair[0], face=pair[1])
        self.latent = {"samples": torch.randn(1, 4, small, small, generator=generator)}
        self.plain = self.embed_plain()
        self.negative = self.embed_plain("")
        self.style = self.train(steps=2)[0]
        self.conditioning = self.embed_styled()
        self.styled_model = _run(ApplyCFunAdapters, self.model, self.style, *[1.0] * 4, 0.0, 1.0)

    def train(self, steps: int, checkpointing: str = "off") -> tuple[Any, list[float]]:
        """Train; return the style and the time at which each step ended."""
        times = []

        def note(event: Any) -> bool:
            if isinstance(event, StepEvent):
                times.append(time.perf_counter())
            return False

        config = TrainConfig(
            prompt=PROMPT,
            steps=steps,
            resolution=self.side,
            preview_every=0,
            gradient_checkpointing=checkpointing,
        )
        with torch.inference_mode():
            sockets = (self.model, self.clip, self.vae, self.vision)
            with training_backbone(*sockets, None) as backbone:
                style = fit(backbone, self.pictures, config, note).style
        return style, times

    def step_seconds(self, steps: int) -> float:
        """Return the mean time of a training step, the first two left out."""
        times = self.train(steps + 2)[1]
        return (times[-1] - times[1]) / steps

    def preview_seconds(self) -> float:
        """Return the median time of a preview."""
        times: list[float] = []

        def note(event: Any) -> bool:
            if isinstance(event, StepEvent):
                times.append(-time.perf_counter())
            elif isinstance(event, PreviewEvent):
                times[-1] += time.perf_counter()
            return False

        config = TrainConfig(prompt=PROMPT, steps=4, resolution=self.side, preview_every=1)
        with torch.inference_mode():
            sockets = (self.model, self.clip, self.vae, self.vision)
            with training_backbone(*sockets, None) as backbone:
                fit(backbone, self.pictures, config, note)
        return statistics.median(times)

    @torch.inference_mode()
    def forward_pair(self) -> None:
        """Run the U-Net once on a pair, without a style, as KSampler does."""
        device = self.model.load_device
        if next(self.model.model.parameters()).device != device:
            comfy.model_management.load_models_gpu([self.model])
        noisy = torch.cat([self.latent["samples"]] * 2).to(device)
        context = self.plain[0][0].to(device).expand(2, -1, -1)
        sigmas = torch.full((2,), 1.5, device=device)
        self.model.model.apply_model(noisy, sigmas, c_crossattn=context)

    @torch.inference_mode()
    def core_seconds(self, steps: int) -> float:
        """Return the time of core's Train LoRA for the pair, rank 8, in fp32; on a GPU in bf16."""
        dtype = "bf16" if torch.cuda.is_available() else "fp32"
        latents = {"samples": torch.cat([self.latent["samples"]] * 2)}
        settings = {
            "batch_size": 2,
            "steps": steps,
            "grad_accumulation_steps": 1,
            "learning_rate": 1e-4,
            "rank": 8,
            "optimizer": "AdamW",
            "loss_function": "MSE",
            "seed": 0,
            "training_dtype": dtype,
            "lora_dtype": dtype,
            "quantized_backward": False,
            "algorithm": "LoRA",
            "gradient_checkpointing": False,
            "checkpoint_depth": 1,
            "offloading": False,
            "existing_lora": "[None]",
            "bucket_mode": False,
            "bypass_mode": False,
        }
        inputs = {name: [value] for name, value in settings.items()}
        start = time.perf_counter()
        TrainLoraNode.execute([self.model], [latents], [self.plain], **inputs)
        finish()
        return time.perf_counter() - start

    @torch.inference_mode()
    def embed_plain(self, text: str = PROMPT) -> Any:
        """Encode a prompt with the stock node."""
        return stock.CLIPTextEncode().encode(self.clip, text)[0]

    @torch.inference_mode()
    def embed_styled(self) -> Any:
        """Encode a prompt with Apply AFun Embedding."""
        return _run(ApplyAFunEmbedding, self.style, self.clip, PROMPT, 1.0)

    def write_style(self, path: Path) -> Path:
        """Write the style to a file."""
        save_style(self.style, path)
        return path

    @torch.inference_mode()
    def apply_adapters(self, path: Path) -> None:
        """Load a style from a file and put it on the model."""
        _run(ApplyCFunAdapters, self.model, load_style(path), *[1.0] * 4, 0.0, 1.0)

    def sample_plain(self) -> None:
        """Sample a picture without the style."""
        self._sample(self.model, self.plain)

    def sample_styled(self) -> None:
        """Sample a picture with both Apply nodes."""
        self._sample(self.styled_model, self.conditioning)

    @torch.inference_mode()
    def _sample(self, model: Any, positive: Any) -> None:
        how = (0, self.sampling_steps, 7.0, "euler", "normal")
        stock.KSampler().sample(model, *how, positive, self.negative, self.latent, 1.0)

    def peak_of_steps(self, checkpointing: str) -> int:
        """Return by how many bytes training lets memory peak, a GPU's or else this process's."""
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            self.train(steps=3, checkpointing=checkpointing)
            return torch.cuda.max_memory_allocated() - before
        Path("/proc/self/clear_refs").write_text("5")
        before = _resident("VmRSS")
        self.train(steps=3, checkpointing=checkpointing)
        return _resident("VmHWM") - before


def _resident(field: str) -> int:
    status = Path("/proc/self/status").read_text()
    return 1024 * int(re.search(rf"{field}:\s+(\d+) kB", status).group(1))
