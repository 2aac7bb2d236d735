"""Sentences for users that keep their template and values, so that a page can translate them."""

from collections.abc import Iterable
from string import Formatter


class Message(str):
    """An English text that remembers what it was made of.

    ``str(message)`` is the English text. A format specification in the template is applied and
    dropped: ``Message("{size:.1f} MB", size=2.04)`` has the template ``"{size} MB"`` and the value
    ``"2.0"``.

    Args:
        template: a text with a named hole for each value; without values its braces are literal.
        values: what stands in the holes; a value may be a message itself.
    """

    template: str
    """The key of a translation, with a hole ``{name}`` for each value."""
    values: dict[str, str]
    """The text in each hole; a :class:`Message` is translated itself."""

    def __new__(cls, template: str, /, **values: object) -> "Message":
        """Fill the template."""
        if isinstance(template, Message) and not values:
            return template
        parts: list[str] = []
        texts: dict[str, str] = {}
        for text, name, spec, conversion in Formatter().parse(template) if values else ():
            hole = f"{{{name}}}" if name is not None else ""
            parts.append(text + hole)
            if name is not None:
                value = values[name]
                texts[name] = _format(repr(value) if conversion == "r" else value, spec or "")
        key = "".join(parts) if values else template
        message = super().__new__(cls, template.format(**values) if values else template)
        message.template, message.values = key, texts
        return message

    def __reduce__(self) -> tuple[object, ...]:
        """Pickle a message whole: errors travel between processes."""
        return _restore, (str(self), self.template, self.values)

    def to_json(self) -> dict[str, object]:
        """Return the template and its values as the page reads them."""
        return {
            "template": self.template,
            "values": {name: to_json(value) for name, value in self.values.items()},
        }


def join_messages(separator: str, texts: Iterable[str]) -> Message:
    """Return texts in a row, each translated on its own; empty ones are left out."""
    present = [text for text in texts if text]
    if len(present) == 1:
        return Message(present[0])
    names = [f"text{number}" for number in range(len(present))]
    holes = separator.join(f"{{{name}}}" for name in names)
    return Message(holes, **dict(zip(names, present, strict=True)))


def to_json(text: str) -> str | dict[str, object]:
    """Return a text as the page reads it: a plain string, or a template with its values."""
    return text.to_json() if isinstance(text, Message) and text.values else str(text)


def _format(value: object, spec: str) -> str:
    value = getattr(value, "message", value)  # Of an ACFunError.
    return value if isinstance(value, str) and not spec else format(value, spec)


def _restore(text: str, template: str, values: dict[str, str]) -> Message:
    message = str.__new__(Message, text)
    message.template, message.values = template, values
    return message
