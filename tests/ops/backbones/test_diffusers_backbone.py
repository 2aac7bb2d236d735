"""The Backbone on diffusers, against diffusers' own parts as an oracle."""

import json

import pytest
import torch
from tiny_pipeline import (
    ATTENTIONS,
    IMAGE_WIDTH,
    LENGTH,
    RESBLOCKS,
    WIDTH,
    write_pipeline,
    write_sdxl_pipeline,
)

from acfun_ops.backbones.diffusers_backbone import (
    DiffusersBackbone,
    _weights_by_name,
    load_pipeline,
)
from acfun_ops.backbones.image_encoder import load_vision_encoder
from acfun_ops.backbones.pipeline_parts import load_text_to_image
from acfun_ops.errors import ACFunError
from acfun_ops.method.concrete_fusion import ConcreteFusion
from acfun_ops.method.injection import attach_adapters
from acfun_ops.training.config import TrainConfig

PROMPT = "A woman in S* style"


@pytest.fixture(scope="module")
def backbone(tiny_model):
    return load_pipeline(tiny_model)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    return load_pipeline(write_sdxl_pipeline(tmp_path_factory.mktemp("pipelines") / "xl"))


def noisy(sigma, seed=3):
    drawn = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(seed))
    return drawn * torch.sqrt(1 + sigma**2)


def encoded(backbone, prompt=PROMPT):
    return backbone.encode_prompt(prompt, "S*", backbone.word_vectors("style"))


def trained_insert(channels, seed=0):
    insert = ConcreteFusion(channels, rank=4)
    generator = torch.Generator().manual_seed(seed)
    for parameter in insert.parameters():
        torch.nn.init.normal_(parameter, std=0.3, generator=generator)
    return insert.requires_grad_(False)


def test_it_says_what_the_pipeline_is(backbone, sdxl):
    assert (backbone.family, backbone.prediction, backbone.native_side) == ("custom", "v", 32)
    assert (sdxl.prediction, sorted(sdxl.texts)) == ("noise", ["g", "l"])
    assert len(backbone.sigmas) == 1000
    assert torch.equal(backbone.sigmas, backbone.sigmas.sort().values)
    assert backbone.sigmas[0] == pytest.approx(0.0292, rel=1e-2)
    assert backbone.sigmas[-1] == pytest.approx(14.61, rel=1e-2)


@pytest.mark.parametrize(("where", "widths"), [("resblock", RESBLOCKS), ("attention", ATTENTIONS)])
def test_blocks_have_their_ldm_names(backbone, where, widths):
    points = backbone.insert_points(where)
    assert {name: point.channels for name, point in points.items()} == widths


@pytest.mark.parametrize(("where", "widths"), [("resblock", RESBLOCKS), ("attention", ATTENTIONS)])
def test_a_unet_may_lack_a_middle(tmp_path, where, widths):
    backbone = load_pipeline(write_pipeline(tmp_path / "pipeline", mid_block_type=None))
    points = backbone.insert_points(where)
    assert sorted(points) == sorted(name for name in widths if not name.startswith("middle"))
    with backbone.gradient_checkpointing():
        context = backbone.encode_prompt(PROMPT, "S*", backbone.word_vectors("style"))
        assert backbone.denoise(noisy(torch.tensor(2.0)), 2.0, context).isfinite().all()


