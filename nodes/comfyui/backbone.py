"""The Backbone of ``acfun_ops`` on ComfyUI's MODEL, CLIP, VAE and CLIP_VISION."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cached_property
from typing import Any

import comfy.model_management
import torch
from torch import Tensor
from typing_extensions import override

from ...acfun_ops.backbones.backbone import Context
from ...acfun_ops.errors import ACFunError, is_out_of_memory
from ...acfun_ops.model_families import FAMILIES, name_of
from .autograd import Freeze, checkpoint_blocks, checkpoint_layers, make_differentiable
from .denoiser import Denoiser
from .fingerprint import is_patched, model_fingerprint
from .latent_image import latent_image
from .offset_encoder import OffsetEncoder
from .prompt_offsets import other_clip
from .prompts import prompt_embeddings, tokenize, word_ids
from .sites import blocks_of


class ComfyBackbone(Denoiser):
    """A Backbone on models that ComfyUI has loaded; use it through :func:`training_backbone`."""

    def __init__(self, model: Any, clip: Any, vae: Any, clip_vision: Any, prompt: str = "") -> None:
        # Before the training adds its own.
        super().__init__(model, is_patched(model, clip))
        self.clip, self.vae, self.clip_vision = clip, vae, clip_vision
        self.is_running = self.is_loaded = False
        self.reserve = 0.0
        learns_offsets = FAMILIES[self.family].learns_offsets
        self._freeze = Freeze([model.model, *([] if learns_offsets else [clip.cond_stage_model])])
        self._prompt = prompt
        self._offsets: OffsetEncoder | None = None
        if learns_offsets:
            width = self.network.context_width
            self._offsets = OffsetEncoder(clip, self.family, width, self.device)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of a sample of all weights that training depends on, and of all patches."""
        self.load()
        models = (self.patcher, self.clip, self.vae, self.clip_vision)
        embeddings = prompt_embeddings(self.clip, self._prompt)
        return model_fingerprint(*models, self.is_patched, embeddings)

    @property
    def compute_dtype(self) -> torch.dtype:
        """What ComfyUI computes this network in."""
        # Asked of the patcher: the shared model may still hold another branch's setting.
        return self.patcher.get_model_object("manual_cast_dtype") or self.network.module.dtype

    def load(self) -> None:
        """Have ComfyUI load network and text encoder, if something has displaced them.

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
            if self._offsets is None:
                load([self.patcher, self.clip.patcher], memory_required=self.reserve)
            if not self.is_running:
                self.patcher.pre_run()  # Other nodes move their weights here.
                self.is_running = True
        make_differentiable(self.patcher.model, self.device)
        if self._offsets is None:
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
        """Return the shape of what the network takes, less its axis of time if it has one."""
        latents = self.patcher.model.latent_format
        scale = getattr(latents, "spacial_downscale_ratio", 8)
        return 1, latents.latent_channels, side // scale, side // scale

    def encode_pictures(self, pictures: Tensor) -> Tensor:
        """Encode on the VAE's device, to float32 latents where ComfyUI keeps them.

        Raises:
            ACFunError: the VAE's latents do not fit the model, or it takes a picture as well.
        """
        if self.takes_image():
            raise ACFunError(
                "The connected model also takes a picture, as models for inpainting do, and "
                "training has none to give it. Connect a text-to-image model."
            )
        self.is_loaded = False  # The VAE may displace the network.
        # A VAE for videos takes a batch for a video.
        batches = pictures.split(1 if self.has_frames else len(pictures))
        with torch.inference_mode():
            latents = torch.cat([self.vae.encode(batch) for batch in batches])
        channels = self.patcher.model.latent_format.latent_channels
        if latents.ndim != 4 + self.has_frames or latents.shape[1] != channels:
            raise ACFunError(
                "The connected vae is of another kind of model than {name} (its latents: "
                "{shape}, the model's: {channels} channels). Connect the VAE of the "
                "checkpoint.",
                name=name_of(self.family, self.network.context_width),
                shape=tuple(latents.shape[1:]),
                channels=channels,
            )
        latents = self.patcher.model.process_latent_in(latents.clone()).float()
        return latents[:, :, 0] if self.has_frames else latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode on the VAE's device, to the CPU; the network is loaded again at its next use."""
        self.is_loaded = False
        if self.has_frames:
            latents = latents.unsqueeze(2)
        with torch.inference_mode():
            pictures = self.vae.decode(self.patcher.model.process_latent_out(latents))
        pictures = pictures.flatten(0, -4)
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
        """Return float32 vectors on the text encoder's device, or offsets that change nothing.

        Offsets are added to this word's encoding in all prompts that are encoded from now on.
        """
        if self._offsets is not None:
            return self._offsets.zero_offsets(word)
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
                raise other_clip(self.clip, self.family, self.network.context_width)
            rows = torch.tensor(ids, device=self.clip.patcher.load_device)
            # The table's own lookup, because an fp8 table cannot be indexed.
            embedding = text_model.transformer.get_input_embeddings()
            vectors[encoder] = embedding(rows, out_dtype=torch.float32).float().mean(dim=0)
        return vectors

    def encode_prompt(
        self, prompt: str, pseudo_word: str, vectors: Mapping[str, Tensor]
    ) -> Context:
        """Encode as ``CLIP.encode_from_tokens``, to ``device``, without loading the model anew."""
        if self._offsets is not None:
            known = len(self._offsets.encoded)
            context = self._offsets.encode(prompt, pseudo_word, vectors)
            if len(self._offsets.encoded) > known:
                self.is_loaded = False  # The text encoder may have displaced the network.
            return context
        self.load()
        tokens = tokenize(self.clip, prompt, pseudo_word, vectors)
        encoder = self.clip.cond_stage_model
        encoder.reset_clip_options()
        if self.clip.layer_idx is not None:
            encoder.set_clip_options({"layer": self.clip.layer_idx})
        encoder.set_clip_options({"execution_device": self.clip.patcher.load_device})
        embedding, pooled = encoder.encode_token_weights(tokens)[:2]
        if embedding.shape[-1] != self.network.context_width:
            raise other_clip(self.clip, self.family, self.network.context_width)
        return Context(embedding.to(self.device), pooled)

    @override
    def denoise(self, noisy: Tensor, sigma: float, context: Context) -> Tensor:
        self.load()
        return super().denoise(noisy, sigma, context)

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[None]:
        """Do nothing: ComfyUI casts by itself to what :func:`training_backbone` has set."""
        return nullcontext()

    @contextmanager
    def gradient_checkpointing(self) -> Iterator[None]:
        """Recompute the blocks of the network and the layers of the text encoder."""
        stack = checkpoint_layers(self.clip.cond_stage_model)
        with checkpoint_blocks(blocks_of(self.network), self._guard), stack:
            yield

    def is_out_of_memory(self, error: BaseException) -> bool:
        """Tell whether memory ran out; ComfyUI then discards what the GPU has yet to report."""
        known = getattr(comfy.model_management, "is_oom", is_out_of_memory)
        return known(error) or is_out_of_memory(error)
