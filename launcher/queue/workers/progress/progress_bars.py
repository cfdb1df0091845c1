"""Progress bars of tqdm in a log: ` 30%|███       | 3/10 [00:01<00:02,  3.1it/s, loss=0.2]`.

Only the outer one of nested bars counts. An inner bar is drawn one line further down, and tqdm then moves the cursor
back up. So the bars behind which the cursor moves up are the inner ones.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from launcher.queue.workers.progress.number_texts import NUMBER, to_number
from launcher.queue.workers.progress.printed_lines import (
    LONGEST_BYTES,
    LONGEST_WORD,
    MOST_LINES,
    parse_pairs,
)
from launcher.queue.workers.progress.steps import MOST_STEPS, ProgressReport
from launcher.system.files import Json
from launcher.system.terminal_codes import PlainTextFilter

_Key = tuple[str, int | None]
_CURSOR_MOVES = re.compile(rb"(\r\n|[\r\n]|\x1b\[A)")
_CURSOR_UP = b"\x1b[A"
_ENDS = (b"]\n", b" \n")  # ends of a bar, with the blanks that cover a longer bar before it
# `++` never backtracks; otherwise a long line that is not a bar would take seconds
_BAR_NUMBER = r"[0-9]++(?:\.[0-9]++)?"
_TIME = r"(?:[0-9]+:)?[0-9]{2}:[0-9]{2}"
_RATE = rf"\s*(?P<rate>{_BAR_NUMBER}|\?)(?P<per>[^,\]]*)(?:,\s*(?P<rest>.*))?\]"
# patterns of a bar; texts, not compiled: every command imports this, and few read a bar
_OF_TOTAL = (
    rf"(?P<title>.*?)(?<![0-9])[0-9]{{1,3}}%\s*+(?:\|[^|]*+\|)?\s*+(?P<done>{_BAR_NUMBER})(?P<power>[kKMGTPEZY]?)"
    rf"/(?P<total>{_BAR_NUMBER})(?P<total_power>[kKMGTPEZY]?)\s*\[{_TIME}<(?:{_TIME}|\?),{_RATE}"
)
_WITHOUT_TOTAL = (
    rf"(?P<title>.*?)(?:(?<=\s)|\A)(?P<done>{_BAR_NUMBER})(?P<unit>[^\s\[]*+)\s++\[{_TIME},{_RATE}"
)
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4, "P": 5, "E": 6, "Z": 7, "Y": 8}
_USUAL_UNITS = {"it", "B"}
_DIGITS = re.compile(r"[0-9.]+")


class BarLine(NamedTuple):
    """The content of a bar."""

    title: str
    step: ProgressReport


class _Bar(NamedTuple):
    title: str  # title of the bar without numbers, which may count the rounds
    step: ProgressReport
    inner: bool

    @property
    def key(self) -> _Key:
        """The part that is the same for all drawings of one bar, and of the bars that replace it."""
        return self.title, self.step.total


def parse_newest_bar(
    text: bytes, timestamp: float, more: Callable[[], bytes] = bytes
) -> ProgressReport | None:
    """Return the progress that the newest bar in a piece of a log shows, the outer one of nested bars.

    Args:
        text: the end of a log.
        timestamp: time when the text was written, in seconds since 1970.
        more: returns a longer end; called if only inner bars are seen, because an outer one is drawn
            rarely.
    """
    pieces = _split_bars(text)
    if _CURSOR_UP not in text:  # without nested bars only the last bar counts
        return next((bar.step for bar in _bars(reversed(pieces), timestamp)), None)
    bars = [*_bars(pieces, timestamp)]
    if outer := _outer_bars(bars):
        return outer[-1].step
    if not bars:
        return None
    above = _find_outer_bar(more(), timestamp, {bar.key for bar in bars})
    return (above or bars[-1]).step


def parse_bars(text: bytes, timestamp: float) -> tuple[list[ProgressReport], int]:
    """Return the steps that the bars of a piece of a log show, and where an unfinished bar may begin."""
    bars = [*_bars(_split_bars(text), timestamp)]
    last = max(text.rfind(b"\n"), text.rfind(b"\r"))
    read = last if len(text) - last < LONGEST_BYTES else len(text)
    return [bar.step for bar in _outer_bars(bars)], max(0, read)


def _outer_bars(bars: list[_Bar]) -> list[_Bar]:
    """Return the outer bars; a bar that was ever an inner one is left out."""
    inner = {bar.key for bar in bars if bar.inner}
    return [bar for bar in bars if not bar.inner and bar.key not in inner]


def _find_outer_bar(text: bytes, timestamp: float, inner: set[_Key]) -> _Bar | None:
    """Return the newest bar below which others are drawn, other than inner ones at their end."""
    place = len(text)
    for _ in range(MOST_LINES):
        # a newline follows it: the first of the inner ones is drawn further down
        place = max(text.rfind(end, 0, place) for end in _ENDS)
        if place < 0:
            return None
        begin = max(text.rfind(b"\r", 0, place) + 1, place - LONGEST_BYTES)
        for bar in _bars(_split_bars(text[begin : place + 1]), timestamp):
            if bar.key not in inner:
                return bar
    return None


def _split_bars(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return the pieces that may be bars, each with the cursor movement after it."""
    pieces = _CURSOR_MOVES.split(text)
    return [
        (piece, turn)
        for piece, turn in zip(pieces[::2], [*pieces[1::2], b""], strict=True)
        if len(piece) <= LONGEST_BYTES and (b"/s" in piece or b"s/" in piece)
    ]


