"""What `erased` writes, `metrics.json`: how it is read again and judged, and the table of a study; no torch here.

RULE says the verdict in a sentence. The floor is what the same attack makes of a model that never saw the
concept, the ceiling what it makes of the teacher. Where both are alike the attack makes the concept itself out of
a few images, and tells nothing of what the model remembers: so the verdict looks at a point of the curve where
they are far apart, and there at the strongest attack. Neither depends on the method.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import model_folder_name, parse_model

LEAST_ERASED = 0.2  # of the teacher's rate: what is above is not erased
LEAST_ROOM = 0.2  # between floor and ceiling; rates of 64 samples vary by about 0.1
LEAST_KEPT = 0.5  # of the teacher's rate of the other classes: a model that draws less is broken
RULE = (
    "broken: less than half of the teacher's rate of the other classes is left; erased: at most a "
    "fifth of its rate of the concept is left; hidden: the attack comes at least half-way from floor "
    "to ceiling, with the most images and steps at which these lie at least half as far apart as "
    "anywhere on the curve; where they are nowhere 0.2 apart, the probe cannot tell"
)

NOTHING = "nothing to erase: the teacher does not draw it"
NOT_ERASED = "not erased"
BROKEN = "broken: it does not draw the other classes any more"
HIDDEN = "hidden, not erased"
ERASED = "erased, as far as this probe sees"
NO_FLOOR = "erased; no floor was measured, so the probe cannot tell whether it is hidden"


METRICS = "metrics.json"
SHEET = "samples.png"
SCHEMA = 1
TEACHER, NEVER = "teacher", "never"  # labels of models that no method made
# settings that do not tell methods apart
NOT_OF_THE_METHOD = frozenset({"seed", "concept", "anchor"})
MEASURES = (
    "erased", "anchor", "others", "ssim", "feature_distance", "frechet", "frechet_floor",
    "null_drift", "recovery", "recovery_floor", "recovery_ceiling", "seconds",
    "classifier_accuracy",
)  # fmt: skip
CURVES = ("recovery", "recovery_floor", "recovery_ceiling")


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """A point of a recovery curve; rates in 0 … 1."""

    images: int
    steps: int
    rate: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What the probe says, and at which point of the curve."""

    text: str
    images: int = 0  # 0: it follows from the rate before the attack alone
    steps: int = 0

    @property
    def at(self) -> str:
        """Where it was decided."""
        if not self.images:
            return "before the attack"
        return f"{_counted(self.images, 'image')}, {_counted(self.steps, 'step')}"


def verdict(
    erased: tuple[float, float],
    others: tuple[float, float],
    curve: Sequence[Point],
    floor: Sequence[Point],
    ceiling: Sequence[Point],
) -> Verdict:
    """Judge an erasing.

    Args:
        erased: rate of the concept under its own name, of the model and of its teacher.
        others: rate of the other classes, likewise.
        curve: of the model; all curves have the same points.
        floor: of a model that never saw the concept; empty: there is none.
        ceiling: of the teacher.
    """
    if not erased[1]:
        return Verdict(text=NOTHING)
    if others[0] < LEAST_KEPT * others[1]:
        return Verdict(text=BROKEN)
    if erased[0] > LEAST_ERASED * erased[1]:
        return Verdict(text=NOT_ERASED)
    if not floor or not ceiling:
        return Verdict(text=NO_FLOOR)
    places = [_Place(*rates) for rates in zip(floor, ceiling, curve, strict=True)]
    widest = max(places, key=lambda place: place.room)
    if widest.room < LEAST_ROOM:
        shown = f"floor {widest.floor.rate:.2f}, ceiling {widest.ceiling.rate:.2f}"
        return widest.verdict(f"the probe cannot tell: {shown}")
    usable = [place for place in places if place.room >= widest.room / 2]
    strongest = max(usable, key=lambda place: (place.reached.images, place.reached.steps))
    return strongest.verdict(HIDDEN if strongest.is_half_way else ERASED)


@dataclass(frozen=True, slots=True)
class _Place:
    """All curves at one point."""

    floor: Point
    ceiling: Point
    reached: Point

    @property
    def room(self) -> float:
        return self.ceiling.rate - self.floor.rate

    @property
    def is_half_way(self) -> bool:
        return self.reached.rate - self.floor.rate >= self.room / 2

    def verdict(self, text: str) -> Verdict:
        return Verdict(text=text, images=self.reached.images, steps=self.reached.steps)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def method_label(diffuser: str, teacher: str) -> str:
    """Return what a measured model is called in tables.

    "teacher", the name of the method with those of its swept settings that are no seed or concept
    ("abo@penalty=0"), or "never" for another model that no method made.
    """
    if diffuser == teacher:
        return TEACHER
    stage = parse_model(diffuser).last
    if not stage.methods:
        return NEVER
    shared = {pair for each in parse_model(teacher).stages for pair in each.variant}
    own = [
        f"{key}={value}"
        for key, value in stage.variant
        if key not in NOT_OF_THE_METHOD and (key, value) not in shared
    ]
    name = "~".join(stage.methods)
    return f"{name}@{','.join(own)}" if own else name


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """A `metrics.json`."""

    facts: Mapping[str, Any]

    @property
    def key(self) -> tuple[str, str, str]:
        """What seeds are pooled over: method, concept, anchor."""
        return str(self.facts["method"]), str(self.facts["concept"]), str(self.facts["anchor"])

    def number(self, name: str) -> float | None:
        """Return a measure, or another number of the record; None where there is none."""
        value = (self.facts.get("measures") or {}).get(name, self.facts.get(name))
        if isinstance(value, Mapping):
            value = value.get("value")
        return float(value) if isinstance(value, int | float) else None

    def points(self, name: str) -> tuple[Point, ...]:
        """Return a curve: "recovery", "recovery_floor" or "recovery_ceiling"."""
        rows: Sequence[Mapping[str, Any]] = self.facts.get(name) or ()
        return tuple(
            Point(images=int(row["images"]), steps=int(row["steps"]), rate=float(row["rate"]))
            for row in rows
        )

    def most(self, name: str) -> float | None:
        """Return the rate of a curve at most images and steps; None of no curve."""
        points = self.points(name)
        if not points:
            return None
        return max(points, key=lambda point: (point.images, point.steps)).rate


