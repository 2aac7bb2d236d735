"""Every method: leaves the pipeline as it was, depends on the pictures, and learns something."""

import copy
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from quality_pairs import drawn_pair, open_tiny_bench

from acfun_ops.backbones.backbone import Context
from acfun_ops.backbones.diffusers_backbone import load_pipeline
from acfun_ops.errors import ACFunError
from acfun_ops.method.injection import PartStrengths, parts_of
from acfun_ops.sampling.sampler import sample_euler, sampling_sigmas
from acfun_ops.sampling.style_injection import ddim_invert, last_two_thirds
from acfun_ops.style.style_file import load_style
from acfun_ops.training.config import TrainConfig
from evaluation.benchmark import Row, Sampling, Task
from evaluation.methods import lora as lora_peer
from evaluation.methods import peers
from evaluation.methods.acfun import RELEASE_0_2, Acfun, PartialBackbone, settings_of
from evaluation.methods.attention import (
    AttentionDistillation,
    LatentAdain,
    NamedImg2Img,
    StyleId,
    record_attention,
)
from evaluation.methods.feed_forward import PatchTransferPeer
from evaluation.methods.instantstyle import InstantStyle
from evaluation.methods.lora import BLora, DreamBoothLora
from evaluation.methods.peers import (
    encode_square,
    encode_words,
    image_start,
    learn_by_noise_loss,
    noise_loss,
    read_tensors,
    sample,
    write_tensors,
)
from evaluation.methods.textual_inversion import DreamStyler, Inst, TextualInversion, replace_noise
from evaluation.runs import run_folder, training_name
from evaluation.sections.design_choices import design_choices, restyle_choices
from evaluation.toy_benchmark import PRIOR

SAMPLING = Sampling(steps=4, guidance=2.0)
# It redraws no face, which takes longer than its few steps.
OURS = Acfun(config=TrainConfig(learning_rate=1e-2, rank=4, alignment="staged"))
DRAWN = replace(OURS, config=replace(OURS.config, alignment="drawn"))
LEARNERS = [
    DRAWN,
    TextualInversion(learning_rate=5e-2),
    DreamBoothLora(learning_rate=1e-2),
    Inst(learning_rate=1e-2),
    DreamStyler(learning_rate=1e-2),
]
# They restyle the photo alike for every noise and prompt.
REDRAWERS = [StyleId(steps=4), AttentionDistillation(), PatchTransferPeer()]
ADAPTED = InstantStyle(block="blocks", strength=0.7)
ALL = [*LEARNERS, *REDRAWERS, ADAPTED, LatentAdain(), NamedImg2Img()]
NAMES = [type(method).__name__ for method in ALL]


@pytest.fixture(autouse=True)
def needs_peft(request) -> None:
    if "lora" in request.node.name.lower():
        pytest.importorskip("peft")


def pictures(method, backbone, pair, noise, folder, steps=3):
    path = folder / f"{hash((method, pair.digest, steps))}.safetensors"
    if method.learns:
        method.learn(backbone, pair, steps, path)
    return method.generate(Task(backbone, pair, path, noise, SAMPLING))


def networks(backbone):
    texts = [text.model for text in backbone.texts.values()]
    return [backbone.unet, backbone.vae, backbone.vision.model, *texts]


def hooked_kind(module):
    return type(module), len(module._forward_hooks), len(module._forward_pre_hooks)


@pytest.mark.parametrize("method", ALL, ids=NAMES)
def test_method_leaves_the_pipeline_bit_for_bit_as_it_was(
    method, backbone, pair, noise, tmp_path, few_drawings
):
    # transformers hangs hooks of its own on a model, once, when it first runs.
    pictures(NamedImg2Img(), backbone, pair, noise, tmp_path)
    backbone.style_tokens(pair.style[None])
    before = [copy.deepcopy(network.state_dict()) for network in networks(backbone)]
    kinds = [[hooked_kind(m) for m in network.modules()] for network in networks(backbone)]
    samples, other = pictures(method, backbone, pair, noise, tmp_path)
    assert samples.shape == other.shape == (2, 32, 32, 3)
    for network, state, kind in zip(networks(backbone), before, kinds, strict=True):
        after = network.state_dict()
        assert after.keys() == state.keys()
        assert all(torch.equal(after[name], state[name]) for name in state)
        assert [hooked_kind(m) for m in network.modules()] == kind
        assert not any(p.requires_grad for p in network.parameters())


