"""Lines that a program prints so that its progress is shown: `launcher: step=3 total=10 loss=.2`.

A line has three parts:

* The words `launcher: step=`, at the beginning of a line or after a logger's prefix.
* A whole number, or two as in `3/10`.
* Pairs NAME=VALUE with blanks or commas between, of which `total` is the number of all steps.

A line counts when it has ended, by a newline or by a carriage return.

`launcher: epoch=` counts in the same way, if a program prints no steps.

Numbers without a step, such as those of an evaluation: `launcher: acc=0.91`. They are results, not progress.

The last line of a log is also read here, for a screen that has nothing better to show.
"""

import re
from collections.abc import Iterator, Mapping

from launcher.queue.workers.progress.number_texts import to_number
from launcher.queue.workers.progress.steps import ProgressReport
from launcher.system.files import Json
from launcher.system.terminal_codes import PlainTextFilter

STEP_MARKER = b"launcher: step="
EPOCH_MARKER = b"launcher: epoch="
_BEGIN = "launcher: "
LONGEST_BYTES = 4096  # bytes of a line
MOST_LINES = 64  # limit of lines that are searched for the newest step
LONGEST_WORD = 64  # characters of a value that is not a number

LINE_END = re.compile(rb"[\r\n]")
# the beginning of a report: a step, or the name of the first number
REPORT = re.compile(
    rb"launcher: (?:step=[0-9]{1,15}(?:/[0-9]{1,15})?[,;]*(?![^ \r\n])"
    rb"|(?!step=)[A-Za-z_\x80-\xff][\w./\x80-\xff-]{0,255}(?:=|(?: ?[:=] ?)(?=[+-]?\.?[0-9])))"
)
_COUNT = re.compile(r"([0-9]{1,15})(?:/([0-9]{1,15}))?", re.ASCII)
# letters of any language, accents behind letters, and the replacement of bytes that are not UTF-8
_NAME = r"(?!\d)[\w\ufffd][\w\u0300-\u036f\ufffd./-]{0,63}"
# a value ends at a blank, and at a comma or semicolon that the next pair follows
_PAIR = re.compile(
    rf"({_NAME})=((?:[\w.]+\([^()\s]*(?: [^()]*)?\)|\"[^\"]*\"|'[^']*'|(?![,;]{_NAME}=)\S)+)"
)
# a pair with another separator: `acc = 0.9` and `acc: 0.9` are texts, and hide an older number of the name
_SPACED = re.compile(rf"(?:^|(?<=[\s,;]))({_NAME})( ?= ?| ?: ?)([+-]?\.?[0-9][^\s,;]*)", re.ASCII)
_NUMBER = re.compile(
    r"[+-]?(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,4})?|nan|inf(?:inity)?)",
    re.ASCII | re.IGNORECASE,
)
# a number as Python prints it, in quotes or brackets, with a per cent sign or a spread: 92%, np.float64(0.92), [0.92]
_WRAPPED = re.compile(
    r"(?:np\.\w+\(|tensor\(|array\(|numpy\.\w+\()?[\[(\"'`]{0,2}(?P<number>[+-]?[\w.,+-]*?)%?"
    r"(?:(?:±|\+/-)[\d.e+-]+%?)?(?:, (?:device|dtype|grad_fn)=[^)]*)?[\])\"'`}]{0,3}"
)
MOST_CHARACTERS = 200  # characters of the line; a screen shows fewer


def parse_steps(
    text: bytes, timestamp: float, marker: bytes = STEP_MARKER
) -> tuple[list[ProgressReport], int]:
    """Return the steps in a piece of a log, the oldest first, and where an unfinished line may begin.

    Args:
        text: text from anywhere in a log.
        timestamp: time when the end of the text was written, in seconds since 1970.
        marker: marker of the lines that count.
    """
    steps: list[ProgressReport] = []
    place = text.find(marker)
    while place >= 0:
        end = _end(text, place)
        if end is None and len(text) - place < LONGEST_BYTES:
            return steps, max(0, place - 1)  # with the character before it
        step = None if end is None else _step(text, place, end, timestamp)
        steps += [] if step is None else [step]
        place = text.find(marker, place + len(marker))
    return steps, max(0, len(text) - len(marker))  # the mark may be there in part


def parse_newest_step(
    text: bytes, timestamp: float, marker: bytes = STEP_MARKER
) -> ProgressReport | None:
    """Return the newest step in a piece of a log, with the metrics of all lines about it."""
    newest: ProgressReport | None = None
    for step in _steps_backwards(text, timestamp, marker):
        if newest is None:
            newest = step
        elif step.step == newest.step:
            total = newest.total or step.total
            newest = newest._replace(total=total, metrics={**step.metrics, **newest.metrics})
        else:
            break
    return newest


