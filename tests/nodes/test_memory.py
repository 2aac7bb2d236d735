"""Training on a simulated card: what it holds, what it leaves, where ComfyUI keeps weights."""

from __future__ import annotations

import gc
import json
import re
import weakref
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import comfy.model_management as mm
import pytest
import torch
from comfy.model_patcher import ModelPatcher
from simulated_card import CARD, CPU, simulated_card
from simulated_training import GIB, Settings, train
from simulated_training import simulation as simulation_of
from tiny_text_encoders import build_clip
from torch import nn


@pytest.fixture(autouse=True)
def pack_is_imported(acfun):
    """Import the pack before the card is there."""


@contextmanager
def simulation(*arguments, **options):
    """Count encoders of full size, also where other tests of the process have shortened them."""
    import short_encoders

    with (
        mock.patch.object(short_encoders, "LAYERS", 100),
        simulation_of(*arguments, **options) as simulated,
    ):
        yield simulated


def figures_of(settings, asking=False):
    """Train; with `asking`, on weights that ask for gradients, as before August 2026."""
    with simulation(settings) as (card, sockets):
        if asking:
            with torch.inference_mode():
                sockets["model"].model.diffusion_model.requires_grad_(True)
        return train(settings, card, sockets)


def test_checkpointed_sd1_fits_a_card_of_four_gigabytes():
    figures = figures_of(Settings(checkpointing="auto", total=3.4 * GIB))
    assert figures.outcome == "finished"
    assert figures.peak < 3.4 * GIB
    assert "checkpointing on" in figures.texts[0]
    # What is drawn before the first step needs no more than the steps that the plan is made for.
    assert figures.weights < figures.redrawing < figures.steps[-1].peak
    assert figures.steps[-1].syncs == 1


def test_a_large_card_trains_without_checkpointing_as_planned():
    figures = figures_of(Settings(checkpointing="auto", alignment="staged"))
    assert figures.texts == ["SD1.x at 512: about 3.9 GB, checkpointing off"]
    assert figures.peak / GIB == pytest.approx(3.9, abs=0.3)
    assert figures.steps[-1].syncs == 1


def test_weights_that_ask_for_gradients_collect_none_and_ask_again_afterwards():
    # In main memory, where they stay ComfyUI's own.
    settings = Settings(state="NO_VRAM", side=64, steps=1, alignment="staged")
    figures = figures_of(settings, asking=True)
    assert figures.gradients == []
    assert figures.asking > 600


@pytest.mark.parametrize(
    "changes",
    [{"state": "NO_VRAM"}, {"state": "LOW_VRAM", "alignment": "staged", "steps": 1}],
    ids=lambda changes: changes["state"],
)
def test_weights_in_main_memory_train(changes):
    figures = figures_of(Settings(checkpointing="auto", side=64, total=1.5 * GIB, **changes))
    assert figures.outcome == "finished"
    assert figures.weights < 0.8 * GIB
    assert figures.peak < 1.5 * GIB
    assert "in main memory" in figures.texts[0]
    assert figures.gradients == []


def test_fp8_weights_checkpoint_by_default():
    how = {"weights": "fp8", "text_weights": "fp8", "side": 64, "alignment": "staged"}
    figures = figures_of(Settings(checkpointing="auto", steps=1, **how))
    assert figures.outcome == "finished"
    assert "checkpointing on" in figures.texts[0]
    off = figures_of(Settings(checkpointing="off", steps=2, **how))
    assert figures.saved < off.saved / 2
    planned = float(re.search(r"about ([\d.]+) GB", off.texts[0])[1])
    assert off.peak / GIB == pytest.approx(planned, rel=0.15)  # Each cast weight is counted.


class Inference(nn.Module):
    """A layer as a patch loads it: weights of inference mode, out of every module's sight."""

    def __init__(self):
        super().__init__()
        with torch.inference_mode():
            self.weights = {width: torch.eye(width) * 1.1 for width in (320, 768)}

    def __call__(self, q, k, v, extra_options):
        return q, k @ self.weights[k.shape[-1]], v @ self.weights[v.shape[-1]]


