"""The nodes' ids, labels, inputs, defaults and sockets: what saved workflows rely on."""

from __future__ import annotations

import pytest

# id: label, sockets and widgets in order with their defaults, outputs. Frozen on release.
NODES = {
    "ACFunTrainStyle": (
        "Train ACFun Style",
        {
            "model": "MODEL",
            "clip": "CLIP",
            "vae": "VAE",
            "clip_vision": "CLIP_VISION",
            "style_image": "IMAGE",
            "face_image": "IMAGE",
            "prompt": "A painting of a person in S* style",
        },
        {
            "preset": "balanced",
            "style_weight": 0.8,
            "steps": 150,
            "learning_rate": 5e-4,
            "face_weight": 1.0,
            "seed": 0,
            "resolution": 0,
            "preview_every": 50,
            "rank": 32,
            "alignment": "drawn",
            "precision": "auto",
            "gradient_checkpointing": "auto",
            "face_mask": "MASK",
            "resume_from": "ACFUN_STYLE",
            "retrain": False,
        },
        {"style": "ACFUN_STYLE", "loss": "LOSS_MAP", "previews": "IMAGE"},
    ),
    "ACFunApplyStyle": (
        "Apply ACFun Style",
        {
            "model": "MODEL",
            "clip": "CLIP",
            "style": "ACFUN_STYLE",
            "text": "A painting of a person in S* style",
            "strength": 1.0,
            "balance": 0.5,
        },
        {
            "mask": "MASK",
            "outside": "CONDITIONING",
            "applies_to": "both",
            "ease": "constant",
            "block_strengths": "",
        },
        {"model": "MODEL", "conditioning": "CONDITIONING"},
    ),
    "ACFunApplyEmbedding": (
        "Apply AFun Embedding",
        {
            "style": "ACFUN_STYLE",
            "clip": "CLIP",
            "text": "A painting of a person in S* style",
            "strength": 1.0,
        },
        {},
        {"conditioning": "CONDITIONING"},
    ),
    "ACFunApplyAdapters": (
        "Apply CFun Adapters",
        {
            "model": "MODEL",
            "style": "ACFUN_STYLE",
            "strength": 1.0,
            "encoder_strength": 1.0,
            "middle_strength": 1.0,
            "decoder_strength": 1.0,
            "start_percent": 0.0,
            "end_percent": 1.0,
        },
        {
            "mask": "MASK",
            "applies_to": "both",
            "ease": "constant",
            "block_strengths": "",
        },
        {"model": "MODEL"},
    ),
    "ACFunBlendStyles": (
        "Blend ACFun Styles",
        {"style_a": "ACFUN_STYLE", "style_b": "ACFUN_STYLE", "ratio": 0.5, "mode": "blend"},
        {},
        {"style": "ACFUN_STYLE"},
    ),
    "ACFunSaveStyle": (
        "Save ACFun Style",
        {"style": "ACFUN_STYLE", "filename_prefix": ""},
        {"preview": "IMAGE", "thumbnail": False, "author": "", "license": ""},
        {"style": "ACFUN_STYLE"},
    ),
    "ACFunLoadStyle": (
        "Load ACFun Style",
        {"style_file": "COMBO"},
        {},
        {"style": "ACFUN_STYLE"},
    ),
    "ACFunStyleSheet": (
        "ACFun Style Sheet",
        {
            "model": "MODEL",
            "clip": "CLIP",
            "vae": "VAE",
            "style": "ACFUN_STYLE",
            "text": "A painting of a person in S* style",
            "negative": "",
            "seed": 0,
            "seeds": 3,
            "steps": 20,
            "cfg": 7.0,
            "sampler_name": "euler",
            "scheduler": "normal",
            "width": 512,
            "height": 512,
        },
        {},
        {"sheet": "IMAGE", "pictures": "IMAGE"},
    ),
}
SHOWN = {"prompt", "preset", "style_weight", "steps"}
SOCKETS = {"face_mask", "resume_from"}
COMBOS = {
    "preset": [
        "quick look",
        "balanced",
        "the paper's settings",
        "custom: the numbers on this node",
    ],
    "alignment": ["staged", "drawn", "paired", "imagery", "blend"],
    "precision": ["auto", "fp32", "bf16", "fp16"],
    "gradient_checkpointing": ["auto", "on", "off"],
}
WHERE_AND_WHEN = {
    "applies_to": ["both", "positive only", "negative only"],
    "ease": ["constant", "fade in", "fade out", "fade in and out"],
}


