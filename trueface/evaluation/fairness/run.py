"""Predictions as Fairness-Generalization writes them: <group>labels.npy and <group>predictions.npy.

Its test keeps the logit of class 1 alone, and its metrics take the sigmoid of that. With two classes
the probability is sigmoid(z1 - z0): a file of two logits a row is read so; one logit a row is taken as
it is, with a note, as the other one is lost.

Source: Purdue-M2/Fairness-Generalization @e552a54. Nothing in the files is executed.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.fairness import rows
from trueface.evaluation.fairness.group_columns import (
    AttributeFiles,
    GroupColumn,
    Missing,
    group_column,
)
from trueface.evaluation.fairness.groups import GroupTable, Ranking
from trueface.evaluation.fairness.rows import FairnessRow, ValidationThreshold
from trueface.evaluation.intervals import (
    Difference,
    Floats,
    Measure,
    difference,
    interval,
    resampled_over_seeds,
    resamples,
)
from trueface.evaluation.over_seeds import without_seed
from trueface.evaluation.score_tables import (
    Scores,
    Tested,
    by_place,
    finite_tests,
    joined,
)
from trueface.runtime.errors import DataError, UnknownName, UsageError
from trueface.runtime.ids import model_folder_name

Number = TypeVar("Number", bound=np.generic)

LABELS, PREDICTIONS = "labels.npy", "predictions.npy"
ONE_LOGIT = (
    "logit of class 1 only, as the original writes it: the logit of class 0 is lost, so rates at a "
    "probability of a half, and even the AUC, may be others than the detector's"
)
SEXES = frozenset({"male", "nonmale"})
_BETWEEN = re.compile(r"[,\-_ ]+")  # the original writes "male,asian"
NO_VALIDATION = "no validation is known of files from elsewhere"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SeedFiles:
    """The predictions of a folder, all groups together."""

    scores: Scores
    groups: tuple[str, ...]  # (N,) of each row: "male-asian"
    note: str  # what has to be known of the logits

    def column(self, by: str) -> GroupColumn:
        """Return the groups of the rows.

        Args:
            by: intersec for the groups as they are, gender or race for a part of their names.

        Raises:
            DataError: another column, or groups whose names have no such part.
        """
        if by == "intersec":
            return group_column(by, self.groups)
        if by not in {"gender", "race"}:
            raise DataError(f"--by {by}: such files know gender, race and intersec")
        parts = [_parts(group) for group in self.groups]
        strange = next(
            (group for group, part in zip(self.groups, parts, strict=True) if not part), ""
        )
        if strange:
            raise DataError(
                f"--by {by}: the group {strange} is none such as male-asian; use --by intersec"
            )
        return group_column(by, [part[by == "race"] for part in parts if part])

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the names of the groups give."""
        return ("gender", "race", "intersec") if all(map(_parts, self.groups)) else ("intersec",)


def is_folder(folder: Path) -> bool:
    """Return whether a folder holds such files."""
    return folder.is_dir() and any(folder.glob(f"*{PREDICTIONS}"))


def read_seed_files(folder: Path) -> SeedFiles:
    """Return the predictions of all groups in a folder.

    Raises:
        DataError: a file is absent, has objects in it, no plain numbers, another length than its
            partner, labels other than 0 and 1, or a logit that is no finite number; with its row.
    """
    tables = dict(_tables(folder))
    if not tables:
        raise DataError(f"no files <group>{PREDICTIONS} in {folder}")
    groups = [name for name, (labels, _, _) in tables.items() for _ in labels]
    rows = [
        f"{name}/{row}" for name, (labels, _, _) in tables.items() for row in range(len(labels))
    ]
    return SeedFiles(
        scores=Scores(
            paths=tuple(rows),
            keys=tuple(rows),
            labels=np.concatenate([labels for labels, _, _ in tables.values()]),
            logits=np.concatenate([logits for _, logits, _ in tables.values()]),
        ),
        groups=tuple(groups),
        note="; ".join(_notes(tables)),
    )