@pytest.mark.parametrize("kind", ["attn1_patch", "attn2_patch", "output", "wrapper"])
@pytest.mark.parametrize("checkpointing", ["on", "off"])
def test_a_patch_with_weights_of_its_own_is_trained_through(acfun, comfy, kind, checkpointing):
    model = comfy.checkpoint("sd1")[0].clone()
    patch = Inference()
    if kind == "output":
        model.set_model_attn2_output_patch(lambda x, options: x @ patch.weights[x.shape[-1]])
    elif kind == "wrapper":
        with torch.inference_mode():
            gain = torch.full((1,), 1.1)
        model.set_model_unet_function_wrapper(
            lambda apply, call: gain * apply(call["input"], call["timestep"], **call["c"])
        )
    else:
        getattr(model, f"set_model_{kind}")(patch)
    options = {"gradient_checkpointing": checkpointing, "steps": 1}
    losses = acfun.train(model=model, **options)[1]
    assert torch.isfinite(torch.tensor(losses)).all()
    assert losses != acfun.losses(**options)


def test_no_patch_of_a_training_stays_for_the_next(acfun):
    options = {"gradient_checkpointing": "on", "steps": 1}
    assert acfun.train(**options)[1] == acfun.losses(**options)


def test_an_fp8_text_encoder_trains(acfun, comfy):
    clip = comfy.checkpoint("sd1")[1]
    half = clip.clone()
    before = clip.cond_stage_model
    with torch.inference_mode():
        import copy

        half.cond_stage_model = copy.deepcopy(before).to(torch.float8_e4m3fn)
        half.patcher = type(clip.patcher)(
            half.cond_stage_model, clip.patcher.load_device, clip.patcher.offload_device
        )
    losses = acfun.train(clip=half)[1]
    assert torch.isfinite(torch.tensor(losses)).all()


def test_the_plan_says_no_more_than_the_card_has(acfun):
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.nodes.comfyui.memory import plan_memory
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    settings = Settings(family="sdxl", total=7.2 * GIB)
    with simulation(settings) as (_, sockets), training_backbone(**sockets, dtype=None) as backbone:
        config, sentence = plan_memory(backbone, TrainConfig())
    assert config.gradient_checkpointing == "on"
    assert sentence.startswith("SDXL at 1024: about 6.8 GB, checkpointing on, ")
    assert sentence.endswith("GB of weights in main memory (slower)")


def counted_rows():
    """Return the table of transformers."""
    results = Path(__file__).parents[2] / "evaluation" / "results"
    return json.loads((results / "memory_of_transformers.json").read_text())


def plan_of(row, free=300, **changes):
    """Return the plan's GB and its whole sentence for a row of the table, on `free` GiB."""
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.nodes.comfyui.memory import plan_memory

    facts = row | changes
    dtype = {"fp8": torch.float8_e4m3fn, "bf16": torch.bfloat16}[facts["weights"]]
    with simulated_card(free * GIB):
        weights = torch.empty(int(row["parameters, B"] * 1e9), dtype=dtype)
        encoder = SimpleNamespace(load_device=CARD, model_size=lambda: 8 * GIB)
        size = facts["weights on the card"] * GIB
        backbone = SimpleNamespace(
            family=row["family"],
            device=CARD,
            compute_dtype=torch.bfloat16,
            network=SimpleNamespace(
                module=SimpleNamespace(dtype=dtype, parameters=lambda: [weights])
            ),
            patcher=SimpleNamespace(load_device=CARD, model_size=lambda: size),
            clip=SimpleNamespace(patcher=encoder),
            insert_points=lambda where: {
                "all": SimpleNamespace(channels=facts["channels of all adapters"])
            },
        )
        checkpointing = facts["checkpointing"]
        config = TrainConfig(resolution=row["side"], gradient_checkpointing=checkpointing)
        sentence = plan_memory(backbone, config)[1]
    return float(re.search(r"about ([\d.]+) GB", sentence)[1]), sentence


