"""Common parts of the studies of generators: columns of page and screen, words of verdicts, image tiles."""

import base64
import io
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import PIL.Image

from trueface.data.image_headers import BROKEN
from trueface.evaluation.over_seeds import NO_VALUE, MethodRow, SeedSummary
from trueface.report.figures import three_digits
from trueface.report.svg import breakable
from trueface.report.tables import table, table_row
from trueface.runtime.image_files import open_image

MOST_TILE_PX = 96  # larger ones are made smaller; the page enlarges small ones without smoothing
MOST_PIXELS = 1 << 26  # pixels of a picture that is read

Form = Callable[[SeedSummary], str]


def decimals(digits: int) -> Form:
    """Return a form of so many decimals, the deviation over seeds in small below."""
    return lambda value: value.cell(digits)


def short(factor: float = 1.0) -> Form:
    """Return a form in three digits without a deviation, for seconds and counts."""
    return lambda value: three_digits(value.mean * factor) + _part(value)


def percent(value: SeedSummary) -> str:
    """Return a share in percent, without a deviation."""
    return f"{100 * value.mean:.0f} %{_part(value)}"


def _part(value: SeedSummary) -> str:
    return f"<small>{value.seeds_note}</small>" if value.seeds_note else ""


def no_subtext(_: MethodRow) -> str:
    """Return an empty text below a number."""
    return ""


class StudyColumn(NamedTuple):
    """A column of a study: the key of its number in JSON, and how page and screen show it."""

    key: str
    title: str = ""  # title in the page's table, HTML; "": it is not in there
    form: Form = short()
    below: Callable[[MethodRow], str] = no_subtext  # a number that was measured, HTML
    words: Callable[[MethodRow], str] | None = None  # HTML of a text, in the place of a number
    wraps: bool = True  # its words
    screen: int = 0  # the place on the screen; 0: none
    head: str = ""  # title on the screen; "": the key

    def cell(self, row: MethodRow) -> str:
        """Return the cell of the page's table."""
        if self.words is not None:
            left = "left words" if self.wraps else "left"
            return f'<td class="{left}">{self.words(row) or NO_VALUE}</td>'
        value = row.value(self.key)
        return f"<td>{NO_VALUE if value is None else self.form(value) + self.below(row)}</td>"

    def text(self, row: MethodRow) -> str:
        """Return the cell of the screen's table."""
        if self.words is not None:
            return row.text(self.key) or NO_VALUE
        value = row.value(self.key)
        if value is None:
            return NO_VALUE
        spread = "" if value.sd is None else f" ± {value.sd:.2g}"
        return f"{value.mean:.3g}{spread}" + (f" ({value.seeds_note})" if value.seeds_note else "")


def page_table(
    first: str,
    columns: Iterable[StudyColumn],
    rows: Iterable[MethodRow],
    name: Callable[[MethodRow], str] = lambda row: breakable(row.name),
) -> str:
    """Return the table of a page; nothing where there are no rows.

    Args:
        first: title of the names.
        columns: in the page's order.
        rows: one per line.
        name: HTML of a row's name.
    """
    shown = [column for column in columns if column.title]
    lines = [table_row(name(row), (column.cell(row) for column in shown)) for row in rows]
    words = [column.title for column in shown if column.words is not None]
    head = (first, *(column.title for column in shown))
    return table(head, lines, words=words) if lines else ""


def screen_table(
    first: str, columns: Iterable[StudyColumn], rows: Iterable[MethodRow]
) -> list[tuple[str, ...]]:
    """Return the cells of the screen's table, its head first."""
    shown = sorted((each for each in columns if each.screen), key=lambda each: each.screen)
    head = (first, *(column.head or column.key for column in shown))
    return [head, *((row.name, *(column.text(row) for column in shown)) for row in rows)]


def verdicts(rows: Iterable[MethodRow], *, without: str = "") -> Iterator[str]:
    """Yield the conclusions of the measures about rows; rows with equal words are joined.

    Args:
        rows: with a `verdict`.
        without: words that are left out.
    """
    names: dict[str, list[str]] = {}
    for row in rows:
        names.setdefault(row.text("verdict"), []).append(row.name)
    for words, seeds in names.items():
        if words and words != without:
            yield f"{words[:1].upper()}{words[1:]}: {', '.join(seeds)}."


def tiles(
    path: Path, *, row: int, across: int = 0, down: int = 0, columns: Sequence[int] = ()
) -> tuple[str, ...]:
    """Return parts of an image of square tiles without margins, as data URLs; missing ones are left out.

    Args:
        path: a PNG.
        row: of tiles, from 0.
        across: number of tiles side by side, if that determines their size.
        down: number of rows, if that determines their size.
        columns: of single tiles; (): the whole row.
    """
    try:
        with open_image(path, formats=("PNG",)) as file:
            if file.width * file.height > MOST_PIXELS:
                return ()
            picture = file.convert("RGB")
    except (*BROKEN, MemoryError, zlib.error):
        return ()
    side = picture.width // across if across else picture.height // max(down, 1)
    if side < 1 or (row + 1) * side > picture.height:
        return ()
    ends = [(at, at + 1) for at in columns] or [(0, across)]
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