def _notes(tables: Mapping[str, tuple[NDArray[np.int8], Floats, bool]]) -> Iterator[str]:
    if any(single for _, _, single in tables.values()):
        yield ONE_LOGIT
    empty = [name for name, (labels, _, _) in tables.items() if not len(labels)]
    if empty:
        yield f"no image of {', '.join(empty)}, whose files are empty"


def _tables(folder: Path) -> Iterator[tuple[str, tuple[NDArray[np.int8], Floats, bool]]]:
    for path in sorted(folder.glob(f"*{PREDICTIONS}")):
        start = path.name.removesuffix(PREDICTIONS)
        beside = folder / f"{start}{LABELS}"
        if not beside.is_file():
            raise DataError(f"{path} has no {beside.name} beside it")
        labels, (logits, single) = _labels(beside), _logits(path)
        if len(labels) != len(logits):
            raise DataError(f"{path} has {len(logits)} rows, and {beside.name} has {len(labels)}")
        yield "-".join(filter(None, _BETWEEN.split(start))) or "all", (labels, logits, single)
    for path in sorted(folder.glob(f"*{LABELS}")):
        beside = folder / f"{path.name.removesuffix(LABELS)}{PREDICTIONS}"
        if not beside.is_file():
            raise DataError(f"{path} has no {beside.name} beside it")


def _labels(path: Path) -> NDArray[np.int8]:
    values = _rows_of_file(_array(path))
    if values.shape[1] != 1:
        raise DataError(f"{path} has {values.shape[1]} labels a row, and one is expected")
    wrong = np.flatnonzero((values[:, 0] != 0) & (values[:, 0] != 1))
    if len(wrong):
        raise DataError(f"{path}, row {wrong[0]}: the label is {values[wrong[0], 0]}, not 0 or 1")
    return values[:, 0].astype(np.int8)


def _logits(path: Path) -> tuple[Floats, bool]:
    """Return logits, positive = fake, and whether there was one a row."""
    values = _rows_of_file(_array(path).astype(np.float64))
    if values.shape[1] not in {1, 2}:
        raise DataError(
            f"{path} has {values.shape[1]} numbers a row; one or two logits are expected"
        )
    broken = np.flatnonzero(~np.isfinite(values).all(1))
    if len(broken):
        raise DataError(
            f"{path}, row {broken[0]}: {values[broken[0]].tolist()} is no finite number "
            f"({len(broken)} such rows); the detector is broken there: test again"
        )
    single = values.shape[1] == 1
    return (values[:, 0] if single else values[:, 1] - values[:, 0]), single


def _rows_of_file(values: NDArray[Number]) -> NDArray[Number]:
    """Return an array as (N, …), N being 0 where a group has no image."""
    return values.reshape(len(values), math.prod(values.shape[1:]))


def _array(path: Path) -> NDArray[np.generic]:
    try:
        # mapped: a header that promises more than the file holds is refused before memory is taken
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError, SyntaxError) as error:
        raise DataError(f"cannot read {path}: {error}; nothing but plain arrays is read") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "biuf" or not values.ndim:
        raise DataError(f"{path} is no array of numbers, a row an image")
    return np.array(values)


def _parts(group: str) -> tuple[str, str] | None:
    """Return gender and race of "male-asian"; None of another name."""
    gender, _, race = group.partition("-")
    return (gender, race) if gender in SEXES and race else None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What a model said of a set of images."""

    model: str
    data: str
    scores: Scores  # those that have a group


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The AUC of a model, and whether it is near the best one's."""

    auc: Measure | None  # None: the images are of one class
    comparable: bool
    why_not: str
    # of the method's mean AUC to the best one's, and to the reference's; None: there is none
    to_best: Difference | None = None
    to_reference: Difference | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Method:
    """The models of one method on the same images."""

    name: str
    models: tuple[str, ...]
    mean: tuple[float, Floats]  # of the AUC over seeds: value, and that under each resample (R,)


