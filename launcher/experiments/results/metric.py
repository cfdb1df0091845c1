"""A number of a result, optionally with its interval: {"value": 0.9, "low": 0.88, "high": 0.92}."""

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple, TypeGuard

from launcher.system.files import Json

_NUMBERS = frozenset({int, float})
_SHORT = frozenset({"value", "low", "high", "over"})  # keys of a value with an interval
_KEYS = _SHORT | {"sd", "n", "expected", "note", "why", "images"}  # all keys of a value
SIGN = "†"  # a number without an interval, in tables with footnotes
UNCERTAINTY_DIGITS = 2  # significant digits of an uncertainty (JCGM 100:2008, section 7.2.6)
MOST_DECIMALS = 8  # beyond this, before or after the point, numbers are written with an exponent
ALL_DIGITS = 15  # digits that every float keeps
MOST_DIGITS = 8  # digits of a mantissa; an uncertainty below them is the rounding of floats


class Metric(NamedTuple):
    """A number and its confidence interval, if known.

    A mean also has the standard deviation and the number of its values. If values are missing, it has the expected
    number and a note: "5 of 6 seeds, 1 failed".

    If a plugin package says why there is no interval, `why` has the reason. A result of images from two sources has
    two intervals: over sources, and in `images` over the images of these two.
    """

    value: float | int
    low: float | None = None
    high: float | None = None
    sd: float | None = None
    n: int | None = None
    expected: int | None = None  # None: no value is missing
    note: str | None = None
    why: str | None = None  # why there is no interval
    images: "Metric | None" = None  # the same number with its interval over images
    unit: str = "images"  # unit of an interval that is not over sources

    def __str__(self) -> str:
        return self.text()

    def text(
        self,
        factor: int = 1,
        digits: int | None = None,
        *,
        brackets: bool = False,
        is_rounded: bool = False,
    ) -> str:
        """Return the number with its deviation and interval.

        Args:
            factor: Factor of all numbers: 100 for per cent.
            digits: Number of decimals. None means four significant digits; all numbers of a mean then have the
                same number of decimals.
            brackets: Write the interval as "[0.88, 0.92]", for programs, instead of "(0.88 to 0.92)".
            is_rounded: Round all numbers to two significant digits of the uncertainty: the deviation, otherwise
                half of the interval. Without an uncertainty, `digits` is used.
        """
        supported = _supported_decimals(self, factor) if is_rounded else None
        if supported is not None:
            digits = supported
        elif digits is None and factor == 1 and self.sd is not None:
            digits = _common_digits(self)

        def format_number(value: float) -> str:
            if digits is None:
                return format_value(value)
            scaled = factor * value
            if abs(digits) > MOST_DECIMALS:
                return _text_with_exponent(scaled, digits)
            return f"{scaled if digits >= 0 else round(scaled, digits):.{max(digits, 0)}f}"

        spread = "" if self.sd is None else f" ± {format_number(self.sd)}"
        note = "" if self.note is None else f" ({self.note})"
        missing = "" if self.why is None else SIGN if brackets else f" (no interval: {self.why})"
        if self.low is None or self.high is None:
            return f"{format_number(self.value)}{spread}{missing}{note}"

        def format_ends(low: float, high: float) -> str:
            ends = format_number(low), format_number(high)
            return f"[{', '.join(ends)}]" if brackets else " to ".join(ends)

        interval = format_ends(self.low, self.high)
        if (images := self.images) is not None:
            interval += " over sources, "
            if images.low is None or images.high is None:
                interval += f"none over {images.unit}: {images.why}"
            else:
                interval += f"{format_ends(images.low, images.high)} over {images.unit}"
        return (
            f"{format_number(self.value)}{spread} {interval if brackets else f'({interval})'}{note}"
        )

    def complete_text(self) -> str:
        """Return the number in full precision, that of a mean with at least the decimals of a terminal: 0.9100."""
        digits = None if self.sd is None or isinstance(self.value, int) else _common_digits(self)
        text = str(self.value)
        if digits is None or not text.replace(".", "").removeprefix("-").isdecimal():
            return text
        return text.ljust(text.index(".") + 1 + digits, "0")

    def to_json(self) -> Json:
        """Return the metric for `read_metric`: a number, or a mapping with its interval and counts."""
        if self.low is None and self.n is None and self.why is None:
            return self.value
        bounds: dict[str, Json] = {"value": self.value, "low": self.low, "high": self.high}
        if self.why is not None:
            bounds["why"] = self.why
        if self.images is not None:
            bounds["images"] = {"low": self.images.low, "high": self.images.high}
        if self.n is None:
            return bounds
        missing = {} if self.note is None else {"expected": self.expected, "note": self.note}
        return {**bounds, "sd": self.sd, "n": self.n, **missing}


def format_value(value: float) -> str:
    """Return a number for users: integers unchanged, others with four digits."""
    return str(value) if isinstance(value, int) else f"{value:.4g}"


def _common_digits(mean: Metric) -> int | None:
    """Return the number of decimals of all numbers of a mean.

    The largest number has four significant digits, the deviation at least two, or fewer if none needs them. None if a
    number is written with an exponent.
    """
    numbers = (mean.value, mean.sd, mean.low, mean.high)
    known = [float(number) for number in numbers if number is not None]
    texts = [format_value(number) for number in known]
    if any("e" in text or "n" in text for text in texts):  # an exponent, nan or inf
        return None
    most = max(len(text.partition(".")[2]) for text in texts)
    wanted = [
        figures - 1 - math.floor(math.log10(abs(number)))
        for figures, number in ((4, max(known, key=abs)), (2, mean.sd))
        if number
    ]
    return min(most, max(0, *wanted)) if wanted else most


def _supported_decimals(metric: Metric, factor: int) -> int | None:
    """Return the number of decimals that the uncertainty of a number supports, negative for tens.

    None if the uncertainty is unknown, zero, infinite, or only the rounding of floats.
    """
    spread = metric.sd
    if spread is None and metric.low is not None and metric.high is not None:
        spread = (metric.high - metric.low) / 2
    if not spread or not math.isfinite(spread):
        return None
    decimals = UNCERTAINTY_DIGITS - 1 - _exponent(factor * spread, UNCERTAINTY_DIGITS)
    if abs(decimals) <= MOST_DECIMALS:
        return decimals
    digits = _exponent(factor * max(abs(metric.value), abs(spread)), ALL_DIGITS) + decimals + 1
    return decimals if digits <= MOST_DIGITS else None


def _exponent(number: float, digits: int) -> int:
    """Return the decimal exponent of a number that is rounded to some significant digits."""
    return int(f"{number:.{digits - 1}e}".partition("e")[2])


def _text_with_exponent(number: float, decimals: int) -> str:
    """Return a number with an exponent, rounded to some decimals, which are negative for tens."""
    digits = _exponent(number, ALL_DIGITS) + decimals  # after the point
    return f"{number:.{digits}e}" if number and digits >= 0 else "0"


def read_metric(record: object) -> Metric | None:
    """Return a number of a plugin package or a job as a metric; None if it is not a number."""
    if _is_number(record):
        return Metric(value=record)
    if not isinstance(record, Mapping) or not record.keys() <= _KEYS:
        return None
    value = record.get("value")
    if not _is_number(value):
        return None
    metric = Metric(value, _number(record.get("low")), _number(record.get("high")))
    if record.keys() <= _SHORT:  # by far the most frequent case
        return metric
    n, expected = (_number(record.get(key)) for key in ("n", "expected"))
    note, why = (
        text if isinstance(text := record.get(key), str) else None for key in ("note", "why")
    )
    images, over = record.get("images"), record.get("over")
    if images is not None and not isinstance(images, Mapping):
        return None
    videos = isinstance(over, Mapping) and "videos" in over.values()
    return metric._replace(
        sd=_number(record.get("sd")),
        n=None if n is None else int(n),
        expected=None if expected is None else int(expected),
        note=note,
        why=why,
        images=read_metric({"value": value, "why": None, **images}) if images else None,
        unit="videos" if videos else "images",
    )


def footnotes(metrics: Iterable[Metric | None]) -> list[str]:
    """Return the reasons for missing intervals, which SIGN refers to, each once."""
    reasons = dict.fromkeys(metric.why for metric in metrics if metric is not None and metric.why)
    return [f"{SIGN} no interval: {'; '.join(reasons)}"] if reasons else []


def _is_number(record: object) -> TypeGuard[float]:
    if record.__class__ in _NUMBERS:  # by far the most frequent case
        return True
    return isinstance(record, int | float) and not isinstance(record, bool)


def _number(record: object) -> float | None:
    return record if _is_number(record) else None


def interval_columns(name: str, metric: Metric) -> dict[str, float | None]:
    """Return a number as three columns: its value and the bounds of its interval."""
    return {name: metric.value, f"{name}_low": metric.low, f"{name}_high": metric.high}