@pytest.mark.parametrize("where", ["resblock", "attention"])
def test_every_insert_acts_and_fits(backbone, where):
    sigma, context = torch.tensor(2.0), encoded(backbone)
    plain = backbone.denoise(noisy(sigma), sigma, context)
    for name, point in backbone.insert_points(where).items():
        with attach_adapters({name: trained_insert(point.channels)}, {name: point.module}):
            changed = backbone.denoise(noisy(sigma), sigma, context)
        assert (changed - plain).abs().max() > 1e-4, name
    assert torch.equal(backbone.denoise(noisy(sigma), sigma, context), plain)


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("step", [0, 345, 999])
def test_denoising_is_that_of_diffusers_own_scheduler(tmp_path, prediction, step):
    """DDIM's predicted clean sample is the oracle, told in its own variance-preserving scale."""
    from diffusers import DDIMScheduler

    folder = write_pipeline(tmp_path / "pipeline", prediction)
    backbone = load_pipeline(folder)
    scheduler = DDIMScheduler.from_pretrained(folder, subfolder="scheduler", clip_sample=False)
    sigma, context = backbone.sigmas[step], encoded(backbone)
    sample = noisy(sigma) / torch.sqrt(1 + sigma**2)
    output = backbone.unet(sample, step, context.tokens.expand(2, -1, -1)).sample
    scheduler.set_timesteps(1000)
    expected = scheduler.step(output, step, sample).pred_original_sample
    denoised = backbone.denoise(noisy(sigma), sigma, context)
    assert torch.allclose(denoised, expected, atol=1e-4 * float(expected.abs().max()))


def test_a_sigma_between_two_takes_the_nearer_time(backbone):
    context = encoded(backbone)
    sigma = torch.exp(0.9 * backbone.sigmas[500].log() + 0.1 * backbone.sigmas[501].log())
    seen = []
    hook = backbone.unet.register_forward_pre_hook(lambda module, args: seen.append(args[1]))
    backbone.denoise(noisy(sigma), sigma, context)
    hook.remove()
    assert seen[0].tolist() == [500, 500]


def test_a_schedule_that_ends_in_pure_noise_has_finite_sigmas(copied):
    path = copied / "scheduler" / "scheduler_config.json"
    settings = json.loads(path.read_text()) | {"rescale_betas_zero_snr": True}
    path.write_text(json.dumps(settings))
    sigmas = load_pipeline(copied).sigmas
    assert torch.isfinite(sigmas).all() and sigmas[-1] > 1000


def test_latents_are_those_of_the_vae(backbone):
    pictures = torch.rand(2, 32, 32, 3, generator=torch.Generator().manual_seed(0))
    latents = backbone.encode_pictures(pictures)
    pixels = 2 * pictures.permute(0, 3, 1, 2) - 1
    modes = [backbone.vae.encode(one[None]).latent_dist.mode() for one in pixels]
    expected = torch.cat(modes) * 0.18215
    assert torch.allclose(latents, expected, atol=1e-6)
    assert latents.shape == (2, 4, 16, 16)
    decoded = backbone.decode_latents(latents)
    assert decoded.shape == pictures.shape
    drawn = backbone.vae.decode(latents / 0.18215).sample.permute(0, 2, 3, 1) / 2 + 0.5
    assert torch.allclose(decoded, drawn.clamp(0, 1), atol=1e-6)


def test_style_tokens_are_those_of_clips_own_preprocessing(backbone):
    from PIL import Image
    from transformers import CLIPImageProcessor

    pictures = (torch.rand(1, 32, 32, 3, generator=torch.Generator().manual_seed(0)) * 255).round()
    processor = CLIPImageProcessor(do_resize=False, do_center_crop=False)
    picture = Image.fromarray(pictures[0].to(torch.uint8).numpy())
    pixels = processor(picture, return_tensors="pt")["pixel_values"]
    expected = backbone.vision.model(pixels, output_hidden_states=True).hidden_states[-2]
    tokens = backbone.style_tokens(pictures / 255)
    assert tokens.shape == (1, 17, IMAGE_WIDTH)
    assert torch.allclose(tokens, expected, atol=1e-5)


def test_a_prompt_without_the_word_is_the_encoders_own(backbone):
    text = backbone.texts["l"]
    ids = text.tokenizer(
        "a woman", padding="max_length", max_length=LENGTH, return_tensors="pt"
    ).input_ids
    expected = text.model(ids).last_hidden_state
    assert torch.equal(encoded(backbone, "a woman").tokens, expected)
    assert expected.shape == (1, LENGTH, WIDTH)


