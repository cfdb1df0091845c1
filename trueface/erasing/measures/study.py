"""The study of erasing in a run: each method with its measures, curves and verdict over seeds. No torch here.

A point of a mean curve is, like any other mean over seeds, that of the seeds that have a value there.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from trueface.erasing.measures.record import (
    CURVES,
    NEVER,
    PUBLISHED,
    SCHEMA,
    TEACHER,
    ErasureRecord,
    ErasureVerdict,
    Point,
    verdict,
)
from trueface.evaluation.over_seeds import MethodRow, over_seeds
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, read_json

MEASURES = (
    "erased", "anchor", "others", "ssim", "feature_distance", "frechet", "frechet_floor",
    "null_drift", *CURVES, "seconds", "classifier_accuracy",
)  # fmt: skip
JUDGED = ("erased", "teacher_erased", "others", "teacher_others")


class ErasedMethod(NamedTuple):
    """A method of erasing, one concept and anchor: what its seeds have in common."""

    row: MethodRow
    concept: str
    anchor: str
    curves: Mapping[str, tuple[Point, ...]]  # by `CURVES`, means over seeds
    seeds: Mapping[Path, ErasureRecord]  # by the folder of each


def read_record(folder: Path) -> ErasureRecord:
    """Return the record of a measured model.

    Raises:
        DataError: there is none, or it is of another form.
    """
    path = folder / paths.METRICS
    facts = read_json(path)
    if facts is None:
        raise DataError(f"there is no {path}: a job of kind erased writes it")
    needed = ("method", "concept", "anchor", "measures", "recovery")
    if facts.get("schema") != SCHEMA or not all(key in facts for key in needed):
        raise DataError(f"{path} is no record of schema {SCHEMA}; run the job of kind erased anew")
    return ErasureRecord(facts=facts)


def erased_methods(folders: Iterable[Path]) -> list[ErasedMethod]:
    """Return the methods by concept, the teacher first and what never saw the concept last.

    Args:
        folders: that jobs of the kind `erased` made.

    Raises:
        DataError: a record is missing or broken.
    """
    groups: dict[tuple[str, str, str], dict[Path, ErasureRecord]] = {}
    for folder in folders:
        record = read_record(folder)
        groups.setdefault(record.key, {})[folder] = record
    records = [record for seeds in groups.values() for record in seeds.values()]
    known = [
        name for name in PUBLISHED if any(record.number(name) is not None for record in records)
    ]
    measures = (*MEASURES, *known)
    return sorted((_method(key, seeds, measures) for key, seeds in groups.items()), key=_place)


def table(run_folder: Path, tests: Sequence[tuple[str, str]]) -> list[dict[str, Json]]:
    """Return a row for each method, concept and anchor, means over seeds.

    Of recovery, its floor and its ceiling the columns hold the rates at most images and steps; the verdict is
    made of the mean curves. A measure has `<name>_sd`, the standard deviation over seeds, where there are two
    seeds or more. `n` is the number of samples of a class. FID, KID and CLIP score have columns where any method
    of the run has them.

    Args:
        run_folder: runs/<run>.
        tests: ("", name of the made folder) of each job that is done.

    Raises:
        DataError: a record is missing or broken.
    """
    methods = erased_methods(paths.made_folder(run_folder, name) for _, name in tests)
    return [dict(each.row.record) for each in methods]


def _place(method: ErasedMethod) -> tuple[str, int, str]:
    name = method.row.name
    rank = {TEACHER: 0, NEVER: 2, "retrain": 2}.get(name.partition("@")[0], 1)
    return f"{method.concept}/{method.anchor}", rank, name


def _method(
    key: tuple[str, str, str], seeds: Mapping[Path, ErasureRecord], measures: Sequence[str]
) -> ErasedMethod:
    method, concept, anchor = key
    records = list(seeds.values())
    curves = {name: mean_curve(records, name) for name in CURVES}
    values = {
        name: over_seeds(
            record.most(name) if name in CURVES else record.number(name) for record in records
        )
        for name in measures
    }
    judged = _judged(records, curves)
    record: dict[str, Json] = {
        "method": method,
        "concept": concept,
        "anchor_class": anchor,
        **{name: None if value is None else value.mean for name, value in values.items()},
        "verdict": judged.text,
        "verdict_at": judged.at if judged.text else "",
        "seeds": max(len({record.number("seed") for record in records}), len(records)),
        "n": records[0].facts.get("samples"),
        **{f"{name}_sd": value.sd for name, value in values.items() if value and value.sd is not None},
    }  # fmt: skip
    return ErasedMethod(MethodRow(method, record, values), concept, anchor, curves, seeds)


def mean_curve(records: Iterable[ErasureRecord], name: str) -> tuple[Point, ...]:
    """Return the mean of the records' curves: at each point of those that have one there."""
    rates: dict[tuple[int, int], list[float]] = {}
    for record in records:
        for point in record.points(name):
            rates.setdefault((point.images, point.steps), []).append(point.rate)
    return tuple(Point(*place, fmean(of)) for place, of in sorted(rates.items()))


def _judged(
    records: Sequence[ErasureRecord], curves: Mapping[str, Sequence[Point]]
) -> ErasureVerdict:
    """Return the verdict on the means over records; an empty one where a rate was not measured."""
    means = [over_seeds(record.number(name) for record in records) for name in JUDGED]
    rates = [value.mean for value in means if value is not None]
    if len(rates) < len(JUDGED):
        return ErasureVerdict(text="")
    erased, before, others, others_before = rates
    return verdict((erased, before), (others, others_before), *(curves[name] for name in CURVES))