@pytest.mark.parametrize(
    "row", counted_rows(), ids=lambda row: " ".join(map(str, list(row.values())[:5]))
)
def test_the_plan_of_a_transformer_is_what_was_counted_without_its_text_encoder(row):
    planned, _ = plan_of(row)
    assert row["peak"] - 0.05 <= planned <= 1.1 * row["peak"] + 0.1


def counted(family, side):
    return next(r for r in counted_rows() if (r["family"], r["side"]) == (family, side))


def test_a_transformer_fits_the_cards_that_it_was_counted_for():
    for family, side, free in (("zimage", 1024, 11.8), ("flux2", 512, 7.2), ("flux", 512, 15.0)):
        assert "main memory" not in plan_of(counted(family, side), free)[1]
    planned, sentence = plan_of(counted("flux", 1024), 15.0)
    assert 14 < planned < 15
    assert sentence.endswith("GB of weights in main memory (slower)")


def test_a_larger_model_of_a_family_needs_more():
    row = counted("flux2", 1024)
    larger = plan_of(row, **{"channels of all adapters": 2 * row["channels of all adapters"]})
    need = plan_of(row)[0] - row["weights on the card"]
    assert larger[0] == pytest.approx(row["weights on the card"] + 2 * need, abs=0.11)


def test_quantised_weights_checkpoint_by_default():
    row = counted("zimage", 512) | {"weights": "bf16", "checkpointing": "auto"}
    assert "checkpointing on" in plan_of(row)[1]  # As GGUF: it gives another dtype than it holds.
    assert "checkpointing off" in plan_of(row, **{"weights on the card": 11.46})[1]


def test_the_plan_passes_over_a_loaded_model_that_died(acfun):
    from acfun_pack.acfun_ops.training.config import TrainConfig
    from acfun_pack.nodes.comfyui.memory import plan_memory
    from acfun_pack.nodes.comfyui.training_models import training_backbone

    settings = Settings(total=3.4 * GIB)
    with simulation(settings) as (_, sockets), training_backbone(**sockets, dtype=None) as backbone:
        plan = plan_memory(backbone, TrainConfig())
        patcher = backbone.patcher
        devices = patcher.load_device, patcher.offload_device
        other = type(patcher)(torch.nn.Linear(1, 1), *devices)
        dead = mm.LoadedModel(other)
        dead.real_model = weakref.ref(other.model)
        del other
        gc.collect()
        assert dead.model is None
        mm.current_loaded_models.append(dead)  # The simulated card's own list.
        assert plan_memory(backbone, TrainConfig()) == plan


def test_a_model_that_dies_beside_the_simulated_card_leaves_nothing_in_comfyuis_list():
    device = torch.device("cpu")
    patcher = ModelPatcher(nn.Linear(1, 1), device, device)
    mm.load_models_gpu([patcher])
    loaded = mm.current_loaded_models
    (entry,) = (each for each in loaded if each.model is patcher)
    with simulated_card():
        del patcher
        gc.collect()
        assert entry.model is None and any(each is entry for each in loaded)
    assert mm.current_loaded_models is loaded
    assert not any(each is entry for each in loaded)


def test_a_text_encoder_leaves_the_card_once_it_has_encoded_and_the_network_stays():
    from acfun_pack.nodes.comfyui.offset_encoder import OffsetEncoder

    on_card = mock.patch.object(mm, "text_encoder_device", lambda: CARD)
    with simulated_card(), torch.inference_mode(), on_card:
        clip, network = build_clip("zimage"), ModelPatcher(nn.Linear(8, 8), CARD, CPU)
        mm.load_models_gpu([network])
        encoder = OffsetEncoder(clip, "zimage", 64, CARD)
        encoder.zero_offsets("style")
        assert encoder.encode("a hat", "S*", {}).tokens.device == CARD
        assert [loaded.model for loaded in mm.current_loaded_models] == [network]
        assert {weight.device for weight in clip.cond_stage_model.parameters()} == {CPU}
