"""Pipelines from folders: where their parts are found, and what is refused."""

import json
import shlex
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_pipeline import write_pipeline, write_sdxl_pipeline

from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.errors import ACFunError


@pytest.fixture(scope="module")
def backbone(tiny_model):
    return load_pipeline(tiny_model)


def test_the_image_encoder_comes_from_a_folder_given(copied, backbone, tmp_path):
    elsewhere = (copied / "image_encoder").rename(tmp_path / "vision")
    with pytest.raises(ACFunError, match=r"no CLIP vision model.*--clip-vision"):
        load_pipeline(copied)
    found = load_pipeline(copied, elsewhere).style_tokens(torch.full((1, 32, 32, 3), 0.3))
    assert torch.equal(found, backbone.style_tokens(torch.full((1, 32, 32, 3), 0.3)))


def test_the_image_encoder_comes_from_the_safety_checker(copied, backbone, tmp_path):
    """SD1.x pipelines have CLIP ViT-L/14 there, one level deeper."""
    from safetensors.torch import load_file, save_file

    encoder, checker = copied / "image_encoder", copied / "safety_checker"
    state = load_file(encoder / "model.safetensors")
    config = json.loads((encoder / "config.json").read_text())
    checker.mkdir()
    deeper = {
        f"vision_model.{name}": tensor
        for name, tensor in state.items()
        if name.startswith("vision_model.")
    }
    deeper |= {"concept_embeds": torch.ones(17, 8), "visual_projection.weight": torch.ones(8, 96)}
    save_file(deeper, checker / "model.safetensors")
    (checker / "config.json").write_text(json.dumps({"vision_config": config}))
    encoder.rename(tmp_path / "away")
    found = load_pipeline(copied).style_tokens(torch.full((1, 32, 32, 3), 0.3))
    assert torch.equal(found, backbone.style_tokens(torch.full((1, 32, 32, 3), 0.3)))


def test_the_feature_extractors_colours_are_used(copied, backbone):
    (copied / "feature_extractor").mkdir()
    colours = {"image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]}
    path = copied / "feature_extractor" / "preprocessor_config.json"
    path.write_text(json.dumps(colours))
    changed = load_pipeline(copied)
    assert (changed.vision.mean, changed.vision.std) == ([0.5] * 3, [0.5] * 3)
    grey = torch.full((1, 32, 32, 3), 0.3)
    assert not torch.allclose(changed.style_tokens(grey), backbone.style_tokens(grey))


@pytest.mark.parametrize(
    ("part", "name", "settings", "message"),
    [
        ("scheduler", "scheduler_config.json", {"_class_name": "EDMEulerScheduler"}, "EDM do"),
        (
            "vae",
            "config.json",
            {"latents_mean": [0.1] * 4, "latents_std": [1.0] * 4},
            "scales each channel of its latents by itself",
        ),
    ],
)
def test_other_kinds_of_noise_and_latents_are_refused(copied, part, name, settings, message):
    path = copied / part / name
    kept = json.loads(path.read_text()) if part == "vae" else {"sigma_min": 0.002}
    path.write_text(json.dumps(kept | settings))
    with pytest.raises(ACFunError, match=message):
        load_pipeline(copied)


def test_a_folder_of_half_precision_files_loads(copied):
    for part in ("unet", "vae", "text_encoder"):
        path = next((copied / part).glob("*.safetensors"))
        path.rename(path.with_name(f"{path.stem}.fp16.safetensors"))
    assert load_pipeline(copied).family == "custom"


@pytest.mark.parametrize("kind", ["AutoencoderTiny", "AutoencoderDC"])
def test_other_kinds_of_vae_work(copied, kind):
    import diffusers

    vaes = {
        "AutoencoderTiny": {
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "num_encoder_blocks": (1, 1),
            "num_decoder_blocks": (1, 1),
        },
        "AutoencoderDC": {
            "latent_channels": 4,
            "attention_head_dim": 4,
            "encoder_block_types": "ResBlock",
            "decoder_block_types": "ResBlock",
            "encoder_block_out_channels": (8, 8),
            "decoder_block_out_channels": (8, 8),
            "encoder_layers_per_block": (1, 1),
            "decoder_layers_per_block": (1, 1),
            "downsample_block_type": "Conv",
            "upsample_block_type": "interpolate",
            "encoder_qkv_multiscales": ((), ()),
            "decoder_qkv_multiscales": ((), ()),
        },
    }
    shutil.rmtree(copied / "vae")
    getattr(diffusers, kind)(**vaes[kind]).save_pretrained(copied / "vae")
    changed = load_pipeline(copied)
    picture = torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = changed.encode_pictures(picture)
    assert latents.shape == (1, 4, 32 // changed.latent_scale, 32 // changed.latent_scale)
    assert not torch.allclose(changed.encode_pictures(1 - picture), latents)
    assert changed.decode_latents(latents).shape == picture.shape


def without(part):
    def damage(folder):
        (folder / part).rename(folder.parent / "away")

    return damage


def with_text(part, text):
    return lambda folder: (folder / part).write_text(text)


def pickled(folder):
    (folder / "unet" / "diffusion_pytorch_model.safetensors").rename(
        folder / "unet" / "diffusion_pytorch_model.bin"
    )


def with_setting(part, **changes):
    def damage(folder):
        path = folder / part
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return damage


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("model_index.json"), "has no model_index.json; expected a diffusers folder"),
        (without("unet"), "works on the ResBlocks of a U-Net; .* holds Stable Diffusion without"),
        (without("text_encoder"), "without text_encoder"),
        (without("scheduler"), "without scheduler"),
        (pickled, "holds no .safetensors file; other kinds of weights can run code"),
        (with_text("model_index.json", "{"), "could not be read as JSON"),
        (with_text("unet/config.json", "[]"), "holds no table of settings"),
        (with_text("unet/diffusion_pytorch_model.safetensors", "x"), "could not be read as a pipe"),
        (with_text("image_encoder/model.safetensors", "x"), "as a CLIP vision model"),
        (
            with_setting("unet/config.json", _class_name="Transformer2DModel"),
            r"another kind of network \(Transformer2DModel\)",
        ),
        (
            with_setting("scheduler/scheduler_config.json", prediction_type="sample"),
            "predicts 'sample'; expected epsilon or v_prediction",
        ),
    ],
)
def test_a_folder_that_is_no_such_pipeline_is_refused(copied, damage, message):
    damage(copied)
    with pytest.raises(ACFunError, match=message) as caught:
        load_pipeline(copied)
    assert "\n" not in str(caught.value)


