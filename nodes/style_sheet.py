"""ACFun Style Sheet."""

import time
from typing import Any

import comfy.model_management
import comfy.samplers
import comfyui_version
import numpy as np
import torch
from comfy_api.latest import io, ui
from PIL import Image
from torch import Tensor
from typing_extensions import override

import nodes as stock

from ..acfun_ops.contact_sheet import SheetRow, contact_sheet
from ..acfun_ops.messages import Message
from ..acfun_ops.method.injection import FULL_STRENGTH, PartStrengths
from ..acfun_ops.style.result_text import result_text
from ..acfun_ops.style.style import Style
from .comfyui.adapters import apply_adapters, check_fits
from .comfyui.node_status import (
    NodeStatus,
    check_connected,
    show_errors_on_node,
    show_text,
    ui_text,
)
from .comfyui.prompts import encode_fused, encode_plain, prompt_warnings
from .comfyui.schedule import AdapterSchedule
from .schema import CATEGORY, StyleSocket, search_aliases

_OFF = PartStrengths(encoder=0, middle=0, decoder=0)
# Strength of AFun, None for a prompt without the style's word, and of CFun by part of the U-Net.
COLUMNS: dict[str, tuple[float | None, PartStrengths]] = {
    "plain": (None, _OFF),
    "abstract only": (1.0, _OFF),
    "encoder only": (0.0, PartStrengths(encoder=1, middle=0, decoder=0)),
    "decoder only": (0.0, PartStrengths(encoder=0, middle=0, decoder=1)),
    "full": (1.0, FULL_STRENGTH),
}
_SEEDS = 2**64  # The next after the last is 0.
_LABELLED_WIDTH = 192  # Of a picture whose labels are of plain size.
_LEAST_SCALE = 0.5


