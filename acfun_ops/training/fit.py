"""Training a style on one pair: one loop; events out, no files, no globals."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..backbones.backbone import Backbone
from ..errors import ACFunError
from ..messages import Message
from ..method.alignment_loss import AlignmentBatch, alignment_batch, alignment_loss
from ..method.diffusion import add_noise, sample_noise, sample_sigma
from ..model_families import FAMILIES
from ..sampling.sampler import StoppedError
from ..sampling.style_injection import InjectionError
from ..style.style import Style
from .checkpoint import TrainState, resume_metadata
from .config import TrainConfig
from .events import (
    MESSAGES,
    OVERFLOWED,
    OnEvent,
    Outcome,
    RestylingEvent,
    SamplingEvent,
    StepEvent,
    TrainImages,
    TrainResult,
    WarningEvent,
)
from .optimizer import DivergedError, Optimizer, OverflowedError
from .previews import Previews
from .styled_model import StyledModel
from .training_images import PreparedImages, encode_images, prepare_images

LARGE_STYLE = (
    "The style will be {size:.0f} MB large. With rank 32 and CLIP ViT-L/14 one of SD1.5 has 7 MB, "
    "and one of SDXL 16 MB."
)
OUT_OF_MEMORY_ENCODING = (
    "Out of memory while the pictures were encoded, before the first step. Lower resolution, use "
    "fewer pictures, or close other programs that use the GPU."
)
OUT_OF_MEMORY_REDRAWING = (
    "Out of memory while the face was redrawn in the style, before the first step. Lower "
    "resolution, choose staged at alignment, or close other programs that use the GPU."
)
STAGED_INSTEAD = "{reason} This training takes staged for alignment instead."


def fit(
    backbone: Backbone,
    images: TrainImages | PreparedImages,
    config: TrainConfig,
    on_event: OnEvent = lambda event: False,
    resume: tuple[Style, TrainState | None] | None = None,
) -> TrainResult:
    """Train a style with the face and style imagery alignment loss (ACFun sec. 3.4).

    One step noises two latents with one sigma and a noise each, denoises them under the fused
    prompt, and moves AFun and CFun by the loss. The pseudo-word moves in every fourth step, four
    times as far: encoding the prompt anew in each costs a sixth of a small model's step. On the
    CPU the same inputs give the same bytes; on a GPU they do if torch is told to be deterministic.

    Args:
        backbone: the frozen model.
        images: the pair to learn; prepared before if its run had to be named or is to have
            other settings of the method than :data:`SETTINGS`.
        config: how.
        on_event: is told of progress and may stop the run.
        resume: a style to go on from, with its training state if there is one.

    Returns:
        The result; a stopped, diverged or out-of-memory run returns its last good weights.

    Raises:
        ACFunError: the inputs are unusable, or memory runs out before the first step; nothing has
            been trained then.
    """
    with _explain_full_memory(backbone, OUT_OF_MEMORY_ENCODING):
        run = _Run(backbone, images, config, on_event)
    if resume is not None:
        run.resume(*resume)
    return run.train()


@contextmanager
def _explain_full_memory(backbone: Backbone, out_of_memory: str) -> Iterator[None]:
    """Raise what the user can do about memory that runs out before the first step."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not backbone.is_out_of_memory(error):
            raise
        raise ACFunError(out_of_memory) from error


class _FullError(Exception):
    """Memory ran out in a step, and all is as before it."""


