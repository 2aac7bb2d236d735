"""Training and adapters under torch.compile, packs with a forward of their own, and saving."""

from __future__ import annotations

import copy
from unittest import mock

import comfy.sd
import pytest
import torch
from comfy.ldm.modules import attention
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_lora_extract import LoraSave
from comfy_extras.nodes_model_merging import ModelSubtract
from stock_nodes import encode, leftovers, sample, with_lora

graph_runs = []


def graph_runner(graph, inputs):
    """Return dynamo's graph as it is: no time of a compiler, and each of its runs is noted."""

    def run(*values):
        graph_runs.append(graph)
        return graph.forward(*values)

    return run


@pytest.fixture(scope="module")
def draw(comfy):
    clip = comfy.checkpoint("sd1")[1]
    conditionings = encode(clip, "a woman"), encode(clip, "")
    return lambda model, **options: torch.stack(sample(model, *conditionings, **options))


@pytest.fixture(scope="module", autouse=True)
def whole_graphs():
    """Compute attention as on a card: what a CPU does there breaks the graph at every layer.

    The tests share the graphs of the plain model: whoever runs them with a style shows it.
    """
    torch._dynamo.reset()
    with (
        mock.patch.object(attention, "optimized_attention", attention.attention_pytorch),
        # Else what has been traced too often runs eagerly, and all is equal.
        torch._dynamo.config.patch(fail_on_recompile_limit_hit=True),
    ):
        yield
    torch._dynamo.reset()


def compiled(model):
    """Return what TorchCompileModel returns, with another backend."""
    clone = model.clone()

    def kept(entries):
        return ["transformer_options" not in entry.name for entry in entries]

    skipped = {"guard_filter_fn": kept}
    set_torch_compile_wrapper(model=clone, backend=graph_runner, options=skipped)
    return clone


def patched_compiled(model):
    """Return a MODEL whose U-Net is replaced by a compiled one, as older nodes do it."""
    clone = model.clone()
    unet = torch.compile(clone.get_model_object("diffusion_model"), backend=graph_runner)
    clone.add_object_patch("diffusion_model", unet)
    return clone


SETTINGS = [{}, {"strength": 0.3}, {"start_percent": 0.5}, {"strength": 0.0}]


@pytest.mark.parametrize(
    ("compiling", "order"),
    [("before", (0, 2, 3)), ("before", (3, 0, 1)), ("after", (3, 2, 0))],
)
def test_compiled_equals_eager_in_every_order(acfun, model, draw, compiling, order):
    style, once = acfun.style(), compiled(model)
    if compiling == "after":  # A graph of its own, not that of the models compiled before.
        torch._dynamo.reset()
    for index in order:
        eager = acfun.adapt(model, style, **SETTINGS[index])
        if compiling == "before":
            styled = acfun.adapt(once, style, **SETTINGS[index])
        else:
            styled = compiled(eager)
        assert torch.allclose(draw(styled, steps=2), draw(eager, steps=2), atol=1e-4), index
    styled = acfun.adapt(model, style)
    assert not torch.allclose(draw(styled, steps=2), draw(model, steps=2), atol=0.01)


def test_a_compiled_model_trains_as_the_plain_one(acfun, model, draw):
    plain, _, _ = acfun.train(seed=74, steps=4)
    once = compiled(model)
    draw(once)  # Graphs without inserts.
    acfun.train(model=once, seed=75)  # With other ones.
    acfun.texts.clear()
    style, _, _ = acfun.train(model=once, seed=74, steps=4)
    assert any("run without compiling" in text for text in acfun.texts)
    assert tensors(style).keys() == tensors(plain).keys()
    assert all(torch.equal(tensor, tensors(plain)[name]) for name, tensor in tensors(style).items())


def test_a_unet_that_another_node_runs_instead_is_not_taken_for_the_connected_one(acfun, model):
    other, clone = copy.deepcopy(model.model.diffusion_model), model.clone()

    def elsewhere(apply_model, call):
        with mock.patch.object(model.model, "diffusion_model", other):
            return apply_model(call["input"], call["timestep"], **call["c"])

    clone.set_model_unet_function_wrapper(elsewhere)
    with pytest.raises(acfun.error, match="is not the connected one"):
        acfun.train(model=clone, seed=75)


def tensors(style):
    inserts = {f"{b}.{n}": t for b, state in style.concrete.items() for n, t in state.items()}
    return inserts | dict(style.abstract)


def test_a_replaced_unet_is_styled_when_compiled(acfun, model, draw):
    once = patched_compiled(model)
    assert torch.allclose(draw(once, steps=1), draw(model, steps=1), atol=1e-4)
    styled = acfun.adapt(model, acfun.style())
    late = patched_compiled(styled)
    assert torch.allclose(draw(late, steps=1), draw(styled, steps=1), atol=1e-4)


