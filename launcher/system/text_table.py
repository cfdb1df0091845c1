"""Lines of text with styles, and tables of such lines, independent of the renderer.

Text is measured in columns of a terminal, and shortened so that texts remain distinguishable.
"""

import sys
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from enum import StrEnum
from functools import lru_cache
from itertools import groupby, zip_longest
from textwrap import wrap
from typing import Any, NamedTuple

from launcher.system.lazy_regex import compile_lazily
from launcher.system.text import sanitize_terminal

ELLIPSIS = "…"
ADVICE = "→ "  # prefix of advice; further lines are indented by its width
_MARKS = frozenset({"Mn", "Me"})  # categories of characters that are drawn over the previous one
# parts of a name: words, numbers, and the characters between them
_PARTS = compile_lazily(r"\w+|\W")
# parameters and values are whole
_PARTS_OF_SWEPT = compile_lazily(r"[\w.-]+(?==)|(?<==)[^\s,]+|\w+|\W")


def width_of(text: str) -> int:
    """Return how many columns a terminal needs for a text; a wide character takes two."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


@lru_cache(maxsize=1024)
def _width(char: str) -> int:
    if unicodedata.category(char) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def text_prefix(text: str, width: int) -> str:
    """Return the longest beginning of a text that fits into this many columns."""
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for place, char in enumerate(text):
        taken += width_of(char)
        if taken > width:
            return text[:place]
    return text


def shorten(text: str, width: int, *, middle: bool = False) -> str:
    """Return a text in at most this many columns; its end, or its middle, becomes an ellipsis."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    if not middle or width < 5:
        return text_prefix(text, width - 1) + ELLIPSIS
    tail = (width - 1) // 2
    return text_prefix(text, width - 1 - tail) + ELLIPSIS + text_prefix(text[::-1], tail)[::-1]


def fold(text: str, width: int) -> list[str]:
    """Return a text in pieces of at most this many columns, broken at any character; there is at least one."""
    if width_of(text) <= width:
        return [text]
    if text.isascii():
        return [text[at : at + width] for at in range(0, len(text), width)]
    pieces, piece, taken = [], "", 0
    for char in text:
        needed = width_of(char)
        if taken + needed > width and piece:
            pieces.append(piece)
            piece, taken = "", 0
        piece += char
        taken += needed
    return [*pieces, piece]


def distinguish_names(names: Iterable[str], width: int) -> dict[str, str]:
    """Return each name in at most this many columns; parts that many names share are cut first.

    Args:
        names: the names on one screen.
        width: columns; below about 8 there may be no room for a difference.
    """
    shown = {name: shorten(name, width, middle=True) for name in names}
    families: dict[str, dict[str, list[str]]] = {}  # first word → name → its parts
    for name in filter(None, shown):
        parts = (_PARTS_OF_SWEPT if _is_swept(name) else _PARTS).findall(name)
        families.setdefault(parts[0], {})[name] = parts
    for family in families.values():
        distinct = len({shown[name] for name in family}) == len(family)
        # the names of a program keep each value that differs
        if distinct and not any(map(_is_swept, family)):
            continue
        times = Counter(
            part for parts in family.values() for part in set(_with_preceding_words(parts))
        )
        for name, parts in family.items():
            if shown[name] == name:
                continue
            shared: list[float] = [times[part] for part in _with_preceding_words(parts)]
            if _is_swept(name):
                _keep_parameters(parts, shared, len(family))
            shown[name] = _without_shared(parts, shared, width)
    return shown


def _is_swept(name: str) -> bool:
    """Return whether a name is that of a program with parameters. Other names begin with their kind and a slash."""
    return "=" in name and "/" not in name


def _keep_parameters(parts: Sequence[str], parameters: list[float], family: int) -> None:
    """Have what is alike cut before a parameter with a value that not all have, and that before the value.

    Args:
        parts: parts of a name.
        parameters: how many names have each part; changed in its place.
        family: how many names there are.
    """
    for at, part in enumerate(parts[:-1]):
        if part == "=" and at and (parameters[at + 1] < family or family == 1):
            parameters[at - 1] = parameters[at] = parameters[at] - 0.5
            parameters[at + 1] -= 0.75


def _with_preceding_words(parts: Iterable[str]) -> list[tuple[str, str]]:
    """Return each part of a name with the word before it: the same number may mean another thing."""
    word = ""
    places = []
    for part in parts:
        word = part if part[0].isalpha() else word
        places.append((word, part))
    return places


