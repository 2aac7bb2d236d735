"""Train ACFun Style."""

from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor
from typing_extensions import override

from ..acfun_ops.backbones.backbone import DTYPES
from ..acfun_ops.errors import ACFunError
from ..acfun_ops.messages import Message, join_messages
from ..acfun_ops.style.style import Style
from ..acfun_ops.training.checkpoint import TrainState, resume_metadata
from ..acfun_ops.training.config import CHOICES, PRESETS, TrainConfig, help_of
from ..acfun_ops.training.events import TrainImages, TrainResult
from ..acfun_ops.training.fit import fit
from ..acfun_ops.training.training_images import prepare_images
from .comfyui.distilled import base_model_notices
from .comfyui.memory import plan_memory
from .comfyui.node_status import show_errors_on_node, ui_text
from .comfyui.progress import TrainingProgress
from .comfyui.prompt_graph import passes_previews
from .comfyui.prompts import note_clip_layer
from .comfyui.training_inputs import (
    CUSTOM,
    OfferedPresets,
    check_images,
    choose_config,
    single_value,
)
from .comfyui.training_models import training_backbone
from .library.history import TrainingHistory
from .library.preview_image import ui_image
from .library.runs import (
    FinishedStyle,
    TrainingSaver,
    check_can_save,
    find_finished,
    find_partial,
    find_state,
)
from .schema import CATEGORY, StyleSocket, mark, search_aliases

_PATCHES_NOT_COMPARED = (
    "Other nodes patch model or clip. Their patches were not compared with those that the style of "
    "resume_from was trained with: connect the same nodes to go on with the same training."
)
_NO_PREVIEWS = "There are no previews, so nodes connected to previews do not run."


def _option(kind: Any, name: str, **kwargs: Any) -> io.Input:
    default = getattr(TrainConfig, name)
    kwargs |= {"options": list(CHOICES[name])} if name in CHOICES else {}
    return kind.Input(name, default=default, tooltip=help_of(name), **kwargs)


def _extra_option(kind: Any, name: str, **kwargs: Any) -> io.Input:
    return mark(_option(kind, name, optional=True, **kwargs), advanced=True)