def test_sdxl_joins_penultimate_layers_and_pools_the_second(sdxl):
    def ids(name):
        tokenizer = sdxl.texts[name].tokenizer
        return tokenizer(
            "a woman", padding="max_length", max_length=LENGTH, return_tensors="pt"
        ).input_ids

    outputs = {n: t.model(ids(n), output_hidden_states=True) for n, t in sdxl.texts.items()}
    context = encoded(sdxl, "a woman")
    expected = torch.cat([outputs[n].hidden_states[-2] for n in ("l", "g")], dim=-1)
    assert torch.equal(context.tokens, expected)
    assert torch.equal(context.pooled, outputs["g"].text_embeds)


def test_sdxl_is_told_the_size_of_the_picture(sdxl):
    sigma, context = sdxl.sigmas[500], encoded(sdxl)
    seen = {}
    hook = sdxl.unet.register_forward_pre_hook(
        lambda module, args, kwargs: seen.update(kwargs["added_cond_kwargs"]), with_kwargs=True
    )
    sdxl.denoise(noisy(sigma)[..., :8], sigma, context)
    hook.remove()
    # Never less than the model's own side, 32, whatever the training side.
    assert seen["time_ids"].tolist() == [[64, 32, 0, 0, 64, 32]] * 2
    assert torch.equal(seen["text_embeds"], context.pooled.expand(2, -1))


def test_the_words_vector_stands_where_the_word_does(backbone):
    """A learnt word that starts as a one-token word encodes as that word, wherever it stands."""
    vectors = backbone.word_vectors("x")
    learnt = backbone.encode_prompt("a S* b, (S*)", "S*", vectors).tokens
    plain = backbone.encode_prompt("a x b, (x)", "S*", {}).tokens
    assert torch.allclose(learnt, plain, atol=1e-6)
    other = backbone.encode_prompt("a y b, (y)", "S*", {}).tokens
    assert not torch.allclose(learnt, other, atol=1e-3)


def test_encoding_is_differentiable_in_the_vector_alone(backbone, sdxl):
    for model in (backbone, sdxl):
        vectors = {n: v.requires_grad_() for n, v in model.word_vectors("style").items()}
        context = model.encode_prompt(PROMPT, "S*", vectors)
        context.tokens.square().sum().backward()
        assert all(vector.grad.abs().max() > 0 for vector in vectors.values())
        networks = [text.model for text in model.texts.values()]
        assert all(p.grad is None for n in networks for p in n.parameters())


def test_a_long_prompt_is_encoded_in_chunks(backbone):
    long = "a" * (LENGTH - 2) + " bc S*"
    vectors = backbone.word_vectors("x")
    tokens = backbone.encode_prompt(long, "S*", vectors).tokens
    assert tokens.shape == (1, 2 * LENGTH, WIDTH)
    first = backbone.encode_prompt("a" * (LENGTH - 2), "S*", {}).tokens
    assert torch.allclose(tokens[:, :LENGTH], first, atol=1e-6)
    second = backbone.encode_prompt("bc x", "S*", {}).tokens
    assert torch.allclose(tokens[:, LENGTH:], second, atol=1e-6)


def test_without_vectors_the_word_is_a_word(backbone):
    plain = backbone.encode_prompt(PROMPT, "S*", {}).tokens
    assert not torch.allclose(plain, encoded(backbone).tokens, atol=1e-3)


def test_vectors_of_another_family_are_refused(backbone):
    with pytest.raises(ACFunError, match=r"encoders of SDXL; this pipeline has those of SD1\.x"):
        backbone.encode_prompt(PROMPT, "S*", {"l": torch.ones(WIDTH), "g": torch.ones(8)})


def test_checkpointing_changes_no_gradient(backbone):
    sigma = torch.tensor(1.0)

    calls = []
    points = backbone.insert_points("resblock")
    inserts = {b: trained_insert(p.channels).requires_grad_() for b, p in points.items()}

    def gradients():
        context = encoded(backbone)
        context.tokens.requires_grad_()
        for insert in inserts.values():
            insert.zero_grad()
        calls.clear()
        backbone.denoise(noisy(sigma), sigma, context).square().sum().backward()
        found = [p.grad for insert in inserts.values() for p in insert.parameters()]
        return len(calls), [context.tokens.grad, *found]

    modules = {block: point.module for block, point in points.items()}
    first = backbone.unet.down_blocks[0].resnets[0].conv1
    hook = first.register_forward_hook(lambda *a: calls.append(a))
    with attach_adapters(inserts, modules):
        once, plain = gradients()
        with backbone.gradient_checkpointing():
            twice, saved = gradients()
        assert gradients()[0] == once == 1
    hook.remove()
    assert twice == 2  # It was computed again.
    for one, other in zip(plain, saved, strict=True):
        assert torch.allclose(one, other, rtol=1e-4)
        assert one.abs().max() > 0
    assert not backbone.unet.is_gradient_checkpointing


