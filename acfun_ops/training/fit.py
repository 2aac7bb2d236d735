"""Training a style on one pair: one loop; events out, no files, no globals."""

from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor

from ..backbones.backbone import Backbone, Context
from ..drawing.drawing import draw_latent
from ..errors import ACFunError, is_out_of_memory
from ..method.alignment import AlignmentBatch, alignment_batch, alignment_loss
from ..method.concrete_fusion import attached
from ..method.diffusion import add_noise, draw_noise, draw_sigma
from ..style.style import Style
from .checkpoint import TrainState
from .config import TrainConfig
from .encoded_pair import encode_pair, is_same_run, resumed_facts
from .events import (
    MESSAGES,
    NoticeEvent,
    OnEvent,
    Outcome,
    PreviewEvent,
    StepEvent,
    TrainPictures,
    TrainResult,
)
from .optimization import STATE_MISFIT, VECTORS_EVERY, DivergedError, Optimization
from .trainables import Trainables

PREVIEW_STEPS = 20
PREVIEW_GUIDANCE = 5.0
IMAGERY_STEPS = 10
IMAGERY_EVERY = 25

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def fit(
    backbone: Backbone,
    pictures: TrainPictures,
    config: TrainConfig,
    on_event: OnEvent = lambda event: False,
    resume: tuple[Style, TrainState | None] | None = None,
) -> TrainResult:
    """Train a style with the face and style imagery alignment loss (ACFun sec. 3.4).

    One step noises two latents with one sigma and a noise each, denoises them under the fused
    prompt, and moves AFun and CFun by the loss. The pseudo-word moves in every fourth step, four
    times as far: encoding the prompt anew in each costs a sixth of a small model's step. Same
    inputs, same bytes.

    Args:
        backbone: the frozen model.
        pictures: the pair to learn.
        config: how.
        on_event: is told of progress and may stop the run.
        resume: a style to go on from, with its training state if there is one.

    Returns:
        The result; a stopped, diverged or out-of-memory run returns its last good weights.

    Raises:
        ACFunError: the inputs are unusable; nothing has been trained then.
    """
    run = _Run(backbone, pictures, config, on_event)
    if resume is not None:
        run.resume(*resume)
    return run.train()


