"""Text in so many columns of a terminal: measured, and shortened so that texts remain distinguishable."""

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import count, product
from string import ascii_lowercase

ELLIPSIS = "…"
_MARKS = frozenset({"Mn", "Me"})  # what is drawn over the character before it
_PARTS = re.compile(r"\w+|\W")  # of a name: words and numbers, and what stands between them


def width_of(text: str) -> int:
    """Return how many columns a terminal needs for a text; a wide character takes two."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(char: str) -> int:
    if unicodedata.category(char) in _MARKS:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def beginning(text: str, width: int) -> str:
    """Return as much of a text's beginning as fits into so many columns."""
    if text.isascii():
        return text[: max(0, width)]
    taken = 0
    for place, char in enumerate(text):
        taken += width_of(char)
        if taken > width:
            return text[:place]
    return text


def shortened(text: str, width: int, *, middle: bool = False) -> str:
    """Return a text in at most so many columns; its end, or its middle, becomes an ellipsis."""
    if width_of(text) <= width:
        return text
    if width < 1:
        return ""
    if not middle or width < 5:
        return beginning(text, width - 1) + ELLIPSIS
    tail = (width - 1) // 2
    return beginning(text, width - 1 - tail) + ELLIPSIS + beginning(text[::-1], tail)[::-1]


def distinguished(names: Iterable[str], width: int) -> dict[str, str]:
    """Return each name in at most so many columns, no two of them alike.

    A name that is too long loses its middle. Those that would look alike then lose what all of
    them share instead. Where that is not enough, they are lettered; a number would read as a job's.

    Args:
        names: what is shown on one screen.
        width: columns; below about 8 there may be no room for a difference.
    """
    shown = {name: shortened(name, width, middle=True) for name in dict.fromkeys(names)}
    party: dict[str, tuple[str, ...]] = {
        name: (name,) for name in shown
    }  # the names from which a name must differ
    while merged := _merged(shown, party):
        party |= merged
        for together in set(merged.values()):
            shown |= _told_apart([name for name in together if width_of(name) > width], width)
    return shown | _lettered(shown, width)


def _groups(shown: Mapping[str, str]) -> list[list[str]]:
    """Return the names that look alike, in groups."""
    times = Counter(shown.values())
    groups: dict[str, list[str]] = {}
    for name, text in shown.items():
        if times[text] > 1:
            groups.setdefault(text, []).append(name)
    return list(groups.values())


def _merged(
    shown: Mapping[str, str], party: Mapping[str, tuple[str, ...]]
) -> dict[str, tuple[str, ...]]:
    """Return new parties for the names of several that look alike.

    Of a party that is told apart by itself all is left out that it shares, though it may be what
    tells it from another one: these are told apart again, together.
    """
    merged: dict[str, tuple[str, ...]] = {}
    for alike in _groups(shown):
        parties = dict.fromkeys(merged.get(name, party[name]) for name in alike)
        if len(parties) > 1:
            together = tuple(dict.fromkeys(name for names in parties for name in names))
            merged |= dict.fromkeys(together, together)
    return merged


def _lettered(shown: Mapping[str, str], width: int) -> dict[str, str]:
    """Return the shortened names that look alike, each with a letter of its own."""
    letters = _letters()
    taken = set(shown.values())
    marked = {}
    for alike in _groups(shown):
        for name in sorted(alike):
            if shown[name] == name:  # a whole one that looks like a shortened one
                continue
            marks = (f" ({next(letters)})" for _ in range(len(taken) + 1))
            texts = (
                shortened(name, max(0, width - len(mark)), middle=True) + mark for mark in marks
            )
            marked[name] = next((text for text in texts if text not in taken), shown[name])
            taken.add(marked[name])
    return marked


def _letters() -> Iterator[str]:
    """Yield a, b, … z, aa, ab, without end."""
    for length in count(1):
        for letters in product(ascii_lowercase, repeat=length):
            yield "".join(letters)


def _told_apart(names: Sequence[str], width: int) -> dict[str, str]:
    """Return names that look alike when their middle is left out, without what they share."""
    columns = _aligned(names) if len(names) > 1 else []
    shared = [len(set(column)) == 1 for column in columns]
    if len(columns) < 2:  # they share nothing, or there is nothing to tell apart
        return {name: shortened(name, width, middle=True) for name in names}
    widths = [max(map(width_of, column)) for column in columns]
    while sum(widths) > width:
        able = [at for at, same in enumerate(shared) if same and widths[at] > 1]
        if not able:  # what differs is too long by itself
            able = [at for at, same in enumerate(shared) if not same and widths[at] > 1]
        if not able:
            break
        widths[max(able, key=lambda at: widths[at])] -= 1
    cut = [distinguished(column, room) for column, room in zip(columns, widths, strict=True)]
    pieces = zip(*columns, strict=True)
    return {
        name: "".join(cut[at][piece] for at, piece in enumerate(row))
        for name, row in zip(names, pieces, strict=True)
    }


def _aligned(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Cut names into pieces that are in turn the same in all of them and not.

    Returns:
        Columns of pieces; each is as long as `names`.
    """
    rows = [_PARTS.findall(name) for name in names]
    if len(set(map(len, rows))) > 1:
        rows = [list(row) for row in _ends(names)]
    joined: list[tuple[str, ...]] = []
    before = None
    for column in zip(*rows, strict=True):
        same = len(set(column)) == 1
        if joined and same == before:
            joined[-1] = tuple(part + more for part, more in zip(joined[-1], column, strict=True))
        else:
            joined.append(column)
        before = same
    return [column for column in joined if any(column)]


def _ends(names: Sequence[str]) -> list[tuple[str, str, str]]:
    """Cut names into the beginning that all share, what differs, and the end that all share."""
    first, last = min(names), max(names)
    start = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    back = [name[start:][::-1] for name in names]
    first, last = min(back), max(back)
    stop = next(
        (at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b),
        min(len(first), len(last)),
    )
    return [
        (name[:start], name[start : len(name) - stop], name[len(name) - stop :]) for name in names
    ]
