"""The values that a search chooses and that `random` draws: ranges of numbers, and lists of values."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from launcher.experiments.taskfile.foreign_values import own_spelling, with_decimal_points
from launcher.experiments.taskfile.path_names import short_path_names
from launcher.ids import is_variant_value
from launcher.queue.jobs.params import parse_number
from launcher.system.errors import UsageError
from launcher.system.files import Json
from launcher.system.lazy_regex import compile_lazily

Value = str | int | float | bool

LARGEST = 2**53  # limit of a bound; floats count further only in larger steps
DIGITS = 4  # significant digits of a value of a logarithmic range, and of the width of another one
STEP_DIGITS = 12  # significant digits of a multiple of a step
LOG = "log"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_RANGE = compile_lazily(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?(?::(\w+))?", re.ASCII)
_WHOLE = compile_lazily(r"[-+]?\d+", re.ASCII)
IN_FILE = ": "  # between a name and its values in a task file
_FORMS = "LOW..HIGH, LOW..HIGH..STEP, LOW..HIGH:log"


class Range(NamedTuple):
    """Numbers between two bounds, both included."""

    low: float
    high: float
    step: float | None = None
    log: bool = False
    whole: bool = False

    @property
    def first(self) -> float:
        """The value of a template."""
        return self.low

    @property
    def size(self) -> int | None:
        """How many values there are, None if they are not counted."""
        if self.whole:
            return int(self.high - self.low) // int(self.step or 1) + 1
        if self.step is not None:
            return math.floor((self.high - self.low) / self.step + 1e-9) + 1
        return None

    @property
    def last(self) -> float:
        """The largest value."""
        if self.step is None:
            return self.high
        return self.round(self.low + self.step * ((self.size or 1) - 1))

    def all(self) -> list[Value]:
        """Return all values of a range that has a size."""
        step = self.step or 1
        return [self.round(self.low + index * step) for index in range(self.size or 0)]

    def round(self, value: float) -> int | float:
        """Return a value with few digits, within the bounds."""
        if self.whole:
            return int(value)
        if self.step is not None:
            return float(f"{value:.{STEP_DIGITS}g}")
        if self.log:  # close bounds have more digits in common
            digits = DIGITS + math.floor(-math.log10(min(1.0, (self.high - self.low) / self.low)))
            value = float(f"{value:.{digits}g}")
        else:
            value = round(value, DIGITS - math.floor(math.log10(self.high - self.low)))
        return min(max(value, self.low), self.high) + 0.0  # never -0.0

    def draw(self, part: float) -> int | float:
        """Return the value at a part of the range, in [0, 1): equal parts have equal probabilities."""
        if self.log:
            # a whole number stands for the numbers that are rounded to it
            half = 0.5 if self.whole else 0.0
            first, last = math.log(self.low - half), math.log(self.high + half)
            value = math.exp(first + part * (last - first))
            if not self.whole:
                return self.round(value)
            return int(min(max(round(value), self.low), self.high))
        if self.size is not None:
            return self.round(self.low + (self.step or 1) * int(part * self.size))
        return self.round(self.low + part * (self.high - self.low))

    def contains(self, value: Value) -> bool:
        """Return whether a number is between the bounds."""
        return _is_number(value) and self.low <= float(value) <= self.high

    def to_json(self) -> dict[str, Json]:
        """Return the range as JSON."""
        return {"low": self.low, "high": self.high, "step": self.step, "log": self.log}


class Choice(NamedTuple):
    """A list of values."""

    values: tuple[Value, ...]

    @property
    def first(self) -> Value:
        """The value of a template."""
        return self.values[0]

    @property
    def size(self) -> int:
        """How many values there are."""
        return len(self.values)

    def all(self) -> list[Value]:
        """Return all values."""
        return [*self.values]

    def draw(self, part: float) -> Value:
        """Return the value at a part of the list, in [0, 1)."""
        return self.values[int(part * len(self.values))]

    def contains(self, value: Value) -> bool:
        """Return whether a value is one of the list; 1 is not True."""
        return any(value == each and value.__class__ is each.__class__ for each in self.values)

    def labels(self) -> dict[str, str]:
        """Return path → its short name in the names of jobs, for the values that are paths; {} if some have none."""
        texts = [text_of(value) for value in self.values]
        paths = [text for text in texts if "/" in text]
        return short_path_names(paths, {*texts}.difference(paths))

    def to_json(self) -> dict[str, Json]:
        """Return the list as JSON."""
        return {"values": [*self.values]}


Space = Mapping[str, Range | Choice]


def size_of(space: Space) -> int | None:
    """Return how many combinations there are, None if they are not counted."""
    sizes = [each.size for each in space.values()]
    return None if None in sizes else math.prod(size or 0 for size in sizes)


def read_domain(record: Mapping[str, Json]) -> Range | Choice:
    """Return what `to_json` wrote."""
    match record:
        case {"values": list(values)}:
            return Choice(tuple(value for value in values if isinstance(value, Value)))
        case {"low": int() | float() as low, "high": int() | float() as high, **more}:
            step = more.get("step")
            whole = isinstance(low, int) and isinstance(high, int) and not isinstance(step, float)
            return Range(
                low,
                high,
                step if isinstance(step, int | float) else None,
                log=bool(more.get("log")),
                whole=whole,
            )
    raise UsageError(f"the values of a search cannot be read: {str(record)[:80]}")


class InvalidDomain(UsageError):
    """Values in another form than those of a range or a list."""

    def __init__(self, subject: str, fault: str, remedy: str) -> None:
        """Say what is wrong, and what to write.

        Args:
            subject: The name, or the name with its values.
            fault: What is wrong, without a full stop.
            remedy: What to do, without a full stop.
        """
        super().__init__(f"{subject}: {fault}. {remedy}.")
        self.fault, self.remedy = fault, remedy


def parse_domain(name: str, text: str, equals: str = "=") -> Range | Choice:
    """Return the values that `--sweep NAME=TEXT` of a search or `NAME: TEXT` of a task file allows.

    Args:
        name: Name of the values.
        text: The values as typed.
        equals: What is between a name and its values: `IN_FILE` in a task file.

    Raises:
        InvalidDomain: the text has another form, or leaves no choice.
    """
    named = f"{name}{equals}"
    if not text:
        raise InvalidDomain(name, "no values", f"Write {named}{_forms(equals)}")
    if foreign := own_spelling(text):
        remedy = foreign.advice(name, equals)
        raise InvalidDomain(f"{named}{text}", "not a range or a list here", remedy)
    words = text.split(",")
    if "" in words:
        values = "[VALUE, VALUE]" if equals == IN_FILE else "VALUE,VALUE"
        raise InvalidDomain(f"{named}{text}", "a value is empty", f"Write {named}{values}")
    if not any(".." in word for word in words):
        return choice_of(name, [value_of(word) for word in words])
    if len(words) > 1:
        pointed = with_decimal_points(text)
        raise InvalidDomain(
            f"{named}{text}",
            "a range and single values are mixed",
            f"Write {named}{pointed}" if pointed else "Write one range, or all values",
        )
    match = _RANGE.fullmatch(text)
    if match is None:
        raise InvalidDomain(f"{named}{text}", "not a range", f"Write {named}{_forms(equals)}")
    low, high, step, scale = match.groups()
    if scale not in {None, LOG}:
        right = f"{named}{low}..{high}"
        raise InvalidDomain(
            f"{named}{text}", f"unknown scale {scale!r}", f"Write {right} or {right}:log"
        )
    return _checked_range(named, text, low, high, step, log=scale == LOG)


def _forms(equals: str) -> str:
    return f"{_FORMS} or {'[VALUE, VALUE]' if equals == IN_FILE else 'VALUE,VALUE'}"


def choice_of(name: str, values: Sequence[Value]) -> Choice:
    """Return a list of values.

    Raises:
        InvalidDomain: a value is listed twice, or cannot be part of a job name.
    """
    labels = Choice(tuple(values)).labels()
    for value in values:
        text = text_of(value)
        if not is_variant_value(labels.get(text, text)):
            fault = f"{text!r} cannot be part of a job name"
            raise InvalidDomain(name, fault, "Use letters, digits and _.+- only")
        if _RANGE.fullmatch(text):
            fault = f"{text} is a range, and the others are single values"
            raise InvalidDomain(name, fault, "Write one range, or all values")
    if not values:
        raise InvalidDomain(name, "no values", "Write at least one")
    seen: dict[str, str] = {}
    for text in map(text_of, values):
        if (first := seen.setdefault(key_of_text(text), text)) != text:
            raise InvalidDomain(name, f"{first} and {text} are one value", "Remove one of them")
    if len(seen) < len(values):
        twice = next(text for text in seen.values() if [*map(text_of, values)].count(text) > 1)
        raise InvalidDomain(name, f"the value {twice} is listed twice", "Remove one of them")
    return Choice(tuple(values))


def value_of(word: str) -> Value:
    """Return the value of a word: the number if its text is the word, otherwise the word."""
    number = parse_number(word)
    return number if str(number) == word else word


def key_of_text(text: str) -> str:
    """Return what is equal for two spellings of one value: 1e-4 and 0.0001, but not 1 and 1.0."""
    return str(parse_number(text))


def _checked_range(
    name: str, text: str, low: str, high: str, step: str | None, *, log: bool
) -> Range:
    first, last = Decimal(low), Decimal(high)
    width = None if step is None else Decimal(step)
    whole = all(_WHOLE.fullmatch(part) for part in (low, high, step or "1"))
    fault = remedy = ""
    if max(abs(first), abs(last)) > LARGEST:
        fault, remedy = f"a bound is larger than {LARGEST}", "Write smaller numbers"
    elif last < first:
        fault = "the range has no values"
        remedy = f"Write the smaller number first: {name}{high}..{low}"
    elif last == first:
        fault, remedy = "the range has one value", "Write two different bounds"
    elif log and first <= 0:
        least = min(Decimal("1e-6"), last / 1000)
        fault = "a logarithmic range begins above 0"
        remedy = f"Write {name}{least:.0e}..{high}:log" if last > 0 else "Remove :log"
    elif log and width is not None:
        fault, remedy = "a logarithmic range has no step", "Remove one of them"
    elif width is not None and not 0 < width <= last - first:
        fault, remedy = "the step does not fit", f"Write a step above 0, at most {last - first}"
    if fault:
        raise InvalidDomain(f"{name}{text}", fault, remedy)
    number = int if whole else float
    return Range(
        number(low),
        number(high),
        None if width is None or (whole and width == 1) else number(str(step)),
        log=log,
        whole=whole,
    )


def values_in(space: Space, values: Mapping[str, Json]) -> dict[str, Value]:
    """Return those of some stored values that belong to a space."""
    return {
        name: value for name, value in values.items() if name in space and isinstance(value, Value)
    }


def text_of(value: Value) -> str:
    """Return a value as the text of an argument and of a job name."""
    if isinstance(value, bool):
        return str(value).lower()
    return str(value)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
