"""The fairness of a run's models, or of a folder of foreign predictions, as rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from trueface.evaluation.fairness import seed_files, validation_threshold
from trueface.evaluation.fairness.comparable import Answers, Compared, compared
from trueface.evaluation.fairness.group_areas import Ranking
from trueface.evaluation.fairness.group_columns import AttributeFiles, GroupColumn, Missing
from trueface.evaluation.fairness.group_table import GroupTable
from trueface.evaluation.fairness.row import FairnessRow
from trueface.evaluation.fairness.validation_threshold import ValidationThreshold
from trueface.evaluation.score_tables import Scores
from trueface.evaluation.tested_sets import Tested, by_place, finite_tests, joined, without_seed
from trueface.runtime.errors import UnknownName, UsageError
from trueface.runtime.ids import model_folder_name

NO_VALIDATION = "no validation is known of files from elsewhere"


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
    read = seed_files.read(folder)
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
    validation = cache(lambda: validation_threshold.of_model(folder))
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
