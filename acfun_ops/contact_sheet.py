"""A sheet of labelled pictures in rows and columns."""

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw, ImageFont

_INK, _PAPER = (24, 24, 24), (250, 250, 248)
_GAP, _MARGIN, _LABEL_WIDTH, _HEADER, _FONT = 8, 16, 170, 30, 16


@dataclass(frozen=True)
class SheetRow:
    """A row of a contact sheet: what stands beside it, and its pictures."""

    label: str
    """What stands at the left."""
    pictures: Sequence[Image.Image | None]
    """One for each column, of any size; where there is None, its place stays empty."""


def contact_sheet(
    columns: Sequence[str],
    rows: Sequence[SheetRow],
    side: int,
    height: int | None = None,
    scale: float = 1.0,
) -> Image.Image:
    """Return a sheet with the columns' names above and the rows' labels at the left.

    Args:
        columns: a name for each column.
        rows: as many pictures in each as there are columns.
        side: each picture is resized to this width in pixels.
        height: and to this height; to a square without it.
        scale: of the labels and what is around the pictures.
    """
    high = height or side
    gap, margin, beside, header, size = (
        round(scale * length) for length in (_GAP, _MARGIN, _LABEL_WIDTH, _HEADER, _FONT)
    )
    sheet_size = (
        2 * margin + beside + len(columns) * (side + gap),
        2 * margin + header + len(rows) * (high + gap),
    )
    sheet = Image.new("RGB", sheet_size, _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(size)
    for column, name in enumerate(columns):
        left = margin + beside + column * (side + gap)
        draw.text((left + side / 2, margin), name, _INK, font, anchor="ma")
    for number, row in enumerate(rows):
        top = margin + header + number * (high + gap)
        lines = "\n".join(_wrap(row.label, font, beside - gap))
        draw.multiline_text((margin, top + high / 2), lines, _INK, font, anchor="lm")
        for column, picture in enumerate(row.pictures):
            if picture is None:
                continue
            left = margin + beside + column * (side + gap)
            resized = picture.convert("RGB").resize((side, high), Image.Resampling.LANCZOS)
            sheet.paste(resized, (left, top))
    return sheet


def _wrap(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: int) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
