"""The translations, as ComfyUI serves them to its page."""

from __future__ import annotations

import html
import json
import re
import sys
from pathlib import Path

import pytest
from shown_messages import is_phrase, texts_in
from workflow_prompts import ROOT

LANGUAGES = ("zh", "ja")
PACK_NAME = "acfun"
NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
# vue-i18n, which shows these texts, reads them as its own syntax.
SYNTAX = "{}@|$"
VALUE = re.compile(r"\{\w+\}")
IN_SCRIPTS = re.compile(r'template(?: =|:) "([^"]*)"')
NOT_SHOWN = {
    # Default prompts, and what is chosen from lists, which has its own place.
    "A painting of a person in S* style",
    "abstract of A, concrete of B",
    "positive only",
    "negative only",
    "fade in",
    "fade out",
    "fade in and out",
    "style blocks only",
    "as set below",
    "custom: the numbers on this node",
    "quick look",
    "the paper's settings",
    # Search words.
    "style transfer",
    "style prompt",
    "CLIP Text Encode",
    "style model",
    "contact sheet",
    # In files, or for the command line alone.
    "An image is of type {kind}; expected a tensor, a Pillow image, or a numpy array "
    "of unsigned integers or of floats in [0, 1]. Convert it.",
    "The image",
    "The {0} could not be written to {1}: {2}. Choose another name, in a folder that can "
    "be written.",
    "module {0} has no attribute {1}",
    "{0} could not be read as a picture: {1}. Give a whole PNG, JPEG or WebP file.",
    "{0} does not end in .png, .jpg or .webp. Choose such a name.",
    "{0} holds numbers of {1} bits from {2} to {3}, which do not say what white is. Save "
    "it as a picture of 8 or 16 bits.",
    "{0} is too large to be read: it has more than {1} pixels. Make it smaller, such as "
    "2000 pixels wide.",
    "ACFun style, trained with: {0}",
    '{0} is not installed. Run: pip install ".{1}"',
    "The installed {0} does not work, alone or with the other libraries: {1}. "
    'Run: pip install --upgrade ".[headless]"',
    # Names of models and of trainings in the list of styles.
    "Hunyuan Video",
    "LTX Video",
    "Stable Cascade",
    "Stable Video Diffusion",
    "SDXL refiner",
    "{0}/{1}, {2} steps, {3}",
    # Drawn on a style sheet.
    "abstract only",
    "encoder only",
    "decoder only",
    "seed {0}",
    "seed {0}, {1}",
    # Signs by which errors are known.
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    # Nothing but values.
    "{0}: {1}",
    "{0} {1}",
    "{0} {1} of {2}",
}


@pytest.fixture(scope="module", params=LANGUAGES)
def language(request):
    return request.param


@pytest.fixture(scope="module")
def nodes(server):
    """Return what the server says of each of our nodes."""
    return {n: info for n, info in server.object_info().items() if info["category"] == "ACFun"}


def inputs_of(info):
    return info["input"].get("required", {}) | info["input"].get("optional", {})


@pytest.fixture(scope="module")
def node_defs(server, language):
    return server.get_json("/i18n")[language]["nodeDefs"]


def test_page_gets_the_file(node_defs, language):
    path = ROOT / "locales" / language / "nodeDefs.json"
    assert node_defs == json.loads(path.read_text(encoding="utf-8"))


def test_every_node_name_and_tooltip_is_translated(nodes, node_defs):
    assert sorted(node_defs) == sorted(nodes)
    for node, info in nodes.items():
        translated, inputs = node_defs[node], inputs_of(info)
        assert translated["inputs"].keys() == inputs.keys(), node
        assert list(translated["outputs"]) == [str(i) for i in range(len(info["output"]))], node
        texts = [translated["display_name"], translated["description"]]
        for entry in [*translated["inputs"].values(), *translated["outputs"].values()]:
            texts += [entry["name"], entry["tooltip"]]
        assert all(texts), node
        assert not set(SYNTAX) & set("".join(texts)), node


