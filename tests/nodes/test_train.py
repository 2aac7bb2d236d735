"""Train ACFun Style in this process: what it leaves alone, and what it learns from what."""

from __future__ import annotations

import weakref
from contextlib import suppress
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from comfy.model_base import BaseModel
from comfy.model_management import InterruptProcessingException
from comfy.model_patcher import ModelPatcher
from comfy.patcher_extension import WrappersMP
from comfy_execution.graph import ExecutionBlocker
from faulty_models import cancel, fail, faulty, not_a_number, run_out_of_memory
from pack_nodes import picture
from server import PromptServer
from stock_nodes import encode, equal_conditioning, fingerprint, leftovers, sample, with_lora

PROMPT = "A painting of a person in S* style"


@pytest.fixture(autouse=True)
def quick_previews(acfun, monkeypatch, quick_redrawing):
    from acfun_pack.acfun_ops.training import previews

    monkeypatch.setattr(previews, "PREVIEW_STEPS", 2)


@pytest.fixture(scope="module")
def models(comfy):
    """Return the models that a training gets, by socket."""
    model, clip, vae = comfy.checkpoint("sd1")
    return {"model": model, "clip": clip, "vae": vae, "clip_vision": comfy.clip_vision()}


def networks(models):
    return {
        "model": models["model"].model,
        "clip": models["clip"].cond_stage_model,
        "vae": models["vae"].first_stage_model,
        "clip_vision": models["clip_vision"].model,
    }


def draw(models, steps=2):
    positive, negative = (encode(models["clip"], text) for text in ("a woman", ""))
    return sample(models["model"], positive, negative, steps=steps)[-1], positive


@pytest.fixture(scope="module")
def before(models):
    """Return the hash of each network, and a picture, before the tests below train."""
    return {name: fingerprint(n) for name, n in networks(models).items()}, draw(models)


def assert_untouched(models, before):
    hashes, (latent, conditioning) = before
    drawn = draw(models)  # First, because it takes a LoRA off the weights again.
    assert torch.equal(drawn[0], latent)
    assert equal_conditioning(drawn[1], conditioning)
    assert {name: fingerprint(n) for name, n in networks(models).items()} == hashes
    assert [leftovers(network) for network in networks(models).values()] == [[]] * 4


@pytest.mark.parametrize(
    "options",
    [
        {"preview_every": 1},
        {"gradient_checkpointing": "on"},
        {"alignment": "imagery", "steps": 1},
        {"alignment": "drawn", "steps": 1},
    ],
    ids=lambda options: "-".join(options),
)
def test_a_finished_training_leaves_all_models_as_they_were(acfun, models, before, options):
    style, losses, _ = acfun.train(**options)
    assert torch.isfinite(torch.tensor(losses)).all()
    assert_untouched(models, before)
    styled = models | {"model": acfun.adapt(models["model"], style)}
    assert not torch.allclose(draw(styled)[0], before[1][0], atol=1e-3)


@pytest.mark.parametrize(("precision", "dtype"), [("bf16", "bfloat16"), ("fp16", "float16")])
def test_precision_is_what_the_unet_computes_in(acfun, models, before, precision, dtype):
    seen = []
    block = models["model"].model.diffusion_model.get_submodule("middle_block.0")
    hook = block.register_forward_hook(lambda module, args, output: seen.append(output.dtype))
    try:
        style, losses, _ = acfun.train(precision=precision, steps=1)
    finally:
        hook.remove()
    assert torch.isfinite(torch.tensor(losses)).all()
    assert_untouched(models, before)
    assert seen == [getattr(torch, dtype)]
    assert style.facts.settings["precision"] == dtype
    styled = models | {"model": acfun.adapt(models["model"], style)}
    assert not torch.allclose(draw(styled)[0], before[1][0], atol=1e-3)