def compared(answers: Sequence[Answers], reference: str = "") -> Mapping[tuple[str, str], Compared]:
    """Return the AUC of each model on each set of images, by (model, data), and whether it compares.

    Only models that were tested on the same images are compared, with the same resamples of these;
    three seeds or more are resampled as well.

    Args:
        answers: of all models.
        reference: a model, or one without its seed, that the others are compared with; "": none.
    """
    made: dict[tuple[str, str], Compared] = {}
    spreads: dict[tuple[str, str], tuple[float, Floats]] = {}
    sets: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for each in answers:
        key, fake = (each.model, each.data), each.scores.labels == 1
        if fake.all() or not fake.any():
            kind = "fake" if fake.any() else "real"
            reason = f"all images are {kind}: there is no AUC"
            made[key] = Compared(auc=None, comparable=False, why_not=reason)
            continue
        # in one order for all models, as their resamples are paired by it
        order = np.argsort(np.array(each.scores.paths))
        paths = tuple(each.scores.paths[row] for row in order)
        keys = [each.scores.keys[row] for row in order]
        weights = resamples(keys, each.scores.labels[order], 0)
        logits = each.scores.logits[order]
        area = float(curves.area(curves.plain_curve(fake[order], logits))[0])
        spreads[key] = area, curves.resampled(curves.area, fake[order], logits, weights)
        sets.setdefault((each.data, paths), []).append(each.model)
    for (data, _), models in sets.items():
        methods = _methods(data, models, spreads)
        best = max(methods, key=lambda method: method.mean[0])
        others = [method for method in methods if reference in {method.name, *method.models}]
        for method in methods:
            to_best = None if method is best else difference(method.mean, best.mean)
            to_reference = None
            if others and others[0] is not method:
                to_reference = difference(method.mean, others[0].mean)
            why_not = _why_not(to_best, best)
            for model in method.models:
                area, spread = spreads[model, data]
                made[model, data] = Compared(
                    auc=interval(area, spread),
                    comparable=not why_not,
                    why_not=why_not,
                    to_best=to_best,
                    to_reference=to_reference,
                )
    return made


def _methods(
    data: str, models: Sequence[str], spreads: Mapping[tuple[str, str], tuple[float, Floats]]
) -> list[_Method]:
    names: dict[str, list[str]] = {}
    for model in models:
        names.setdefault(without_seed(model), []).append(model)
    return [
        _Method(
            name=name,
            models=tuple(seeds),
            mean=(
                float(np.mean([spreads[model, data][0] for model in seeds])),
                resampled_over_seeds([spreads[model, data][1] for model in seeds]),
            ),
        )
        for name, seeds in names.items()
    ]


