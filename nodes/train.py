"""Train ACFun Style."""

from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from einops import rearrange
from PIL import Image
from torch import Tensor

from ..acfun_ops.errors import ACFunError
from ..acfun_ops.style.style import Style
from ..acfun_ops.training.config import (
    ALIGNMENTS,
    CHECKPOINTINGS,
    PRECISIONS,
    TrainConfig,
    help_of,
)
from ..acfun_ops.training.events import (
    Event,
    PreviewEvent,
    StepEvent,
    TrainPictures,
    TrainResult,
)
from ..acfun_ops.training.fit import fit
from .comfy_backbone import training_backbone
from .sockets import CATEGORY, SEARCH, StyleSocket, tell
from .style_folder import keep_training, kept_state

KEEP_EVERY = 100
_PREVIEW_SIDE = 512
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_DEFAULTS = {name: field.default for name, field in TrainConfig.__dataclass_fields__.items()}


def _option(kind: Any, name: str, advanced: bool = False, **kwargs: Any) -> io.Input:
    option = kind.Input(name, default=_DEFAULTS[name], tooltip=help_of(name), **kwargs)
    # Older ComfyUI has no argument for advanced inputs, but passes extra entries to the page.
    option.extra_dict = {"advanced": True} if advanced else {}
    return option


class TrainACFunStyle(io.ComfyNode):
    """Trains a style on one style picture and one face photo."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """See ComfyUI."""
        return io.Schema(
            node_id="ACFunTrainStyle",
            display_name="Train ACFun Style",
            category=CATEGORY,
            **SEARCH,
            description="Learns to draw the face of one photo in the style of one picture. "
            "Cancelling keeps what was learnt so far, under models/acfun/training.",
            inputs=[
                io.Model.Input("model", tooltip="An SD1.x, SD2.x or SDXL model; stays unchanged."),
                io.Clip.Input("clip", tooltip="The checkpoint's CLIP."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
                io.ClipVision.Input(
                    "clip_vision", tooltip="Sees the style picture; CLIP ViT-L/14 is recommended."
                ),
                io.Image.Input(
                    "style_image",
                    tooltip="One picture in the style, or several of one style. The centred square "
                    "is used; 64 pixels or more.",
                ),
                io.Image.Input(
                    "face_image",
                    tooltip="One photo of the face, or several of one face. The centred square is "
                    "used; 64 pixels or more.",
                ),
                _option(io.String, "prompt", multiline=True),
                _option(io.Int, "steps", min=1, max=1_000_000),
                _option(io.Float, "learning_rate", min=1e-6, max=1.0, step=1e-6, round=1e-7),
                _option(io.Float, "style_weight", min=0.0, max=10.0, step=0.05),
                _option(io.Float, "face_weight", min=0.0, max=10.0, step=0.05),
                # A seed that moved by itself would train anew on every queue.
                _option(io.Int, "seed", min=0, max=2**64 - 1, control_after_generate=False),
                _option(io.Int, "resolution", min=0, max=2048, step=64),
                _option(io.Int, "preview_every", min=0, max=1_000_000),
                _option(io.Int, "rank", min=1, max=512, advanced=True),
                _option(io.Combo, "alignment", options=list(ALIGNMENTS), advanced=True),
                _option(io.Combo, "precision", options=list(PRECISIONS), advanced=True),
                _option(
                    io.Combo, "gradient_checkpointing", options=list(CHECKPOINTINGS), advanced=True
                ),
                io.Mask.Input(
                    "face_mask",
                    optional=True,
                    tooltip="White where the face counts; weights the face term. As large as "
                    "the photo.",
                ),
                StyleSocket.Input(
                    "resume_from",
                    optional=True,
                    tooltip="A style to go on from, finished or cancelled. steps counts from its "
                    "start.",
                ),
            ],
            outputs=[
                StyleSocket.Output("style", display_name="style", tooltip="The trained style."),
                io.LossMap.Output("loss", display_name="loss", tooltip="For Plot Loss Graph."),
                io.Image.Output(
                    "previews", display_name="previews", tooltip="The previews, first to last."
                ),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        clip_vision: Any,
        style_image: Tensor,
        face_image: Tensor,
        face_mask: Tensor | None = None,
        resume_from: Style | None = None,
        **options: Any,
    ) -> io.NodeOutput:
        """Train, keep the result on disk however the run ends, and return it."""
        config = TrainConfig(**options)
        pictures = TrainPictures(style=style_image, face=face_image, face_mask=face_mask)
        resume = None if resume_from is None else (resume_from, kept_state(resume_from))
        reporter = _Reporter(cls.hidden.unique_id, config.steps)
        dtype = _DTYPES.get(config.precision)
        with training_backbone(model, clip, vae, clip_vision, dtype) as backbone:
            try:
                result = fit(backbone, pictures, config, reporter, resume)
            except BaseException:
                reporter.keep_last()
                raise
        _keep(result, reporter)
        previews = torch.cat(reporter.previews) if reporter.previews else ExecutionBlocker(None)
        # A resumed style with nothing left to train may come without losses: nothing to plot.
        loss = {"loss": result.losses} if result.losses else ExecutionBlocker(None)
        return io.NodeOutput(result.style, loss, previews)


class _Reporter:
    """Shows a training's events in ComfyUI and turns its Cancel into a stop."""

    def __init__(self, node_id: str, steps: int) -> None:
        self.node_id = node_id
        self.bar = comfy.utils.ProgressBar(steps)
        self.previews: list[Tensor] = []
        self.last: StepEvent | None = None
        self.interrupt: comfy.model_management.InterruptProcessingException | None = None

    def __call__(self, event: Event) -> bool:
        try:
            if isinstance(event, StepEvent):
                self.last = event
                comfy.model_management.throw_exception_if_processing_interrupted()
                self.bar.update_absolute(event.step, event.total)
                if event.step % KEEP_EVERY == 0 and event.step < event.total:
                    keep_training(event.snapshot())
            elif isinstance(event, PreviewEvent):
                self.previews.append(event.picture)
                self.bar.update_absolute(
                    event.step, None, ("JPEG", _pil(event.picture), _PREVIEW_SIDE)
                )
            else:
                tell(self.node_id, event.text)
        except comfy.model_management.InterruptProcessingException as interrupt:
            self.interrupt = interrupt
            return True
        return False

    def keep_last(self) -> None:
        """Keep what was learnt before a training failed or was cancelled within a step."""
        if self.last is not None:
            result = self.last.snapshot()
            tell(self.node_id, f"{result.message} {keep_training(result)}")


def _keep(result: TrainResult, reporter: _Reporter) -> None:
    """Write the result, say where it is, and raise what ended the run, if anything did."""
    message = f"{result.message} {keep_training(result)}"
    tell(reporter.node_id, message)
    if reporter.interrupt is not None:
        raise reporter.interrupt
    if result.outcome != "finished":
        raise ACFunError(message)


def _pil(picture: Tensor) -> Image.Image:
    levels = (rearrange(picture, "1 h w c -> h w c") * 255).round().to(torch.uint8)
    return Image.fromarray(levels.numpy())