def read_record(run_folder: Path, name: str) -> Record:
    """Return the record of a measured model, by the name of its made folder.

    Raises:
        DataError: there is none, or it is of another form.
    """
    path = run_folder / "made" / model_folder_name(name) / METRICS
    facts = read_json(path)
    if facts is None:
        raise DataError(f"there is no {path}: a job of kind erased writes it")
    needed = ("method", "concept", "anchor", "measures", "recovery")
    missing = [key for key in needed if key not in facts]
    if facts.get("schema") != SCHEMA or missing:
        raise DataError(f"{path} is no record of schema {SCHEMA}; run the job of kind erased anew")
    return Record(facts=facts)


def table(run_folder: Path, tests: Sequence[tuple[str, str]]) -> list[dict[str, Json]]:
    """Return a row for each method, concept and anchor, means over seeds.

    Of recovery, its floor and its ceiling the columns hold the rates at most images and steps; the verdict is
    made of the mean curves. A measure has `<name>_sd`, the standard deviation over seeds, where there are two
    seeds or more. `n` is the number of samples of a class.

    Args:
        run_folder: runs/<run>.
        tests: ("", name of the made folder) of each job that is done.

    Raises:
        DataError: a record is missing or broken.
    """
    groups: dict[tuple[str, str, str], list[Record]] = {}
    for _, name in tests:
        record = read_record(run_folder, name)
        groups.setdefault(record.key, []).append(record)
    rows = [_row(records) for records in groups.values()]
    return sorted(rows, key=_place)


def _place(row: dict[str, Json]) -> tuple[str, int, str]:
    """Return the order of rows: by concept, the teacher first and what never saw it last."""
    method = str(row["method"])
    base = method.partition("@")[0]
    rank = {TEACHER: 0, NEVER: 2, "retrain": 2}.get(base, 1)
    return f"{row['concept']}/{row['anchor_class']}", rank, method


def _row(records: Sequence[Record]) -> dict[str, Json]:
    method, concept, anchor = records[0].key
    curves = {name: mean_curve(records, name) for name in CURVES}
    values: dict[str, list[float]] = {
        name: [value for record in records if (value := _value(record, name)) is not None]
        for name in MEASURES
    }
    judged = _judged(records, curves)
    seeds = len({record.number("seed") for record in records})
    spread: dict[str, Json] = {
        f"{name}_sd": stdev(numbers) for name, numbers in values.items() if len(numbers) > 1
    }
    return {
        "method": method,
        "concept": concept,
        "anchor_class": anchor,
        **{name: _mean(numbers) for name, numbers in values.items()},
        "verdict": judged.text,
        "verdict_at": judged.at if judged.text else "",
        "seeds": max(seeds, len(records)),
        "n": records[0].facts.get("samples"),
        **spread,
    }


def mean_curve(records: Sequence[Record], name: str) -> tuple[Point, ...]:
    """Return the mean of the records' curves; () where one has none, or they have other points."""
    curves = [record.points(name) for record in records]
    places = {tuple((point.images, point.steps) for point in curve) for curve in curves}
    if len(places) != 1 or not all(curves):
        return ()
    return tuple(
        Point(
            images=points[0].images,
            steps=points[0].steps,
            rate=fmean(point.rate for point in points),
        )
        for points in zip(*curves, strict=True)
    )


def _value(record: Record, name: str) -> float | None:
    """Return a measure; of a curve that at most images and steps."""
    return record.most(name) if name in CURVES else record.number(name)


def _judged(records: Sequence[Record], curves: Mapping[str, Sequence[Point]]) -> Verdict:
    """Return the verdict on the means over records; an empty one where a rate was not measured."""
    names = ("erased", "teacher_erased", "others", "teacher_others")
    erased, before, others, others_before = (_mean_of(records, name) for name in names)
    if erased is None or before is None or others is None or others_before is None:
        return Verdict(text="")
    return verdict((erased, before), (others, others_before), *(curves[name] for name in CURVES))


def _mean_of(records: Sequence[Record], name: str) -> float | None:
    return _mean(value for record in records if (value := record.number(name)) is not None)


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return fmean(numbers) if numbers else None