@pytest.mark.parametrize(
    ("effect", "error"),
    [
        (fail, KeyError),
        (cancel, InterruptProcessingException),
        (not_a_number, ValueError),
        (run_out_of_memory, ValueError),
    ],
    ids=["exception", "cancel", "divergence", "out of memory"],
)
def test_a_broken_training_leaves_all_models_as_they_were(acfun, models, before, effect, error):
    with pytest.raises(error), faulty(models["model"], effect, calls=(2, 3)):
        acfun.train(model=models["model"], steps=4)
    assert_untouched(models, before)


@pytest.mark.parametrize(
    ("effect", "error"),
    [(cancel, InterruptProcessingException), (run_out_of_memory, ValueError)],
    ids=["cancel", "out of memory"],
)
def test_a_redrawing_that_breaks_off_leaves_all_models_as_they_were(
    acfun, models, before, effect, error
):
    with pytest.raises(error), faulty(models["model"], effect, calls=(7,)):
        acfun.train(model=models["model"], alignment="drawn")
    assert_untouched(models, before)


@pytest.fixture
def clones(monkeypatch, no_collector):
    """Return weak references to the clones that are made of MODELs while nothing looks for circles.

    Once ComfyUI has lost a MODEL in a circle, with its parents, it takes nothing off the network.
    """
    made, clone = [], ModelPatcher.clone

    def recorded_clone(self, *args, **kwargs):
        copy = clone(self, *args, **kwargs)
        if isinstance(copy.model, BaseModel):
            made.append(weakref.ref(copy))
        return copy

    monkeypatch.setattr(ModelPatcher, "clone", recorded_clone)
    return made


def test_the_clones_of_a_cancelled_training_go_with_it(acfun, models, clones):
    with suppress(InterruptProcessingException), faulty(models["model"], cancel, calls=(2, 3)):
        acfun.train(model=models["model"], steps=4)
    assert clones and all(clone() is None for clone in clones)


@pytest.mark.parametrize("alignment", ["drawn", "staged"])
def test_the_clones_of_a_training_go_with_it(acfun, models, models_dir, clones, alignment):
    patched = with_lora(models["model"], models["clip"], models_dir.name("lora"))[0]
    style, _, _ = acfun.train(model=patched, alignment=alignment, preview_every=1)
    styled = acfun.adapt(patched, style)
    draw(models | {"model": styled})
    assert len(clones) > 2
    del patched, styled
    assert all(clone() is None for clone in clones)


def test_the_node_counts_the_steps_of_the_redrawing(acfun, monkeypatch, quick_redrawing):
    shown = []
    server = PromptServer.instance
    monkeypatch.setattr(server, "send_progress_text", lambda text, node_id: shown.append(text))
    acfun.train(alignment="drawn", steps=1)
    counted = [text.split("\n")[-1] for text in shown if "Redrawing" in text]
    assert counted == [
        f"Redrawing the face in the style: step {step + 1} of {quick_redrawing}."
        for step in range(quick_redrawing)
    ]
    assert "step 1 of 1" in shown[shown.index(counted[-1]) + 1]


def test_a_loras_model_and_clip_are_trained_on_and_left_as_they_were(
    acfun, models, before, models_dir
):
    pair = with_lora(models["model"], models["clip"], models_dir.name("lora"))
    patched = models | dict(zip(("model", "clip"), pair, strict=True))
    picture_before, conditioning_before = draw(patched)
    with_it = acfun.train(**patched, steps=1)[1]
    assert torch.equal(draw(patched)[0], picture_before)
    assert equal_conditioning(draw(patched)[1], conditioning_before)
    assert_untouched(models, before)
    assert with_it != acfun.losses()[:1]
    assert not torch.equal(picture_before, before[1][0])


def test_a_styled_model_is_trained_on_with_its_style(acfun, models, before):
    styled = acfun.adapt(models["model"], acfun.style(), mask=torch.ones(1, 64, 64))
    draw(models | {"model": styled})  # In inference mode, before autograd sees the same inserts.
    losses = acfun.train(model=styled)[1]
    assert torch.isfinite(torch.tensor(losses)).all()
    assert losses != acfun.losses()
    assert_untouched(models, before)