class _Run:
    def __init__(
        self,
        backbone: Backbone,
        images: TrainImages | PreparedImages,
        config: TrainConfig,
        on_event: OnEvent,
    ) -> None:
        self.backbone, self.config, self.on_event = backbone, config, on_event
        if isinstance(images, TrainImages):
            images = prepare_images(backbone, images, config)
        self.pair = encode_images(backbone, images)
        self.facts = self.pair.facts
        self.generator = generator = torch.Generator().manual_seed(config.seed)
        self.model = model = StyledModel(backbone, self.pair, config, generator)
        rate, is_fp16 = config.learning_rate, model.dtype == torch.float16
        self.optimizer = Optimizer(model.style, rate, is_fp16, generator, model.cache)
        # On the CPU, where looking up a step's noise level waits for nothing.
        self.sigmas = backbone.sigmas.cpu()

    def train(self) -> TrainResult:
        """Run the loop with the adapters on the model, and off again however it ends."""
        first, steps = self.optimizer.done, self.config.steps
        if first >= steps:
            text = "resume_from already has {first} steps: raise steps above that to go on."
            self.on_event(WarningEvent(Message(text, first=first)))
        size = self.model.style.style_size(self.pair.style_tokens)
        if size > (FAMILIES[self.facts.family].usual_bytes or size):
            self.on_event(WarningEvent(Message(LARGE_STYLE, size=size / 1e6)))
        try:
            if first < steps:
                self._restyle_faces()
        except StoppedError:
            return self._result("cancelled")
        except InjectionError as error:
            self.on_event(WarningEvent(Message(STAGED_INSTEAD, reason=error.message)))
        self.optimizer.begin()
        self.previews = Previews(self.model, self.on_event, first)
        with ExitStack() as on_model:
            on_model.enter_context(self.model.attach_adapters())
            if self.config.gradient_checkpointing == "on":
                on_model.enter_context(self.backbone.gradient_checkpointing())
            may_checkpoint = self.config.gradient_checkpointing == "auto"
            while self.optimizer.done < steps:
                try:
                    loss = self._step()
                except StoppedError:
                    return self._result("cancelled")
                except DivergedError as error:
                    return self._end_diverged(error)
                except _FullError:
                    if not may_checkpoint or not self.optimizer.is_whole:
                        return self._result("out of memory")
                    may_checkpoint = False
                    on_model.enter_context(self.backbone.gradient_checkpointing())
                    self.on_event(WarningEvent("Out of memory: gradient checkpointing is now on."))
                    continue
                if loss is not None and self._report(loss):
                    return self._result("cancelled")
        return self._result("finished")

    def _restyle_faces(self) -> None:
        """Restyle the faces once (variant ``drawn``), unless the resumed state has them."""
        if self.config.alignment != "drawn" or "redrawn" in self.model.cache:
            return
        with _explain_full_memory(self.backbone, OUT_OF_MEMORY_REDRAWING):
            self.model.restyle_faces(lambda *done: self.on_event(RestylingEvent(*done)))

    def _step(self) -> float | None:
        """Do one step and return its loss, or None if it was skipped and is to be done anew."""
        try:
            return self.optimizer.step(self._loss())
        except StoppedError:
            self.optimizer.restore(self.optimizer.current)
            raise
        except (RuntimeError, MemoryError) as error:
            if not self.backbone.is_out_of_memory(error):
                raise
        # Out here nothing holds on to what the failed step had computed.
        self.optimizer.restore(self.optimizer.current)
        raise _FullError

    def _loss(self) -> Tensor:
        generator, step = self.generator, self.optimizer.done
        sigma = sample_sigma(self.sigmas, step, generator, self.pair.settings.even_levels)
        batch, mask = self._batch(sigma)
        noise = sample_noise(batch.latents.shape, batch.noise_offset, generator)
        noise = noise.to(self.backbone.device, non_blocking=True)
        context = self.model.context(step)
        denoised = self.model.denoise(add_noise(batch.latents, noise, sigma), sigma, context)
        return alignment_loss(denoised, batch, sigma, self.backbone.prediction, mask)

    def _batch(self, sigma: float) -> tuple[AlignmentBatch, Tensor | None]:
        pair, config = self.pair, self.config
        style = self._sample_index(len(pair.style))
        face = self._sample_index(len(pair.face))
        between = self.model.intermediate(
            self.optimizer.done, style, face, lambda: self.on_event(SamplingEvent())
        )
        is_staged = config.alignment == "drawn" and between is None
        batch = alignment_batch(
            "staged" if is_staged else config.alignment,
            pair.style[style : style + 1],
            pair.face[face : face + 1],
            sigma,
            config.style_weight,
            config.face_weight,
            between,
            pair.settings,
        )
        return batch, None if pair.face_mask is None else pair.face_mask[face : face + 1]

    def _sample_index(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.generator))

    def _report(self, loss: float) -> bool:
        """Report a step and perhaps show a preview; return whether to stop before the end."""
        step, total = self.optimizer.done, self.config.steps
        stop = self.on_event(StepEvent(step, total, loss, lambda: self._result("cancelled")))
        return (stop or self.previews.show(step)) and step < total

    def resume(self, style: Style, state: TrainState | None) -> None:
        """Go on from a style: exactly with its state, else from its weights, with a warning."""
        self.facts, same_run = resume_metadata(self.pair.facts, style)
        if state is not None and same_run and state.belongs_to(style):
            try:
                self.optimizer.load_state(state)
                return
            except ACFunError as error:  # One of another version, say.
                self.on_event(WarningEvent(error.message))
        self.model.style.load_style(style, self.backbone.family)
        text = "pictures, settings or checkpoint differ from its training, so"
        if same_run:
            text = "its training state is missing, so the optimiser starts anew and"
            self.optimizer.resume_at(style.facts.steps, self.config.seed)
        text = Message("{text} steps count from {step}.", text=text, step=self.optimizer.done)
        text = Message("Resuming from the style's weights alone: {text}", text=text)
        self.on_event(WarningEvent(text))

    def _result(self, outcome: Outcome, template: str = "", bad: int = 0) -> TrainResult:
        optimizer = self.optimizer
        facts = replace(self.facts, steps=optimizer.done)
        is_whole = outcome != "diverged" and optimizer.is_whole
        step, total = optimizer.done, self.config.steps
        message = Message(template or MESSAGES[outcome], step=step, total=total)
        if bad:
            message = Message("At step {bad}: {what}", bad=bad, what=message)
        return TrainResult(
            style=self.model.style.to_style(facts, self.pair.style_tokens),
            state=optimizer.state(facts.run) if is_whole else None,
            losses=list(optimizer.losses),
            outcome=outcome,
            message=message,
        )

    def _end_diverged(self, error: DivergedError) -> TrainResult:
        bad = self.optimizer.done + 1
        if isinstance(error, OverflowedError):
            # What overflowed were the gradients; the weights gave a finite loss.
            return self._result("diverged", OVERFLOWED, bad)
        self.optimizer.restore(self.optimizer.previous)
        return self._result("diverged", bad=bad)