class TrainACFunStyle(io.ComfyNode):
    """Trains a style on style pictures and photos of a face."""

    save_every = TrainingProgress.save_every

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunTrainStyle",
            display_name="Train ACFun Style",
            category=CATEGORY,
            **search_aliases("face", "style", "portrait", "stylize", "style transfer"),
            description="Learns to draw the face of one photo in the style of one picture. "
            "Cancelling keeps what was learnt so far, and Run then goes on from there.",
            inputs=[
                io.Model.Input(
                    "model",
                    tooltip="SD1.x, SD2.x or SDXL; experimental: Z-Image, Flux and their kind, the "
                    "base model. Stays unchanged.",
                ),
                io.Clip.Input("clip", tooltip="The checkpoint's CLIP."),
                io.Vae.Input("vae", tooltip="The checkpoint's VAE."),
                io.ClipVision.Input(
                    "clip_vision", tooltip="Sees the style picture; CLIP ViT-L/14 is recommended."
                ),
                io.Image.Input(
                    "style_image",
                    tooltip="One picture in the style, or several of one style as a batch or a "
                    "list, of which 8 are used. The centred square is used; 64 pixels or more.",
                ),
                io.Image.Input(
                    "face_image",
                    tooltip="One photo of the face, or several of one face as a batch or a list. "
                    "The centred square is used; 64 pixels or more.",
                ),
                _option(io.String, "prompt", multiline=True),
                mark(
                    io.Combo.Input(
                        "preset",
                        options=OfferedPresets([*PRESETS, CUSTOM]),
                        default="balanced",
                        optional=True,
                        tooltip="Sets steps and learning_rate. Choose quick look for a first "
                        "idea, and the paper's settings for more of the style. Editing one of "
                        "these numbers turns it to custom.",
                    ),
                    presets=PRESETS,  # Read by web/widgets.js.
                ),
                _option(io.Float, "style_weight", min=0.0, max=10.0, step=0.05, optional=True),
                _option(io.Int, "steps", min=1, max=1_000_000, optional=True),
                _extra_option(io.Float, "learning_rate", min=1e-6, max=1.0, step=1e-6, round=1e-7),
                _extra_option(io.Float, "face_weight", min=0.0, max=10.0, step=0.05),
                # A seed that moved by itself would train anew on every queue.
                _extra_option(io.Int, "seed", min=0, max=2**64 - 1, control_after_generate=False),
                _extra_option(io.Int, "resolution", min=0, max=2048, step=64),
                _extra_option(io.Int, "preview_every", min=0, max=1_000_000),
                _extra_option(io.Int, "rank", min=1, max=512),
                _extra_option(io.Combo, "alignment"),
                _extra_option(io.Combo, "precision"),
                _extra_option(io.Combo, "gradient_checkpointing"),
                io.Mask.Input(
                    "face_mask",
                    optional=True,
                    tooltip="White where the face counts; weights the face term. As large as "
                    "the photo. Load Image's MASK is white where a picture is transparent: for a "
                    "cut-out face put InvertMask in between.",
                ),
                StyleSocket.Input(
                    "resume_from",
                    optional=True,
                    tooltip="A style to go on from, finished or cancelled. steps is the total, its "
                    "own included; with other pictures or settings it counts from 0 again.",
                ),
                mark(
                    io.Boolean.Input(
                        "retrain",
                        default=False,
                        optional=True,
                        tooltip="Start anew, even if models/acfun holds the finished style, or a "
                        "part, of the same training. Turn it off again: under ComfyUI's RAM cache "
                        "it may train at each Run.",
                    ),
                    advanced=True,
                ),
            ],
            outputs=[
                StyleSocket.Output("style", display_name="style", tooltip="The trained style."),
                io.LossMap.Output("loss", display_name="loss", tooltip="For Plot Loss Graph."),
                io.Image.Output(
                    "previews", display_name="previews", tooltip="The previews, first to last."
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt],
            is_input_list=True,
        )

    @classmethod
    def validate_inputs(cls, prompt: list[Any] | None = None) -> bool | str:
        """Refuse a prompt without the pseudo-word before anything is loaded."""
        try:
            for text in prompt or []:
                if text is not None:  # A link's text is known once the node runs.
                    TrainConfig(prompt=text)
        except ACFunError as error:
            return str(error)
        return True

    @classmethod
    @show_errors_on_node
    def execute(
        cls,
        style_image: list[Tensor],
        face_image: list[Tensor],
        face_mask: list[Tensor | None] | None = None,
        **lists: list[Any],
    ) -> io.NodeOutput:
        """Make one style of all that the sockets bring; a list is one batch."""
        pictures = TrainImages(
            style=check_images("style_image", style_image),
            face=check_images("face_image", face_image),
            face_mask=[mask for mask in face_mask or [] if mask is not None] or None,
        )
        inputs = {name: single_value(name, values) for name, values in lists.items()}
        models = {name: inputs.pop(name) for name in ("model", "clip", "vae", "clip_vision")}
        resume, retrain = inputs.pop("resume_from", None), inputs.pop("retrain", False)
        config, notices = choose_config(inputs, cls.hidden)
        check_can_save()
        saver = TrainingSaver()
        has_use = passes_previews(cls.hidden.prompt or {}, cls.hidden.unique_id)
        with TrainingProgress(cls.hidden.unique_id, config.steps, has_use, saver.save) as report:
            report.save_every = cls.save_every
            saver.previews = report.previews
            report.status.show("Loading the models.")
            return _train(models, pictures, config, notices, report, saver, resume, retrain)


