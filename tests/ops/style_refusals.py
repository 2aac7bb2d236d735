"""What may become of a damaged style file: a refusal that names it, or a style that can be used."""

from pathlib import Path

import pytest
import torch
from tiny_styles import sample_style

from acfun_ops.errors import ACFunError
from acfun_ops.style.style import Style, StyleFacts, style_bytes
from acfun_ops.style.style_file import load_style

NAME = "my style.safetensors"
WHOLE = style_bytes(sample_style())


def refuse(path: Path, content: bytes, reason: str = "") -> None:
    """Expect that the file is refused with a message that names it and gives the reason."""
    path.write_bytes(content)
    with pytest.raises(ACFunError, match=rf"^my style\.safetensors .*{reason}"):
        load_style(path)


def load_or_refuse(path: Path, content: bytes) -> None:
    """Expect a style that can be used, or a refusal that names the file."""
    path.write_bytes(content)
    try:
        style = load_style(path)
    except ACFunError as error:
        assert str(error).startswith(NAME)
        return
    assert_usable(style)


def assert_usable(style: Style) -> None:
    """Expect that a style can be applied and saved."""
    assert isinstance(style, Style)
    assert isinstance(style.facts, StyleFacts)
    text = torch.zeros(1, 2, style.context_width)
    assert style.abstract_fusion()(text, style.style_tokens).shape == text.shape
    for block, insert in style.inserts().items():
        assert insert(torch.zeros(1, style.block_widths[block], 2, 2)).shape[-1] == 2
    style_bytes(style)