@pytest.fixture
def described(either_server):
    """Return what a server says of the pack's nodes."""
    everything = either_server.object_info()
    return {name: info for name, info in everything.items() if info["category"] == "ACFun"}


def widget_or_type(spec):
    """Return a widget's default, or the type of a socket; a combo may have no default."""
    kind = "COMBO" if isinstance(spec[0], list) else spec[0]
    return spec[1].get("default", kind)


def options_of(spec):
    return spec[0] if isinstance(spec[0], list) else spec[1]["options"]


def test_there_are_exactly_these_nodes_with_their_labels(described):
    labels = {name: info["display_name"] for name, info in described.items()}
    assert labels == {name: content[0] for name, content in NODES.items()}
    assert list(labels) == list(NODES)  # As they are used: train, apply, blend, save, load, sheet.


def test_inputs_defaults_and_outputs_are_as_announced(described):
    for name, (_, required, optional, outputs) in NODES.items():
        info = described[name]
        inputs = info["input"]
        for group, announced in (("required", required), ("optional", optional)):
            given = {key: widget_or_type(s) for key, s in inputs.get(group, {}).items()}
            assert list(given.items()) == list(announced.items()), name
        named = dict(zip(info["output_name"], info["output"], strict=True))
        assert named == outputs, name


def test_choices_ranges_and_advanced_inputs_are_as_announced(described):
    train = described["ACFunTrainStyle"]["input"]["optional"]
    assert {name: options_of(train[name]) for name in COMBOS} == COMBOS
    shown = {name for name, spec in train.items() if not spec[1].get("advanced")}
    assert shown | {"prompt"} == SHOWN | SOCKETS
    presets = train["preset"][1]["presets"]
    assert list(presets) == COMBOS["preset"][:-1]
    assert all(list(numbers) == ["steps", "learning_rate"] for numbers in presets.values())
    assert train["seed"][1]["max"] == 2**64 - 1
    assert (train["steps"][1]["min"], train["preview_every"][1]["min"]) == (1, 0)
    assert train["resolution"][1]["step"] == 64
    hidden_on_both = {"applies_to", "ease", "block_strengths"}
    for node, others in (("ACFunApplyAdapters", {"middle_strength"}), ("ACFunApplyStyle", set())):
        inputs = described[node]["input"]
        everything = inputs["required"] | inputs["optional"]
        hidden = {name for name, spec in everything.items() if spec[1].get("advanced")}
        assert hidden == hidden_on_both | others
    adapters = described["ACFunApplyAdapters"]["input"]["required"]
    for node in ("ACFunApplyAdapters", "ACFunApplyStyle"):
        optional = described[node]["input"]["optional"]
        assert {name: options_of(optional[name]) for name in WHERE_AND_WHEN} == WHERE_AND_WHEN
    for name in ("start_percent", "end_percent"):
        assert (adapters[name][1]["min"], adapters[name][1]["max"]) == (0.0, 1.0)


def test_every_node_input_and_output_explains_itself(described):
    for name, info in described.items():
        assert len(info["description"]) > 40, name
        for group in ("required", "optional"):
            for key, spec in info["input"].get(group, {}).items():
                assert len(spec[1].get("tooltip", "")) > 10, f"{name}.{key}"
        assert all(len(tooltip) > 5 for tooltip in info["output_tooltips"]), name


def test_search_finds_nodes_by_what_they_are_for(server):
    described = server.object_info()
    words = {name: set(described[name]["search_aliases"]) for name in NODES}
    assert {"face", "style", "portrait", "stylize"} <= words["ACFunTrainStyle"]
    assert {"compare", "grid"} <= words["ACFunStyleSheet"]
    assert all(words.values())
    assert [name for name in NODES if "face" in words[name]] == ["ACFunTrainStyle"]


def test_only_save_and_sheet_are_output_nodes(described):
    outputs = {name for name, info in described.items() if info["output_node"]}
    assert outputs == {"ACFunSaveStyle", "ACFunStyleSheet"}


def test_the_training_options_default_to_what_the_method_defaults_to(acfun):
    from acfun_pack.acfun_ops.training.config import PRESETS, TrainConfig

    _, required, optional, _ = NODES["ACFunTrainStyle"]
    options = (required | optional).keys() & TrainConfig.__dataclass_fields__.keys()
    assert len(options) == 12
    for name in options:
        assert getattr(TrainConfig(), name) == (required | optional)[name], name
    balanced = PRESETS["balanced"]  # The page shows it on a fresh node.
    assert {name: getattr(TrainConfig(), name) for name in balanced} == balanced
