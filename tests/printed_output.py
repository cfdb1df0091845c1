"""Comparison of an output in a page with the output of the command above it.

Words and whole numbers must be equal, and a decimal may differ by one in its last digit. Times, folders and other
texts that two runs never share are replaced on both sides by the name of their pattern. `…` stands for whole lines,
or for the end of a line.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from functools import cache
from itertools import zip_longest
from typing import NamedTuple

import pyte

OMITTED = "…"
KEPT_LINES = 3  # a block that leaves lines out keeps so many
KEPT_SHARE = 2 / 3  # or this share of the printed lines

_AMOUNT = r"\d[\d,]*(?:\.\d+)?"
_UNIT = r"(?:ms|s|m|min|h|d)\b"
# texts that two runs never share, in the order of their replacement
PATTERNS = (
    ("time", r"\b\d{4}-\d\d-\d\d[ T]\d\d:\d\d(?::\d\d)?(?:[.,]\d+)?(?:Z|[+-]\d\d:\d\d)?", "TIME"),
    ("day", r"\b[A-Z][a-z]{2} \d{1,2} [A-Z][a-z]{2} \d\d:\d\d:\d\d", "TIME"),
    ("clock", r"\b\d\d:\d\d(?::\d\d)?\b", "TIME"),
    ("duration", rf"(?<![\w.])(?:{_AMOUNT} to )?{_AMOUNT} {_UNIT}(?: \d+ {_UNIT})*", "DURATION"),
    ("rate", rf"(?<![\w.]){_AMOUNT}/s\b", "RATE"),
    ("processor", r"\b(\d+ cores? reserved, )\d+\.\d used", r"\1USED"),
    ("cores", r"\b(this machine has |of )\d+( usable cores?)", r"\1CORES\2"),
    ("pid", r"\bpid \d+", "pid PID"),
    ("port", r"(?<=127\.0\.0\.1:)\d+|(?<=-L )\d+(?=:)", "PORT"),
    ("token", r"(?<=token=)[\w-]+", "TOKEN"),
    ("commit", r"\b[0-9a-f]{40}\b", "COMMIT"),
    ("commit of a version", r"\((?:with changes, )?commit [0-9a-f]{12}\)", "(commit COMMIT)"),
    ("interpreter", r"/\S*/bin/python[\d.]*", "PYTHON"),
    ("version", r"\b\d+\.\d+\.\d+(?:rc\d+|\.dev\d+)?(?:\+cu\d+)?\b", "VERSION"),
    ("disk", rf"\b{_AMOUNT} [KMGT]iB of {_AMOUNT} [KMGT]iB free", "SPACE"),
)
_REPLACED = tuple((re.compile(pattern), text) for _, pattern, text in PATTERNS)
_DECIMAL = re.compile(r"(?<![\w.])[+-]?\d[\d,]*\.\d+(?![\w.]*\.\d)")
_INTERVAL = re.compile(
    rf"({_DECIMAL.pattern})(?: ± {_DECIMAL.pattern})? \(({_DECIMAL.pattern}) to ({_DECIMAL.pattern})\)"
)


class Difference(NamedTuple):
    """The first line of a block that was not printed: its place, the line, and the printed line there."""

    at: int
    expected: str
    printed: str


def first_difference(
    shown: Sequence[str], printed: Sequence[str], *, within_intervals: bool = False
) -> Difference | None:
    """Return the first difference between a block and an output, None if there is none.

    Empty lines do not count, and neither does the width of columns.

    Args:
        shown: Lines of the block.
        printed: Lines that were printed.
        within_intervals: A decimal before an interval may lie anywhere in it, and one end of it may differ.
    """
    numbered = [(index, line.strip()) for index, line in enumerate(shown) if line.strip()]
    lines = [line.strip() for line in printed if line.strip()]
    furthest = [(0, 0)]

    @cache
    def agree(at: int, place: int) -> bool:
        furthest[0] = max(furthest[0], (at, place))
        if at == len(numbered):
            return place == len(lines)
        line = numbered[at][1]
        if line == OMITTED:
            return any(agree(at + 1, later) for later in range(place, len(lines) + 1))
        return (
            place < len(lines)
            and is_same_line(line, lines[place], within_intervals=within_intervals)
            and agree(at + 1, place + 1)
        )

    if agree(0, 0):
        return _too_short([line for _, line in numbered], lines)
    at, place = furthest[0]
    index, line = numbered[at] if at < len(numbered) else (len(shown), "nothing more")
    return Difference(index, line, lines[place] if place < len(lines) else "nothing more")


def _too_short(shown: Sequence[str], printed: Sequence[str]) -> Difference | None:
    """Return a difference if a block leaves out more lines than it may."""
    kept = sum(line != OMITTED for line in shown)
    wanted = min(KEPT_LINES, math.ceil(KEPT_SHARE * len(printed)))
    if kept >= wanted:
        return None
    return Difference(0, f"{kept} of {len(printed)} lines", f"at least {wanted} are shown")


def is_same_line(shown: str, printed: str, *, within_intervals: bool = False) -> bool:
    """Return whether a line of a page is what a command printed."""
    ours, theirs = normalized(shown), normalized(printed)
    if ours.endswith(OMITTED):
        beginning = ours.removesuffix(OMITTED).rstrip()
        words = len(beginning.split())
        theirs = " ".join(theirs.split()[:words])
        if not theirs.endswith(beginning.split()[-1]):  # left out within a word
            theirs = theirs[: len(beginning)]
        ours = beginning
    if within_intervals:
        replaced = _with_intervals(ours, theirs)
        if replaced is None:
            return False
        ours, theirs = replaced
    return _DECIMAL.sub("0.0", ours) == _DECIMAL.sub("0.0", theirs) and all(
        _is_near(one, other)
        for one, other in zip_longest(_DECIMAL.findall(ours), _DECIMAL.findall(theirs))
    )


def normalized(line: str) -> str:
    """Return a line in which everything that differs between two runs has the name of its pattern."""
    for pattern, text in _REPLACED:
        line = pattern.sub(text, line)
    return " ".join(line.split())


def _with_intervals(shown: str, printed: str) -> tuple[str, str] | None:
    """Return both lines without intervals that agree, None if some do not."""
    for one, other in zip_longest(_INTERVAL.findall(shown), _INTERVAL.findall(printed)):
        if one is None or other is None:
            return None
        low, value, high = (Decimal(text.replace(",", "")) for text in (one[1], other[0], one[2]))
        ends = _is_near(one[1], other[1]), _is_near(one[2], other[2])
        if not low <= value <= high or not any(ends):
            return None
    return _INTERVAL.sub(_interval_name, shown), _INTERVAL.sub(_interval_name, printed)


def _interval_name(interval: re.Match[str]) -> str:
    return "INTERVAL ±" if "±" in interval[0] else "INTERVAL"


def _is_near(shown: str | None, printed: str | None) -> bool:
    if shown is None or printed is None:
        return False
    ours, theirs = (Decimal(text.replace(",", "")) for text in (shown, printed))
    digits = ours.as_tuple().exponent
    step = Decimal(1).scaleb(int(digits))
    return digits == theirs.as_tuple().exponent and abs(ours - theirs) <= step


def screen_lines(drawn: str) -> Iterator[str]:
    """Give the lines that a terminal shows after an output; lines that are too long for it are whole."""
    columns = max(len(line.expandtabs()) for line in drawn.split("\n")) + 1
    screen = pyte.Screen(columns, drawn.count("\n") + 1)
    pyte.Stream(screen).feed(drawn.replace("\r\n", "\n").replace("\n", "\r\n"))
    return (line.rstrip() for line in screen.display)


def with_folders(text: str, folders: Mapping[str, str]) -> str:
    """Return a text in which folders of this machine have the names that pages use."""
    for ours, name in folders.items():
        text = text.replace(ours, name)
    return text
