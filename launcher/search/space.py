"""The values that a search may choose: ranges of numbers, and lists of values."""

import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from launcher.errors import UsageError
from launcher.ids import is_variant_value
from launcher.params import parse_number
from launcher.system.files import Json
from launcher.taskfile.foreign_values import own_spelling

Value = str | int | float | bool

LARGEST = 2**53  # limit of a bound; floats count further only in larger steps
DIGITS = 4  # significant digits of a value of a logarithmic range, and of the width of another one
STEP_DIGITS = 12  # significant digits of a multiple of a step
LOG = "log"
_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d{1,3})?"
_RANGE = re.compile(rf"({_NUMBER})\.\.({_NUMBER})(?:\.\.({_NUMBER}))?(?::(\w+))?", re.ASCII)
_WHOLE = re.compile(r"[-+]?\d+", re.ASCII)
FORMS = "LOW..HIGH, LOW..HIGH..STEP, LOW..HIGH:log or VALUE,VALUE"


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
        if self.whole or self.step is not None:
            return math.floor((self.high - self.low) / (self.step or 1) + 1e-9) + 1
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
        if self.log:
            value = float(f"{value:.{DIGITS}g}")
        else:
            value = round(value, DIGITS - math.floor(math.log10(self.high - self.low)))
        return min(max(value, self.low), self.high) + 0.0  # never -0.0

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

    def contains(self, value: Value) -> bool:
        """Return whether a value is one of the list; 1 is not True."""
        return any(value == each and value.__class__ is each.__class__ for each in self.values)

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


def parse_domain(name: str, text: str) -> Range | Choice:
    """Return the values that `--sweep NAME=TEXT` of a search allows.

    Raises:
        UsageError: the text has another form, or leaves no choice.
    """
    if not text:
        raise UsageError(f"{name}: no values. Write {name}={FORMS}.")
    if foreign := own_spelling(text):
        raise UsageError(f"{name}={text}: not a range or a list here. {foreign.advice(name)}.")
    words = text.split(",")
    if not any(".." in word for word in words):
        return choice_of(name, [value_of(word) for word in words])
    if len(words) > 1:
        raise UsageError(
            f"{name}={text}: a range and single values are mixed. Write one range, or all values."
        )
    match = _RANGE.fullmatch(text)
    if match is None:
        raise UsageError(f"{name}={text}: not a range. Write {name}={FORMS}.")
    low, high, step, scale = match.groups()
    if scale not in {None, LOG}:
        right = f"{name}={low}..{high}"
        raise UsageError(f"{name}={text}: unknown scale {scale!r}. Write {right} or {right}:log.")
    return _checked_range(name, text, low, high, step, log=scale == LOG)


def choice_of(name: str, values: Sequence[Value]) -> Choice:
    """Return a list of values.

    Raises:
        UsageError: a value is listed twice, or cannot be part of a job name.
    """
    for value in values:
        text = text_of(value)
        if not is_variant_value(text):
            raise UsageError(
                f"{name}: {text!r} cannot be part of a job name. Use letters, digits and _.+-"
            )
        if _RANGE.fullmatch(text):
            raise UsageError(
                f"{name}: {text} is a range, and the others are single values. Write one range, or all values."
            )
    keys = [key_of_text(text_of(each)) for each in values]
    for value, key in zip(values, keys, strict=True):
        if keys.count(key) > 1:
            raise UsageError(
                f"{name}: the value {text_of(value)} is listed twice. Remove one of them."
            )
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
    why = ""
    if last <= first:
        why = f"the range has no values. Write the smaller number first: {name}={high}..{low}"
        if last == first:
            why = "the range has one value. Write two different bounds"
    elif max(abs(first), abs(last)) > LARGEST:
        why = f"a bound is larger than {LARGEST}. Write smaller numbers"
    elif log and first <= 0:
        why = f"a logarithmic range begins above 0. Write {name}=1e-6..{high}:log"
    elif log and width is not None:
        why = "a logarithmic range has no step. Remove one of them"
    elif width is not None and not 0 < width <= last - first:
        why = f"the step does not fit. Write a step from 0 to {last - first}"
    if why:
        raise UsageError(f"{name}={text}: {why}.")
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
