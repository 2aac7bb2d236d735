"""What the samplings of a graph say on the node that styled the model, run after run."""

from __future__ import annotations

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_execution.utils import CurrentNodeContext
from server import PromptServer

NO_PROMPT = "applies_to is negative only, and this sampling had no such prompt"
NO_STEP = "This sampling has no step between start_percent and end_percent"
NO_RANGE = "start_percent equals end_percent"
STEPS = 11  # The sixth is in the middle.


@pytest.fixture
def page(acfun, monkeypatch):
    """Return the texts that the page is sent, as (node, text); the last one stands on its node."""
    acfun.style(), acfun.style("sd1", 1)
    sent = []
    server = PromptServer.instance
    monkeypatch.setattr(
        server, "send_progress_text", lambda text, node_id: sent.append((node_id, text))
    )
    return sent


@pytest.fixture
def adapt(acfun, model, page):
    """Return a function that gives a MODEL of Apply CFun Adapters, run on an empty page."""

    def adapted(**inputs):
        styled = acfun.adapt(model, acfun.style(), **inputs)
        page[:] = [sent for sent in page if sent[1] != " "]  # Of the test before.
        return styled

    return adapted


@pytest.fixture
def draw(prompts):
    """Return a function that samples at some cfg the steps of a schedule from `first` to `last`."""

    @torch.inference_mode()
    def sample(model, cfg=3.0, first=0, last=2):
        sampling = model.get_model_object("model_sampling")
        sigmas = comfy.samplers.calculate_sigmas(sampling, "normal", STEPS)[first : last + 1]
        guider = comfy.samplers.CFGGuider(model)
        guider.set_conds(*prompts)
        guider.set_cfg(cfg)
        latent = torch.zeros(1, 4, 8, 8)
        noise = comfy.sample.prepare_noise(latent, 5)
        euler = comfy.samplers.sampler_object("euler")
        return guider.sample(noise, latent, euler, sigmas, disable_pbar=True)

    return sample


def run(prompt_id):
    """Return ComfyUI's own context of a node that is executed in a run of a graph."""
    return CurrentNodeContext(prompt_id, "sampler")


def test_what_a_run_said_goes_with_the_next_that_does_not_say_it(adapt, page, draw):
    with run("one"):
        styled = adapt(applies_to="negative only")
        draw(styled, cfg=1.0)
    assert [text.startswith(NO_PROMPT) for _, text in page] == [True]
    with run("two"):
        draw(styled)
        assert page[-1] == ("node", " ")
        draw(styled)
    assert len(page) == 2


def test_every_run_says_it_anew_and_only_once(adapt, page, draw):
    styled = adapt(applies_to="negative only")
    for prompt_id in ("one", "two"):
        page.clear()
        with run(prompt_id):
            draw(styled, cfg=1.0)
            draw(styled, cfg=1.0)
        assert [text.startswith(NO_PROMPT) for _, text in page if text != " "] == [True]


@pytest.mark.parametrize("cfgs", [(1.0, 3.0), (3.0, 1.0)])
def test_another_sampling_of_the_same_run_does_not_take_it_back(adapt, page, draw, cfgs):
    styled = adapt(applies_to="negative only")
    with run("one"):
        for cfg in cfgs:
            draw(styled, cfg=cfg)
    assert page[-1][1].startswith(NO_PROMPT)


def test_the_nodes_own_notice_stays(adapt, page, draw):
    styled = adapt(start_percent=0.5, end_percent=0.5, applies_to="negative only")
    own = page[-1][1]
    assert own.startswith(NO_RANGE)
    with run("one"):
        draw(styled, cfg=1.0, last=STEPS)
    assert page[-1][1].startswith(f"{own}\n{NO_PROMPT}")
    with run("two"):
        draw(styled, last=STEPS)
    assert page[-1][1] == own


def test_chained_nodes_speak_for_themselves(acfun, adapt, page, draw):
    one = adapt(applies_to="negative only")
    both = acfun.adapt(one, acfun.style("sd1", 1))
    first, second = (wrapper.__self__ for wrapper in both.wrappers["apply_model"]["acfun"])
    second.status.node_id = "second"
    page.clear()
    with run("one"):
        draw(both, cfg=1.0)
    assert first.status.text.startswith(NO_PROMPT) and second.status.text == ""
    assert [node for node, _ in page] == ["node"]


def test_a_sampling_without_a_step_in_the_range_is_said(adapt, model, page, draw):
    styled = adapt(end_percent=0.5)
    late = {"first": 7, "last": STEPS}
    assert torch.equal(draw(styled, **late), draw(model, **late))
    assert len(page) == 1 and page[0][1].startswith(NO_STEP)
    page.clear()
    assert not torch.equal(draw(styled), draw(model))
    draw(adapt(ease="fade out"), **late)
    assert [text for _, text in page if text != " "] == []


def test_a_sampling_of_no_step_says_nothing(adapt, page, draw):
    draw(adapt(), last=0)
    assert page == []


@pytest.mark.parametrize("ease", ["fade in", "fade in and out"])
def test_an_ease_that_leaves_a_sliver_is_said(adapt, model, page, draw, ease):
    styled = adapt(ease=ease)
    said = f"ease is {ease}, and no step of this sampling gets more than 0% of the strength."
    for first in (0, 7):
        page.clear()
        with run(str(first)):
            draw(styled, first=first, last=first + 1)
        assert [text.startswith(said) for _, text in page if text != " "] == [True]
    page.clear()
    draw(styled, last=3)
    assert [text for _, text in page if text != " "] == []


def test_a_range_that_only_begins_with_the_last_step_leaves_a_sliver(adapt, model, page, draw):
    draw(adapt(ease="fade in", start_percent=0.49), last=STEPS // 2 + 1)
    assert len(page) == 1 and "of the strength. Take more steps" in page[0][1]


def test_an_ease_runs_over_the_sampling_and_not_over_the_schedule(adapt, model, page, draw):
    late = {"first": 7, "last": 8}
    full = draw(adapt(), **late)
    assert torch.equal(draw(adapt(ease="fade out"), **late), full)
    assert torch.equal(draw(adapt(ease="fade in"), **late), draw(model, **late))
    assert not torch.equal(full, draw(model, **late))


def test_a_mask_of_other_proportions_than_what_is_sampled_is_said(adapt, page, draw):
    mask = torch.zeros(1, 64, 128)
    mask[..., :64] = 1
    styled = adapt(mask=mask)
    for _ in range(2):
        draw(styled)
        assert page[-1][1].startswith("The mask is 128 x 64 and what is sampled 64 x 64 pixels")
    for fitting in (mask[:, :, ::2], mask[:, :60, 34:100], torch.ones(1, 64, 128)):
        page.clear()
        draw(adapt(mask=fitting))
        assert page == []
