"""The table of an erasing study: a row a method, means over seeds; no torch here."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import fmean, stdev

from trueface.erasing.measures.record import NEVER, TEACHER, Record, read_record
from trueface.erasing.measures.verdict import Point, verdict
from trueface.runtime.files import Json

MEASURES = (
    "erased", "anchor", "others", "ssim", "feature_distance", "frechet", "frechet_floor",
    "null_drift", "recovery", "recovery_floor", "recovery_ceiling", "seconds",
)  # fmt: skip
CURVES = ("recovery", "recovery_floor", "recovery_ceiling")


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
    judged = verdict(
        (_mean_of(records, "erased"), _mean_of(records, "teacher_erased")),
        (_mean_of(records, "others"), _mean_of(records, "teacher_others")),
        curves["recovery"],
        curves["recovery_floor"],
        curves["recovery_ceiling"],
    )
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
        "verdict_at": judged.at,
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


def _mean_of(records: Sequence[Record], name: str) -> float:
    return _mean(value for record in records if (value := record.number(name)) is not None) or 0.0


def _mean(values: Iterable[float]) -> float | None:
    numbers = list(values)
    return fmean(numbers) if numbers else None