@pytest.mark.parametrize("method", ALL, ids=NAMES)
def test_method_is_repeatable_and_follows_pictures_and_noise(
    method, backbone, pair, noise, tmp_path, few_drawings
):
    first, other = pictures(method, backbone, pair, noise, tmp_path)
    again, _ = pictures(method, backbone, pair, noise, tmp_path)
    assert torch.equal(first, again)
    assert torch.equal(first[0], first[1]) == (method in REDRAWERS)
    assert torch.equal(first, other) == (method in REDRAWERS)
    another = drawn_pair(1)
    new_face, _ = pictures(method, backbone, replace(pair, face=another.face), noise, tmp_path)
    assert not torch.equal(new_face, first)
    new_style, _ = pictures(method, backbone, replace(pair, style=another.style), noise, tmp_path)
    # Only this one knows the style by words alone.
    assert torch.equal(new_style, first) == isinstance(method, NamedImg2Img)


@pytest.mark.parametrize("method", LEARNERS[1:], ids=NAMES[1:5])
def test_peer_lowers_its_loss(method, backbone, pair, tmp_path, monkeypatch):
    losses = []

    def watched(backbone, examples, parameters, *rest):
        def mean_loss():
            draws = torch.Generator().manual_seed(3)
            with torch.no_grad():
                return sum(
                    noise_loss(backbone, example, step, draws)
                    for example in examples
                    for step in range(20)
                )

        losses.append(mean_loss())
        learn_by_noise_loss(backbone, examples, parameters, *rest)
        losses.append(mean_loss())

    monkeypatch.setattr(peers, "learn_by_noise_loss", watched)
    method.learn(backbone, pair, 30, tmp_path / "learnt.safetensors")
    assert losses[1] < 0.995 * losses[0]


def test_untrained_lora_changes_nothing_and_a_set_one_does(backbone, task):
    pytest.importorskip("peft")
    context = backbone.encode_prompt("a painting", "S*", {})
    plain = sample(task, context)
    with lora_peer.lora_updates(backbone, 4, 0) as updates:
        assert torch.equal(sample(task, context), plain)
        for update in updates.values():
            update.data.fill_(0.3)
        assert not torch.equal(sample(task, context), plain)
    assert torch.equal(sample(task, context), plain)


@pytest.mark.parametrize("parts", [("abstract",), ("encoder",), ("abstract", "decoder")])
def test_untrained_parts_stay_the_identity(parts, backbone, pair, tmp_path):
    path = tmp_path / "style.safetensors"
    replace(OURS, parts=parts).learn(backbone, pair, 5, path)
    style = load_style(path)
    for block, state in style.concrete.items():
        moved = any(state[f"{name}.weight"].any() for name in ("scale", "shift"))
        assert moved == (parts_of([block])[block] in parts), block
    start = {name: vector.half() for name, vector in backbone.word_vectors("style").items()}
    words_moved = any(not torch.equal(style.vectors[name], start[name]) for name in start)
    assert words_moved == ("abstract" in parts)
    assert bool(style.abstract["layers.0.out.weight"].any()) == ("abstract" in parts)
    assert bool(style.style_tokens.any()) == ("abstract" in parts)


def test_blocks_that_are_not_named_draw_as_if_off(backbone, pair, noise, tmp_path):
    path = tmp_path / "style.safetensors"
    OURS.learn(backbone, pair, 5, path)
    task = Task(backbone, pair, path, noise, SAMPLING)
    parts = parts_of(backbone.insert_points("resblock"))
    half = [block for block, part in parts.items() if part == "encoder"]
    strengths = PartStrengths(middle=0.0, decoder=0.0)
    encoder = replace(OURS, strengths=strengths).draw(task, pair.prompt)
    assert torch.equal(OURS.draw(task, pair.prompt, half), encoder)
    assert not torch.equal(OURS.draw(task, pair.prompt), encoder)


def test_strengths_act_at_drawing_on_the_parts_that_were_trained(backbone, pair, noise, tmp_path):
    method = replace(OURS, parts=("encoder",))
    path = tmp_path / "style.safetensors"
    method.learn(backbone, pair, 5, path)

    def samples(**strengths):
        weaker = replace(method, strengths=PartStrengths(**strengths))
        assert weaker.training_key() == method
        return weaker.generate(Task(backbone, pair, path, noise, SAMPLING))[0]

    assert torch.equal(samples(), samples(decoder=0.0))
    assert not torch.equal(samples(), samples(encoder=0.0))