def test_running_without_compiling_is_said_once_a_sampling(acfun, model, draw):
    style = acfun.style()
    styled = compiled(acfun.adapt(model, style))
    for _ in range(2):
        acfun.texts.clear()
        draw(styled, steps=2)
        assert len(acfun.texts) == 1 and "run without compiling" in acfun.texts[0]
    acfun.texts.clear()
    draw(acfun.adapt(model, style), steps=1)
    assert acfun.texts == []


def test_plain_steps_still_run_compiled(acfun, model, draw):
    clone = compiled(model)
    graph_runs.clear()
    draw(acfun.adapt(clone, acfun.style()), steps=2)
    assert graph_runs == []
    draw(acfun.adapt(clone, acfun.style(), start_percent=0.5), steps=2)
    assert graph_runs != []


class OwnForward:
    """As DeepCache: calls the U-Net's layers by itself, past ComfyUI's apply_model."""

    def __call__(self, apply_model, call):
        base, x, sigma, c = apply_model.__self__, call["input"], call["timestep"], call["c"]
        unet, sampling = base.diffusion_model, base.model_sampling
        dtype = base.manual_cast_dtype or unet.dtype
        noisy = sampling.calculate_input(sigma, x).to(dtype)
        output = unet(noisy, sampling.timestep(sigma).float(), c["c_crossattn"].to(dtype))
        return sampling.calculate_denoised(sigma, output.float(), x)


def deep_cached(model):
    clone = model.clone()
    clone.set_model_unet_function_wrapper(OwnForward())
    return clone


def test_adapters_that_never_act_are_reported(acfun, model, draw, caplog):
    style = acfun.style()
    acfun.texts.clear()
    plain = draw(deep_cached(model))
    assert acfun.texts == []
    styled = deep_cached(acfun.adapt(model, style))
    acfun.texts.clear()
    assert torch.equal(draw(styled), plain)
    assert len(acfun.texts) == 1
    assert "never acted in this sampling" in acfun.texts[0]
    assert __name__ in acfun.texts[0] and "Bypass that node" in acfun.texts[0]
    with caplog.at_level("INFO", logger="ACFun"):
        draw(styled)
    assert sum("never acted" in text for text in caplog.messages) == 1


@pytest.mark.parametrize(
    "setting",
    [
        {},
        {"start_percent": 0.9},
        {"end_percent": 0.5},
    ],
)
def test_adapters_that_act_in_a_step_are_not_reported(acfun, model, draw, setting):
    acfun.style()
    acfun.texts.clear()
    draw(acfun.adapt(model, acfun.style(), **setting), steps=2)
    assert acfun.texts == []


def test_nothing_due_under_a_foreign_forward_is_told_as_such(acfun, model, draw):
    acfun.style()
    acfun.texts.clear()
    styled = acfun.adapt(model, acfun.style(), start_percent=0.55, end_percent=0.6)
    draw(deep_cached(styled))
    assert len(acfun.texts) == 1 and "has no step between" in acfun.texts[0]


def test_a_lora_made_of_a_styled_model_says_what_is_lost(acfun, model, models_dir):
    styled, saved = acfun.adapt(model, acfun.style()), []
    lora = with_lora(styled, None, models_dir.name("lora"), -1.0)[0]
    with torch.inference_mode():
        difference = ModelSubtract().merge(styled, model, 1.0)[0]
        for each in (lora, difference):
            acfun.texts.clear()
            with mock.patch("comfy.utils.save_torch_file", lambda sd, *_, **__: saved.append(sd)):
                LoraSave.execute("test", 8, "full_diff", False, model_diff=each)
    assert all(not weight.any() for weight in saved[-1].values())
    assert len(acfun.texts) == 1 and "lacks the style" in acfun.texts[0]


def test_saving_a_styled_model_says_what_is_lost(acfun, model, tmp_path):
    saved, styled = [], acfun.adapt(model, acfun.style())
    with mock.patch("comfy.utils.save_torch_file", lambda sd, *args, **kwargs: saved.append(sd)):
        for number, each in enumerate([model, styled, model]):
            acfun.texts.clear()
            with torch.inference_mode():
                comfy.sd.save_checkpoint(str(tmp_path / "c.safetensors"), each)
            assert len(acfun.texts) == number % 2
            if number % 2:
                assert "is saved without the style" in acfun.texts[0]
    plain, styled = saved[:2]
    assert plain.keys() == styled.keys()
    assert all(torch.equal(plain[name], styled[name]) for name in plain)
    config = model.model.model_config
    assert "process_unet_state_dict_for_saving" not in vars(config)
    assert leftovers(model.model) == []
