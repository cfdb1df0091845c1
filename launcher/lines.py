"""Lines of text with tones, and tables of them: what a screen shows, whatever draws it."""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum

GAP = 2  # columns between two cells
ELLIPSIS = "…"
_NARROW = 8  # columns in which no text is broken into lines
_MARKS = frozenset({"Mn", "Me"})  # what is drawn over the character before it


class Tone(StrEnum):
    """What a piece of text is; how that looks is the screen's business. Never the only carrier."""

    PLAIN = "plain"
    STRONG = "strong"
    DIM = "dim"
    HEAD = "head"
    GOOD = "good"
    BAD = "bad"
    WARN = "warn"
    OURS = "ours"
    OTHERS = "others"
    PROMISED = "promised"


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of a line."""

    text: str
    tone: Tone = Tone.PLAIN


@dataclass(frozen=True, slots=True)
class Line:
    """A line of a screen, without a line break; `job` is what it is about, where it is a job's."""

    spans: tuple[Span, ...]
    job: int | None = None

    @property
    def text(self) -> str:
        """The line without its tones."""
        return "".join(span.text for span in self.spans)

    def cut(self, width: int) -> "Line":
        """Return the line with at most so many columns, its end told by an ellipsis."""
        if width_of(self.text) <= width:
            return self
        kept: list[Span] = []
        left = width - 1
        for span in self.spans:
            text = _first(span.text, left)
            kept.append(Span(text, span.tone))
            left -= width_of(text)
            if text != span.text:
                break
        return Line((*kept, Span(ELLIPSIS, kept[-1].tone if kept else Tone.PLAIN)), self.job)