def test_bare_word_replaces_the_description(backbone, pair, noise, tmp_path):
    path = tmp_path / "style.safetensors"
    replace(OURS, bare=True).learn(backbone, pair, 1, path)
    assert load_style(path).facts.prompt == "S*"


def test_pooled_tokens_are_one(backbone, pair, tmp_path):
    path = tmp_path / "style.safetensors"
    replace(OURS, variant="pooled tokens").learn(backbone, pair, 1, path)
    pooled = load_style(path).style_tokens
    OURS.learn(backbone, pair, 1, path)
    tokens = load_style(path).style_tokens
    assert pooled.shape[-2] == 1 < tokens.shape[-2]
    assert torch.allclose(pooled.float(), tokens.float().mean(dim=-2, keepdim=True), atol=1e-2)


def test_fixed_word_stays_while_the_rest_learns(backbone, pair, tmp_path):
    path = tmp_path / "style.safetensors"
    replace(OURS, variant="fixed word").learn(backbone, pair, 5, path)
    style = load_style(path)
    start = {name: vector.half() for name, vector in backbone.word_vectors("style").items()}
    assert all(torch.equal(style.vectors[name], start[name]) for name in start)
    assert style.abstract["layers.0.out.weight"].any()


@pytest.mark.parametrize("variant", ["independent levels", "white noise", "no colour pull"])
def test_choices_of_the_training_are_undone_for_one_row(variant, backbone, pair, tmp_path):
    files = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for path, method in zip(files, (OURS, replace(OURS, variant=variant), OURS), strict=True):
        method.learn(backbone, pair, 3, path)
    usual, other, again = (path.read_bytes() for path in files)
    assert usual == again
    assert usual != other


@pytest.mark.parametrize("variant", ["double colour pull", "sharper redrawing", "longer redrawing"])
def test_choices_of_the_drawn_reading_change_what_is_learnt(variant, backbone, pair, tmp_path):
    files = [tmp_path / "usual.safetensors", tmp_path / "other.safetensors"]
    for path, method in zip(files, (DRAWN, replace(DRAWN, variant=variant)), strict=True):
        method.learn(backbone, pair, 2, path)
    assert files[0].read_bytes() != files[1].read_bytes()


def test_each_variant_of_the_training_changes_one_setting():
    rows = [*design_choices().rows, *restyle_choices().rows]
    variants = {row.method.variant for row in rows}
    named = [name for name in variants if settings_of(name, RELEASE_0_2) != RELEASE_0_2]
    changes = [settings_of(name, RELEASE_0_2).changes() for name in named]
    assert len(named) == 8
    assert all(len(change) == 1 for change in changes)
    assert len({str(change) for change in changes}) == 8


@pytest.mark.parametrize("method", [Acfun(), Acfun(variant="white noise")])
def test_a_row_of_other_settings_is_another(method):
    bench, pair = open_tiny_bench(), 0

    def names(settings):
        row = Row(name="ours", method=replace(method, settings=settings), steps=5)
        folder = run_folder(bench, row, pair, Path("work"))
        return folder.name, training_name(bench, row, pair)

    other = names(replace(RELEASE_0_2, face_floor=0.3))
    assert not set(other) & set(names(RELEASE_0_2))
    assert other == names(replace(RELEASE_0_2, face_floor=0.3))


def test_without_residual_the_prompt_is_taken_off_and_the_empty_one_is_not(backbone, pair):
    seen = []
    inner = PartialBackbone(backbone, ("abstract",), "no residual")
    inner._backbone = type("Seen", (), {"denoise": lambda self, n, s, c: seen.append(c.tokens)})()
    inner._backbone.encode_prompt = backbone.encode_prompt
    styled = inner.encode_prompt(pair.prompt, "S*", backbone.word_vectors("style"))
    plain = inner.encode_prompt("", "S*", {})
    fused = Context(styled.tokens + 0.5)
    for context in (fused, plain):
        inner.denoise(torch.zeros(1), torch.ones(()), context)
    assert torch.allclose(seen[0], torch.full_like(seen[0], 0.5), atol=1e-5)
    assert torch.equal(seen[1], plain.tokens)