def test_no_folder_and_a_checkpoint_of_one_file_are_refused(tmp_path):
    with pytest.raises(ACFunError, match="does not exist"):
        load_pipeline(tmp_path / "nowhere")
    file = tmp_path / "a model.safetensors"
    file.write_bytes(b"")
    with pytest.raises(ACFunError, match="is a file; expected a diffusers folder") as caught:
        load_pipeline(file)
    *_, code = shlex.split(str(caught.value).partition("python ")[2])
    folder = str(tmp_path / "a model")
    assert code == (
        "from diffusers import StableDiffusionPipeline as P; "
        f"P.from_single_file({str(file)!r}).save_pretrained({folder!r})"
    )
    compile(code, "<message>", "exec")


@pytest.mark.parametrize(
    ("unet", "message"),
    [
        (
            {"down_block_types": ("CrossAttnDownBlock2D", "ResnetDownsampleBlock2D")},
            r"another kind of model \(with ResnetDownsampleBlock2D\)",
        ),
        ({"in_channels": 9}, "latents of 4 channels, the U-Net takes 9.*no inpainting one"),
        ({"cross_attention_dim": 64}, "embeddings 96 wide, the U-Net takes 64"),
    ],
)
def test_a_unet_that_does_not_fit_is_refused(tmp_path, unet, message):
    with pytest.raises(ACFunError, match=message):
        load_pipeline(write_pipeline(tmp_path / "pipeline", **unet))


@pytest.mark.parametrize("variant", ["fp16", "bf16"])
def test_an_image_encoder_with_only_a_variant_file_loads(copied, backbone, tmp_path, variant):
    elsewhere = (copied / "image_encoder").rename(tmp_path / "vision")
    (elsewhere / "model.safetensors").rename(elsewhere / f"model.{variant}.safetensors")
    found = load_pipeline(copied, elsewhere).style_tokens(torch.full((1, 32, 32, 3), 0.3))
    assert torch.equal(found, backbone.style_tokens(torch.full((1, 32, 32, 3), 0.3)))


def move_to_checker(folder):
    """Put the image encoder where SD1.x pipelines have it, one level deeper."""
    encoder, checker = folder / "image_encoder", folder / "safety_checker"
    checker.mkdir()
    state = load_file(encoder / "model.safetensors")
    deeper = {f"vision_model.{n}": t for n, t in state.items() if n.startswith("vision_model.")}
    save_file(deeper, checker / "model.safetensors")
    config = json.loads((encoder / "config.json").read_text())
    (checker / "config.json").write_text(json.dumps({"vision_config": config}))
    shutil.rmtree(encoder)


def change_weight(part, change):
    """Change one weight of a part's file, its last matrix, and return its name."""
    path = next(part.glob("*.safetensors"))
    state = load_file(path)
    matrices = [name for name, tensor in sorted(state.items()) if tensor.ndim == 2]
    name = [name for name in matrices if name != "visual_projection.weight"][-1]
    change(state, name)
    save_file(state, path, metadata={"format": "pt"})
    return name


def drop(state, name):
    del state[name]


def widen(state, name):
    state[name] = torch.cat([state[name], state[name]])


CHANGES = [(drop, "are missing"), (widen, "have another shape than its config.json says")]
PARTS = ["unet", "vae", "text_encoder", "text_encoder_2", "image_encoder", "safety_checker"]


@pytest.fixture(scope="module")
def sdxl_folder(tmp_path_factory):
    return write_sdxl_pipeline(tmp_path_factory.mktemp("pipelines") / "xl")


@pytest.mark.parametrize(("change", "fault"), CHANGES)
@pytest.mark.parametrize("part", PARTS)
def test_a_part_without_all_of_its_weights_is_refused(
    tiny_model, sdxl_folder, tmp_path, part, change, fault
):
    model = sdxl_folder if part == "text_encoder_2" else tiny_model
    folder = shutil.copytree(model, tmp_path / "pipeline")
    if part == "safety_checker":
        move_to_checker(folder)
    load_pipeline(folder)
    name = change_weight(folder / part, change)
    with pytest.raises(ACFunError, match=rf"1 weights of the {part} in .* {fault}, such as ") as e:
        load_pipeline(folder)
    assert name.split("_model.")[-1] in str(e.value)
    assert "Download or save that folder again" in str(e.value)


def test_computed_buffers_need_not_be_in_a_file(copied, backbone):
    path = copied / "text_encoder" / "model.safetensors"
    state = load_file(path) | {"text_model.embeddings.position_ids": torch.arange(32)[None]}
    save_file(state, path, metadata={"format": "pt"})
    assert load_pipeline(copied).fingerprint == backbone.fingerprint
