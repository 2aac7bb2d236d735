"""A style on a diffusers pipeline of the caller's, which then does what it can do without one."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import pytest
import torch
from diffusers import ControlNetModel, DDIMScheduler, HeunDiscreteScheduler
from diffusers import StableDiffusionControlNetPipeline as ControlNetPipeline
from headless_files import QUICK, write_random_picture
from tiny_pipeline import LENGTH, write_pipeline, write_sdxl_pipeline

from acfun_ops.__main__ import main
from acfun_ops.backbones.diffusers_unet import insert_points
from acfun_ops.backbones.pipeline_parts import load_text_to_image
from acfun_ops.errors import ACFunError
from acfun_ops.method.injection import PartStrengths
from acfun_ops.sampling.styled_pipeline import styled
from acfun_ops.style.blend import blend_styles
from acfun_ops.style.style_file import load_style

pytestmark = pytest.mark.slow  # Whole pipelines, and styles that the command line trains.
PROMPT = "a woman in S* style"
OFF = {"abstract": 0, "encoder": 0, "middle": 0, "decoder": 0}


@pytest.fixture(scope="module")
def style(trained):
    return load_style(trained)


@pytest.fixture(scope="module")
def pipe(tiny_model):
    return load_text_to_image(tiny_model)


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory):
    """An SDXL pipeline and a style that was trained on it."""
    folder = tmp_path_factory.mktemp("sdxl")
    model = write_sdxl_pipeline(folder / "model")
    images = [write_random_picture(folder / f"{n}.png", n) for n in (1, 2)]
    options = ["--model", model, "--style-image", images[0], "--face-image", images[1]]
    assert main(["train", *map(str, options), "--out", str(folder / "s.safetensors"), *QUICK]) == 0
    return load_text_to_image(model), load_style(folder / "s.safetensors")


def sample(pipe, seed=0, steps=2, **arguments):
    generator = torch.Generator().manual_seed(seed)
    arguments = {"num_inference_steps": steps, "generator": generator, **arguments}
    return torch.from_numpy(pipe(**arguments, output_type="np").images)


def weights_and_flags(pipe):
    modules = [pipe.unet, pipe.vae, pipe.text_encoder]
    flags = [m.training for network in modules for m in network.modules()]
    flags += [p.requires_grad for network in modules for p in network.parameters()]
    hooks = [h for network in modules for m in network.modules() for h in m._forward_hooks.values()]
    # transformers puts hooks of its own onto a text encoder when it first runs.
    return flags, [hook for hook in hooks if hook.__module__.startswith("acfun_ops")]


def test_strength_0_is_the_plain_pipeline_bit_for_bit(pipe, style):
    plain = sample(pipe, prompt="a woman", negative_prompt="ugly")
    with styled(pipe, style, **OFF) as encode:
        assert torch.equal(sample(pipe, **encode("a woman", "ugly")), plain)
        bare = sample(pipe, **encode("a woman"))
    assert torch.equal(bare, sample(pipe, prompt="a woman"))


def test_each_strength_acts_and_the_pipeline_is_left_as_it_was(pipe, style):
    pipe.text_encoder.train().requires_grad_(True)
    pipe.unet.requires_grad_(True)
    before, plain = weights_and_flags(pipe), sample(pipe, prompt="a woman")
    images = [plain]
    for strengths in (
        OFF,
        *(OFF | {name: 1} for name in OFF),
        OFF | {"decoder": 0.5},
        {},
    ):
        with styled(pipe, style, **strengths) as encode:
            images.append(sample(pipe, **encode(PROMPT)))
    for number, image in enumerate(images):
        for other in images[:number]:
            assert (image - other).abs().max() > 1e-4
    with pytest.raises(KeyboardInterrupt), styled(pipe, style):
        raise KeyboardInterrupt
    assert torch.equal(sample(pipe, prompt="a woman"), plain)
    assert weights_and_flags(pipe) == before
    pipe.text_encoder.eval()


def fuse(insert, strength, module, args, output):
    return insert(output, strength)


def test_the_adapters_are_the_styles_own(pipe, style):
    """The plain form of the adapters, hooked on by hand, is the oracle."""
    with styled(pipe, style, encoder=0.3, middle=0, decoder=0.8) as encode:
        embeddings = encode(PROMPT)
        found = sample(pipe, **embeddings)
    modules = {b: p.module for b, p in insert_points(pipe.unet, style.facts.insert_at).items()}
    strengths = PartStrengths(encoder=0.3, middle=0, decoder=0.8).block_strengths(style.concrete)
    with ExitStack() as hooks:
        for block, insert in style.inserts().items():
            hook = partial(fuse, insert, strengths[block])
            hooks.callback(modules[block].register_forward_hook(hook).remove)
        assert torch.allclose(sample(pipe, **embeddings), found, atol=1e-5)


def test_a_batch_of_prompts_and_images_is_that_of_single_ones(pipe, style):
    with styled(pipe, style) as encode:
        single = [encode(text, negative) for text, negative in ((PROMPT, "x"), ("S*", "y"))]
        both = encode([PROMPT, "S*"], ["x", "y"])
        for name, embeds in both.items():
            assert torch.equal(embeds, torch.cat([one[name] for one in single]))
        assert sample(pipe, **both, num_images_per_prompt=2).shape == (4, 32, 32, 3)
        alone = sample(pipe, **single[0], height=64, width=32)
        assert alone.shape == (1, 64, 32, 3)
        shared = encode([PROMPT, "S*"], "x")["negative_prompt_embeds"]
        assert torch.equal(*shared)


def test_a_long_prompt_is_not_cut(pipe, style):
    with styled(pipe, style) as encode:
        embeddings = encode("a" * LENGTH + " S*")
        assert {e.shape[1] for e in embeddings.values()} == {2 * LENGTH}
        cut = encode("a" * LENGTH)
        assert not torch.equal(sample(pipe, **embeddings), sample(pipe, **cut))


@pytest.mark.parametrize("prompts", [([], None), (["a", "b"], ["c"])])
def test_prompts_that_do_not_pair_are_refused(pipe, style, prompts):
    with styled(pipe, style) as encode, pytest.raises(ACFunError, match="one negative prompt for"):
        encode(*prompts)


@pytest.mark.parametrize("kind", [DDIMScheduler, HeunDiscreteScheduler])
def test_the_pipelines_own_scheduler_and_callback_are_used(pipe, style, kind):
    own, seen = pipe.scheduler, []
    with styled(pipe, style) as encode:
        first = sample(pipe, **encode(PROMPT))
        pipe.scheduler = kind.from_config(own.config)
        pipe.scheduler.step = lambda *a, step=pipe.scheduler.step, **k: (
            seen.append(a) or step(*a, **k)
        )
        other = sample(pipe, **encode(PROMPT), callback_on_step_end=lambda *a: seen.append(a) or {})
    pipe.scheduler = own
    assert len(seen) >= 4
    assert (first - other).abs().max() > 1e-4


def test_nested_styles_act_both_and_a_blend_is_one(pipe, style):
    half = {name: {n: t / 2 for n, t in state.items()} for name, state in style.concrete.items()}
    other = replace(style, concrete=half)
    with styled(pipe, style) as encode:
        outer = sample(pipe, **encode(PROMPT))
        with styled(pipe, other) as encode_inner:
            both = sample(pipe, **encode_inner(PROMPT))
        assert torch.equal(sample(pipe, **encode(PROMPT)), outer)
    assert (both - outer).abs().max() > 1e-4
    with styled(pipe, blend_styles(style, other, 0.5)) as encode:
        assert (sample(pipe, **encode(PROMPT)) - outer).abs().max() > 1e-5


def test_sdxl_has_pooled_embeddings_and_zeros_without_a_negative_prompt(sdxl):
    pipe, style = sdxl
    assert pipe.config.force_zeros_for_empty_prompt
    with styled(pipe, style, **OFF) as encode:
        for negative in (None, "", "ugly"):
            plain = sample(pipe, prompt="a woman", negative_prompt=negative)
            embeddings = encode("a woman", negative)
            assert len(embeddings) == 4
            assert torch.equal(sample(pipe, **embeddings), plain)
    with styled(pipe, style) as encode:
        assert (sample(pipe, **encode(PROMPT, "ugly")) - plain).abs().max() > 1e-4


def test_a_controlnet_acts_along_with_the_style(pipe, style):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        control = ControlNetModel.from_unet(pipe.unet, conditioning_embedding_out_channels=(16, 32))
        for parameter in control.controlnet_mid_block.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    parts = {name: part for name, part in pipe.components.items() if name != "image_encoder"}
    both = ControlNetPipeline(**parts, controlnet=control, requires_safety_checker=False)
    both.set_progress_bar_config(disable=True)
    image = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plain = sample(both, prompt="a woman", image=image)
    assert not torch.equal(plain, sample(pipe, prompt="a woman"))
    with styled(both, style, **OFF) as encode:
        assert torch.equal(sample(both, **encode("a woman"), image=image), plain)
    with styled(both, style) as encode:
        assert (sample(both, **encode("a woman"), image=image) - plain).abs().max() > 1e-4


def test_what_does_not_fit_is_refused(style, tmp_path):
    other = load_text_to_image(write_pipeline(tmp_path / "other", block_out_channels=(24, 32)))
    for model, message in (
        (other, "other blocks than this model"),
        (object(), "works on the ResBlocks of a U-Net"),
    ):
        with pytest.raises(ACFunError, match=message), styled(model, style):
            pass
    bare = load_text_to_image(write_pipeline(tmp_path / "bare"))
    bare.text_encoder = None
    with pytest.raises(ACFunError, match="loaded without its text encoder"), styled(bare, style):
        pass