def test_spliced_face_is_what_is_learnt(backbone, pair, tmp_path):
    files = []
    for number, method in enumerate((OURS, replace(OURS, spliced=True))):
        for face in (drawn_pair(1).face, drawn_pair(2).face):
            files.append(tmp_path / f"{number}{len(files)}.safetensors")
            method.learn(backbone, replace(pair, spliced=face), 2, files[-1])
    whole, same, spliced, other = (path.read_bytes() for path in files)
    assert whole == same
    assert len({whole, spliced, other}) == 3


def test_both_pseudo_words_reach_the_prompt_and_get_gradients(backbone):
    face, style = backbone.word_vectors("z"), backbone.word_vectors("style")
    with torch.no_grad():
        as_word = backbone.encode_prompt("a photo of z in S* style", "S*", style).tokens
        same = encode_words(backbone, "a photo of F* in S* style", style, face, "z").tokens
        moved = {name: vector + 1 for name, vector in face.items()}
        other = encode_words(backbone, "a photo of F* in S* style", style, moved, "z").tokens
    assert torch.equal(same, as_word)
    assert not torch.allclose(other, as_word)
    leaves = [vectors["l"].clone().requires_grad_() for vectors in (face, style)]
    context = encode_words(backbone, "F* S*", {"l": leaves[1]}, {"l": leaves[0]}, "z")
    context.tokens.square().sum().backward()
    assert all(leaf.grad is not None and leaf.grad.any() for leaf in leaves)


def test_stand_in_of_several_tokens_is_refused(backbone):
    vectors = backbone.word_vectors("z")
    with pytest.raises(ACFunError, match="'sks' is 3 tokens"):
        encode_words(backbone, "F*", vectors, vectors, "sks")


def test_peers_refuse_half_precision_that_needs_a_loss_scaler(
    backbone, pair, monkeypatch, tmp_path
):
    monkeypatch.setattr(type(backbone), "compute_dtype", torch.float16)
    with pytest.raises(ACFunError, match="fp16"):
        TextualInversion().learn(backbone, pair, 1, tmp_path / "x.safetensors")


def test_img2img_starts_from_the_noisy_picture_at_its_share_of_the_steps(
    backbone, pair, noise, monkeypatch
):
    latent = encode_square(backbone, pair.face)
    seen = []

    def perfect(noisy, sigma, context):
        seen.append((noisy, sigma))
        return latent.expand_as(noisy)

    monkeypatch.setattr(backbone, "denoise", perfect)
    task = Task(backbone, None, None, noise, Sampling(steps=10))
    drawn = sample(task, None, image_start(task, latent, 0.3))
    assert len(seen) == 3
    start, sigma = seen[0]
    assert sigma == sampling_sigmas(backbone.sigmas, 10)[7]
    assert torch.allclose(start, latent + sigma * noise, atol=1e-5)
    kept = backbone.decode_latents(latent).expand_as(drawn)
    assert torch.allclose(drawn, kept, atol=1e-4)


def test_inverted_noise_is_the_models_own(backbone, pair, task):
    latent = encode_square(backbone, pair.face)
    context = backbone.encode_prompt("a painting", "S*", {})
    noisy, sigmas = start = image_start(task, latent, 0.7)
    with torch.no_grad():
        own, same_sigmas = replace_noise(backbone, latent, start, context)
    assert own.shape == noisy.shape
    assert same_sigmas == sigmas
    assert not torch.equal(own, noisy)


def test_pair_refuses_prompts_it_cannot_use():
    with pytest.raises(ACFunError, match="must hold S"):
        drawn_pair(0, prompt="a painting of a woman")
    with pytest.raises(ACFunError, match="'a woman'"):
        drawn_pair(0, prompt="a painting of someone in S* style")


def test_pair_words_the_style_for_methods_without_a_pseudo_word(pair):
    assert pair.remove_style(pair.other_prompt) == "a painting of a woman wearing a hat"
    assert pair.name_style(pair.prompt) == "an oil painting of a woman"


@pytest.fixture(scope="module")
def prior():
    return load_pipeline(PRIOR)


