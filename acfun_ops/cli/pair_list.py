"""The list of pairs of ``train-many``: a CSV file, checked whole before anything starts."""

import csv
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..errors import ACFunError
from ..image_files import read_image, read_mask
from ..images import check_images, crop_masks, resize_masks
from ..training.config import TrainConfig
from ..training.events import TrainImages

_DEFAULTS = {field.name: field.default for field in fields(TrainConfig)}
COLUMNS = ("style", "face", "name", "mask", *_DEFAULTS)
# The node's names for them, which are taken as well.
_NODE_NAMES = {"style_image": "style", "face_image": "face", "face_mask": "mask"}
_MASK_SIDE = 64  # Of SD1.x's latents: a mask is checked as a training will use it.
_FORBIDDEN = '<>:"/\\|?*'


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One line of the list."""

    name: str
    """Of the style's file, without its ending."""
    style: Path
    """The style picture's file."""
    face: Path
    """The face photo's file."""
    mask: Path | None
    """The face mask's file, if there is one."""
    config: TrainConfig
    """How it is trained."""
    out: Path
    """The style's file."""

    def pictures(self) -> TrainImages:
        """Read the pictures.

        Raises:
            ACFunError: one is missing, damaged or too small.
        """
        style, face = read_image(self.style), read_image(self.face)
        return TrainImages(
            style=style, face=face, face_mask=None if self.mask is None else read_mask(self.mask)
        )


class _CellError(ACFunError):
    """A mistake in one cell; its column comes before what is wrong."""

    def __init__(self, column: str, text: str) -> None:
        super().__init__(f"column {column}: {text}")


def read_pairs(file: Path, out: Path, defaults: Mapping[str, Any]) -> list[Pair]:
    """Read a list of pairs and check every cell and every picture of it.

    Args:
        file: CSV in UTF-8 with a header line, see ``COLUMNS``; paths are relative to its folder.
        out: folder of the styles.
        defaults: TrainConfig's options where a line says nothing.

    Raises:
        ACFunError: something is wrong; the message names the line and the column.
    """
    pairs: list[Pair] = []
    mistakes: list[str] = []
    names: dict[str, int] = {}
    for number, cells in _lines(file):
        try:
            pair = _pair(cells, file.parent.resolve(), out.resolve(), defaults)
            first = names.setdefault(pair.name.casefold(), number)
            if first != number:
                raise _CellError(
                    "name",
                    f"'{pair.name}' is also the name of line {first}. Give each line its own.",
                )
            pairs.append(pair)
        except ACFunError as error:
            mistakes.append(f"line {number}, {error}")
    if mistakes:
        more = f" ({len(mistakes) - 1} more lines have mistakes.)" if len(mistakes) > 1 else ""
        raise ACFunError(f"{file.name}, {mistakes[0]}{more}")
    if not pairs:
        raise ACFunError(f"{file.name} has no line below its header. Add one for each pair.")
    return pairs


def _lines(file: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield each line's number and its cells that are not empty, by column."""
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        raise ACFunError(
            f"{file} could not be read: {reason}. Give a CSV file in UTF-8 with the columns style "
            "and face."
        ) from error
    header = text.partition("\n")[0]
    # Spreadsheets of many countries write semicolons.
    reader = csv.reader(text.splitlines(True), delimiter=";" if ";" in header else ",")
    names = [column.strip() for column in next(reader, [])]
    columns = [_NODE_NAMES.get(name, name) for name in names]
    _check_columns(file, columns)
    for row in reader:
        cells = [cell.strip() for cell in row]
        if not any(cells):
            continue
        if len(cells) > len(columns):
            raise ACFunError(
                f"{file.name}, line {reader.line_num}, column {len(columns) + 1}: the line has "
                f"{len(cells)} cells, the header {len(columns)}. Quote a cell that has a comma."
            )
        named = zip(columns, cells, strict=False)
        yield reader.line_num, {column: cell for column, cell in named if cell}


def _check_columns(file: Path, columns: Sequence[str]) -> None:
    for column in ("style", "face"):
        if column not in columns:
            raise ACFunError(
                f"{file.name}, line 1: there is no column {column}; found {', '.join(columns)}. "
                "The first line names the columns, of which style and face are needed."
            )
    for column in columns:
        if column not in COLUMNS or columns.count(column) > 1:
            raise ACFunError(
                f"{file.name}, line 1, column {column}: expected each once and of these: "
                f"{', '.join(COLUMNS)}."
            )


def _pair(cells: Mapping[str, str], folder: Path, out: Path, defaults: Mapping[str, Any]) -> Pair:
    for column in ("style", "face"):
        if column not in cells:
            raise _CellError(column, "it is empty. Name a picture file.")
    paths = {
        column: folder / cells[column] for column in ("style", "face", "mask") if column in cells
    }
    name = cells.get("name", f"{paths['style'].stem}_{paths['face'].stem}")
    if any(sign in _FORBIDDEN or ord(sign) < 32 for sign in name) or name.startswith("."):
        raise _CellError("name", f"'{name}' is no name of a file. Use letters, digits, - and _.")
    pair = Pair(
        name=name,
        style=paths["style"],
        face=paths["face"],
        mask=paths.get("mask"),
        config=_config(cells, defaults),
        out=out / f"{name}.safetensors",
    )
    _check_pictures(pair)
    return pair


def _config(cells: Mapping[str, str], defaults: Mapping[str, Any]) -> TrainConfig:
    given: dict[str, Any] = {}
    for column in cells.keys() & _DEFAULTS.keys():
        kind: Any = type(_DEFAULTS[column])
        try:
            given[column] = kind(cells[column])
        except ValueError as error:
            expected = "a whole number" if kind is int else "a number"
            raise _CellError(column, f"'{cells[column]}' is not {expected}.") from error
    try:
        return TrainConfig(**{**defaults, **given})
    except ACFunError as error:
        # Its message opens with the option's name, but for those about the prompt.
        column = next((name for name in _DEFAULTS if str(error).startswith(name)), "prompt")
        raise _CellError(column, str(error)) from error


def _check_pictures(pair: Pair) -> None:
    column, path = "style", pair.style
    try:
        check_images(read_image(path), path.name)
        column, path = "face", pair.face
        face = read_image(path)
        check_images(face, path.name)
        column = "mask"
        if pair.mask is not None:
            resize_masks(crop_masks(read_mask(pair.mask), [face]), _MASK_SIDE)
    except ACFunError as error:
        raise _CellError(column, str(error)) from error
