"""The Backbone of ``acfun_ops`` on ComfyUI's MODEL, CLIP, VAE and CLIP_VISION."""

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import comfy.model_management
import comfy.model_sampling
import comfy.patcher_extension
import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch import Tensor, nn

from ..acfun_ops.backbones.backbone import Context, InsertPoint
from ..acfun_ops.errors import ACFunError, is_out_of_memory
from ..acfun_ops.method.concrete_fusion import InsertAt
from ..acfun_ops.method.diffusion import Prediction
from .comfy_unet import (
    FAMILIES,
    checkpointed_blocks,
    context_width,
    insert_points,
    make_differentiable,
    unet_of,
)
from .latent_pictures import latent_picture
from .pseudo_word import tokenize, word_ids

_NATIVE_SIDES = {"sd1": 512, "sd2": 512, "sdxl": 1024}
_SD2_V_SIDE = 768


class ComfyBackbone:
    """A Backbone on models that ComfyUI has loaded; use it through :func:`training_backbone`."""

    def __init__(self, model: Any, clip: Any, vae: Any, clip_vision: Any) -> None:
        self.patcher, self.clip, self.vae, self.clip_vision = model, clip, vae, clip_vision
        self.unet = unet_of(model)
        self.family = FAMILIES[context_width(self.unet)]
        self.device = model.load_device
        self.prediction: Prediction = _prediction(model.get_model_object("model_sampling"))
        v_sd2 = self.family == "sd2" and self.prediction == "v"
        self.native_side = _SD2_V_SIDE if v_sd2 else _NATIVE_SIDES[self.family]
        self.is_running = False

    @cached_property
    def fingerprint(self) -> str:
        """A hash of a sample of all weights that training depends on, patches included."""
        self.load()
        encoders = (self.clip.cond_stage_model, self.clip_vision.model, self.vae.first_stage_model)
        digest = hashlib.sha256(str(self.clip.layer_idx).encode())
        for network in (self.unet, *encoders):
            for name, weight in network.named_parameters():
                # Checkpoints may lack these, and ComfyUI then leaves them uninitialised.
                if "_projection." in name or name.endswith("logit_scale"):
                    continue
                sample = weight.detach().flatten()[:64].float().cpu()
                digest.update(name.encode() + sample.numpy().tobytes())
        return digest.hexdigest()

    @property
    def compute_dtype(self) -> torch.dtype:
        """What ComfyUI computes this U-Net in."""
        # Asked of the patcher: the shared model may still hold another branch's setting.
        return self.patcher.get_model_object("manual_cast_dtype") or self.unet.dtype

    @property
    def sigmas(self) -> Tensor:
        """The model's noise schedule, rising."""
        return self.patcher.get_model_object("model_sampling").sigmas.to(self.device)

    def load(self) -> None:
        """Have ComfyUI load the U-Net and the text encoder and make them differentiable."""
        comfy.model_management.load_models_gpu(
            [self.patcher, self.clip.patcher], memory_required=1e20, force_full_load=True
        )
        if not self.is_running:
            self.patcher.pre_run()
            self.is_running = True
        if self.patcher.model.model_lowvram:
            raise ACFunError(
                "ComfyUI keeps part of this model in main memory (--novram or --lowvram), where "
                "training cannot reach it. Start ComfyUI without it, or use a smaller model."
            )
        make_differentiable(self.patcher.model)
        make_differentiable(self.clip.cond_stage_model)

    def close(self) -> None:
        """Tell ComfyUI that this use of the model is over."""
        if self.is_running:
            self.patcher.cleanup()
            self.is_running = False

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """See Backbone.

        Raises:
            ACFunError: the VAE's latents do not fit the model.
        """
        with torch.inference_mode():
            latents = self.vae.encode(pictures)
        channels = self.unet.in_channels
        if latents.ndim != 4 or latents.shape[1] != channels:
            raise ACFunError(
                f"The vae gives latents of shape {tuple(latents.shape[1:])}, the model takes "
                f"{channels} channels. Connect the VAE of the checkpoint, and no inpainting model."
            )
        return self.patcher.model.process_latent_in(latents.clone()).float()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """See Backbone. The U-Net is loaded again afterwards, should the VAE have displaced it."""
        try:
            with torch.inference_mode():
                pictures = self.vae.decode(self.patcher.model.process_latent_out(latents))
        finally:
            self.load()
        return pictures.clone().float().clamp(0, 1).cpu()

    def preview(self, latents: Tensor) -> Tensor:
        """Return ComfyUI's own latent preview, as large as the picture; float32 on the CPU."""
        picture = latent_picture(self.patcher.model.latent_format, latents)
        return self.decode_latents(latents) if picture is None else picture

    def style_tokens(self, pictures: Tensor) -> Tensor:
        """See Backbone."""
        with torch.inference_mode():
            output = self.clip_vision.encode_image(pictures)
        tokens = output["penultimate_hidden_states"]
        self.load()
        return tokens.clone().float()

    def word_vectors(self, word: str) -> dict[str, Tensor]:
        """See Backbone."""
        vectors = {}
        for encoder, ids in word_ids(self.clip, word).items():
            if not ids:
                raise ACFunError(
                    f"The initial word '{word}' has no token in this CLIP. Use a common word."
                )
            text_model = getattr(self.clip.cond_stage_model, f"clip_{encoder}", None)
            if text_model is None:
                raise ACFunError(
                    f"The connected clip has a text encoder '{encoder}' that no SD1.x, SD2.x or "
                    "SDXL model has. Connect the CLIP of the checkpoint."
                )
            table = text_model.transformer.get_input_embeddings().weight
            vectors[encoder] = table[torch.tensor(ids, device=table.device)].float().mean(dim=0)
        return vectors

    def encode_prompt(
        self, prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
    ) -> Context:
        """See Backbone. As ``CLIP.encode_from_tokens``, but without reloading the model."""
        tokens = tokenize(self.clip, prompt, pseudo_word, vectors)
        encoder = self.clip.cond_stage_model
        encoder.reset_clip_options()
        if self.clip.layer_idx is not None:
            encoder.set_clip_options({"layer": self.clip.layer_idx})
        encoder.set_clip_options({"execution_device": self.clip.patcher.load_device})
        embedding, pooled = encoder.encode_token_weights(tokens)[:2]
        if embedding.shape[-1] != context_width(self.unet):
            raise ACFunError(
                f"The connected clip gives embeddings {embedding.shape[-1]} wide, the model takes "
                f"{context_width(self.unet)}. Connect the CLIP of the same checkpoint."
            )
        return Context(embedding.to(self.device), pooled)

    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        """See Backbone."""
        return insert_points(self.unet, where)

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """See Backbone."""
        batch, side = noisy.shape[0], 8 * noisy.shape[-1]
        sigmas = noisy.new_full((batch,), sigma, dtype=torch.float32)
        conditions = {"c_crossattn": context.tokens.expand(batch, -1, -1)}
        y = self.patcher.model.encode_adm(
            pooled_output=context.pooled, width=side, height=side, device=self.device
        )
        if y is not None:
            conditions["y"] = y.to(self.device).expand(batch, -1)
        return self.patcher.model.apply_model(
            noisy, sigmas, transformer_options=self._transformer_options(sigmas), **conditions
        )

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """See Backbone. ComfyUI casts by itself to what :func:`training_backbone` has set."""
        return nullcontext()

    def gradient_checkpointing(self) -> AbstractContextManager[None]:
        """See Backbone."""
        return checkpointed_blocks(self.unet)

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether memory ran out; ComfyUI then discards what the GPU has yet to report."""
        known = getattr(comfy.model_management, "is_oom", is_out_of_memory)
        return known(error) or is_out_of_memory(error)

    def _transformer_options(self, sigmas: Tensor) -> dict[str, Any]:
        # What KSampler passes: the wrappers and patches of earlier nodes act in training too.
        options = self.patcher.model_options["transformer_options"].copy()
        for kind in ("wrappers", "callbacks"):
            options[kind] = comfy.patcher_extension.merge_nested_dicts(
                options.get(kind, {}), getattr(self.patcher, kind)
            )
        # Some optimised attentions have no backward.
        options["optimized_attention_override"] = _differentiable_attention
        options["sigmas"] = options["sample_sigmas"] = sigmas
        options["cond_or_uncond"] = [0] * len(sigmas)
        return options


@contextmanager
def training_backbone(
    model: Any, clip: Any, vae: Any, clip_vision: Any, dtype: torch.dtype | None
) -> Iterator[ComfyBackbone]:
    """Give a Backbone for the length of a training, outside inference mode.

    Args:
        model: a MODEL, as its socket brings it.
        clip: a CLIP.
        vae: a VAE.
        clip_vision: a CLIP_VISION.
        dtype: what the U-Net shall compute in, None for ComfyUI's own choice.

    Raises:
        ACFunError: a socket brings nothing, or nothing that training can use.
    """
    _check_sockets(model, clip, vae, clip_vision)
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        patcher, clip = _static_clone(model), _static_clone(clip)
        backbone = ComfyBackbone(patcher, clip, vae, clip_vision)
        if dtype is not None and dtype != backbone.compute_dtype:
            patcher.set_model_compute_dtype(dtype)
        stack.callback(backbone.close)
        stack.enter_context(_clones_for_norms(clip.cond_stage_model))
        yield backbone


@contextmanager
def _clones_for_norms(encoder: nn.Module) -> Iterator[None]:
    # CLIP adds to its hidden state in place, which spoils what LayerNorm has saved for backward.
    def clone(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (args[0].clone(), *args[1:])

    with ExitStack() as hooks:
        for module in encoder.modules():
            if isinstance(module, nn.LayerNorm):
                hooks.callback(module.register_forward_pre_hook(clone).remove)
        yield


def _static_clone(loaded: Any) -> Any:
    # Dynamic loading pages weights out between forward and backward; training needs them to stay.
    patcher = getattr(loaded, "patcher", loaded)
    if not getattr(patcher, "is_dynamic", lambda: False)():
        return loaded.clone()
    try:
        static = loaded.clone(disable_dynamic=True)
    except RuntimeError as error:
        raise ACFunError(
            "This model was loaded by a node that cannot keep its weights in place for training. "
            "Load it with a stock loader, or start ComfyUI with --disable-dynamic-vram."
        ) from error
    if patcher is not loaded:
        static.cond_stage_model = static.patcher.model  # CLIP.clone leaves the dynamic one there.
    return static


def _check_sockets(model: Any, clip: Any, vae: Any, clip_vision: Any) -> None:
    sockets = {
        "model": (model, "a checkpoint's MODEL"),
        "clip": (clip, "a checkpoint's CLIP; this one may be a U-Net alone"),
        "vae": (vae, "a checkpoint's VAE or a VAE Loader; this checkpoint may have none"),
        "clip_vision": (clip_vision, "Load CLIP Vision with a ViT model such as CLIP ViT-L/14"),
    }
    for socket, (value, remedy) in sockets.items():
        # A checkpoint without a VAE brings an empty one.
        if value is None or getattr(value, "first_stage_model", value) is None:
            raise ACFunError(f"The socket {socket} brings nothing. Connect {remedy}.")
    unet_of(model)


def _prediction(sampling: Any) -> Prediction:
    kind = type(sampling).__bases__[-1]
    if kind is comfy.model_sampling.EPS:
        return "noise"
    if kind is comfy.model_sampling.V_PREDICTION:
        return "v"
    raise ACFunError(
        f"The model's sampling ({kind.__name__}) is neither noise (EPS) nor v prediction. Connect "
        "an SD1.x, SD2.x or SDXL checkpoint, without a sampling patch."
    )


def _differentiable_attention(function: Any, *args: Any, **kwargs: Any) -> Tensor:
    return attention_pytorch(*args, **kwargs)