def _why_not(to_best: Difference | None, best: _Method) -> str:
    """Return why a method is not comparable with the best one; "" where it is."""
    if to_best is None or to_best.word != "loss":
        return ""
    return (
        f"lower AUC, not comparable: {to_best.value:+.3f} [{to_best.low:+.3f}, {to_best.high:+.3f}] "
        f"to {best.name}"
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Grouped:
    """A table of one model with its groups by one column."""

    model: str
    data: str
    pooled: bool
    scores: Scores
    column: GroupColumn
    validation: ValidationThreshold
    attributes: tuple[str, ...]
    note: str = ""

    @property
    def chosen(self) -> Scores:
        """The rows that have a group."""
        rows = self.column.rows
        if len(rows) == len(self.scores):
            return self.scores
        return Scores(
            paths=tuple(self.scores.paths[row] for row in rows),
            keys=tuple(self.scores.keys[row] for row in rows),
            labels=self.scores.labels[rows],
            logits=self.scores.logits[rows],
        )


def fairness_rows(
    run_folder: Path,
    tests: Sequence[tuple[str, str]],
    by: Sequence[str] = (),
    *,
    attributes: Sequence[Path] = (),
    missing: Missing | None = None,
    reference: str = "",
) -> list[FairnessRow]:
    """Return a row for each model, set of images and grouping, in the order of the tests.

    Scores of reals stand beside each set of fakes, as in `results.table`. Tests without attributes are
    left out, and so are those without a score file.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs.
        by: columns of groups; (): gender, race and intersec, as far as there are such columns.
        attributes: files in the place of those that the tests were done with.
        missing: what to do with images without a group; None: as the tests did.
        reference: a model, or one without its seed, that the AUC of others is compared with.

    Raises:
        DataError: a score file or a table of attributes cannot be read, holds what is no finite
            number, or has no such column.
        UsageError: an unknown reference.
    """
    _known(reference, [model for model, _ in tests])
    files = AttributeFiles(
        project=run_folder.parent.parent, files=tuple(attributes), missing=missing
    )
    grouped: list[_Grouped] = []
    for model in dict.fromkeys(model for model, _ in tests):
        folder = run_folder / model_folder_name(model)
        done = finite_tests(run_folder, model, tests)
        grouped += _of_model(model, done, by, files, folder)
    return _rows(grouped, reference)


def seed_rows(folder: Path, by: Sequence[str] = ()) -> list[FairnessRow]:
    """Return the rows of a folder of the original's files; see `seed_files`.

    Raises:
        DataError: a file is absent or broken, or there is no such column.
    """
    read = read_seed_files(folder)
    validation = ValidationThreshold(threshold=None, reals=0, reason=NO_VALIDATION)
    return _rows(
        [
            _Grouped(
                model=folder.name,
                data="",
                pooled=False,
                scores=read.scores,
                column=read.column(name),
                validation=validation,
                attributes=(),
                note=read.note,
            )
            for name in by or read.columns
        ]
    )


def _known(reference: str, models: Sequence[str]) -> None:
    known = list(dict.fromkeys([*map(without_seed, models), *models]))
    if reference and reference not in known:
        raise UsageError(str(UnknownName("model", reference, known)))


def _of_model(
    model: str, tests: Sequence[Tested], by: Sequence[str], files: AttributeFiles, folder: Path
) -> Iterator[_Grouped]:
    several = len({test.root for test in tests}) > 1
    validation = cache(lambda: rows.of_model(folder))
    for (root, _, _), group in by_place(tests).items():
        for each in joined(group):
            attributes = files.of(each)
            if not attributes:
                continue
            for column in files.columns(each, by):
                yield _Grouped(
                    model=model,
                    data=f"{each.data} in {root}" if several else each.data,
                    pooled=each.pooled,
                    scores=each.scores,
                    column=column,
                    validation=validation(),
                    attributes=tuple(map(str, attributes)),
                )


def _rows(grouped: Sequence[_Grouped], reference: str = "") -> list[FairnessRow]:
    areas: dict[str, Mapping[tuple[str, str], Compared]] = {}
    same: dict[tuple[object, ...], Mapping[tuple[str, str], Compared]] = {}
    for by in dict.fromkeys(each.column.by for each in grouped):
        of_column = [each for each in grouped if each.column.by == by]
        # most often every image has a group in every column: the areas are the same then
        key = tuple((each.model, each.data, each.column.rows.tobytes()) for each in of_column)
        if key not in same:
            same[key] = compared(
                [Answers(model=o.model, data=o.data, scores=o.chosen) for o in of_column],
                reference,
            )
        areas[by] = same[key]
    return [_row(each, areas[each.column.by][each.model, each.data]) for each in grouped]


def _row(grouped: _Grouped, area: Compared) -> FairnessRow:
    scores, column = grouped.chosen, grouped.column
    ranking = Ranking.of(scores.logits)

    def table(threshold: float, beside: GroupTable | None = None) -> GroupTable:
        return GroupTable.of(
            scores.labels,
            scores.logits,
            column.groups,
            column.names,
            threshold,
            ranking=ranking,
            beside=beside,
        )

    even = table(0.0)
    at = grouped.validation.threshold
    return FairnessRow(
        model=grouped.model,
        data=grouped.data,
        by=column.by,
        pooled=grouped.pooled,
        auc=area.auc,
        table=even,
        common=None if at is None else table(at, even),
        validation=grouped.validation,
        comparable=area.comparable,
        why_not=area.why_not,
        to_best=area.to_best,
        to_reference=area.to_reference,
        attributes=grouped.attributes,
        ungrouped=len(grouped.scores) - len(scores),
        note=grouped.note,
    )
