"""What a style's file says to other programs, beside its facts."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from safetensors import safe_open
from tiny_styles import FACTS, sample_style, with_metadata

from acfun_ops.style.model_spec import MOST_LETTERS, PREFIX, StyleCard, card_in, model_spec
from acfun_ops.style.style import METADATA_KEY, style_bytes
from acfun_ops.style.style_file import load_style, read_facts, save_style

CARD = StyleCard(
    title="Monet \u00e9\u753b \U0001f3a8",
    author="A. N.",
    license="CC BY 4.0",
    date="2026-11-26",
    thumbnail="data:image/jpeg;base64,AAAA",
)


@pytest.fixture
def saved(tmp_path):
    path = tmp_path / "style.safetensors"
    save_style(dated_style(), path)
    return path


def dated_style():
    facts = replace(FACTS, settings={**FACTS.settings, "resolution": 64})
    return replace(sample_style(), facts=facts, card=CARD)


def metadata_of(path):
    with safe_open(path, framework="pt") as file:
        return file.metadata()


def test_the_file_has_the_keys_of_model_spec(saved):
    metadata = metadata_of(saved)
    spec = {k.removeprefix(PREFIX): v for k, v in metadata.items() if k.startswith(PREFIX)}
    assert spec.pop("description").endswith(FACTS.prompt)
    assert spec == {
        "sai_model_spec": "1.0.1",
        "architecture": "stable-diffusion-xl-v1-base/acfun",
        "implementation": "https://github.com/acfun-comfy/ComfyUI-ACFun",
        "trigger_phrase": FACTS.pseudo_word,
        "resolution": "64x64",
        **vars(CARD),
    }


def test_what_people_say_comes_back_and_changes_no_identity(saved):
    loaded = load_style(saved)
    assert loaded.card == CARD
    assert loaded.digest == replace(loaded, card=StyleCard()).digest
    assert style_bytes(loaded) == saved.read_bytes()


def test_what_nobody_said_stays_out(tmp_path):
    save_style(sample_style(), tmp_path / "style.safetensors")
    metadata = metadata_of(tmp_path / "style.safetensors")
    assert metadata[f"{PREFIX}title"] == FACTS.prompt
    for name in ("author", "license", "date", "thumbnail"):
        assert f"{PREFIX}{name}" not in metadata


@pytest.mark.slow
def test_equal_inputs_give_equal_bytes_in_many_processes():
    here = Path(__file__).resolve()
    paths = [str(here.parent), str(here.parents[1]), str(here.parents[3])]
    code = f"import hashlib, sys; sys.path += {paths}; from test_style_card import *;"
    code += "[print(hashlib.sha256(style_bytes(dated_style())).hexdigest()) for _ in range(20)]"
    hashes = []
    for _ in range(2):
        command = [sys.executable, "-c", code]
        hashes += subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert len(hashes) == 40 and len(set(hashes)) == 1


def test_half_a_surrogate_pair_leaves_a_file_that_loads(tmp_path):
    path = tmp_path / "style.safetensors"
    save_style(replace(sample_style(), card=StyleCard(author="a\ud83d")), path)
    assert load_style(path).card.author == "a?"


def test_a_file_of_the_first_release_loads_with_an_empty_card(tmp_path):
    path = tmp_path / "style.safetensors"
    facts = metadata_of_bytes(style_bytes(sample_style()), tmp_path)[METADATA_KEY]
    path.write_bytes(with_metadata(style_bytes(sample_style()), facts))
    loaded = load_style(path)
    assert loaded.card == StyleCard()
    assert loaded.digest == sample_style().digest


def metadata_of_bytes(content, folder):
    path = folder / "whole.safetensors"
    path.write_bytes(content)
    return metadata_of(path)


@pytest.mark.parametrize(
    ("family", "side", "architecture"),
    [
        ("sd1", 512, "stable-diffusion-v1/acfun"),
        ("sd2", 512, "stable-diffusion-v2-512/acfun"),
        ("sd2", 768, "stable-diffusion-v2-768-v/acfun"),
        ("sdxl", 1024, "stable-diffusion-xl-v1-base/acfun"),
        ("custom", 64, "custom/acfun"),
    ],
)
def test_families_have_their_names_of_the_ecosystem(family, side, architecture):
    spec = model_spec(family, "a S* face", "S*", side, StyleCard())
    assert spec[f"{PREFIX}architecture"] == architecture
    assert spec[f"{PREFIX}resolution"] == f"{side}x{side}"


def test_facts_are_read_without_the_weights(saved, tmp_path):
    assert read_facts(saved) == json.loads(metadata_of(saved)[METADATA_KEY])
    odd = tmp_path / "odd.safetensors"
    for content in (b"", b"text", with_metadata(style_bytes(sample_style()), "[" * 50_000)):
        odd.write_bytes(content)
        assert read_facts(odd) == {}
    assert read_facts(tmp_path / "none.safetensors") == {}


def test_long_texts_of_a_file_are_cut_and_pictures_are_not():
    texts = {"author": "a" * 30_000_000, "title": "b" * MOST_LETTERS, "thumbnail": "c" * 5000}
    card = card_in({f"{PREFIX}{name}": text for name, text in texts.items()})
    assert card.author == "a" * (MOST_LETTERS - 3) + "..."
    assert (card.title, card.thumbnail) == (texts["title"], texts["thumbnail"])