def test_weights_that_loading_moves_onto_a_card_stay_of_use_to_all(acfun, models, monkeypatch):
    import comfy.model_management as management

    load, moved = management.load_models_gpu, []

    def onto_a_card(patchers, *args, **kwargs):
        load(patchers, *args, **kwargs)
        for patcher in patchers:
            for weight in patcher.model.parameters():
                weight.data = weight.data.clone()  # As Module.to does from one device to another.
                moved.append(weight)

    plain = draw(models)[0]
    expected = acfun.losses()
    monkeypatch.setattr(management, "load_models_gpu", onto_a_card)
    assert acfun.train()[1] == expected
    assert moved
    monkeypatch.undo()
    assert torch.equal(draw(models)[0], plain)


def test_the_same_seed_gives_the_same_bytes_whatever_torch_was_seeded_with(acfun):
    files, losses = [], []
    for global_seed, seed in ((1, 0), (2, 0), (1, 1)):
        torch.manual_seed(global_seed)
        state = torch.get_rng_state()
        style, loss, _ = acfun.train(seed=seed, preview_every=1)
        assert torch.equal(torch.get_rng_state(), state)
        files.append(acfun.bytes_of(style))
        losses.append(loss)
    assert files[0] == files[1]
    assert losses[0] == losses[1]
    assert files[0] != files[2]
    assert losses[0] != losses[2]


def test_weights_that_comfyui_leaves_uninitialised_do_not_matter(acfun, models):
    projection = models["clip"].cond_stage_model.clip_l.transformer.text_projection.weight
    files = []
    for _ in range(2):
        with torch.inference_mode():
            projection.add_(0.5)  # No SD1 checkpoint has it.
        files.append(acfun.bytes_of(acfun.train(steps=1)[0]))
    assert files[0] == files[1]


def test_every_picture_is_prepared_and_encoded_once(acfun, models, monkeypatch):
    from acfun_pack.acfun_ops.training import training_images as encoded_pair

    encoded, prepared = {"vae": [], "clip_vision": []}, []
    vae, vision = models["vae"], models["clip_vision"]

    def count(owner, method, seen):
        original = getattr(owner, method)

        def counted(pictures, *args, **kwargs):
            seen.append(len(pictures))
            return original(pictures, *args, **kwargs)

        monkeypatch.setattr(owner, method, counted)

    count(vae, "encode", encoded["vae"])
    count(vision, "encode_image", encoded["clip_vision"])
    count(encoded_pair, "crop_images", prepared)
    styles = torch.cat([picture(1), picture(3)])
    style, _, _ = acfun.train(style_image=styles, steps=3, preview_every=2)
    assert encoded == {"vae": [2, 1], "clip_vision": [2]}
    assert prepared == [2, 1]
    assert style.style_tokens.shape == (2 * 257, 1024)


def test_several_pictures_are_all_learnt_from(acfun):
    styles, faces = torch.cat([picture(1), picture(3)]), torch.cat([picture(2), picture(4)])
    losses = [
        acfun.train(style_image=style, face_image=face, steps=2)[1]
        for style, face in ((styles, faces), (styles[:1], faces), (styles, faces[:1]))
    ]
    assert losses[0] != losses[1]
    assert losses[0] != losses[2]


def test_face_mask_weights_the_face(acfun):
    white = torch.ones(1, 64, 64)
    eye = torch.zeros(1, 64, 64)
    eye[:, 8:24, 8:24] = 1
    masks = ({}, {"face_mask": white}, {"face_mask": eye})
    losses = [acfun.train(**given, steps=1)[1] for given in masks]
    assert losses[0] == losses[1]
    assert losses[0] != losses[2]


def test_checkpointing_gives_the_same_losses_and_computes_each_block_twice(acfun, models):
    calls = []
    block = models["model"].model.diffusion_model.get_submodule("output_blocks.1.0.in_layers")
    hook = block.register_forward_hook(lambda *args: calls.append(args))
    losses, counts = {}, {}
    try:
        for option in ("on", "off"):
            losses[option] = acfun.train(gradient_checkpointing=option)[1]
            counts[option] = len(calls)
            calls.clear()
    finally:
        hook.remove()
    assert counts == {"on": 4, "off": 2}
    assert losses["on"] == pytest.approx(losses["off"], rel=1e-4)
    assert len(set(losses["on"])) == 2


