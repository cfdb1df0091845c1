"""Lines that a program prints so that its progress is shown: `launcher: step=3 total=10 loss=.2`.

The grammar: the words `launcher: step=`, at the beginning of a line or behind what a logger puts there;
a whole number, or two as in `3/10`; then pairs NAME=VALUE with blanks between, of which `total` is the
number of all steps. A line counts when it has ended, by a newline or by a carriage return.

Numbers without a step, such as those of an evaluation: `launcher: acc=0.91`. They are no progress, but results.

Progress bars of tqdm in a log: ` 30%|███       | 3/10 [00:01<00:02,  3.1it/s, loss=0.2]`.

Of nested bars the outer counts. tqdm draws an inner bar a line further down and then goes back up,
so the bars behind which the cursor moves up are the inner ones.

The last line of a log, for where a screen has nothing better to tell.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from launcher.system.files import Json
from launcher.system.text import Plain
from launcher.workers.progress.steps import MOST_STEPS, Step

MARK = b"launcher: step="
LONGEST_BYTES = 4096  # of a line
MOST_LINES = 64  # in which the newest step is looked for
LONGEST_WORD = 64  # characters of a value that is no number

_END = re.compile(rb"[\r\n]")
_COUNT = re.compile(r"([0-9]{1,15})(?:/([0-9]{1,15}))?", re.ASCII)
# letters of any language, accents behind letters, and what stands for bytes that are no UTF-8
_PAIR = re.compile(r"((?!\d)[\w\ufffd][\w\u0300-\u036f\ufffd./-]{0,63})=(\S+)")
_NAMES = re.compile(rb"([^\s=]+)=")
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,4})?|nan|inf(?:inity)?)",
    re.ASCII | re.IGNORECASE,
)


def printed_steps(text: bytes, at: float) -> tuple[list[Step], int]:
    """Return the steps that a piece of a log tells, the oldest first, and where a line begins that has no end yet.

    Args:
        text: from anywhere in a log.
        at: when the end of it was written, in seconds since 1970.
    """
    steps: list[Step] = []
    place = text.find(MARK)
    while place >= 0:
        end = _end(text, place)
        if end is None and len(text) - place < LONGEST_BYTES:
            return steps, max(0, place - 1)  # with what stands before it
        step = None if end is None else _step(text, place, end, at)
        steps += [] if step is None else [step]
        place = text.find(MARK, place + len(MARK))
    return steps, max(0, len(text) - len(MARK))  # the mark may be there in part


def newest_printed(text: bytes, at: float) -> Step | None:
    """Return the newest step that a piece of a log tells, with what all its lines tell of it."""
    newest: Step | None = None
    for step in _backwards(text, at):
        if newest is None:
            newest = step
        elif step.step == newest.step:
            total = newest.total or step.total
            newest = newest._replace(total=total, metrics={**step.metrics, **newest.metrics})
        else:
            break
    return newest


def printed_values(text: bytes) -> dict[str, Json]:
    """Return the last value of each number in the steps of a piece of a log, those of the last step first.

    Of thousands of lines alike only the last one is read.
    """
    values: dict[str, Json] = {}
    seen: set[bytes] = set()
    place = text.rfind(MARK)
    while place >= 0:
        if (end := _end(text, place)) is not None:
            names = _NAMES.findall(text, place, end)
            if not seen.issuperset(names) and (step := _step(text, place, end, 0.0)) is not None:
                seen.update(names)
                values = values | {
                    name: value for name, value in step.metrics.items() if name not in values
                }
        place = text.rfind(MARK, 0, place)
    return values


def pairs_of(text: str) -> dict[str, Json]:
    """Return name → value of the pairs in a text: numbers as such, other words up to a length."""
    values: dict[str, Json] = {}
    for name, value in _PAIR.findall(text):
        word = value.rstrip(",;")
        number = _NUMBER.fullmatch(word)
        values[name] = float(word) if number else word[:LONGEST_WORD]
    return values


def _backwards(text: bytes, at: float) -> Iterator[Step]:
    place = text.rfind(MARK)
    for _ in range(MOST_LINES):
        if place < 0:
            return
        end = _end(text, place)
        if end is not None and (step := _step(text, place, end, at)) is not None:
            yield step
        place = text.rfind(MARK, 0, place)


def _end(text: bytes, place: int) -> int | None:
    """Return where the line ends in which something begins; None: it has no end yet, or is too long."""
    end = _END.search(text, place, place + LONGEST_BYTES)
    return None if end is None else end.start()


def _step(text: bytes, place: int, end: int, at: float) -> Step | None:
    """Return what the line tells that has its mark at `place`; None: it is none of ours."""
    before = text[place - 1 : place] if place else b""
    if before.isalnum() or before in {b".", b"/", b"-", b"_"}:
        return None
    count, _, rest = text[place + len(MARK) : end].decode(errors="replace").partition(" ")
    numbers = _COUNT.fullmatch(count.rstrip(",;"))
    if numbers is None:
        return None
    values = pairs_of(rest)
    total = values.pop("total", None)
    if numbers[2] is not None:
        total = float(numbers[2])
    whole = isinstance(total, float) and 0 < total < 1e15 and total.is_integer()
    return Step(
        at=at,
        step=int(numbers[1]),
        total=int(total) if whole and isinstance(total, float) else None,
        metrics=values,
    )


# a text, not compiled, as those below
_WITHOUT_STEP = rb"(?<![A-Za-z0-9./_-])launcher: (?!step=)([A-Za-z_\x80-\xff][\w./\x80-\xff-]{0,255}=[^\r\n]{0,4000})[\r\n]"


def printed_numbers(text: bytes) -> dict[str, Json]:
    """Return what the lines without a step in a piece of a log tell: of each name the last value."""
    lines = re.findall(_WITHOUT_STEP, text) if MARK[:-5] in text else ()
    return {
        name: value
        for line in lines
        for name, value in pairs_of(line.decode(errors="replace")).items()
    }


_Key = tuple[str, int | None]

_TURNS = re.compile(rb"(\r\n|[\r\n]|\x1b\[A)")
_UP = b"\x1b[A"
_ENDS = (b"]\n", b" \n")  # of a bar, with the blanks that cover a longer one before it
# what was taken is not given back (`++`): else a long line that is no bar takes seconds
_BAR_NUMBER = r"[0-9]++(?:\.[0-9]++)?"
_TIME = r"(?:[0-9]+:)?[0-9]{2}:[0-9]{2}"
_RATE = rf"\s*(?P<rate>{_BAR_NUMBER}|\?)(?P<per>[^,\]]*)(?:,\s*(?P<rest>.*))?\]"
# of a bar; texts, not compiled: every command imports this, and few read a bar
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


class _Bar(NamedTuple):
    title: str  # without its numbers, which may count the rounds
    step: Step
    inner: bool

    @property
    def key(self) -> _Key:
        """What the drawings of one bar, and of the bars that take its place, share."""
        return self.title, self.step.total


def newest_bar(text: bytes, at: float, more: Callable[[], bytes] = bytes) -> Step | None:
    """Return what the newest bar in a piece of a log tells, the outer one of nested bars.

    Args:
        text: the end of a log.
        at: when it was written, in seconds since 1970.
        more: gives a longer end; called where inner bars alone are seen, since an outer one is drawn
            seldom.
    """
    pieces = _pieces(text)
    if _UP not in text:  # none is nested: there is no need to read those before the last
        return next((bar.step for bar in _bars(reversed(pieces), at)), None)
    bars = [*_bars(pieces, at)]
    if outer := _outer(bars):
        return outer[-1].step
    if not bars:
        return None
    above = _drawn_above(more(), at, {bar.key for bar in bars})
    return (above or bars[-1]).step


def bar_steps(text: bytes, at: float) -> tuple[list[Step], int]:
    """Return the steps that the bars of a piece of a log tell, and where a bar may begin that has no end yet."""
    bars = [*_bars(_pieces(text), at)]
    last = max(text.rfind(b"\n"), text.rfind(b"\r"))
    read = last if len(text) - last < LONGEST_BYTES else len(text)
    return [bar.step for bar in _outer(bars)], max(0, read)


def _outer(bars: list[_Bar]) -> list[_Bar]:
    """Return those of the bars that are no inner ones, nor inner ones at their end."""
    inner = {bar.key for bar in bars if bar.inner}
    return [bar for bar in bars if not bar.inner and bar.key not in inner]


def _drawn_above(text: bytes, at: float, inner: set[_Key]) -> _Bar | None:
    """Return the newest bar below which others are drawn, other than inner ones at their end."""
    place = len(text)
    for _ in range(MOST_LINES):
        # a newline follows it: the first of the inner ones is drawn further down
        place = max(text.rfind(end, 0, place) for end in _ENDS)
        if place < 0:
            return None
        begin = max(text.rfind(b"\r", 0, place) + 1, place - LONGEST_BYTES)
        for bar in _bars(_pieces(text[begin : place + 1]), at):
            if bar.key not in inner:
                return bar
    return None


def _pieces(text: bytes) -> list[tuple[bytes, bytes]]:
    """Return what may be bars, each with what moves the cursor behind it."""
    pieces = _TURNS.split(text)
    return [
        (piece, turn)
        for piece, turn in zip(pieces[::2], [*pieces[1::2], b""], strict=True)
        if len(piece) <= LONGEST_BYTES and (b"/s" in piece or b"s/" in piece)
    ]


def _bars(pieces: Iterable[tuple[bytes, bytes]], at: float) -> Iterator[_Bar]:
    for piece, turn in pieces:
        bar = _bar(piece, turn, at)
        if bar is not None:
            yield bar


def _bar(piece: bytes, turn: bytes, at: float) -> _Bar | None:
    plain = Plain().feed(piece) if b"\x1b" in piece else piece
    line = plain.decode(errors="replace").strip()
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
    rate = _rate(match["rate"], match["per"], scaled=scaled)
    step = Step(at=at, step=done, total=total, metrics=pairs_of(match["rest"] or ""), rate=rate)
    title = _DIGITS.sub("#", match["title"]).strip(": ")
    return _Bar(title=title, step=step, inner=turn == _UP)


def _power(counted: str, per: str) -> tuple[str, bool]:
    """Return the power of 1000 in what follows a count without a total, and whether counts have such powers.

    Args:
        counted: `it`, `kit`, or `Epoch`, of which the first letter is no power.
        per: what follows the rate: `it/s`, `kit/s`, `s/it`.
    """
    unit = per.removesuffix("/s").removeprefix("s/")
    if counted[:1] in _POWERS and counted[1:] in _USUAL_UNITS:
        return counted[0], True
    if unit.endswith(counted):
        return "", unit != counted
    return (counted[0], True) if counted[0] in _POWERS else ("", False)


def _amount(number: str, power: str) -> int:
    amount = float(number) * 1000.0 ** _POWERS[power]
    return round(min(amount, 2.0 * MOST_STEPS))  # of very many digits, it is infinite


def _rate(number: str, per: str, *, scaled: bool) -> float | None:
    """Return steps a second; tqdm writes seconds a step where there are few.

    Args:
        number: what stands there; `?`: it is not known yet.
        per: what follows: `it/s`, `s/it`, `kit/s`.
        scaled: counts are shortened, so a letter before the unit is a power of 1000.
    """
    if number == "?" or float(number) == 0:
        return None
    if per.startswith("s/"):
        return 1 / float(number)
    power = per[:1] if scaled and per[:1] in _POWERS else ""
    return float(number) * 1000.0 ** _POWERS[power]


MOST_CHARACTERS = 200  # of the line; a screen shows fewer


def last_line(end: bytes) -> str:
    """Return the last line that is not blank, without escape sequences; '' where there is none.

    Args:
        end: of a log; the line may begin before it, and is then shown from its last characters on.
    """
    text = end.rstrip()
    cut = max(text.rfind(b"\n"), text.rfind(b"\r"))
    line = text[cut + 1 :]
    torn = cut < 0 and len(line) > MOST_CHARACTERS
    line = line[-4 * MOST_CHARACTERS :] if torn else line[: 16 * MOST_CHARACTERS]
    plain = Plain()
    shown = (plain.feed(line) + plain.rest()).decode(errors="replace").expandtabs(1).strip()
    if torn:
        return f"…{shown[-MOST_CHARACTERS:]}"
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}…"