class _Run:
    """The state of one training run."""

    def __init__(
        self, backbone: Backbone, pictures: TrainPictures, config: TrainConfig, on_event: OnEvent
    ) -> None:
        self.backbone, self.config, self.on_event = backbone, config, on_event
        self.device = backbone.device
        self.dtype = _DTYPES.get(config.precision, backbone.compute_dtype)
        self.pair = encode_pair(backbone, pictures, config, self.dtype)
        self.facts = self.pair.facts
        self.generator = torch.Generator().manual_seed(config.seed)
        self.points = backbone.insert_points(config.insert_at)
        self.trainables = self._new_trainables()
        self.optimization = Optimization(
            self.trainables, config.learning_rate, self.device, self.dtype == torch.float16
        )
        self.random_state = self.generator.get_state()
        self.step = 0
        self.losses: list[float] = []
        self.previews = config.preview_every > 0
        self.prompt: Context | None = None
        self.imagery: Tensor | None = None

    def _new_trainables(self) -> Trainables:
        config = self.config
        vectors = self.backbone.word_vectors(config.initial_word)
        with torch.no_grad():
            context = self.backbone.encode_prompt(config.prompt, config.pseudo_word, vectors)
        return Trainables(
            text_dim=context.tokens.shape[-1],
            image_dim=self.pair.style_tokens.shape[-1],
            widths={block: point.channels for block, point in self.points.items()},
            vectors={name: vector.cpu() for name, vector in vectors.items()},
            layers=config.layers,
            heads=config.heads,
            dropout=config.dropout,
            rank=config.rank,
            statistics=config.statistics,
            generator=self.generator,
        ).to(self.device)

    def train(self) -> TrainResult:
        """Run the loop with the inserts on the model, and off again however it ends."""
        if self.step >= self.config.steps:
            text = f"resume_from already has {self.step} steps: raise steps above that to go on."
            self.on_event(NoticeEvent(text))
        modules = {block: point.module for block, point in self.points.items()}
        first = self.step
        self.optimization.keep()
        with ExitStack() as stack:
            stack.enter_context(attached(self.trainables.inserts(), modules))
            if self.config.gradient_checkpointing == "on":
                stack.enter_context(self.backbone.gradient_checkpointing())
            may_checkpoint = self.config.gradient_checkpointing == "auto"
            while self.step < self.config.steps:
                try:
                    loss = self._train_step()
                except DivergedError:
                    return self._diverged(first)
                if loss is None and not may_checkpoint:
                    return self._result("out of memory")
                if loss is None:
                    may_checkpoint = False
                    stack.enter_context(self.backbone.gradient_checkpointing())
                    self.on_event(NoticeEvent("Out of memory: gradient checkpointing is now on."))
                elif self._report(loss):
                    return self._result("cancelled")
        return self._result("finished")

    def _train_step(self) -> float | None:
        """Do one step and return its loss, or None and the state before it if memory ran out."""
        kept = self.prompt, self.imagery
        try:
            loss = self._forward_backward()
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            loss = None
        if loss is None:
            self.optimization.drop_gradients()
            self.generator.set_state(self.random_state)
            self.prompt, self.imagery = kept
            return None
        self.optimization.step()
        self.step += 1
        self.losses.append(loss)
        self.random_state = self.generator.get_state()
        return loss

    def _forward_backward(self) -> float:
        generator = self.generator
        sigma = draw_sigma(self.backbone.sigmas, self.step, generator)
        batch, mask = self._batch(sigma)
        noise = draw_noise(batch.latents.shape, generator).to(self.device)
        context = self._fused(self._encoded_prompt(), dropout=generator)
        with self.backbone.autocast(self.dtype):
            denoised = self.backbone.denoise(add_noise(batch.latents, noise, sigma), sigma, context)
        loss = alignment_loss(denoised.float(), batch, sigma, self.backbone.prediction, mask)
        return self.optimization.backward(loss)

    def _batch(self, sigma: Tensor) -> tuple[AlignmentBatch, Tensor | None]:
        pair, config = self.pair, self.config
        style, face = self._draw(len(pair.style)), self._draw(len(pair.face))
        due = self.imagery is None or self.step % IMAGERY_EVERY == 0
        if config.alignment == "imagery" and due:
            self.imagery = self._draw_latent(self.generator, IMAGERY_STEPS)
        batch = alignment_batch(
            config.alignment,
            pair.style[style : style + 1],
            pair.face[face : face + 1],
            sigma,
            config.style_weight,
            config.face_weight,
            self.imagery,
        )
        return batch, None if pair.face_mask is None else pair.face_mask[face : face + 1]

    def _draw(self, count: int) -> int:
        return int(torch.randint(count, (1,), generator=self.generator))

    def _encoded_prompt(self) -> Context:
        """Return the prompt, in every fourth step differentiable in the pseudo-word's vectors."""
        if self.prompt is not None and self.step % VECTORS_EVERY != 0:
            return self.prompt
        prompt = self._encode_prompt()
        pooled = None if prompt.pooled is None else prompt.pooled.detach()
        self.prompt = Context(prompt.tokens.detach(), pooled)
        return prompt

    def _encode_prompt(self) -> Context:
        vectors = dict(self.trainables.vectors.items())
        return self.backbone.encode_prompt(self.config.prompt, self.config.pseudo_word, vectors)

    def _fused(self, prompt: Context, dropout: torch.Generator | None = None) -> Context:
        fusion, style_tokens = self.trainables.abstract, self.pair.style_tokens
        return Context(fusion(prompt.tokens, style_tokens, generator=dropout), prompt.pooled)

    def _draw_latent(self, generator: torch.Generator, steps: int, guidance: float = 1.0) -> Tensor:
        styled, plain = self._fused(self._encode_prompt()), None
        if guidance != 1:
            plain = self.backbone.encode_prompt("", self.config.pseudo_word, {})
        noise = torch.randn(self.pair.style[:1].shape, generator=generator)
        return draw_latent(self.backbone, self.dtype, noise, steps, styled, plain, guidance)

    def _report(self, loss: float) -> bool:
        """Tell of a step and perhaps draw a preview; return whether to stop before the end."""
        step, total = self.step, self.config.steps
        stop = self.on_event(StepEvent(step, total, loss, lambda: self._result("cancelled")))
        due = self.previews and (step % self.config.preview_every == 0 or step == total)
        if due and not stop:
            stop = self._show_preview()
        return stop and step < total

    def _show_preview(self) -> bool:
        same_noise = torch.Generator().manual_seed(self.config.seed)
        try:
            latents = self._draw_latent(same_noise, PREVIEW_STEPS, PREVIEW_GUIDANCE)
            picture = self.backbone.decode_latents(latents)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            self.previews = False
            return self.on_event(NoticeEvent("Out of memory in a preview: previews are now off."))
        return self.on_event(PreviewEvent(self.step, picture))

    def resume(self, style: Style, state: TrainState | None) -> None:
        """Go on from a style: exactly with its state, else from its weights, saying so."""
        old, new = style.facts, self.pair.facts
        same_run = is_same_run(new, old)
        self.facts = resumed_facts(new, style)
        if state is not None and same_run and (state.run, state.step) == (old.run, old.steps):
            self._restore(state)
            return
        self.trainables.load_style(style)
        text = "pictures, settings or checkpoint differ from its training, so"
        if same_run:
            text = "its training state is missing, so the optimiser starts anew and"
            self.step = old.steps
            self.generator.manual_seed((self.config.seed + self.step) % 2**64)
            self.random_state = self.generator.get_state()
        text = f"Resuming from the style's weights alone: {text} steps count from {self.step}."
        self.on_event(NoticeEvent(text))

    def _restore(self, state: TrainState) -> None:
        self.optimization.restore(state.weights, state.moments, state.scaler)
        try:
            self.generator.set_state(state.generator)
        except RuntimeError as error:
            raise ACFunError(STATE_MISFIT) from error
        self.random_state = state.generator
        self.step, self.losses = state.step, state.losses.tolist()
        kept = {name: tensor.to(self.device) for name, tensor in state.kept.items()}
        self.imagery = kept.get("imagery")
        if "prompt" in kept:
            self.prompt = Context(kept["prompt"], kept.get("pooled"))

    def _state(self) -> TrainState:
        kept = {"imagery": self.imagery}
        if self.prompt is not None:
            kept |= {"prompt": self.prompt.tokens, "pooled": self.prompt.pooled}
        return TrainState(
            run=self.facts.run,
            step=self.step,
            weights=self.optimization.weights(),
            moments=self.optimization.moments(),
            generator=self.random_state,
            losses=torch.tensor(self.losses, dtype=torch.float64),
            scaler=self.optimization.scaler.state_dict(),
            kept={name: tensor for name, tensor in kept.items() if tensor is not None},
        )

    def _result(self, outcome: Outcome) -> TrainResult:
        facts = replace(self.facts, steps=self.step)
        message = MESSAGES[outcome].format(step=self.step, total=self.config.steps)
        return TrainResult(
            style=self.trainables.to_style(facts, self.pair.style_tokens),
            state=None if outcome == "diverged" else self._state(),
            losses=list(self.losses),
            outcome=outcome,
            message=message,
        )

    def _diverged(self, first: int) -> TrainResult:
        bad = self.step + 1
        self.optimization.roll_back()
        if self.step > first:
            self.step, self.losses = self.step - 1, self.losses[:-1]
        result = self._result("diverged")
        return replace(result, message=f"At step {bad}: {result.message}")