def parse_pairs(text: str) -> dict[str, Json]:
    """Return name → value of the pairs in a text: numbers as such, other words up to a length."""
    values: dict[str, Json] = {}
    if "\x1b" in text:
        text = PlainTextFilter().feed(text.encode()).decode(errors="replace")
    for name, value in _PAIR.findall(text):
        word = value.rstrip(",;")
        number = _number_of(word)
        values[name] = word[:LONGEST_WORD] if number is None else number
    return values


def parse_report(text: str) -> dict[str, Json]:
    """Return name → value of the pairs in a report; a pair with blanks or a colon has a text, such as `= 0.9`."""
    values = parse_pairs(text)
    for name, separator, word in _SPACED.findall(text):
        values.setdefault(name, f"{separator.strip()} {word}"[:LONGEST_WORD])
    return values


def has_pairs(values: Mapping[str, Json]) -> bool:
    """Return whether values contain one that was reported without blanks or a colon."""
    texts = (each for each in values.values() if isinstance(each, str))
    return sum(each.startswith(("= ", ": ")) for each in texts) < len(values)


def _number_of(word: str) -> float | None:
    """Return the number that a reported word surely is, None if it is another word."""
    if _NUMBER.fullmatch(word):
        return float(word)
    if len(word) > LONGEST_WORD or (match := _WRAPPED.fullmatch(word)) is None:
        return None
    if any(word.count(begin) > word.count(end) for begin, end in ("[]", "()")):
        return None  # the beginning of a list
    number = match["number"]
    if "," in number:  # thousands and decimal commas, which few programs write
        return to_number(number)
    return float(number) if _NUMBER.fullmatch(number) else None


def _steps_backwards(text: bytes, timestamp: float, marker: bytes) -> Iterator[ProgressReport]:
    place = text.rfind(marker)
    for _ in range(MOST_LINES):
        if place < 0:
            return
        end = _end(text, place)
        if end is not None and (step := _step(text, place, end, timestamp)) is not None:
            yield step
        place = text.rfind(marker, 0, place)


def _end(text: bytes, place: int) -> int | None:
    """Return where the line ends that contains a place; None if it is unfinished or too long."""
    end = LINE_END.search(text, place, place + LONGEST_BYTES)
    return None if end is None else end.start()


def is_report(text: bytes, place: int) -> bool:
    """Return whether the marker at a place is not the end of a longer word."""
    before = text[place - 1 : place] if place else b""
    return not (before.isalnum() or before in {b".", b"/", b"-", b"_"})


def _step(text: bytes, place: int, end: int, timestamp: float) -> ProgressReport | None:
    return parse_step(text[place:end], timestamp) if is_report(text, place) else None


def parse_step(report: bytes, timestamp: float) -> ProgressReport | None:
    """Return the step of a line from its marker on; None if the line is not a report."""
    word, _, text = report.decode(errors="replace").removeprefix(_BEGIN).partition("=")
    count, _, rest = text.partition(" ")
    numbers = _COUNT.fullmatch(count.rstrip(",;"))
    if numbers is None:
        return None
    values = parse_report(rest)
    total = values.pop("total", None)
    if numbers[2] is not None:
        total = float(numbers[2])
    whole = isinstance(total, float) and 0 < total < 1e15 and total.is_integer()
    return ProgressReport(
        at=timestamp,
        step=int(numbers[1]),
        total=int(total) if whole and isinstance(total, float) else None,
        metrics=values,
        unit=word,
    )


def last_whole_lines(text: bytes, most_bytes: int) -> bytes:
    """Return the end of a text without a part of a line at its beginning: the end of `train_loss: 0.5` is another name."""
    end = text[-most_bytes:]
    if len(end) == len(text) or text[-most_bytes - 1 : -most_bytes] in {b"\n", b"\r"}:
        return end
    cut = LINE_END.search(end)
    return end[cut.end() :] if cut else b""


def last_line(end: bytes) -> str:
    """Return the last line that is not blank, without escape sequences; empty if there is none.

    Args:
        end: end of a log; the line may begin before it, and is then shown from its last characters on.
    """
    text = end.rstrip()
    cut = max(text.rfind(b"\n"), text.rfind(b"\r"))
    line = text[cut + 1 :]
    torn = cut < 0 and len(line) > MOST_CHARACTERS
    line = line[-4 * MOST_CHARACTERS :] if torn else line[: 16 * MOST_CHARACTERS]
    plain = PlainTextFilter()
    shown = (plain.feed(line) + plain.flush()).decode(errors="replace").expandtabs(1).strip()
    if torn:
        return f"…{shown[-MOST_CHARACTERS:]}"
    return shown if len(shown) <= MOST_CHARACTERS else f"{shown[:MOST_CHARACTERS]}…"
