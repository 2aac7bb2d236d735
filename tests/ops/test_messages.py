"""Messages: English for who reads a log, a template and its values for a page that translates."""

import pickle
import re
from pathlib import Path

import pytest
from shown_messages import is_phrase, texts_in

from acfun_ops.errors import ACFunError
from acfun_ops.messages import Message, join_messages, to_json

OPS = Path(__file__).resolve().parents[2] / "acfun_ops"


def test_message_is_its_english_text():
    message = Message("{name} has {size:.2f} MB", name="monet", size=3.14159)
    assert message == "monet has 3.14 MB"
    assert message.template == "{name} has {size} MB"
    assert message.values == {"name": "monet", "size": "3.14"}


def test_text_without_values_is_its_own_template():
    message = Message("Write {S*} in braces.")
    assert message == message.template == "Write {S*} in braces."
    assert to_json(message) == "Write {S*} in braces."


def test_value_may_be_a_message():
    inner = Message("{count} steps", count=3)
    outer = Message("Trained: {what}.", what=inner)
    assert outer == "Trained: 3 steps."
    assert to_json(outer)["values"]["what"] == {
        "template": "{count} steps",
        "values": {"count": "3"},
    }


def test_joined_texts_stay_apart():
    joined = join_messages("\n", ["Loading.", "", Message("{n} left", n=2)])
    assert joined == "Loading.\n2 left"
    assert joined.template == "{text0}\n{text1}"
    assert list(joined.values.values()) == ["Loading.", "2 left"]
    assert join_messages(" ", ["Loading."]).template == "Loading."
    assert join_messages(" ", []) == ""


def test_message_in_a_message_is_the_same_message():
    message = Message("{n} left", n=2)
    assert Message(message) is message


def test_values_are_not_formatted_again():
    assert Message("{name} is missing", name="a {b} c") == "a {b} c is missing"


def test_error_carries_the_message_through_pickling():
    error = ACFunError("{option} is {value}; raise it.", option="steps", value=0)
    assert str(error) == "steps is 0; raise it."
    for each in (error, pickle.loads(pickle.dumps(error))):
        assert str(each) == "steps is 0; raise it."
        assert each.message.template == "{option} is {value}; raise it."
        assert each.message.values == {"option": "steps", "value": "0"}


def test_missing_value_is_an_error_of_the_programmer():
    with pytest.raises(KeyError):
        Message("{a} and {b}", a=1)


def test_the_library_speaks_of_no_socket_and_no_node():
    words = re.compile(r"[Cc]onnect|\bnode\b|\bsocket|\bIMAGE\b|\bMASK\b|Load Image|Save ACFun")
    texts = {text for path in OPS.rglob("*.py") for text in texts_in(path) if is_phrase(text)}
    assert len(texts) > 100
    assert {t for t in texts if words.search(t) and not t.startswith("Stopped after")} == set()
