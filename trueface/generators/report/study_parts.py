"""Common parts of the studies of generators: forms of numbers, words of verdicts, image tiles."""

import base64
import io
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import PIL.Image

from trueface.data.image_headers import BROKEN
from trueface.evaluation.over_seeds import MethodRow
from trueface.report.figures import three_digits
from trueface.report.study_table import Column, NumberForm, StudyEntry
from trueface.runtime.image_files import open_image

MOST_TILE_PX = 96  # larger ones are made smaller; the page enlarges small ones without smoothing
MOST_PIXELS = 1 << 26  # pixels of a picture that is read

NOT_MEASURED = "not measured"
# three digits, and a deviation in two
DIGITS = NumberForm(lambda value: f"{value:.3g}", lambda spread, _: f"{spread:.2g}")
# on a page: as short as possible
SHORT = NumberForm(three_digits, lambda spread, _: f"{spread:.2g}")
MILLISECONDS = NumberForm(
    lambda value: three_digits(1000 * value), lambda spread, _: f"{1000 * spread:.2g}"
)
PERCENT = NumberForm(lambda share: f"{100 * share:.0f} %")


def measure(
    key: str,
    title: str,
    page_form: NumberForm = SHORT,
    *,
    plain: str | None = None,
    line_below: str = "",
) -> Column:
    """Return the column of a number: its key in JSON, its title and form on a page, its title in plain text."""
    return Column(title, plain=plain, key=key, below=line_below, form=DIGITS, page_form=page_form)


def enter_number(row: MethodRow, name: str, *lines_below: str) -> StudyEntry:
    """Return the entry of a number of a row, with lines below it on a page."""
    value = row.value(name)
    if value is None:
        return StudyEntry(why=NOT_MEASURED)
    return StudyEntry(value, below=tuple(filter(None, lines_below)))


def verdicts(rows: Iterable[MethodRow], *, excluded_words: str = "") -> Iterator[str]:
    """Yield the conclusions of the measures about rows; rows with equal words are joined.

    Args:
        rows: with a `verdict`.
        excluded_words: words that are left out.
    """
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.text("verdict"), []).append(row.name)
    for words, seeds in names.items():
        if words and words != excluded_words:
            yield f"{words[:1].upper()}{words[1:]}: {', '.join(seeds)}."


def tiles(
    path: Path,
    *,
    row: int,
    columns_per_row: int = 0,
    row_count: int = 0,
    columns: Sequence[int] = (),
) -> tuple[str, ...]:
    """Return parts of an image of square tiles without margins, as data URLs; missing ones are left out.

    Args:
        path: a PNG.
        row: of tiles, from 0.
        columns_per_row: number of tiles side by side, if that determines their size.
        row_count: number of rows, if that determines their size.
        columns: of single tiles; (): the whole row.
    """
    try:
        with open_image(path, formats=("PNG",)) as file:
            if file.width * file.height > MOST_PIXELS:
                return ()
            picture = file.convert("RGB")
    except (*BROKEN, MemoryError, zlib.error):
        return ()
    side = (
        picture.width // columns_per_row if columns_per_row else picture.height // max(row_count, 1)
    )
    if side < 1 or (row + 1) * side > picture.height:
        return ()
    ends = [(at, at + 1) for at in columns] or [(0, columns_per_row)]
    return tuple(
        _url(picture.crop((left * side, row * side, right * side, (row + 1) * side)), side)
        for left, right in ends
        if right * side <= picture.width
    )


def _url(picture: PIL.Image.Image, side: int) -> str:
    if side > MOST_TILE_PX:
        width, height = (
            max(round(length * MOST_TILE_PX / side), 1)
            for length in (picture.width, picture.height)
        )
        picture = picture.resize((width, height), PIL.Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, "png", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
