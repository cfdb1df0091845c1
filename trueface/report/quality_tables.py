"""The tables of qualities: AUC, mean scores, and differences to a reference, by quality."""

from collections.abc import Iterator, Mapping

from trueface.evaluation.estimate import NOTHING_SHOWN, Difference, Estimate
from trueface.evaluation.over_seeds import NO_VALUE, SeedSummary, seeds_text
from trueface.evaluation.qualities import SUMMARIES, ComparedQualities, QualityMethod, QualityRow
from trueface.report.study_table import Column, NumberForm, StudyEntry, StudyRow, StudyTable

SCORES = "mean predicted probability of fake: real images / fake images"
POINTS = 100  # differences are shown in points of the AUC


def areas_table(comparison: ComparedQualities) -> StudyTable:
    """Return the AUC of each method at each quality, and the summaries."""
    names = (*comparison.qualities, *SUMMARIES)
    return StudyTable.of_rows(
        (Column("method"), Column("seeds"), *map(Column, names)),
        (
            StudyRow(
                each.name,
                (
                    StudyEntry(seeds_text(len(each.rows), each.missing)),
                    *(_area(each, name) for name in names),
                ),
                model=each.model,
            )
            for each in comparison.methods
        ),
        title=f"AUC, {comparison.data}",
        facts={"data": comparison.data},
    )


def _area(method: QualityMethod, name: str) -> StudyEntry:
    worst = {row.worst_quality for row in method.rows if row.worst_quality}
    below = tuple(worst) if name == "worst" and len(worst) == 1 else ()
    return StudyEntry(method.area(name), only=method.over_images(name), below=below)


def scores_table(comparison: ComparedQualities) -> StudyTable:
    """Return the mean probability of a fake at each quality, over real and over fake images."""
    return StudyTable.of_rows(
        (Column("method"), *map(Column, comparison.qualities)),
        (
            StudyRow(
                each.name,
                tuple(StudyEntry(_scores(each, name)) for name in comparison.qualities),
                model=each.model,
            )
            for each in comparison.methods
        ),
        title=f"{SCORES}, {comparison.data}",
        facts={"data": comparison.data},
    )


def _scores(method: QualityMethod, name: str) -> str:
    return " / ".join(_mean(method.mean_probability(name, fake=fake)) for fake in (False, True))


def _mean(value: SeedSummary | None) -> str:
    if value is None:
        return NO_VALUE
    return f"{value.mean:.2f}" + (f" ({value.seeds_note})" if value.seeds_note else "")


def differences_table(comparison: ComparedQualities) -> StudyTable | None:
    """Return how far each method is from the reference; None if there is none."""
    methods = [method for method in comparison.methods if method.reference_comparison is not None]
    names = [
        name
        for name in (*SUMMARIES, *comparison.qualities)
        if any(method.difference(name) is not None for method in methods)
    ]
    if not names:
        return None
    return StudyTable.of_rows(
        (Column("method"), *(Column(name, form=NumberForm(format_in_points)) for name in names)),
        (
            StudyRow(
                method.name,
                tuple(_difference(method.difference(name)) for name in names),
                model=method.model,
            )
            for method in methods
        ),
        title=f"AUC differences in points, {comparison.data}",
        facts={"data": comparison.data},
    )


def _difference(difference: Difference | None) -> StudyEntry:
    if difference is None or difference.interval is None:
        return StudyEntry(difference)
    return StudyEntry(difference, below=(gain_word(difference),))


def model_tables(row: QualityRow) -> Iterator[StudyTable]:
    """Yield all numbers of one model: at each quality, over qualities, and the differences to the reference."""
    facts = {"model": row.model, "data": row.data}
    compared = row.reference_comparison
    minus = "" if compared is None else f"_minus_{compared.model}"
    changes = {} if compared is None else compared.differences
    for each in row.qualities:
        numbers = {
            "auc": row.areas[each.name], "acc": each.accuracy,
            "mean_real": each.real_score, "mean_fake": each.fake_score,
        }  # fmt: skip
        yield _numbers(each.name, numbers, facts)
    yield _numbers("", {name: row.areas[name] for name in SUMMARIES}, facts)
    for name, change in changes.items():
        quality, measure = ("", name) if name in SUMMARIES else (name, "auc")
        yield _numbers(quality, {f"{measure}{minus}": change}, facts)


def _numbers(
    quality: str,
    numbers: Mapping[str, Estimate | Difference | float | None],
    facts: Mapping[str, str],
) -> StudyTable:
    row = StudyRow(quality, tuple(map(StudyEntry, numbers.values())))
    return StudyTable((Column("quality"), *map(Column, numbers)), (row,), facts=facts)


def gain_word(difference: Difference) -> str:
    """Return the conclusion of a difference."""
    return "no gain shown" if difference.word == NOTHING_SHOWN else difference.word


def format_in_points(difference: float) -> str:
    """Return a difference of the AUC in points."""
    return f"{POINTS * difference:+.1f}".replace("-", "\N{MINUS SIGN}")