def test_precision_auto_is_the_models_own_whatever_ran_before(acfun, models):
    half = models["model"].clone()
    half.set_model_compute_dtype(torch.float16)
    losses = acfun.losses()
    draw(models | {"model": half}, steps=1)  # The shared U-Net now computes in half precision.
    style, same_losses, _ = acfun.train()
    assert style.facts.settings["precision"] == "float32"
    assert same_losses == losses
    style, other_losses, _ = acfun.train(model=half, steps=1)
    assert style.facts.settings["precision"] == "float16"
    assert other_losses != losses[:1]


def test_previews_come_early_every_so_many_steps_and_at_the_end(acfun):
    style, losses, previews = acfun.train(steps=3, preview_every=2)
    assert previews.shape == (3, 64, 64, 3)
    assert 0 <= previews.min() < previews.max() <= 1
    assert not torch.equal(previews[0], previews[2])
    without, same_losses, blocked = acfun.train(steps=3, preview_every=0)
    assert isinstance(blocked, ExecutionBlocker)
    assert blocked.message is None  # Blocks what follows, silently.
    assert acfun.bytes_of(without) == acfun.bytes_of(style)
    assert losses == same_losses


def test_a_finished_training_is_taken_with_what_it_showed(acfun):
    inputs = acfun.train_inputs() | {"seed": 49, "preview_every": 2, "retrain": False}
    inputs["style_image"] = picture(1, 64, 96)  # The node says what it cuts.
    style, loss, trained = acfun.run("ACFunTrainStyle", **inputs)
    folder = acfun.folder.style_folder() / "training"
    history = folder / f"{style.facts.run}.history"
    assert history.stat().st_size < 2**20
    acfun.texts.clear()
    same, same_loss, previews = acfun.run("ACFunTrainStyle", **inputs)
    assert (same.digest, same_loss, previews.shape) == (style.digest, loss, trained.shape)
    assert torch.allclose(previews, trained, atol=0.2)
    assert acfun.texts[0].startswith("Took training/") and "centred square" in acfun.texts[1]
    assert acfun.ui["images"]

    history.write_bytes(b"damaged")
    _, blocked, previews = acfun.run("ACFunTrainStyle", **inputs)
    assert isinstance(blocked, ExecutionBlocker)
    assert previews.shape == (1, 64, 64, 3)  # The picture beside the style.
    assert torch.allclose(previews, trained[-1:], atol=0.2)
    acfun.run("ACFunTrainStyle", **inputs | {"retrain": True, "preview_every": 0})
    assert not torch.is_tensor(acfun.run("ACFunTrainStyle", **inputs)[2])


def test_a_history_has_its_limit_and_goes_with_its_style(acfun, tmp_path):
    from acfun_pack.nodes.library.history import TrainingHistory, read_history, write_history

    facts, gone = acfun.style().facts, tmp_path / "0123456789abcdef.history"
    gone.touch()
    previews = list(torch.rand(40, 1, 512, 512, 1).expand(-1, -1, -1, -1, 3))
    path = tmp_path / f"{facts.run}.safetensors"
    path.touch()
    write_history(path, facts, TrainingHistory([0.5] * 100_001, previews))
    assert path.with_suffix(".history").stat().st_size <= 2**20
    assert not gone.exists()
    found = read_history([tmp_path], facts)
    assert 10_000 < len(found.losses) <= 40_000 and 1 < len(found.previews) < 40
    assert (found.previews[-1] - previews[-1]).abs().mean() < 0.15
    assert read_history([tmp_path], replace(facts, steps=99)).losses == []