def test_checkpointing_that_was_on_stays_on(backbone):
    backbone.unet.enable_gradient_checkpointing()
    with backbone.gradient_checkpointing():
        assert backbone.unet.is_gradient_checkpointing
    assert backbone.unet.is_gradient_checkpointing
    backbone.unet.disable_gradient_checkpointing()


def test_half_precision_pipelines_compute_in_half(tiny_model, backbone):
    half = load_pipeline(tiny_model, dtype=torch.float16)
    assert half.compute_dtype == torch.float16
    assert half.vae.dtype == torch.float32  # Its configuration says that it overflows in fp16.
    sigma, context = torch.tensor(2.0), encoded(backbone)
    exact = backbone.denoise(noisy(sigma), sigma, context)
    rough = half.denoise(noisy(sigma), sigma, encoded(half))
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, exact, atol=0.02 * float(exact.abs().max()))
    assert not torch.equal(rough, exact)


def test_autocast_computes_in_what_is_asked(tiny_model, backbone):
    sigma, context = torch.tensor(2.0), encoded(backbone)
    seen = []
    hook = backbone.unet.conv_in.register_forward_hook(lambda m, a, out: seen.append(out.dtype))
    for dtype in (torch.float32, torch.bfloat16):
        with backbone.autocast(dtype):
            backbone.denoise(noisy(sigma), sigma, context)
    hook.remove()
    assert seen == [torch.float32, torch.bfloat16]
    half = load_pipeline(tiny_model, dtype=torch.float16)
    with pytest.raises(ACFunError, match=r"torch.float32, but the pipeline was loaded in torch.fl"):
        half.autocast(torch.float32)


def test_equal_weights_have_one_fingerprint_and_others_another(tiny_model, tmp_path, backbone):
    assert load_pipeline(tiny_model).fingerprint == backbone.fingerprint
    other = load_pipeline(write_pipeline(tmp_path / "other", seed=1))
    assert other.fingerprint != backbone.fingerprint


def test_the_fingerprint_is_that_of_other_versions_of_transformers():
    """Some hold the network one level deeper than others."""
    network = torch.nn.Linear(2, 3)
    for level in ("text_model", "vision_model"):
        deeper = torch.nn.ModuleDict({level: network})
        assert dict(_weights_by_name(deeper)) == dict(network.named_parameters())


def test_a_callers_modules_get_their_flags_back(tiny_model):
    pipe, vision = load_text_to_image(tiny_model), load_vision_encoder(tiny_model, None)
    pipe.unet.train().requires_grad_(True)
    pipe.unet.mid_block.eval().requires_grad_(False)
    networks = [pipe.unet, pipe.vae, pipe.text_encoder, vision.model]

    def flags():
        training = [module.training for network in networks for module in network.modules()]
        return training, [p.requires_grad for network in networks for p in network.parameters()]

    before = flags()
    with pytest.raises(KeyboardInterrupt), DiffusersBackbone(pipe, vision):
        assert not any(any(kind) for kind in flags())
        raise KeyboardInterrupt
    assert flags() == before
    assert any(before[0]) and not all(before[0]) and any(before[1]) and not all(before[1])


def test_an_empty_pseudo_word_is_refused(backbone, sdxl):
    for model in (backbone, sdxl):
        with pytest.raises(ACFunError, match="The pseudo-word is empty"):
            model.encode_prompt("a woman", " ", model.word_vectors("style"))
    with pytest.raises(ACFunError, match="The pseudo-word is empty"):
        TrainConfig(prompt="a woman", pseudo_word="")
