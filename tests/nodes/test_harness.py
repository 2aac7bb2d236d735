"""The harness itself: what the other tests rely on must hold with stock nodes alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from comfy.ldm.modules.diffusionmodules.openaimodel import ResBlock
from comfy.model_base import ModelType
from comfy_graphs import node, text_to_image
from comfy_library import ComfyLibrary
from comfy_server import PromptFailedError, failure_text

ROOT = Path(__file__).resolve().parents[2]
STEPS = 3


@pytest.fixture
def graph(models_dir):
    return text_to_image(models_dir.name("sd1"), steps=STEPS)


def test_text_to_image_gives_a_picture(server, models_dir):
    history = server.run(text_to_image(models_dir.name("sd1")))
    (image,) = server.images(history, "save")
    assert image.shape == (64, 64, 3)
    assert image.std() > 1
    assert "invalid value encountered" not in server.log()  # What SaveImage says of NaN.


def test_old_version_gives_a_picture_and_messages(old_server, graph):
    history = old_server.run(graph)
    (image,) = old_server.images(history, "save")
    assert image.std() > 1
    assert "sampler" in old_server.executed_nodes(history)
    assert old_server.messages(history).progress("sampler")[-1] == (STEPS, STEPS)
    assert old_server.messages(history).previews()


def test_same_seed_gives_the_same_picture_and_another_seed_another(server, graph):
    first = server.images(server.run(graph), "save")
    server.forget()
    again = server.run(graph)
    assert "sampler" in server.executed_nodes(again)
    assert np.array_equal(first, server.images(again, "save"))
    graph["sampler"]["inputs"]["seed"] += 1
    assert not np.array_equal(first, server.images(server.run(graph), "save"))


def test_unchanged_nodes_come_from_the_cache(server, graph):
    server.run(graph)
    graph["sampler"]["inputs"]["seed"] = 77
    history = server.run(graph)
    assert server.cached_nodes(history) == {"checkpoint", "positive", "negative", "latent"}
    assert server.executed_nodes(history) == ["sampler", "decode", "save"]


def test_messages_hold_progress_previews_and_texts(server, graph):
    graph["sampler"]["inputs"]["seed"] = 78
    graph["size"] = node("GetImageSize", image=["decode", 0])
    graph["show"] = node("PreviewAny", source=["size", 0])
    messages = server.messages(server.run(graph))
    assert messages.progress("sampler")[-1] == (STEPS, STEPS)
    assert len(messages.previews()) == STEPS
    assert messages.previews()[0].ndim == 3
    assert "width: 64" in messages.texts("size")[0]


def test_rejected_prompt_names_node_and_input(server, graph):
    graph["checkpoint"]["inputs"]["ckpt_name"] = "absent.safetensors"
    error = server.run_failing(graph)
    assert "Node checkpoint (CheckpointLoaderSimple)" in error
    assert "absent.safetensors" in error


def test_failing_node_is_named_with_its_error(server, models_dir):
    graph = text_to_image(models_dir.name("unet_only"))
    with pytest.raises(PromptFailedError, match=r"Node \w+ \(CLIPTextEncode\): .*clip input is"):
        server.run(graph)


def test_interrupt_ends_the_run(server, graph):
    graph["sampler"]["inputs"]["steps"] = 10_000
    prompt_id = server.queue(graph)
    server.wait_for_message(prompt_id, "progress")
    server.interrupt()
    failure = failure_text(server.wait(prompt_id, timeout=60))
    assert failure == "Interrupted in node sampler (KSampler)."


def test_lora_controlnet_clip_vision_and_upscaler_are_accepted(server, models_dir, graph):
    plain = server.images(server.run(graph), "save")[0]
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    graph["image"] = node("LoadImage", image=server.add_input("picture.png", picture))
    graph["lora"] = node(
        "LoraLoader",
        model=["checkpoint", 0],
        clip=["checkpoint", 1],
        lora_name=models_dir.name("lora"),
        strength_model=1.0,
        strength_clip=1.0,
    )
    graph["controlnet"] = node("ControlNetLoader", control_net_name=models_dir.name("controlnet"))
    graph["control"] = node(
        "ControlNetApply",
        conditioning=["positive", 0],
        control_net=["controlnet", 0],
        image=["image", 0],
        strength=1.0,
    )
    graph["vision"] = node("CLIPVisionLoader", clip_name=models_dir.name("clip_vision"))
    graph["encoded"] = node(
        "CLIPVisionEncode", clip_vision=["vision", 0], image=["image", 0], crop="center"
    )
    graph["show"] = node("PreviewAny", source=["encoded", 0])
    graph["esrgan"] = node("UpscaleModelLoader", model_name=models_dir.name("upscale"))
    graph["enlarged"] = node(
        "ImageUpscaleWithModel", upscale_model=["esrgan", 0], image=["decode", 0]
    )
    graph["sampler"]["inputs"] |= {"model": ["lora", 0], "positive": ["control", 0]}
    graph["positive"]["inputs"]["clip"] = ["lora", 1]
    graph["save_enlarged"] = node("SaveImage", images=["enlarged", 0], filename_prefix="test")
    history = server.run(graph)
    assert not np.array_equal(plain, server.images(history, "save")[0])
    assert server.images(history, "save_enlarged")[0].shape == (128, 128, 3)
    for complaint in ("lora key not loaded", "missing controlnet", "missing clip vision"):
        assert complaint not in server.log()


@pytest.mark.parametrize(
    ("checkpoint", "family", "model_type"),
    [("sd1", "SD15", "EPS"), ("sd2_v", "SD20", "V_PREDICTION"), ("sdxl", "SDXL", "EPS")],
)
def test_checkpoint_is_detected_as_its_family(comfy, checkpoint, family, model_type):
    model, clip, vae = comfy.checkpoint(checkpoint)
    assert type(model.model.model_config).__name__ == family
    assert model.model.model_type is ModelType[model_type]
    assert clip is not None
    assert vae.first_stage_model is not None


def test_loaded_weights_are_finite_inference_tensors(models_dir):
    fresh = ComfyLibrary(models_dir)  # The session's may have been trained on.
    for patcher in (fresh.checkpoint("sd1")[0], fresh.clip_vision().patcher):
        for name, weight in patcher.model.named_parameters():
            assert weight.is_inference(), name
            assert torch.isfinite(weight.detach()).all(), name


def test_sd3_loads_as_a_model_without_res_blocks(comfy):
    blocks = {key: count_res_blocks(comfy.checkpoint(key)[0]) for key in ("sd1", "sd3")}
    assert blocks == {"sd1": 8, "sd3": 0}


def count_res_blocks(model):
    return sum(isinstance(module, ResBlock) for module in model.model.diffusion_model.modules())


def test_unet_only_checkpoint_has_no_clip_and_no_vae(comfy):
    _, clip, vae = comfy.checkpoint("unet_only")
    assert clip is None
    assert getattr(vae, "first_stage_model", None) is None
