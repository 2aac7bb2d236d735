"""Train ACFun Style."""

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io
from comfy_execution.graph import ExecutionBlocker
from torch import Tensor
from typing_extensions import override

from ..acfun_ops.backbones.backbone import DTYPES
from ..acfun_ops.errors import ACFunError
from ..acfun_ops.messages import Message, join_messages
from ..acfun_ops.method.alignment_loss import ALIGNMENTS
from ..acfun_ops.style.style import Style
from ..acfun_ops.training.checkpoint import continued
from ..acfun_ops.training.config import CHECKPOINTINGS, PRECISIONS, TrainConfig, help_of
from ..acfun_ops.training.events import TrainPictures, TrainResult
from ..acfun_ops.training.fit import fit
from ..acfun_ops.training.image_warnings import picture_notices
from ..acfun_ops.training.presets import AS_SET, PRESETS, told_preset, with_preset
from ..acfun_ops.training.training_images import prepare_pair
from .comfyui.memory import plan_memory
from .comfyui.node_status import check_connected, show_errors_on_node, ui_text
from .comfyui.progress import TrainingProgress
from .comfyui.prompts import note_clip_layer
from .comfyui.training_models import training_backbone
from .library.runs import (
    FinishedStyle,
    TrainingSaver,
    check_can_save,
    find_finished,
    find_partial,
    find_state,
)
from .schema import CATEGORY, SEARCH, StyleSocket

_PATCHES_NOT_COMPARED = (
    "Other nodes patch model or clip. Their patches were not compared with those that the style of "
    "resume_from was trained with: connect the same nodes to go on with the same training."
)
_NO_PREVIEWS = "There are no previews, so nodes connected to previews do not run."
_DEFAULTS = {name: field.default for name, field in TrainConfig.__dataclass_fields__.items()}