def _without_shared(parts: Sequence[str], times: Sequence[float], width: int) -> str:
    """Return a name in this many columns; its parts lose their middle that most names have, too."""
    for least in sorted(set(times), reverse=True):
        pieces = [
            (is_shared, "".join(part for part, _ in run))
            for is_shared, run in groupby(
                zip(parts, times, strict=True), key=lambda part: part[1] >= least
            )
        ]
        rooms = [width_of(text) for _, text in pieces]
        shared = [at for at, (is_shared, _) in enumerate(pieces) if is_shared]
        while sum(rooms) > width:
            widest = max(shared, key=lambda index: rooms[index])
            if rooms[widest] == 1:
                break
            rooms[widest] -= 1
        else:
            return "".join(
                shorten(text, room, middle=True)
                for (_, text), room in zip(pieces, rooms, strict=True)
            )
    return shorten("".join(parts), width, middle=True)


GAP = 2  # columns between two cells
_NARROW = 8  # columns in which no text is broken into lines


class TextStyle(StrEnum):
    """The role of a piece of text. The screen defines its appearance, which is never the only sign of the role."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    HEAD = "head"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    OURS = "ours"
    OTHERS = "others"
    RESERVED = "promised"
    CHOSEN = "chosen"


class TextSpan(NamedTuple):
    """A piece of a line."""

    text: str
    style: TextStyle = TextStyle.PLAIN


class TextLine(NamedTuple):
    """A line of a screen, without a line break; `job` is the number of its job, if it has one."""

    spans: tuple[TextSpan, ...]
    job: int | None = None

    @property
    def text(self) -> str:
        """The line without its styles."""
        return "".join(span.text for span in self.spans)

    def truncate(self, width: int) -> "TextLine":
        """Return the line with at most this many columns, cut with an ellipsis."""
        if width_of(self.text) <= width:
            return self
        kept: list[TextSpan] = []
        left = width - 1
        for span in self.spans:
            text = text_prefix(span.text, left)
            if text != span.text:
                return TextLine((*kept, TextSpan(text + ELLIPSIS, span.style)), self.job)
            kept.append(span)
            left -= width_of(text)
        return self


Cell = str | int | TextSpan | TextLine  # cell of a table; a line if it consists of several spans


class Column(NamedTuple):
    """A column of a table."""

    title: str = ""
    right: bool = False  # the column's cells end together
    drop: int = 0  # if there is no room, the columns with the highest number go first; 0 stays
    least: int = 0  # smallest width in columns; 0 if it never shrinks
    # part of the screen's width that the column keeps until names are at their least
    fair: float = 0.0
    middle: bool = False  # the column's cells are names: they shrink last, by what they share
    mark: int = 0  # characters before each of these names
    others: tuple[str, ...] = ()  # names elsewhere on the screen, from which they differ, too
    rows: int = 1  # most lines of a text in the last column; 0 if unlimited
    # returns the cell of a row; None if rows contain cells
    cell_of: Callable[[Any], Cell] | None = None
    key: str = ""  # the column's name on a page

    @property
    def name(self) -> str:
        """Its key, or its title in lower case if it has no key."""
        return self.key or self.title.lower()


class TextTable(NamedTuple):
    """Rows and columns, independent of the renderer: a screen, a pipe, a text, a page."""

    columns: Sequence[Column]
    rows: Collection[Any]
    jobs: Sequence[int] = ()  # jobs of the rows; none if the rows are not about jobs
    notes: Sequence[TextLine] = ()  # lines below the table
    whole: bool = False  # columns with a title are kept even without text or rows
    narrower: "Callable[[], TextTable] | None" = None  # replaces the table if it does not fit
    # names below the table the columns without room
    left_out: Callable[[Sequence[str]], str] | None = None

    @property
    def cells(self) -> list[Sequence[Cell]]:
        """The rows, with a cell for each column."""
        return [
            [
                row[at] if each.cell_of is None else each.cell_of(row)
                for at, each in enumerate(self.columns)
            ]
            for row in self.rows
        ]

    @property
    def titles(self) -> tuple[str, ...]:
        """The names of its columns, for people."""
        return tuple(column.title for column in self.columns)

    def to_lines(self, width: int = sys.maxsize) -> list[TextLine]:
        """Return it as aligned lines, after the titles if there are any.

        Columns without text in any row are left out. If the others do not fit, optional columns are
        dropped first. Then the columns that may shrink do so, names last.
        """
        if self.narrower and any(width_of(row.text) > width for row in _lay_out(self, sys.maxsize)):
            return self.narrower().to_lines(width)
        return [*_lay_out(self, width), *(note.truncate(width) for note in self.notes)]


def text_columns(*titles: str, numbers: Collection[int] = (), least: int = 0) -> tuple[Column, ...]:
    """Return columns of texts and of numbers. Numbers end together. A column has the same width on every screen.

    Args:
        titles: may be empty.
        numbers: which columns hold some.
        least: the width to which the last column shrinks, with its texts wrapped, or 0 if it does not.
    """
    columns = [Column(title, right=at in numbers) for at, title in enumerate(titles)]
    return (*columns[:-1], *(column._replace(least=least, rows=0) for column in columns[-1:]))


def table_of_texts(
    titles: Sequence[str], rows: Sequence[Sequence[Cell]], numbers: Collection[int] = ()
) -> TextTable:
    """Return a table all of whose columns are shown."""
    return TextTable(text_columns(*titles, numbers=numbers), rows, whole=True)


def text_of(cell: Cell) -> str:
    """Return a cell without its styles."""
    return cell.text if isinstance(cell, TextSpan | TextLine) else sanitize_terminal(str(cell))


def _line_of(cell: Cell) -> TextLine:
    if isinstance(cell, TextLine):
        return cell
    return TextLine((cell if isinstance(cell, TextSpan) else TextSpan(text_of(cell)),))


def line(text: str, style: TextStyle = TextStyle.PLAIN, job: int | None = None) -> TextLine:
    """Return a line of one piece."""
    return TextLine((TextSpan(text, style),), job)


def join_spans(parts: Iterable[TextSpan]) -> TextLine:
    """Return a line of parts with a dot between two."""
    spans = [span for part in parts for span in (TextSpan(" · "), part)]
    return TextLine(tuple(spans[1:]))


def _lay_out(table: TextTable, width: int) -> list[TextLine]:
    columns, whole = table.columns, table.whole
    listed = [[*map(_line_of, row)] for row in table.cells]
    if not listed and not whole:
        return []
    shown = [
        index
        for index, column in enumerate(columns)
        if (whole and column.title) or any(cells[index].text.strip() for cells in listed)
    ] or [0]
    widths = {
        index: max(map(width_of, (columns[index].title, *(row[index].text for row in listed))))
        for index in shown
    }
    fewest = {index: min(columns[index].least or wide, wide) for index, wide in widths.items()}
    filled = [columns[index].title for index in shown]
    while _total_width(shown, fewest) > width and any(columns[index].drop for index in shown):
        shown.remove(max(shown, key=lambda index: columns[index].drop))
    _shrink(columns, shown, widths, width)
    for index in shown:
        if columns[index].middle:
            _distinguish(listed, index, columns[index], widths[index])
    layout = [(columns[index], widths[index]) for index in shown]
    titles = [line(column.title, TextStyle.HEAD) for column, _ in layout]
    lines = [_row(layout, titles, None)] if any(title.text for title in titles) else []
    last, wide = layout[-1]
    begin = _total_width(shown, widths) - wide
    if not last.rows:
        width = max(width, begin + wide)
    for row, job in zip_longest(listed, table.jobs):
        *cells, cell = (row[index] for index in shown)
        first, *rest = _wrap_cell(cell, last.rows, min(wide, width - begin))
        lines.append(_row(layout, [*cells, first], job))
        lines += [TextLine((TextSpan(" " * begin), *piece.spans), job) for piece in rest]
    if begin + wide > width:
        lines = [row.truncate(width) for row in lines]
    if table.left_out:
        whole_titles = {title.strip() for title in lines[0].text.split(" " * GAP)}
        if hidden := [title for title in filled if title not in whole_titles]:
            lines += [line(""), line(table.left_out(hidden))]
    return lines


def _distinguish(rows: list[list[TextLine]], index: int, column: Column, width: int) -> None:
    """Bring the names of a column into so many columns of the screen."""
    names = [cells[index].text[column.mark :] for cells in rows]
    room = width - column.mark
    if max(map(width_of, names), default=0) <= room:
        return
    shown = distinguish_names([*names, *column.others], room)
    for cells, name in zip(rows, names, strict=True):
        mark = cells[index].text[: column.mark]
        cells[index] = line(mark + shown[name], cells[index].spans[0].style)


def _wrap_cell(cell: TextLine, rows: int, width: int) -> list[TextLine]:
    """Break a cell of the last column into lines.

    Of one of two pieces, the second stays whole: the first loses its end.
    """
    if rows == 1 or width < _NARROW or width_of(cell.text) <= width:
        return [cell]
    if not rows:
        mark = ADVICE if cell.text.startswith(ADVICE) else ""
        text = cell.text.removeprefix(mark)
        first, *further = wrap(text, width - len(mark), break_on_hyphens=False)
        pieces = [mark + first, *(" " * len(mark) + piece for piece in further)]
        return [line(piece, cell.spans[0].style) for piece in pieces]
    most = 4 * width * rows  # a program's message may be very long
    if len(cell.spans) > 1:
        text, tail = (" ".join(span.text.split()) for span in cell.spans)
        forms = _with_tail(shorten(text, most), tail)
    else:
        forms = _without_middle(shorten(cell.text, most, middle=True), width, rows)
    pieces = []
    for text in forms:
        pieces = _wrap_words(text, width)
        if len(pieces) <= rows:
            break
    return [line(piece, cell.spans[0].style) for piece in pieces[:rows]]


def _without_middle(text: str, width: int, rows: int) -> Iterator[str]:
    """Give shorter and shorter forms of a text for this many lines: its end says what to do."""
    yield text
    words = text.split(" ")
    longest = max(range(len(words)), key=lambda index: width_of(words[index]))
    whole = words[longest]
    for room in range(width_of(whole), width - 1, -1):
        # a name that fills lines loses its middle before a word is left out beside it
        words[longest] = shorten(whole, room, middle=True)
        yield " ".join(words)
    while len(words) > 2:
        # no number is cut in two
        del words[len(words) // 2]
        half = (len(words) + 1) // 2
        yield " ".join([*words[:half], ELLIPSIS, *words[half:]])
    for room in range(width * rows - 1, 0, -1):  # a word that is longer than all that
        yield shorten(text, room, middle=True)


def _with_tail(text: str, tail: str) -> Iterator[str]:
    """Yield shorter and shorter forms of a text with its tail; only the end of the text is left out."""
    yield f"{text} {tail}"
    words = text.split(" ")
    for kept in range(len(words) - 1, 1, -1):
        yield " ".join([*words[:kept], ELLIPSIS, tail])
    for room in range(width_of(text), 0, -1):  # a word that is longer than all that
        yield f"{shorten(text, room)} {tail}"
    yield tail


def _wrap_words(text: str, width: int) -> list[str]:
    """Break a text into lines, between words if that is possible; there is at least one."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if width_of(joined) <= width:
            lines[-1] = joined
            continue
        lines[-1:] = [*filter(None, lines[-1:]), *fold(word, width)]
    return lines


