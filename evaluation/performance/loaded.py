"""What is timed on models in ComfyUI: steps, previews, sampling."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from ..comfyui_host import load
from .gpu.models import Models

SAMPLING_STEPS = 3
SIDE = 256
PROMPT = "A painting of a woman in S* style"


def finish() -> None:
    """Wait until the GPU is idle."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


class Loaded:
    """The models with a style trained at a side in pixels."""

    def __init__(
        self, models: Models, side: int = SIDE, sampling_steps: int = SAMPLING_STEPS
    ) -> None:
        self.side, self.sampling_steps = side, sampling_steps
        self.sockets, self.nodes = models.sockets, models.nodes
        self.model, self.clip = self.sockets[:2]
        self.path = Path(models.base.name) / "style.safetensors"
        self.events = load("acfun_pack.acfun_ops.training.events")
        self.new_config = load("acfun_pack.acfun_ops.training.config").TrainConfig
        generator = torch.Generator().manual_seed(0)
        pair = [torch.rand(1, side, side, 3, generator=generator) for _ in range(2)]
        self.images = self.events.TrainImages(style=pair[0], face=pair[1])
        small = side // 8
        self.latent = {"samples": torch.randn(1, 4, small, small, generator=generator)}
        self.plain, self.negative = self.embed_plain(), self.embed_plain("")
        self.style = self.train(2)
        self.nodes.style_file.save_style(self.style, self.path)
        self.conditioning = self.embed_styled()
        self.styled_model = self.nodes.adapt(self.model, self.style)

    def train(
        self, steps: int, listen: Callable[[Any], Any] = lambda event: None, **options: Any
    ) -> Any:
        """Return the style of a run with the defaults of ``TrainConfig`` except for ``options``."""
        given = {"preview_every": 0, "prompt": PROMPT, "resolution": self.side} | options
        config = self.new_config(steps=steps, **given)
        borrow = load("acfun_pack.nodes.comfyui.training_models").training_backbone
        fit = load("acfun_pack.acfun_ops.training.fit").fit
        with torch.inference_mode(), borrow(*self.sockets, None) as backbone:
            return fit(backbone, self.images, config, listen).style

    def step_seconds(self, steps: int) -> float:
        """Return the mean time of a training step, without the first two."""
        times: list[float] = []

        def listen(event: Any) -> None:
            if isinstance(event, self.events.StepEvent):
                times.append(time.perf_counter())

        self.train(steps + 2, listen)
        return (times[-1] - times[1]) / steps

    def preview_seconds(self) -> float:
        """Return the median time of a preview."""
        times: list[float] = []

        def listen(event: Any) -> None:
            if isinstance(event, self.events.StepEvent):
                times.append(-time.perf_counter())
            elif isinstance(event, self.events.PreviewEvent):
                times[-1] += time.perf_counter()

        self.train(4, listen, preview_every=1)
        return statistics.median(times)

    def preview_ratio(self, preview: float, step: float) -> float:
        """Return the previews' time in a default run over that of its steps."""
        config = self.new_config()
        due_steps = load("acfun_pack.acfun_ops.training.previews").due_steps
        count = len(due_steps(config.preview_every, config.steps))
        return count * preview / (config.steps * step)

    @torch.inference_mode()
    def forward_pair(self) -> None:
        """Run the U-Net once on a batch of two, without a style, as KSampler does."""
        device = self.model.load_device
        if next(self.model.model.parameters()).device != device:
            load("comfy.model_management").load_models_gpu([self.model])
        noisy = torch.cat([self.latent["samples"]] * 2).to(device)
        context = self.plain[0][0].to(device).expand(2, -1, -1)
        sigmas = torch.full((2,), 1.5, device=device)
        self.model.model.apply_model(noisy, sigmas, c_crossattn=context)

    @torch.inference_mode()
    def lora_seconds(self, steps: int) -> float:
        """Return the time of ComfyUI's Train LoRA on the pair, rank 8, fp32 (bf16 on a GPU)."""
        dtype = "bf16" if torch.cuda.is_available() else "fp32"
        node = load("comfy_extras.nodes_train").TrainLoraNode
        given = {i.id: i.default for i in node.GET_SCHEMA().inputs if hasattr(i, "default")}
        given |= {"batch_size": 2, "steps": steps, "learning_rate": 1e-4, "algorithm": "LoRA"}
        given |= {"training_dtype": dtype, "lora_dtype": dtype, "gradient_checkpointing": False}
        given |= {"model": self.model, "positive": self.plain}
        given["latents"] = {"samples": torch.cat([self.latent["samples"]] * 2)}
        start = time.perf_counter()
        node.execute(**{name: [value] for name, value in given.items()})
        finish()
        return time.perf_counter() - start

    @torch.inference_mode()
    def embed_plain(self, text: str = PROMPT) -> Any:
        """Return the CONDITIONING of a text by CLIP Text Encode."""
        return load("nodes").CLIPTextEncode().encode(self.clip, text)[0]

    def embed_styled(self) -> Any:
        """Return the CONDITIONING of the prompt by Apply AFun Embedding."""
        return self.nodes.embed(self.style, self.clip, PROMPT)

    def apply_adapters(self) -> None:
        """Load the style from its file and apply it to the model."""
        self.nodes.adapt(self.model, self.nodes.style_file.load_style(self.path))

    def sample_plain(self) -> None:
        """Sample an image without the style."""
        self._sample(self.model, self.plain)

    def sample_styled(self) -> None:
        """Sample an image with both Apply nodes."""
        self._sample(self.styled_model, self.conditioning)

    @torch.inference_mode()
    def _sample(self, model: Any, positive: Any) -> None:
        options = (0, self.sampling_steps, 7.0, "euler", "normal")
        sampler = load("nodes").KSampler()
        sampler.sample(model, *options, positive, self.negative, self.latent, 1.0)