def _option(kind: Any, name: str, advanced: bool = False, **kwargs: Any) -> io.Input:
    option = kind.Input(name, default=_DEFAULTS[name], tooltip=help_of(name), **kwargs)
    # Older ComfyUI has no argument for advanced inputs, but passes extra entries to the page.
    option.extra_dict = {"advanced": True} if advanced else {}
    return option


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
                    tooltip="One picture in the style, or several of one style as a batch or a "
                    "list, of which 8 are used. The centred square is used; 64 pixels or more.",
                ),
                io.Image.Input(
                    "face_image",
                    tooltip="One photo of the face, or several of one face as a batch or a list. "
                    "The centred square is used; 64 pixels or more.",
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
                    "the photo. Load Image's MASK is white where a picture is transparent: for a "
                    "cut-out face put InvertMask in between.",
                ),
                StyleSocket.Input(
                    "resume_from",
                    optional=True,
                    tooltip="A style to go on from, finished or cancelled. steps is the total, its "
                    "own included; with other pictures or settings it counts from 0 again.",
                ),
                io.Combo.Input(
                    "preset",
                    options=list(PRESETS),
                    default=AS_SET,
                    optional=True,
                    tooltip="Sets steps, learning_rate and both weights: quick look for a first "
                    "idea, balanced for the defaults, the paper's settings for a long training. "
                    "The node shows them. as set below: the node's own numbers.",
                ),
                io.Boolean.Input(
                    "retrain",
                    default=False,
                    optional=True,
                    tooltip="Train even if models/acfun holds the finished style of the same "
                    "pictures, settings and models.",
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
    @show_errors_on_node
    def execute(
        cls,
        style_image: list[Tensor],
        face_image: list[Tensor],
        face_mask: list[Tensor | None] | None = None,
        **lists: list[Any],
    ) -> io.NodeOutput:
        """Make one style of all that the sockets bring; a list is one batch."""
        pictures = TrainPictures(
            style=_check_images("style_image", style_image),
            face=_check_images("face_image", face_image),
            face_mask=[mask for mask in face_mask or [] if mask is not None] or None,
        )
        inputs = {name: _single(name, values) for name, values in lists.items()}
        models = {name: inputs.pop(name) for name in ("model", "clip", "vae", "clip_vision")}
        resume, retrain = inputs.pop("resume_from", None), inputs.pop("retrain", False)
        preset = inputs.pop("preset", AS_SET)
        config = with_preset(TrainConfig(**inputs), preset)
        check_can_save()
        saver = TrainingSaver()
        has_use = _passes_previews(cls.hidden)
        with TrainingProgress(cls.hidden.unique_id, config.steps, has_use, saver.save) as report:
            report.save_every = cls.save_every
            saver.previews = report.previews
            if preset != AS_SET:
                report.say(told_preset(preset, config))
            report.status.show("Loading the models.")
            return _train(models, pictures, config, report, saver, resume, retrain)


def _train(
    models: dict[str, Any],
    pictures: TrainPictures,
    config: TrainConfig,
    report: TrainingProgress,
    saver: TrainingSaver,
    resume: Style | None,
    retrain: bool,
) -> io.NodeOutput:
    """Train unless it was done before, and keep the result on disk however the run ends."""
    dtype = DTYPES.get(config.precision)
    with training_backbone(**models, dtype=dtype, prompt=config.prompt, say=report.say) as backbone:
        # Which patches they are is in no name of a run.
        saver.is_run_name_shared = backbone.is_patched
        config, plan = plan_memory(backbone, config)
        pair = prepare_pair(backbone, pictures, config, dtype or backbone.compute_dtype)
        pair = note_clip_layer(pair, models["clip"])
        report.show_pair(pair)
        for text in picture_notices(pictures):
            report.say(text)
        facts, is_same_run = pair.facts, False
        if resume is not None:
            facts, is_same_run = continued(pair.facts, resume)
        if is_same_run and backbone.is_patched:
            report.say(_PATCHES_NOT_COMPARED)
        may_be_done = not retrain and not saver.is_run_name_shared
        if may_be_done and (found := find_finished(facts, config.steps)):
            return _output_finished(found, report)
        if may_be_done and resume is None and (name := find_partial(facts, config.steps)):
            report.say(
                Message(
                    "{name} is an unfinished part of this training, which starts anew. To go on "
                    "from that part instead, stop, choose it in Load ACFun Style and connect it "
                    "to resume_from.",
                    name=name,
                )
            )
        if plan:
            report.say(plan)
        report.status.show("Encoding the pictures and the prompt.")
        going_on = None if resume is None else (resume, find_state(resume))
        try:
            result = fit(backbone, pair, config, report, going_on)
        except BaseException:
            report.keep_last()
            raise
    if result.outcome == "finished":
        _warn_no_previews(report)
    _save(result, report)
    return _output(result.style, result.losses, report)


def _output_finished(found: FinishedStyle, report: TrainingProgress) -> io.NodeOutput:
    style = found.style
    state = find_state(style)
    if found.picture is not None:
        report.previews.append(found.picture)
    _warn_no_previews(report)
    report.end(
        Message(
            "Took {name} ({steps} steps), trained before on the same pictures, settings "
            "and models. Turn on retrain to train anew, for previews or losses.",
            name=found.name,
            steps=style.facts.steps,
        )
    )
    return _output(style, [] if state is None else state.losses.tolist(), report)


def _save(result: TrainResult, report: TrainingProgress) -> None:
    """Write the result, say where it is, and raise what ended the run, if anything did."""
    if report.interrupt is not None and report.last is None:
        raise report.interrupt
    try:
        message = report.keep(result)
    except ACFunError as error:  # A full disk must not cost a style that is still in the graph.
        message = join_messages(" ", [result.message, error.message])
    report.end(message)
    if report.interrupt is not None:
        raise report.interrupt
    if result.outcome != "finished":
        raise ACFunError(message)


def _output(style: Style, losses: list[float], report: TrainingProgress) -> io.NodeOutput:
    # Nothing to plot or to show blocks what is connected there, and ComfyUI does not say so.
    previews = torch.cat(report.previews) if report.previews else ExecutionBlocker(None)
    loss = {"loss": losses} if losses else ExecutionBlocker(None)
    return io.NodeOutput(style, loss, previews, ui=ui_text(report.status.shown))


def _warn_no_previews(report: TrainingProgress) -> None:
    if report.has_use_for_previews and not report.previews:
        report.say(_NO_PREVIEWS)


def _passes_previews(hidden: Any) -> bool:
    """Tell whether a node of the prompt takes the previews of this one."""
    outputs = TrainACFunStyle.GET_SCHEMA().outputs
    link = [hidden.unique_id, [output.id for output in outputs].index("previews")]
    return any(link in node["inputs"].values() for node in (hidden.prompt or {}).values())


def _check_images(socket: str, pictures: Sequence[Tensor | None]) -> list[Tensor]:
    found = [batch for batch in pictures if batch is not None]
    check_connected(**{socket: found[0] if found else None})
    return found


def _single(socket: str, values: list[Any]) -> Any:
    """Return the one value of an input; a list of equal ones is taken for one."""
    if not values:
        raise ACFunError(
            "The socket {socket} brings an empty list. Connect one {socket}.", socket=socket
        )
    first = values[0]
    plain = isinstance(first, str | float | int)
    if any(value != first if plain else value is not first for value in values):
        raise ACFunError(
            "The socket {socket} brings a list of {count} that differ, and all pictures "
            "together train one style. Connect one {socket}.",
            socket=socket,
            count=len(values),
        )
    return first
