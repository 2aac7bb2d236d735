"""Trainings on patched MODELs have names of their own, which no other process writes otherwise."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from comfy.model_management import InterruptProcessingException
from comfy.patcher_extension import PatcherInjection, WrappersMP
from comfy_extras.nodes_freelunch import FreeU_V2
from comfy_extras.nodes_lora_debug import LoraLoaderBypass
from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete, RescaleCFG
from faulty_models import cancel, faulty


@torch.inference_mode()
def freed(model, first=1.3):
    return FreeU_V2.execute(model, first, 1.4, 0.9, 0.2).args[0]


def sampled_as(kind, model):
    return ModelSamplingDiscrete().patch(model, kind, False)[0]


def rescaled(model, multiplier):
    return RescaleCFG().patch(model, multiplier)[0]


def rescaled_slightly(model):
    return rescaled(model, 0.9)


class Wrapper:
    def __call__(self, apply_model, call):
        return apply_model(call["input"], call["timestep"], **call["c"])

    def wrap(self, executor, *args, **kwargs):
        return executor(*args, **kwargs)


class Scale(Wrapper):
    def __init__(self, factor):
        self.factor = factor

    def __call__(self, apply_model, call):
        return self.factor * super().__call__(apply_model, call)


def wrapped(model, wrapper=Wrapper):
    changed = model.clone()
    changed.set_model_unet_function_wrapper(wrapper())
    return changed


def wrapped_method(model):
    changed = model.clone()
    changed.add_wrapper(WrappersMP.APPLY_MODEL, Wrapper().wrap)
    return changed


def replaced(model, strength=1.0):
    changed = model.clone()
    patch = partial(lambda *args: args, Wrapper(), strength)
    changed.set_model_attn2_replace(patch, "output", 3, 0)
    return changed


def injected(model):
    changed = model.clone()
    changed.set_injections("test", [PatcherInjection(print, print)])
    return changed


PATCHES = {
    "FreeU": freed,
    "FreeU, another strength": partial(freed, first=1.4),
    "guidance rescaled": partial(rescaled, multiplier=0.7),
    "guidance rescaled less": partial(rescaled, multiplier=0.6),
    "ModelSamplingDiscrete eps": partial(sampled_as, "eps"),
    "ModelSamplingDiscrete v": partial(sampled_as, "v_prediction"),
    "a wrapper": wrapped,
    "a wrapper's method": wrapped_method,
    "replaced attention": replaced,
    "replaced attention, weaker": partial(replaced, strength=0.5),
    "an injection": injected,
}


@pytest.fixture
def clip(comfy):
    return comfy.checkpoint("sd1")[1]


@pytest.fixture
def bypassed(comfy, models_dir):
    """Return a CLIP with a LoRA on its modules, not on its weights. A trace of it stays on them."""
    clip = comfy.load_checkpoint("sd1")[1]
    with torch.inference_mode():
        return LoraLoaderBypass().load_lora(None, clip, models_dir.name("lora"), 0.0, 1.0)[1]


def test_patches_other_than_on_weights_are_seen(acfun, model, clip, bypassed):
    from acfun_pack.nodes.comfyui.fingerprint import is_patched

    assert [name for name, patch in PATCHES.items() if not is_patched(patch(model), clip)] == []
    assert is_patched(model, bypassed) and is_patched(acfun.adapt(model, acfun.style()), clip)
    assert not is_patched(model, clip)


def test_a_patched_model_has_a_name_of_its_own_whatever_patches_it(acfun, model):
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    sockets = [acfun.train_inputs()[name] for name in ("model", "clip", "vae", "clip_vision")]

    def fingerprint(patched, dtype=None):
        with training_backbone(patched, *sockets[1:], dtype) as backbone:
            return backbone.fingerprint

    plain, styled = fingerprint(model), acfun.adapt(model, acfun.style())
    assert fingerprint(model, torch.bfloat16) == plain
    names = {fingerprint(patch(model)) for patch in (freed, wrapped, rescaled_slightly)}
    assert names == {fingerprint(styled, torch.bfloat16)} and plain not in names


def test_a_style_trained_on_a_patched_model_is_not_taken_for_a_plain_one(acfun, model):
    def train(patched, **inputs):
        acfun.texts.clear()
        given = acfun.train_inputs() | {"model": patched, "seed": 81, "retrain": False} | inputs
        return acfun.run("ACFunTrainStyle", **given)[0], list(acfun.texts)

    styled, _ = train(freed(model))
    plain, texts = train(model)
    assert not any("trained before" in text for text in texts)
    assert acfun.bytes_of(plain) != acfun.bytes_of(styled)
    _, texts = train(freed(model))  # Another pack's patches may have that name.
    assert not any("trained before" in text for text in texts)
    same, texts = train(model)
    assert any("trained before" in text for text in texts)
    assert acfun.bytes_of(same) == acfun.bytes_of(plain)
    _, texts = train(model, steps=3, resume_from=styled)
    assert not any("patches were not compared" in text for text in texts)
    assert any("pictures, settings or checkpoint differ" in text for text in texts)


def test_a_style_trained_with_a_lora_on_modules_is_not_taken_for_one_without(acfun, bypassed):
    inputs = {"seed": 82, "retrain": False}
    plain, _, _ = acfun.train(**inputs)
    acfun.texts.clear()
    other, _, _ = acfun.train(**inputs, clip=bypassed)
    assert not any("trained before" in text for text in acfun.texts)
    assert acfun.bytes_of(other) != acfun.bytes_of(plain)


def test_a_training_takes_neither_the_place_nor_the_state_of_a_namesake(acfun, model):
    def train(factor, **inputs):
        patched = wrapped(model, partial(Scale, factor))
        return acfun.train(model=patched, seed=83, steps=4, **inputs)[0]

    def stopped(factor):
        with pytest.raises(InterruptProcessingException), faulty(model, cancel, calls=(3,)):
            train(factor)
        return acfun.kept_style()

    (part, path), (other, other_path) = stopped(0.9), stopped(0.5)
    whole = train(0.5)
    _, whole_path = acfun.kept_style()
    assert {style.facts.run for style in (part, other, whole)} == {part.facts.run}
    assert len({path, other_path, whole_path}) == 3
    assert acfun.bytes_of(part) == path.read_bytes() != other_path.read_bytes()
    acfun.texts.clear()
    assert acfun.bytes_of(train(0.5, resume_from=other)) == acfun.bytes_of(whole)
    assert any("patches were not compared" in text for text in acfun.texts)
    assert acfun.bytes_of(train(0.9, resume_from=part)) == acfun.bytes_of(train(0.9))
    assert not any("training state is missing" in text for text in acfun.texts)
    assert path.exists() and path.with_suffix(".resume").exists()
