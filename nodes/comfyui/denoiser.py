"""One call of a MODEL's network as KSampler makes it, differentiable."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any

import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...acfun_ops.backbones.backbone import Context, InsertPoint
from ...acfun_ops.errors import ACFunError
from ...acfun_ops.method.concrete_fusion import InsertAt
from ...acfun_ops.method.diffusion import Prediction
from ...acfun_ops.model_families import native_side
from .autograd import NormalTensors
from .families import network_of, prediction_of
from .image_attention import ImageAttention
from .sites import TokenGrid, insert_points


class Denoiser:
    """The part of a Backbone that runs the network of a MODEL, which must be loaded.

    Args:
        patcher: the MODEL.
        is_patched: whether its calls run other code than ComfyUI's, see :func:`is_patched`.
    """

    def __init__(self, patcher: Any, is_patched: bool) -> None:
        self.patcher, self.is_patched = patcher, is_patched
        self.network = network_of(patcher)
        self.family = self.network.family
        self.device = patcher.load_device
        self.prediction: Prediction = prediction_of(patcher)
        self.native_side = native_side(self.family, self.prediction)
        self.grid = TokenGrid(self.network)
        self.attention = ImageAttention(self.network, self.grid)
        # Copying what a patch brings costs a little at every operation.
        self._guard = NormalTensors if is_patched else nullcontext
        self._has_run = self._ignores_patches = False

    @property
    def sigmas(self) -> Tensor:
        """The model's noise schedule, rising; a flow's without the end, where nothing is left."""
        sigmas: Tensor = self.patcher.get_model_object("model_sampling").sigmas.to(self.device)
        if self.prediction != "velocity":
            return sigmas
        times = sigmas.float()
        times = times[times < 1]
        return times / (1 - times)

    @property
    def has_frames(self) -> bool:
        """Whether the network's latents have an axis of time."""
        return self.network.layout is not None and self.network.layout.has_frames

    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        """Return sites of the shared network; who hooks onto them takes the hooks off again."""
        return insert_points(self.network, where, self.grid)

    def self_attentions(self) -> list[nn.Module]:
        """Return the shared network's; who hooks onto them takes the hooks off again."""
        return self.attention.modules()

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """Denoise as KSampler would, through earlier nodes' patches but in :meth:`ignore_patches`.

        SDXL is told the size that the style will be drawn at, not that of a smaller training.

        Raises:
            ACFunError: what ran is not the connected network.
        """
        if context.members:  # In a transformer's attention a prompt that fills a batch up counts.
            each = zip(noisy.split(1), context.members, strict=True)
            return torch.cat([self.denoise(latent, sigma, member) for latent, member in each])
        model, batch = self.patcher.model, noisy.shape[0]
        if self.prediction == "velocity":
            noisy, sigma = noisy / (1 + sigma), sigma / (1 + sigma)
        self.grid.look_at(noisy)
        if self.has_frames:
            noisy = noisy.unsqueeze(2)
        sigmas = noisy.new_full((batch,), sigma, dtype=torch.float32)
        conditions = self._conditions(noisy, context)
        # One entry for each latent, 1 for the negative ones.
        rows = [int(is_negative) for is_negative in context.negative] * (
            batch // len(context.negative)
        )
        conditions["transformer_options"] = self._transformer_options(sigmas, rows)
        wrapper = self.patcher.model_options.get("model_function_wrapper")
        with self._guard(), self._check_network_runs(), self.attention.watch_blocks():
            if wrapper is None or self._ignores_patches:
                denoised = model.apply_model(noisy, sigmas, **conditions)
            else:
                call = {"input": noisy, "timestep": sigmas, "c": conditions}
                denoised = wrapper(model.apply_model, call | {"cond_or_uncond": rows})
        return denoised[:, :, 0] if self.has_frames else denoised

    def takes_image(self) -> bool:
        """Tell whether the network is given an image besides the noise, as for inpainting."""
        module, layout = self.network.module, self.network.layout
        if layout is None:
            return bool(module.in_channels != module.out_channels)
        noise = torch.zeros(1, self.patcher.model.latent_format.latent_channels, 2, 2)
        return self.patcher.model.concat_cond(noise=noise, device=noise.device) is not None

    @contextmanager
    def ignore_patches(self) -> Iterator[None]:
        """Run without wrappers and transformer_options of other nodes; the MODEL keeps them."""
        self._ignores_patches = True
        try:
            yield
        finally:
            self._ignores_patches = False

    def _conditions(self, noisy: Tensor, context: Context) -> dict[str, Any]:
        """Return what the network is given besides the noise, as ComfyUI makes it of a prompt."""
        side = max(self.native_side, 8 * noisy.shape[-1])
        conditions = self.patcher.model.extra_conds(
            cross_attn=context.tokens,
            pooled_output=context.pooled,
            noise=noisy,
            width=side,
            height=side,
            device=self.device,
            **context.extra,
        )
        batch, place = len(noisy), self.device
        return {
            name: condition.process_cond(batch_size=batch, device=place, area=None).cond
            for name, condition in conditions.items()
        }

    @contextmanager
    def _check_network_runs(self) -> Iterator[None]:
        """In the first patched call see that the network runs which a style is hooked onto."""
        if self._has_run or self._ignores_patches:
            yield
            return
        calls: list[nn.Module] = []
        with ExitStack() as hooks:
            for point in self.insert_points("resblock").values():
                handle = point.module.register_forward_hook(lambda module, *_: calls.append(module))
                hooks.callback(handle.remove)
            yield
        if not calls:
            raise ACFunError(
                "The network that ran is not the connected one, so CFun would learn nothing. A "
                "node in front of the training runs another, a compiled one for example: bypass it."
            )
        self._has_run = True

    def _transformer_options(self, sigmas: Tensor, rows: list[int]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if not self._ignores_patches:
            # What KSampler passes: the wrappers and patches of earlier nodes act in training too.
            options |= self.patcher.model_options["transformer_options"]
            for kind in ("wrappers", "callbacks"):
                options[kind] = comfy.patcher_extension.merge_nested_dicts(
                    options.get(kind, {}), getattr(self.patcher, kind)
                )
        options["optimized_attention_override"] = self.attention.attend
        options["sigmas"] = options["sample_sigmas"] = sigmas
        options["cond_or_uncond"] = rows
        return options
