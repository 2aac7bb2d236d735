"""What reports are made of: tables in Markdown, and sheets small enough to be part of a clone."""

import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from PIL import Image

from acfun_ops.file_io import write_whole

MOST_BYTES = 300_000


def format_markdown(heads: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Return a table in Markdown, with a line break at its end."""
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(map(str, cells))} |\n" for cells in lines)


def write_sheet(sheet: Image.Image, path: Path) -> None:
    """Write a JPEG of at most ``MOST_BYTES``: of lower quality, then smaller, until it fits."""
    quality = 85
    while True:
        content = io.BytesIO()
        sheet.save(content, "JPEG", quality=quality, optimize=True)
        if len(content.getvalue()) <= MOST_BYTES:
            write_whole(content.getvalue(), path, "image")
            return
        if quality > 45:
            quality -= 10
        else:
            sheet = sheet.resize(
                [round(0.9 * side) for side in sheet.size], Image.Resampling.LANCZOS
            )