Cell = Span | Line  # of a table; a line where it is made of pieces


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column of a table."""

    title: str = ""
    right: bool = False  # its cells end together
    drop: int = 0  # where there is no room, the columns with the highest number go first; 0 stays
    least: int = 0  # columns to which it may shrink; 0: it never does
    middle: bool = False  # what is left out of a cell is its middle, not its end
    rows: int = 1  # lines over which a text may run, where this is the last column


def line(text: str, tone: Tone = Tone.PLAIN, job: int | None = None) -> Line:
    """Return a line of one piece."""
    return Line((Span(text, tone),), job)


def width_of(text: str) -> int:
    """Return how many columns a terminal needs for a text; a wide character takes two."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.category(char) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def shortened(text: str, width: int, *, middle: bool = False) -> str:
    """Return a text in at most so many columns; its end, or its middle, becomes an ellipsis."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    if not middle or width < 5:
        return _first(text, width - 1) + ELLIPSIS
    tail = (width - 1) // 2
    return _first(text, width - 1 - tail) + ELLIPSIS + _first(text[::-1], tail)[::-1]


def table(
    columns: Sequence[Column],
    rows: Iterable[tuple[Sequence[Cell], int | None]],
    width: int,
) -> list[Line]:
    """Return rows as lines whose columns line up, and before them the titles where there are any.

    Columns without a word in any row are left out; where the rest does not fit, those go that may
    be dropped, and then those shrink that may.

    Args:
        columns: what the cells are.
        rows: cells, one for each column, and the number of the job that they are about.
        width: columns of the screen.
    """
    listed = [(tuple(cells), job) for cells, job in rows]
    if not listed:
        return []
    shown = [
        index
        for index, _ in enumerate(columns)
        if any(cells[index].text.strip() for cells, _ in listed)
    ] or [0]
    widths = {
        index: max(
            width_of(columns[index].title), *(width_of(cells[index].text) for cells, _ in listed)
        )
        for index in shown
    }
    fewest = {index: min(columns[index].least or wide, wide) for index, wide in widths.items()}
    while _taken(shown, fewest) > width and any(columns[index].drop for index in shown):
        shown.remove(max(shown, key=lambda index: columns[index].drop))
    _shrink(columns, shown, widths, width)
    titles: list[Cell] = [Span(columns[index].title, Tone.HEAD) for index in shown]
    lines = [_row(columns, shown, widths, titles, None)] if any(one.text for one in titles) else []
    begin = _taken(shown, widths) - widths[shown[-1]]
    room = min(widths[shown[-1]], width - begin)
    for cells, job in listed:
        row, rest = _wrapped([cells[index] for index in shown], columns[shown[-1]], room)
        lines.append(_row(columns, shown, widths, row, job))
        tone = row[-1].tone if isinstance(row[-1], Span) else Tone.PLAIN
        lines += [Line((Span(" " * begin), Span(text, tone)), job) for text in rest]
    return [one.cut(width) for one in lines]


def _wrapped(cells: list[Cell], last: Column, width: int) -> tuple[list[Cell], list[str]]:
    """Break the last cell into lines; return the cells of the first, and the other lines."""
    cell = cells[-1]
    if last.rows == 1 or width < _NARROW or isinstance(cell, Line) or width_of(cell.text) <= width:
        return cells, []
    some = shortened(cell.text, 4 * width * last.rows, middle=True)  # a program may say a book
    pieces, words = _broken(some, width), some.split(" ")
    while len(pieces) > last.rows and len(words) > 2:
        # its end says what to do: what is left out is the middle, and no number is cut in two
        del words[len(words) // 2]
        half = (len(words) + 1) // 2
        pieces = _broken(" ".join([*words[:half], ELLIPSIS, *words[half:]]), width)
    room = width * last.rows
    while len(pieces) > last.rows:  # a word that is longer than all that
        room -= 1
        pieces = _broken(shortened(some, room, middle=True), width)
    return [*cells[:-1], Span(pieces[0], cell.tone)], pieces[1:]


def _broken(text: str, width: int) -> list[str]:
    """Break a text into lines, between words where that is possible; there is at least one."""
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines[-1] else word
        if width_of(joined) <= width:
            lines[-1] = joined
            continue
        rest = word
        if lines[-1]:
            lines.append("")
        while width_of(rest) > width:
            lines[-1] = _first(rest, width)
            rest = rest[len(lines[-1]) :]
            lines.append("")
        lines[-1] = rest
    return lines


def _taken(shown: Sequence[int], widths: dict[int, int]) -> int:
    return sum(widths[index] for index in shown) + GAP * max(0, len(shown) - 1)


def _shrink(
    columns: Sequence[Column], shown: Sequence[int], widths: dict[int, int], width: int
) -> None:
    """Take from the widest of the columns that may shrink until all fit, or none can any more."""
    while _taken(shown, widths) > width:
        able = [index for index in shown if 0 < columns[index].least < widths[index]]
        if not able:
            return
        widths[max(able, key=lambda index: widths[index])] -= 1


def _row(
    columns: Sequence[Column],
    shown: Sequence[int],
    widths: dict[int, int],
    cells: Sequence[Cell],
    job: int | None,
) -> Line:
    spans: list[Span] = []
    for place, (index, cell) in enumerate(zip(shown, cells, strict=True)):
        column, last = columns[index], place == len(shown) - 1
        padding = Span(" " * max(0, widths[index] - width_of(cell.text)))
        pieces = _pieces(cell, widths[index], middle=column.middle)
        if column.right:
            spans += [padding, *pieces]
        else:
            spans += pieces if last else [*pieces, padding]
        if not last:
            spans.append(Span(" " * GAP))
    while spans and not spans[-1].text.strip():
        spans.pop()
    return Line(tuple(span for span in spans if span.text), job)


def _pieces(cell: Cell, width: int, *, middle: bool) -> list[Span]:
    if isinstance(cell, Line):
        return [*cell.cut(width).spans]
    return [Span(shortened(cell.text, width, middle=middle), cell.tone)]


def _first(text: str, width: int) -> str:
    """Return as much of a text's beginning as fits into so many columns."""
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for place, char in enumerate(text):
        taken += width_of(char)
        if taken > width:
            return text[:place]
    return text
