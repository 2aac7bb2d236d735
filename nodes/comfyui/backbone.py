"""The Backbone of ``acfun_ops`` on ComfyUI's MODEL, CLIP, VAE and CLIP_VISION."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import comfy.model_management
import comfy.patcher_extension
import torch
from torch import Tensor, nn

from ...acfun_ops.backbones.backbone import Context, InsertPoint
from ...acfun_ops.errors import ACFunError, is_out_of_memory
from ...acfun_ops.method.concrete_fusion import InsertAt
from ...acfun_ops.method.diffusion import Prediction
from ...acfun_ops.model_families import family_of, name_by_encoders, name_of, native_side
from .autograd import (
    Freeze,
    NormalTensors,
    checkpoint_blocks,
    checkpoint_layers,
    differentiable_attention,
    make_differentiable,
)
from .fingerprint import is_patched, model_fingerprint
from .latent_image import latent_image
from .prompts import prompt_embeddings, tokenize, word_ids
from .unet import (
    context_width,
    insert_points,
    prediction_of,
    self_attentions,
    unet_of,
)


class ComfyBackbone:
    """A Backbone on models that ComfyUI has loaded; use it through :func:`training_backbone`."""

    def __init__(self, model: Any, clip: Any, vae: Any, clip_vision: Any, prompt: str = "") -> None:
        self.patcher, self.clip, self.vae, self.clip_vision = model, clip, vae, clip_vision
        self.unet = unet_of(model)
        self.family = family_of(context_width(self.unet))
        self.device = model.load_device
        self.prediction: Prediction = prediction_of(model)
        self.native_side = native_side(self.family, self.prediction)
        self.is_running = self.is_loaded = self._has_run = self._ignores_patches = False
        self.reserve = 0.0
        self._freeze = Freeze([self.patcher.model, clip.cond_stage_model])
        # Before the training adds its own.
        self.is_patched = is_patched(model, clip)
        self._prompt = prompt
        # Copying what a patch brings costs a little at every operation.
        self._guard = NormalTensors if self.is_patched else nullcontext

    @cached_property
    def fingerprint(self) -> str:
        """A hash of a sample of all weights that training depends on, and of all patches."""
        self.load()
        models = (self.patcher, self.clip, self.vae, self.clip_vision)
        embeddings = prompt_embeddings(self.clip, self._prompt)
        return model_fingerprint(*models, self.is_patched, embeddings)

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
        """Have ComfyUI load U-Net and text encoder, if something has displaced them.

        ``reserve`` bytes of the card stay free for the training. What does not fit beside them
        stays in main memory, whence ComfyUI brings each weight where it is used; the text encoder
        first, because it is needed in few steps.
        """
        if self.is_loaded:
            return
        load = comfy.model_management.load_models_gpu
        # A weight of inference mode that is moved outside of it is of no use to either mode.
        with torch.inference_mode():
            load([self.patcher], memory_required=self.reserve)
            load([self.patcher, self.clip.patcher], memory_required=self.reserve)
            if not self.is_running:
                self.patcher.pre_run()  # Other nodes move their weights here.
                self.is_running = True
        make_differentiable(self.patcher.model, self.device)
        make_differentiable(self.clip.cond_stage_model, self.clip.patcher.load_device)
        self._freeze.apply()
        self.is_loaded = True

    def close(self) -> None:
        """Tell ComfyUI that this use of the model is over, and give it its flags back."""
        self._freeze.restore()
        if self.is_running:
            with torch.inference_mode():
                self.patcher.cleanup()
            self.is_running = False

    def latents_shape(self, side: int) -> tuple[int, int, int, int]:
        """Return the shape that the U-Net takes: eight pixels a latent in all families."""
        return 1, int(self.unet.in_channels), side // 8, side // 8

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Encode on the VAE's device, to float32 latents where ComfyUI keeps them.

        Raises:
            ACFunError: the VAE's latents do not fit the model, or it takes a picture as well.
        """
        channels = self.unet.in_channels
        if channels != self.unet.out_channels:
            raise ACFunError(
                "The connected model also takes a picture, as models for inpainting do, and "
                "training has none to give it. Connect a text-to-image model."
            )
        self.is_loaded = False  # The VAE may displace the U-Net.
        with torch.inference_mode():
            latents = self.vae.encode(pictures)
        if latents.ndim != 4 or latents.shape[1] != channels:
            raise ACFunError(
                "The connected vae is of another kind of model than {name} (its latents: "
                "{shape}, the model's: {channels} channels). Connect the VAE of the "
                "checkpoint.",
                name=self._name,
                shape=tuple(latents.shape[1:]),
                channels=channels,
            )
        return self.patcher.model.process_latent_in(latents.clone()).float()

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode on the VAE's device, to the CPU; the U-Net is loaded again where it is needed."""
        self.is_loaded = False
        with torch.inference_mode():
            pictures = self.vae.decode(self.patcher.model.process_latent_out(latents))
        return pictures.clone().float().clamp(0, 1).cpu()

    def preview(self, latents: Tensor) -> Tensor:
        """Return ComfyUI's own latent preview, as large as the picture; float32 on the CPU."""
        picture = latent_image(self.patcher.model.latent_format, latents)
        return self.decode_latents(latents) if picture is None else picture

    def style_tokens(self, pictures: Tensor) -> Tensor:
        """Return float32 tokens where ComfyUI keeps them."""
        self.is_loaded = False
        with torch.inference_mode():
            output = self.clip_vision.encode_image(pictures)
        return output["penultimate_hidden_states"].clone().float()

    def word_vectors(self, word: str) -> dict[str, Tensor]:
        """Return float32 vectors on the text encoder's device."""
        self.load()
        vectors = {}
        for encoder, ids in word_ids(self.clip, word).items():
            if not ids:
                raise ACFunError(
                    "The initial word '{word}' has no token in this CLIP. Use a common word.",
                    word=word,
                )
            text_model = getattr(self.clip.cond_stage_model, f"clip_{encoder}", None)
            if text_model is None:
                raise self._other_clip()
            rows = torch.tensor(ids, device=self.clip.patcher.load_device)
            # The table's own lookup, because an fp8 table cannot be indexed.
            embedding = text_model.transformer.get_input_embeddings()
            vectors[encoder] = embedding(rows, out_dtype=torch.float32).float().mean(dim=0)
        return vectors

    def encode_prompt(
        self, prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
    ) -> Context:
        """Encode as ``CLIP.encode_from_tokens``, to ``device``, without loading the model anew."""
        self.load()
        tokens = tokenize(self.clip, prompt, pseudo_word, vectors)
        encoder = self.clip.cond_stage_model
        encoder.reset_clip_options()
        if self.clip.layer_idx is not None:
            encoder.set_clip_options({"layer": self.clip.layer_idx})
        encoder.set_clip_options({"execution_device": self.clip.patcher.load_device})
        embedding, pooled = encoder.encode_token_weights(tokens)[:2]
        if embedding.shape[-1] != context_width(self.unet):
            raise self._other_clip()
        return Context(embedding.to(self.device), pooled)

    def insert_points(self, where: InsertAt) -> dict[str, InsertPoint]:
        """Return modules of the shared U-Net; who hooks onto them takes the hooks off again."""
        return insert_points(self.unet, where)

    def self_attentions(self) -> list[nn.Module]:
        """Return modules of the shared U-Net; who hooks onto them takes the hooks off again."""
        return self_attentions(self.unet)

    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        """Denoise as KSampler would; through earlier nodes' patches, but in ``ignore_patches``.

        SDXL is told the size that the style will be drawn at, not that of a smaller training.

        Raises:
            ACFunError: what ran is not the connected U-Net.
        """
        self.load()
        model, batch = self.patcher.model, noisy.shape[0]
        side = max(self.native_side, 8 * noisy.shape[-1])
        sigmas = noisy.new_full((batch,), sigma, dtype=torch.float32)
        conditions: dict[str, Any] = {"c_crossattn": context.tokens.expand(batch, -1, -1)}
        y = model.encode_adm(
            pooled_output=context.pooled, width=side, height=side, device=self.device
        )
        if y is not None:
            conditions["y"] = y.to(self.device).expand(batch, -1)
        # One entry for each latent, 1 for the negative ones.
        rows = [int(is_negative) for is_negative in context.negative] * (
            batch // len(context.negative)
        )
        conditions["transformer_options"] = self._transformer_options(sigmas, rows)
        wrapper = self.patcher.model_options.get("model_function_wrapper")
        with self._guard(), self._check_unet_runs():
            if wrapper is None or self._ignores_patches:
                return model.apply_model(noisy, sigmas, **conditions)
            call = {"input": noisy, "timestep": sigmas, "c": conditions}
            return wrapper(model.apply_model, call | {"cond_or_uncond": rows})

    @contextmanager
    def _check_unet_runs(self) -> Iterator[None]:
        """In the first patched call see to it that the U-Net runs which a style is hooked onto."""
        if self._has_run or self._ignores_patches:
            yield
            return
        calls: list[nn.Module] = []
        with ExitStack() as hooks:
            for point in self.insert_points("resblock").values():
                handle = point.module.register_forward_hook(lambda unet, *_: calls.append(unet))
                hooks.callback(handle.remove)
            yield
        if not calls:
            raise ACFunError(
                "The U-Net that ran is not the connected one, so CFun would learn nothing. A node "
                "in front of the training runs another, a compiled one for example: bypass it."
            )
        self._has_run = True

    @contextmanager
    def ignore_patches(self) -> Iterator[None]:
        """Run without wrappers and transformer_options of other nodes; the MODEL keeps them."""
        self._ignores_patches = True
        try:
            yield
        finally:
            self._ignores_patches = False

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Do nothing: ComfyUI casts by itself to what :func:`training_backbone` has set."""
        return nullcontext()

    @contextmanager
    def gradient_checkpointing(self) -> Iterator[None]:
        """Recompute the blocks of the U-Net and the layers of the text encoder."""
        stack = checkpoint_layers(self.clip.cond_stage_model)
        with checkpoint_blocks(self.unet, self._guard), stack:
            yield

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether memory ran out; ComfyUI then discards what the GPU has yet to report."""
        known = getattr(comfy.model_management, "is_oom", is_out_of_memory)
        return known(error) or is_out_of_memory(error)

    @property
    def _name(self) -> str:
        return name_of(self.family, context_width(self.unet))

    def _other_clip(self) -> ACFunError:
        return ACFunError(
            "The connected clip is of {encoders} and does not fit the model, which is "
            "{name}. Connect the CLIP of the same checkpoint.",
            encoders=name_by_encoders(self.clip.tokenize("")),
            name=self._name,
        )

    def _transformer_options(self, sigmas: Tensor, rows: list[int]) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if not self._ignores_patches:
            # What KSampler passes: the wrappers and patches of earlier nodes act in training too.
            options |= self.patcher.model_options["transformer_options"]
            for kind in ("wrappers", "callbacks"):
                options[kind] = comfy.patcher_extension.merge_nested_dicts(
                    options.get(kind, {}), getattr(self.patcher, kind)
                )
        # Some optimised attentions have no backward.
        options["optimized_attention_override"] = differentiable_attention
        options["sigmas"] = options["sample_sigmas"] = sigmas
        options["cond_or_uncond"] = rows
        return options