def _bars(pieces: Iterable[tuple[bytes, bytes]], timestamp: float) -> Iterator[_Bar]:
    for piece, turn in pieces:
        bar = _bar(piece, turn, timestamp)
        if bar is not None:
            yield bar


def _bar(piece: bytes, turn: bytes, timestamp: float) -> _Bar | None:
    plain = PlainTextFilter().feed(piece) if b"\x1b" in piece else piece
    bar = read_bar(plain.decode(errors="replace"), timestamp)
    if bar is None:
        return None
    title = _DIGITS.sub("#", bar.title).strip(": ")
    return _Bar(title=title, step=bar.step, inner=turn == _CURSOR_UP)


def read_bar(text: str, timestamp: float) -> BarLine | None:
    """Return what a bar shows; None if the text is not a bar.

    Args:
        text: a line without colours.
        timestamp: time when the text was written, in seconds since 1970.
    """
    line = text.strip()
    if match := re.fullmatch(_OF_TOTAL, line, re.ASCII):
        power, total_power = match["power"], match["total_power"]
        total = _amount(match["total"], total_power) or None
        scaled = bool(power or total_power)
    elif match := re.fullmatch(_WITHOUT_TOTAL, line, re.ASCII):
        (power, scaled), total = _power(match["unit"], match["per"]), None
    else:
        return None
    done = _amount(match["done"], power)
    if max(done, total or 0) > MOST_STEPS:
        return None
    rate = _rate(match["rate"], match["per"], is_scaled=scaled)
    title, rest = match["title"].strip(" :|"), match["rest"] or ""
    metrics: dict[str, Json] = {**_bar_numbers(title), **_bar_numbers(rest)}
    metrics = metrics if not rest or _bar_numbers(rest) else metrics | parse_pairs(rest)
    step = ProgressReport(at=timestamp, step=done, total=total, metrics=metrics, rate=rate)
    return BarLine(title, step)


def _bar_numbers(text: str) -> dict[str, Json]:
    """Return the pairs beside a bar; names may have blanks, and a colon or dash may be in the place of `=`."""
    found: dict[str, Json] = {}
    for part in re.split(r",\s+|\s{2,}|\|", text):
        pair = re.fullmatch(
            rf"([^\W\d][\w@/. ()-]{{0,63}}?)(?:=|: ?| - )(?:({NUMBER})%?|(\S+))", part.strip()
        )
        if pair is None:
            continue
        value = to_number(pair[2]) if pair[2] else None
        if value is not None:
            found[pair[1]] = value
        elif pair[3] and "=" in part:
            found[pair[1]] = pair[3][:LONGEST_WORD]
    return found


def _power(step_unit: str, rate_unit: str) -> tuple[str, bool]:
    """Return the power of 1000 in the unit of a count without a total, and whether counts have such powers.

    Args:
        step_unit: `it`, `kit`, or `Epoch`; the first letter of `Epoch` is not a power.
        rate_unit: the unit of the rate: `it/s`, `kit/s`, `s/it`.
    """
    unit = rate_unit.removesuffix("/s").removeprefix("s/")
    if step_unit[:1] in _POWERS and step_unit[1:] in _USUAL_UNITS:
        return step_unit[0], True
    if unit.endswith(step_unit):
        return "", unit != step_unit
    return (step_unit[0], True) if step_unit[0] in _POWERS else ("", False)


def _amount(number: str, power: str) -> int:
    amount = float(number) * 1000.0 ** _POWERS[power]
    return round(min(amount, 2.0 * MOST_STEPS))  # a number of very many digits is infinite


def _rate(number: str, rate_unit: str, *, is_scaled: bool) -> float | None:
    """Return steps per second; tqdm writes seconds per step if the rate is low.

    Args:
        number: the printed rate; `?` if it is not known yet.
        rate_unit: the text after it: `it/s`, `s/it`, `kit/s`.
        is_scaled: counts are shortened, so a letter before the unit is a power of 1000.
    """
    if number == "?" or float(number) == 0:
        return None
    if rate_unit.startswith("s/"):
        return 1 / float(number)
    power = rate_unit[:1] if is_scaled and rate_unit[:1] in _POWERS else ""
    return float(number) * 1000.0 ** _POWERS[power]
