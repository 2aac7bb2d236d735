"""No facts in a style file's metadata, however odd, do more than have it refused."""

import json
from contextlib import suppress
from dataclasses import asdict, fields

import pytest
from hypothesis import given
from hypothesis import strategies as st
from style_refusals import WHOLE, load_or_refuse, refuse
from tiny_styles import FACTS, with_metadata

from acfun_ops.style.style import StyleFacts

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=5,
)


@given(fact=st.sampled_from([field.name for field in fields(StyleFacts)]), value=JSON_VALUES)
def test_facts_of_any_kind_are_refused_or_harmless(style_path, fact, value):
    facts = asdict(FACTS) | {fact: value}
    load_or_refuse(style_path, with_metadata(WHOLE, json.dumps(facts)))


@pytest.mark.parametrize("fact", [f.name for f in fields(StyleFacts) if f.name != "shares"])
@pytest.mark.parametrize("value", [None, [], 1.5, "absent"])
def test_every_fact_is_needed_and_of_its_kind(fact, value, style_path):
    facts = {name: known for name, known in asdict(FACTS).items() if name != fact}
    if value != "absent":
        facts[fact] = value
    reason = "missing or not of the right kind|format"
    refuse(style_path, with_metadata(WHOLE, json.dumps(facts)), reason)


@pytest.mark.parametrize(
    ("fact", "value"),
    [
        ("family", "pixart"),
        ("heads", 0),
        ("heads", 65),
        ("heads", 8),
        ("steps", -1),
        ("run", "../../x"),
        ("run", "0" * 17),
    ],
)
def test_facts_out_of_range_are_refused(fact, value, style_path):
    facts = asdict(FACTS) | {fact: value}
    refuse(style_path, with_metadata(WHOLE, json.dumps(facts)), "out of range|do not fit together")


@given(text=st.text(max_size=60))
def test_metadata_of_any_text_is_refused(style_path, text):
    with suppress(UnicodeEncodeError):
        refuse(style_path, with_metadata(WHOLE, text))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "[" * 50_000, '{"format": ' + "9" * 5000 + "}", '{"format": true}'],
    ids=["empty", "open", "list", "null", "deep", "huge number", "bare"],
)
def test_metadata_that_is_no_table_of_facts_is_refused(text, style_path):
    refuse(style_path, with_metadata(WHOLE, text))


@pytest.mark.parametrize("newer", [4, 10**12])
def test_newer_format_asks_for_an_update(newer, style_path):
    content = with_metadata(WHOLE, json.dumps(asdict(FACTS) | {"format": newer}))
    refuse(style_path, content, f"has style format {newer}; .* reads up to 3. Update the pack")