class ACFunStyleSheet(io.ComfyNode):
    """Draws what each part of a style does, from several seeds, on one labelled sheet."""

    @classmethod
    @override
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="ACFunStyleSheet",
            display_name="ACFun Style Sheet",
            category=CATEGORY,
            **search_aliases("compare", "grid", "contact sheet"),
            description="Draws a labelled sheet of a style: without it, its abstract part, the "
            "encoder's and the decoder's adapters alone, and all of it, one row for each seed.",
            is_output_node=True,
            inputs=[
                io.Model.Input("model", tooltip="A model of the family the style was trained on."),
                io.Clip.Input("clip", tooltip="The CLIP of that family."),
                io.Vae.Input("vae", tooltip="The VAE of the checkpoint."),
                StyleSocket.Input("style", tooltip="A trained style."),
                io.String.Input(
                    "text",
                    default="A painting of a person in S* style",
                    multiline=True,
                    dynamic_prompts=True,
                    tooltip="The prompt of all pictures; the first column leaves S* out.",
                ),
                io.String.Input(
                    "negative",
                    default="",
                    multiline=True,
                    tooltip="What the pictures shall not show; encoded as CLIP Text Encode does.",
                ),
                io.Int.Input(
                    "seed",
                    default=0,
                    min=0,
                    max=_SEEDS - 1,
                    control_after_generate=False,
                    tooltip="Of the first row; each further row takes the next.",
                ),
                io.Int.Input(
                    "seeds", default=3, min=1, max=16, tooltip="Rows. Each is 5 pictures."
                ),
                io.Int.Input("steps", default=20, min=1, max=200, tooltip="KSampler's steps."),
                io.Float.Input(
                    "cfg", default=7.0, min=0.0, max=100.0, step=0.1, tooltip="KSampler's cfg."
                ),
                io.Combo.Input(
                    "sampler_name",
                    options=comfy.samplers.KSampler.SAMPLERS,
                    default="euler",
                    tooltip="KSampler's sampler.",
                ),
                io.Combo.Input(
                    "scheduler",
                    options=comfy.samplers.KSampler.SCHEDULERS,
                    default="normal",
                    tooltip="KSampler's scheduler.",
                ),
                io.Int.Input(
                    "width", default=512, min=64, max=2048, step=8, tooltip="Of each picture."
                ),
                io.Int.Input(
                    "height", default=512, min=64, max=2048, step=8, tooltip="Of each picture."
                ),
            ],
            outputs=[
                io.Image.Output("sheet", display_name="sheet", tooltip="The labelled sheet."),
                io.Image.Output(
                    "pictures",
                    display_name="pictures",
                    tooltip="Its pictures without labels, row by row, as one batch.",
                ),
            ],
            hidden=[io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo],
        )

    @classmethod
    @show_errors_on_node
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        style: Style,
        text: str,
        negative: str,
        seed: int,
        seeds: int,
        steps: int,
        cfg: float,
        sampler_name: str,
        scheduler: str,
        width: int,
        height: int,
    ) -> io.NodeOutput:
        """Draw every cell with ComfyUI's own sampler and put them on a sheet."""
        check_connected(clip=clip, vae=vae)
        check_fits(style, model)
        warning = prompt_warnings(clip, text, style)
        show_text(cls.hidden.unique_id, warning)
        status = NodeStatus(cls.hidden.unique_id, warning)
        how = AdapterSchedule(), None, status
        against = clip.encode_from_tokens_scheduled(clip.tokenize(negative))
        columns = [
            (
                apply_adapters(model, style, parts.block_strengths(style.concrete), *how),
                encode_plain(clip, text, style)
                if abstract is None
                else encode_fused(clip, text, style, abstract),
            )
            for abstract, parts in COLUMNS.values()
        ]
        latent = stock.EmptyLatentImage().generate(width, height)[0]
        settings = {
            "steps": steps,
            "cfg": cfg,
            "sampler_name": sampler_name,
            "scheduler": scheduler,
        }
        pictures = []
        started = time.perf_counter()
        row_seeds = [(seed + row) % _SEEDS for row in range(seeds)]
        for number in range(seeds * len(COLUMNS)):
            row, column = divmod(number, len(COLUMNS))
            label = f"seed {row_seeds[row]}, {list(COLUMNS)[column]}"
            status.show(
                Message(
                    "picture {number} of {seeds}: {label}",
                    number=number + 1,
                    seeds=seeds * len(COLUMNS),
                    label=label,
                )
            )
            styled, positive = columns[column]
            (samples,) = stock.common_ksampler(
                styled, row_seeds[row], *settings.values(), positive, against, latent
            )
            pictures.append(stock.VAEDecode().decode(vae, samples)[0])
        batch = torch.cat(pictures)
        facts = result_text(
            style,
            comfy.model_management.get_torch_device(),
            settings | {"width": width, "height": height, "seeds": row_seeds},
            {"images": time.perf_counter() - started},
            comfyui=comfyui_version.__version__,
        )
        status.show(facts)
        sheet = _sheet(batch, [f"seed {each}" for each in row_seeds])
        shown = ui.PreviewImage(sheet, cls=cls).as_dict() | ui_text(status.shown)
        return io.NodeOutput(sheet, batch, ui=shown)


def _sheet(pictures: Tensor, labels: list[str]) -> Tensor:
    """Return pictures ``(n, h, w, 3)``, row by row, as a labelled sheet ``(1, h, w, 3)``."""
    levels = (255.0 * pictures.cpu().numpy()).clip(0, 255).astype(np.uint8)  # As Save Image does.
    images = [Image.fromarray(picture) for picture in levels]
    count = len(COLUMNS)
    rows = [SheetRow(label, images[n * count :][:count]) for n, label in enumerate(labels)]
    height, width = pictures.shape[1:3]
    scale = max(_LEAST_SCALE, width / _LABELLED_WIDTH)
    sheet = contact_sheet(list(COLUMNS), rows, width, height, scale)
    return torch.from_numpy(np.asarray(sheet).astype(np.float32) / 255)[None]