def test_the_models_own_resolution_is_the_default(acfun, comfy, monkeypatch):
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    for checkpoint, side in (("sd1", 512), ("sd2_v", 768), ("sdxl", 1024)):
        inputs = (*comfy.checkpoint(checkpoint), comfy.clip_vision())
        with training_backbone(*inputs, None) as backbone:
            assert backbone.native_side == side
    monkeypatch.setattr(comfy.checkpoint("sd1")[2], "encode", report_size)
    with pytest.raises(RuntimeError, match=r"\(1, 512, 512, 3\)"):
        acfun.train(resolution=0)


def test_patches_are_told_which_latents_are_under_the_negative_prompt(acfun, models):
    seen = []

    def note(apply, call):
        told = call["c"]["transformer_options"]["cond_or_uncond"]
        assert (told, len(told)) == (call["cond_or_uncond"], len(call["input"]))
        seen.append(told)
        return apply(call["input"], call["timestep"], **call["c"])

    model = models["model"].clone()
    model.set_model_unet_function_wrapper(note)
    acfun.train(model=model, alignment="drawn", steps=1, preview_every=1)
    assert seen == [[0, 0], *[[0, 1]] * 2]  # Patches stay out of the redrawing.


def report_size(pictures):
    raise RuntimeError(tuple(pictures.shape))


def recorded(model, calls):
    """Return a MODEL that notes what the U-Net is called with."""

    def record(executor, x, t, c_concat=None, c_crossattn=None, control=None, *args, **kwargs):
        calls.append({"context": c_crossattn, "y": kwargs.get("y"), "sigma": t})
        return executor(x, t, c_concat, c_crossattn, control, *args, **kwargs)

    clone = model.clone()
    clone.add_wrapper(WrappersMP.APPLY_MODEL, record)
    return clone


@pytest.mark.parametrize("checkpoint", ["sd1", "sd2_v", "sdxl"])
def test_the_first_step_sees_what_ksampler_would_pass(acfun, comfy, checkpoint):
    trained, sampled = [], []
    model, clip, _ = comfy.checkpoint(checkpoint)
    acfun.train(checkpoint, model=recorded(model, trained), steps=1)
    # S* starts as the vector of "style", and AFun as the identity.
    positive = encode(clip, PROMPT.replace("S*", "style"))
    sample(recorded(model, sampled), positive, positive, steps=1)
    assert len(trained) == 1
    assert trained[0]["context"].shape == (2, 77, positive[0][0].shape[-1])
    for row in trained[0]["context"]:
        assert torch.allclose(row, sampled[0]["context"][0], atol=1e-3)
    assert (trained[0]["y"] is None) == (checkpoint != "sdxl")
    if checkpoint == "sdxl":  # Told the size that the style will be drawn at, not 64.
        pooled = positive[0][1]["pooled_output"]
        y = model.model.encode_adm(pooled_output=pooled, width=1024, height=1024, device="cpu")
        for row in trained[0]["y"]:
            assert torch.allclose(row, y[0], atol=1e-3)
    assert trained[0]["sigma"].unique().numel() == 1


def test_a_preset_sets_its_numbers_but_for_linked_ones(acfun):
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.nodes.comfyui.training_inputs import choose_config

    graph = {"1": {"inputs": {"steps": ["2", 0], "learning_rate": 0.1}}}
    hidden = SimpleNamespace(unique_id="1", prompt=graph)
    inputs = {"preset": "quick look", "prompt": PROMPT, "steps": 7, "learning_rate": 0.1}
    config, notices = choose_config(inputs, hidden)
    assert (config.steps, config.learning_rate) == (7, 1e-3)
    assert notices == [
        "Preset quick look: steps 7, learning_rate 0.001.",
        "steps: the linked number wins over the preset quick look.",
    ]
    hidden.unique_id = "of a node that another has added"
    assert choose_config(inputs, hidden)[0].steps == 80
    shown = {"preset": "balanced", "steps": 150, "learning_rate": 5e-4}
    assert choose_config(shown, hidden)[1] == []  # The node shows these numbers already.
    del inputs["preset"]
    assert choose_config(inputs, hidden) == (TrainConfig(**inputs), [])
    with pytest.raises(acfun.error, match="preset is 'slow'"):
        choose_config(inputs | {"preset": "slow"}, hidden)