def test_inverted_latents_are_drawn_back(prior, pair):
    clean = encode_square(prior, pair.face)
    context = prior.encode_prompt("", "S*", {})
    sigmas = sampling_sigmas(prior.sigmas, 50)
    with torch.no_grad():
        denoise = partial(prior.denoise, context=context)
        noisy = ddim_invert(denoise, clean, sigmas, float(prior.sigmas[0]))[-1]
        back = sample_euler(denoise, noisy, sigmas)
    assert (back - clean).abs().mean() < 0.2 * clean.abs().mean()


def test_style_id_draws_a_photo_that_is_its_own_style_back(prior, pair):
    face, style = encode_square(prior, pair.face), encode_square(prior, pair.style)
    kept = StyleId(kept_query=1.0, temperature=1.0, steps=50)
    own, other = (kept.latent(prior, painting, face) for painting in (face, style))
    assert (own - face).abs().mean() < 0.3 * (other - face).abs().mean()


def test_b_lora_takes_each_block_from_its_own_picture_and_leaves_no_trace(prior, pair, tmp_path):
    before = copy.deepcopy(prior.unet.state_dict())
    noise = torch.randn((1, 8, 16, 16), generator=torch.Generator().manual_seed(1))
    path, method = tmp_path / "b.safetensors", BLora(learning_rate=1e-2)
    method.learn(prior, pair, 3, path)
    groups = read_tensors(path, prior.device)
    blocks = {".".join(name.split(".")[:4]) for name in groups["content"]}
    assert blocks == {"up_blocks.0.attentions.0", "up_blocks.0.attentions.1"}
    first, other = method.generate(Task(prior, pair, path, noise, SAMPLING))
    assert not torch.equal(first, other)
    for group, block in (("content", "attentions.1."), ("painting", "attentions.0.")):
        for name, tensor in groups[group].items():
            groups[group][name] = torch.zeros_like(tensor) if block in name else tensor
    write_tensors(path, **groups)
    assert torch.equal(method.generate(Task(prior, pair, path, noise, SAMPLING))[0], first)
    groups["content"] = {name: torch.zeros_like(t) for name, t in groups["content"].items()}
    write_tensors(path, **groups)
    assert not torch.equal(method.generate(Task(prior, pair, path, noise, SAMPLING))[0], first)
    after = prior.unet.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], before[name]) for name in before)


def test_b_lora_needs_two_transformers_in_the_first_block(backbone, pair, tmp_path):
    with pytest.raises(ACFunError, match="two transformers"):
        BLora().learn(backbone, pair, 1, tmp_path / "b.safetensors")


def test_distilled_attention_is_nearer_to_the_paintings_afterwards(backbone, pair):
    style, face = encode_square(backbone, pair.style), encode_square(backbone, pair.face)
    context = backbone.encode_prompt("", "S*", {})
    method = AttentionDistillation(query_weight=0.0)
    moved = method.latent(backbone, style, face, 20)

    def off(latent):
        with record_attention(last_two_thirds(backbone.self_attentions())) as seen, torch.no_grad():
            backbone.denoise(torch.cat([style, latent]), 0.5, context)
        outputs = [one["output"] for one in seen]
        return sum((o[1].mean(1) - o[0].mean(1)).abs().mean() for o in outputs)

    assert off(moved) < off(face)


def test_dreamstyler_learns_a_word_for_each_band_of_noise_levels(backbone, pair, tmp_path):
    method, path = DreamStyler(learning_rate=1e-2), tmp_path / "words.safetensors"
    bands = [method.band(backbone, float(sigma)) for sigma in backbone.sigmas]
    assert sorted(set(bands)) == list(range(6)) and bands == sorted(bands)
    method.learn(backbone, pair, 12, path)
    words = read_tensors(path, backbone.device)
    start = backbone.word_vectors("painting")
    assert all(not torch.equal(words[str(b)][n], start[n]) for b in range(6) for n in start)


def test_dreamstyler_without_its_two_ways_draws_the_empty_prompt(backbone, pair, noise, tmp_path):
    pictures_of = []
    for shares in ({"style_guidance": 0.0, "content_guidance": 0.0}, {}):
        method = DreamStyler(learning_rate=1e-2, **shares)
        pictures_of.append(pictures(method, backbone, pair, noise, tmp_path))
    (none, none_other), (both, both_other) = pictures_of
    assert torch.equal(none, none_other)
    assert not torch.equal(both, both_other)
    assert not torch.equal(none, both)
