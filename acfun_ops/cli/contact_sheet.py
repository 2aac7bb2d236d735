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
    pictures: Sequence[Image.Image]


def contact_sheet(columns: Sequence[str], rows: Sequence[SheetRow], side: int) -> Image.Image:
    """Return a sheet with the columns' names above and the rows' labels at the left.

    Args:
        columns: a name for each column.
        rows: as many pictures in each as there are columns.
        side: each picture is resized to a square of this side in pixels.
    """
    step = side + _GAP
    width = 2 * _MARGIN + _LABEL_WIDTH + len(columns) * step
    height = 2 * _MARGIN + _HEADER + len(rows) * step
    sheet = Image.new("RGB", (width, height), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_FONT)
    for column, name in enumerate(columns):
        left = _MARGIN + _LABEL_WIDTH + column * step
        draw.text((left + side / 2, _MARGIN), name, _INK, font, anchor="ma")
    for number, row in enumerate(rows):
        top = _MARGIN + _HEADER + number * step
        lines = "\n".join(_wrapped(row.label, font))
        draw.multiline_text((_MARGIN, top + side / 2), lines, _INK, font, anchor="lm")
        for column, picture in enumerate(row.pictures):
            left = _MARGIN + _LABEL_WIDTH + column * step
            enlarged = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
            sheet.paste(enlarged, (left, top))
    return sheet


def _wrapped(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> list[str]:
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if lines[-1] and font.getlength(longer) > _LABEL_WIDTH - _GAP:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines
