"""A value with its 95 % interval and the scope of the interval, or the reason for its absence."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from trueface.runtime.files import Json

NAMES = ("real", "fake")  # names of a detector's classes, by label
NOT_COMPARABLE = "not comparable"  # without an interval
NOTHING_SHOWN = "no difference shown"
MAY_BE_NARROW = "may be too narrow"  # an interval that contains the true value in less than 92 %
# sources, and images or videos, of a class, below which a table says how many there are. Intervals may then be too
# narrow: some simulated detectors have a coverage below 92 % (benchmarks/coverage.py)
FEW_SOURCES, FEW_IMAGES = 10, 500


class Over(StrEnum):
    """The scope of an interval in a class: it is for other draws of these."""

    SOURCES = "sources"
    VIDEOS = "videos"  # videos of the only source
    IMAGES = "images"  # images of the only source


class Interval(NamedTuple):
    """The ends of an interval."""

    low: float
    high: float

    def text(self, form: str) -> str:
        """Return both ends in a format such as ".3f" or "+.1f": "0.967 to 0.993"."""
        return f"{self.low:{form}} to {self.high:{form}}"

    def merge(self, other: "Interval") -> "Interval":
        """Return the interval from the lower one of both low ends to the higher one of both high ends."""
        return Interval(min(self.low, other.low), max(self.high, other.high))

    def scale(self, factor: float) -> "Interval":
        """Return the same in another unit, such as per cent for the factor 100."""
        return Interval(factor * self.low, factor * self.high)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A value with its 95 % interval, or the reason why it has none."""

    value: float
    interval: Interval | None = None
    over: Mapping[int, Over] = field(default_factory=dict)  # by label; empty: over images
    why: str = ""  # why there is no interval, "50 of 368 reals"; "" if there is one
    note: str = ""  # caveat about the width of the interval; ""
    images: "Estimate | None" = None  # over images of these sources, if `over` has sources

    @property
    def by_images(self) -> "Estimate":
        """The same value with its interval over images of these sources."""
        return self.images or self

    @property
    def half_width(self) -> float:
        """Half of the interval's width; 0 without an interval."""
        return 0.0 if self.interval is None else (self.interval.high - self.interval.low) / 2

    def excludes(self, value: float) -> bool:
        """Return whether there is an interval and it does not contain a value."""
        return self.interval is not None and not self.contains(value)

    def contains(self, value: float) -> bool:
        """Return whether there is an interval and it contains a value."""
        return self.interval is not None and self.interval.low <= value <= self.interval.high

    def scale(self, factor: float) -> "Estimate":
        """Return the same in another unit, such as per cent for the factor 100."""
        return Estimate(
            value=factor * self.value,
            interval=None if self.interval is None else self.interval.scale(factor),
            over=self.over,
            why=self.why,
            note=self.note,
            images=None if self.images is None else self.images.scale(factor),
        )

    def ends_text(self, form: str) -> str:
        """Return "0.967 to 0.993", or "no interval: 50 of 368 reals".

        Args:
            form: format specification of both ends, such as ".3f" or "+.1f".
        """
        if self.interval is None:
            return f"no interval: {self.why}"
        return ", ".join(filter(None, (self.interval.text(form), self.note)))

    def text(self, form: str) -> str:
        """Return "0.980 (0.967 to 0.993)", or "0.370 (no interval: 50 of 368 reals)"."""
        return f"{self.value:{form}} ({self.ends_text(form)})"

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON: value, low and high, and `over` by class and `why` if there are any."""
        record: dict[str, Json] = {"value": self.value, **ends_record(self.interval)}
        if self.over:
            record["over"] = {class_name(label): over for label, over in self.over.items()}
        if self.why:
            record["why"] = self.why
        if self.note:
            record["note"] = self.note
        return record


class Difference(NamedTuple):
    """By how much a model exceeds another, with its 95 % interval."""

    value: float
    interval: Interval | None = None
    why: str = ""  # why there is no interval
    note: str = ""  # caveat about the width of the interval; ""

    @property
    def word(self) -> str:
        """The conclusion: a difference whose interval contains 0 shows nothing."""
        if self.interval is None:
            return NOT_COMPARABLE
        if self.interval.low > 0:
            return "gain"
        return "loss" if self.interval.high < 0 else NOTHING_SHOWN

    def ends_text(self, form: str, factor: float = 1) -> str:
        """Return "+0.1 to +0.3", or "not comparable: no interval"."""
        if self.interval is None:
            return f"{NOT_COMPARABLE}: {self.why}"
        return ", ".join(filter(None, (self.interval.scale(factor).text(form), self.note)))

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        record: dict[str, Json] = {
            "difference": self.value,
            **ends_record(self.interval),
            "word": self.word,
        }
        notes = {"why": self.why, "note": self.note}
        return {**record, **{key: text for key, text in notes.items() if text}}


def class_name(label: int) -> str:
    """Return the name of a class: "real", "fake", or the number of a further one."""
    return NAMES[label] if label < len(NAMES) else str(label)


def interval_fields(name: str, measure: Estimate | None) -> dict[str, Json]:
    """Return a measure as fields of a record, `<name>`, `<name>_low`, `<name>_high`; null where there is none."""
    if measure is None:
        return {name: None, **ends_record(None, f"{name}_")}
    fields: dict[str, Json] = {name: measure.value, **ends_record(measure.interval, f"{name}_")}
    notes = {f"{name}_why": measure.why, f"{name}_note": measure.note}
    return {**fields, **{key: text for key, text in notes.items() if text}}


def ends_record(interval: Interval | None, prefix: str = "") -> dict[str, Json]:
    """Return the ends of an interval as fields of a record, `low` and `high`; null without an interval."""
    low, high = interval or (None, None)
    return {f"{prefix}low": low, f"{prefix}high": high}


def classes_text(
    sources: Mapping[int, int],
    interval_scopes: Mapping[int, Over],
    counts: Mapping[int, tuple[int, str]] | None = None,
) -> Sequence[str]:
    """Return "3 real sources", "8 real sources (40 images)" or "1 fake source (over its images)" of each class.

    Args:
        sources: number of sources by label.
        interval_scopes: what the intervals are over, by label.
        counts: number of images or videos by label, with "videos" or "". Classes with many sources and many images
            are then left out. None: every class.
    """
    return [
        f"{count} {class_name(label)} source{'s' if count > 1 else ''}{_extent(count, interval_scopes[label], number)}"
        for label, count in sources.items()
        for number in (_few_images(counts, label),)
        if counts is None or count < FEW_SOURCES or number
    ]


def _few_images(counts: Mapping[int, tuple[int, str]] | None, label: int) -> str:
    """Return "20 images" if so few are few; otherwise ""."""
    count, unit = (FEW_IMAGES, "") if counts is None else counts[label]
    text = f"{count} {unit or 'images'}"
    return "" if count >= FEW_IMAGES else text.removesuffix("s") if count == 1 else text


def _extent(sources: int, interval_scopes: Over, few_images: str) -> str:
    if sources > 1:
        return f" ({few_images})" if few_images else ""
    return f" (over its {few_images or interval_scopes})"