def _train(
    models: dict[str, Any],
    pictures: TrainImages,
    config: TrainConfig,
    notices: list[str],
    report: TrainingProgress,
    saver: TrainingSaver,
    resume: Style | None,
    retrain: bool,
) -> io.NodeOutput:
    """Train unless it was done before, and keep the result on disk however the run ends."""
    dtype, warn = DTYPES.get(config.precision), report.add_warning
    with training_backbone(**models, dtype=dtype, prompt=config.prompt, say=warn) as backbone:
        # Which patches they are is in no name of a run.
        saver.is_run_name_shared = backbone.is_patched
        saver.goes_on = not retrain and not backbone.is_patched
        config, plan = plan_memory(backbone, config)
        pair = prepare_images(backbone, pictures, config)
        pair = note_clip_layer(pair, models["clip"])
        report.pair = [pair.style[:1], pair.face[:1]]
        facts, is_same_run = pair.facts, False
        if resume is not None:
            facts, is_same_run = resume_metadata(pair.facts, resume)
        found = find_finished(facts, config.steps) if saver.goes_on else None
        if found is not None:
            warn(found.message)  # The good news first.
        for text in [
            *notices,
            *base_model_notices(backbone.network, backbone.patcher.model.model_config),
            *pair.warnings,
        ]:
            warn(text)
        if found is not None:
            return _output_finished(found, report)
        if is_same_run and backbone.is_patched:
            warn(_PATCHES_NOT_COMPARED)
        learnt = resume.facts.steps if resume is not None and is_same_run else 0
        going_on: tuple[Style, TrainState | None] | None = None
        if saver.goes_on and (part := find_partial(facts, learnt, config.steps)):
            going_on = part
            warn(
                Message(
                    "Goes on after step {step}, where this training was stopped. Turn on retrain "
                    "to start anew.",
                    step=part[0].facts.steps,
                )
            )
        elif resume is not None:
            going_on = resume, find_state(resume)
        if plan:
            warn(plan)
        report.status.show("Encoding the pictures and the prompt.")
        try:
            result = fit(backbone, pair, config, report, going_on)
        except BaseException:
            report.save_last()
            raise
    if result.outcome == "finished":
        _warn_no_previews(report)
    _save(result, report, saver)
    return _output(result.style, result.losses, report)


def _output_finished(found: FinishedStyle, report: TrainingProgress) -> io.NodeOutput:
    """Show what its training has shown."""
    report.previews += found.history.previews
    _warn_no_previews(report)
    image = ui_image(report.previews[-1]) if report.previews else None
    return _output(found.style, found.history.losses, report, image)


def _save(result: TrainResult, report: TrainingProgress, saver: TrainingSaver) -> None:
    """Write the result, say where it is, and raise what ended the run, if anything did."""
    if report.interrupt is not None and report.last is None:
        report.end("Stopped before the first step; nothing was learnt.")
        raise report.interrupt
    try:
        message = report.save_result(result)
    except ACFunError as error:  # A full disk must not cost a style that is still in the graph.
        message = join_messages(" ", [result.message, error.message])
    report.end(message)
    if result.outcome == "finished" and report.last is not None:
        saver.save_history(result.style, TrainingHistory(result.losses, report.previews))
    if report.interrupt is not None:
        raise report.interrupt
    if result.outcome != "finished":
        raise ACFunError(message)


def _output(
    style: Style, losses: list[float], report: TrainingProgress, image: dict[str, Any] | None = None
) -> io.NodeOutput:
    # Nothing to plot or to show blocks what is connected there, and ComfyUI does not say so.
    previews = torch.cat(report.previews) if report.previews else ExecutionBlocker(None)
    loss = {"loss": losses} if losses else ExecutionBlocker(None)
    return io.NodeOutput(style, loss, previews, ui=ui_text(report.status.shown) | (image or {}))


def _warn_no_previews(report: TrainingProgress) -> None:
    if report.has_use_for_previews and not report.previews:
        report.add_warning(_NO_PREVIEWS)