def _total_width(shown_columns: Sequence[int], widths: dict[int, int]) -> int:
    return sum(widths[index] for index in shown_columns) + GAP * max(0, len(shown_columns) - 1)


def _shrink(
    columns: Sequence[Column], shown_columns: Sequence[int], widths: dict[int, int], width: int
) -> None:
    """Take from the widest of the columns that may shrink until all fit, or none can any more.

    A name distinguishes rows, and users type it. So other columns shrink first, but not below their
    fair part of the width.
    """
    fair = {
        index: max(columns[index].least, int(columns[index].fair * width))
        for index in shown_columns
    }
    while _total_width(shown_columns, widths) > width:
        able = [index for index in shown_columns if 0 < columns[index].least < widths[index]]
        if not able:
            return
        others = [index for index in able if not columns[index].middle]
        names = [index for index in able if columns[index].middle]
        able = [index for index in others if fair[index] < widths[index]] or names or others
        widths[max(able, key=lambda index: widths[index])] -= 1


def _row(
    layout: Sequence[tuple[Column, int]], cells: Sequence[TextLine], job: int | None
) -> TextLine:
    spans: list[TextSpan] = []
    for (column, width), cell in zip(layout, cells, strict=True):
        left = width - width_of(cell.text)
        padding = TextSpan(" " * left)
        pieces = cell.spans if left >= 0 else cell.truncate(width).spans
        spans += [padding, *pieces] if column.right else [*pieces, padding]
        spans.append(TextSpan(" " * GAP))
    while spans and not spans[-1].text.strip():
        spans.pop()
    return TextLine(tuple(span for span in spans if span.text), job)


# --- texts without tones


def columns(rows: Sequence[Sequence[str]], *, right: Collection[int] = ()) -> list[str]:
    """Return rows as lines as wide as they are; the texts of those in `right` end together."""
    shapes = text_columns(*[""] * len(rows[0] if rows else ()), numbers=right)
    return [row.text.rstrip() for row in TextTable(shapes, rows).to_lines()]


def tab_separated(rows: Iterable[Sequence[Any]]) -> str:
    """Return rows as lines for a pipe, tabs between their cells."""
    return "".join("\t".join(map(one_line_text, row)) + "\n" for row in rows)


def one_line_text(cell: Any) -> str:
    """Return a cell as text that breaks no line; nothing if there is none."""
    if isinstance(cell, str):  # most are
        return sanitize_terminal(cell)
    if cell is None:
        return ""
    return f"{len(cell)} bytes" if isinstance(cell, bytes) else text_of(cell)
