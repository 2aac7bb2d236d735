"""Trainings on models with LoRAs have names of their own, wherever ComfyUI keeps the weights."""

from __future__ import annotations

import pytest
from stock_nodes import with_lora

IN_MEMORY, BAKED = 0.1, 1e12


@pytest.fixture
def weights_kept(monkeypatch):
    """Return a function that has ComfyUI keep weights in main memory (--novram), or bake them."""
    import comfy.model_management as management
    from comfy.model_patcher import ModelPatcher

    load = ModelPatcher.load

    def keep(size):
        management.unload_all_models()
        monkeypatch.setattr(
            ModelPatcher,
            "load",
            lambda self, device_to=None, lowvram_model_memory=0, *args, **kwargs: load(
                self, device_to, lowvram_model_memory=size
            ),
        )

    yield keep
    management.unload_all_models()  # Under the patch, which takes off what it has put on.
    monkeypatch.undo()


@pytest.fixture
def trained(acfun, comfy, models_dir):
    """Return a function that trains with a LoRA on MODEL and CLIP; it gives style and texts."""

    def train(on_model=0.0, on_clip=0.0, **inputs):
        model, clip, _ = comfy.checkpoint("sd1")
        name = models_dir.name("lora")
        if on_model:
            model = with_lora(model, clip, name, on_model, 0.0)[0]
        if on_clip:
            clip = with_lora(model, clip, name, 0.0, on_clip)[1]
        inputs = acfun.train_inputs() | {"model": model, "clip": clip, "retrain": False} | inputs
        acfun.texts.clear()
        style = acfun.run("ACFunTrainStyle", **inputs)[0]
        return style, list(acfun.texts)

    return train


@pytest.mark.parametrize(
    ("size", "loras", "seed"),
    [
        (IN_MEMORY, {"on_model": 1.0}, 61),
        (IN_MEMORY, {"on_clip": 1.0}, 62),
        (BAKED, {"on_model": 1.0, "on_clip": 1.0}, 63),
    ],
    ids=["model in main memory", "clip in main memory", "baked"],
)
def test_a_style_trained_without_a_lora_is_not_taken_for_one_with_it(
    acfun, trained, weights_kept, size, loras, seed
):
    weights_kept(size)
    without, _ = trained(seed=seed)
    with_it, texts = trained(seed=seed, **loras)
    assert not any("trained before" in text for text in texts)
    assert acfun.bytes_of(with_it) != acfun.bytes_of(without)
    weaker, texts = trained(seed=seed, **dict.fromkeys(loras, 0.5))
    assert not any("trained before" in text for text in texts)
    same, texts = trained(seed=seed, **loras)
    assert any("trained before" in text for text in texts)
    assert acfun.bytes_of(same) == acfun.bytes_of(with_it)
    assert len({style.facts.run for style in (without, with_it, weaker)}) == 3
    assert trained(seed=seed)[0].facts.run == without.facts.run


def test_a_training_with_a_lora_does_not_go_on_as_one_without(trained, weights_kept):
    weights_kept(IN_MEMORY)
    style, _ = trained(seed=64)
    _, texts = trained(on_model=1.0, seed=64, steps=3, resume_from=style)
    assert any("pictures, settings or checkpoint differ" in text for text in texts)


def test_a_name_does_not_tell_where_the_weights_are(trained, weights_kept):
    runs = []
    for size in (IN_MEMORY, BAKED):
        weights_kept(size)
        runs.append(trained(on_model=1.0, on_clip=1.0, seed=65)[0].facts.run)
    assert runs[0] == runs[1]