def test_no_tooltip_is_older_than_the_english_one(nodes, node_defs):
    for node, info in nodes.items():
        for name, spec in inputs_of(info).items():
            english, other = spec[1]["tooltip"], node_defs[node]["inputs"][name]["tooltip"]
            assert english != other
            assert set(NUMBER.findall(english)) <= set(NUMBER.findall(other)), f"{node}.{name}"


def test_the_page_finds_the_help_in_its_language(server, nodes, language):
    for node in nodes:
        served = server.request(f"/extensions/{PACK_NAME}/docs/{node}/{language}.md").decode()
        page = ROOT / "web" / "docs" / node / f"{language}.md"
        assert served == page.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def messages(language):
    path = ROOT / "web" / "messages" / f"{language}.json"
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def texts(pack):
    """Return every text of the modules that ComfyUI loads, and of the page's scripts."""
    found = {m for name, m in sys.modules.items() if name.startswith(f"{pack.__name__}.")}
    paths = sorted({Path(m.__file__) for m in found if m.__file__})
    assert {"train_style.py", "file_io.py"} <= {path.name for path in paths}
    scripts = [path.read_text(encoding="utf-8") for path in (ROOT / "web").glob("*.js")]
    in_scripts = [m for s in scripts for m in IN_SCRIPTS.findall(s)]
    assert in_scripts
    return {text for path in paths for text in texts_in(path)} | set(in_scripts)


def test_every_message_has_its_translation(texts, messages):
    assert {text for text in texts if is_phrase(text)} - NOT_SHOWN - messages.keys() == set()


def test_no_translation_is_of_a_message_that_is_no_more(texts, messages):
    assert messages.keys() - texts == set()


def test_no_text_for_python_users_alone_is_one_that_is_no_more():
    paths = [*(ROOT / "acfun_ops").rglob("*.py"), *(ROOT / "nodes").rglob("*.py")]
    assert NOT_SHOWN - {text for path in paths for text in texts_in(path)} == set()


def test_translated_messages_hold_the_same_values_and_numbers(messages):
    for english, other in messages.items():
        assert sorted(VALUE.findall(english)) == sorted(VALUE.findall(other)), english
        numbers = set(NUMBER.findall(VALUE.sub("", english)))
        assert numbers <= set(NUMBER.findall(VALUE.sub("", other))), english


def test_messages_name_inputs_as_the_page_does(messages, nodes, node_defs):
    for node, info in nodes.items():
        for name in inputs_of(info).keys() & messages.keys():
            assert messages[name].startswith(node_defs[node]["inputs"][name]["name"]), name


def filled(message):
    """Return the English text of a message as the page gets it."""
    if isinstance(message, str):
        return message
    return VALUE.sub(lambda hole: filled(message["values"][hole[0][1:-1]]), message["template"])


def templates_in(message):
    if isinstance(message, str):
        yield message
        return
    yield message["template"]
    for value in message["values"].values():
        yield from templates_in(value)


def test_the_page_gets_each_text_with_its_templates(acfun, messages):
    acfun.messages.clear()
    acfun.train(steps=2, seed=86)
    sent = acfun.messages
    assert len(sent) > 3
    for data in sent:
        assert html.escape(filled(data["message"]), quote=False) == data["text"]
    known = {template for data in sent for template in templates_in(data["message"])}
    assert {"Trained {step} steps.", "step {step} of {total}, loss {loss}"} <= known
    phrases = {t for t in known if is_phrase(VALUE.sub("value", t)) and "{" in t}
    names = re.compile(r"(\{text\d+\}[ \n]?)+")  # Texts in a row, each translated by itself.
    assert {t for t in phrases if not names.fullmatch(t)} - messages.keys() == set()


def test_an_error_on_a_node_keeps_its_template(acfun):
    with pytest.raises(acfun.error):
        acfun.train(steps=0)
    message = acfun.messages[-1]["message"]
    assert message["template"].startswith("{option} is {value}; expected {low}")
    assert message["values"]["option"] == "steps"
