"""The tables of qualities: AUC, mean scores, and differences to a reference, by quality."""

from trueface.evaluation.estimate import NOTHING_SHOWN, Difference
from trueface.evaluation.over_seeds import NO_VALUE, SeedSummary, seeds_text
from trueface.evaluation.qualities import SUMMARIES, ComparedQualities, QualityMethod
from trueface.report.study_table import Heading, StudyEntry, StudyRow, StudyTable

POINTS = 100  # differences are shown in points of the AUC


def areas_table(compared: ComparedQualities) -> StudyTable:
    """Return the AUC of each method at each quality, and the summaries."""
    names = (*compared.qualities, *SUMMARIES)
    return StudyTable.of_rows(
        (Heading("method"), Heading("seeds"), *map(Heading, names)),
        (
            StudyRow(
                each.name,
                (
                    StudyEntry(seeds_text(len(each.rows), each.missing)),
                    *(_area(each, name) for name in names),
                ),
                model=each.model,
            )
            for each in compared.methods
        ),
    )


def _area(method: QualityMethod, name: str) -> StudyEntry:
    worst = {row.worst_quality for row in method.rows if row.worst_quality}
    below = tuple(worst) if name == "worst" and len(worst) == 1 else ()
    return StudyEntry(method.area(name), only=method.over_images(name), below=below)


def scores_table(compared: ComparedQualities) -> StudyTable:
    """Return the mean probability of a fake at each quality, over real and over fake images."""
    return StudyTable.of_rows(
        (Heading("method"), *map(Heading, compared.qualities)),
        (
            StudyRow(
                each.name,
                tuple(StudyEntry(_scores(each, name)) for name in compared.qualities),
                model=each.model,
            )
            for each in compared.methods
        ),
    )


def _scores(method: QualityMethod, name: str) -> str:
    return " / ".join(_mean(method.mean_probability(name, fake=fake)) for fake in (False, True))


def _mean(value: SeedSummary | None) -> str:
    if value is None:
        return NO_VALUE
    return f"{value.mean:.2f}" + (f" ({value.seeds_note})" if value.seeds_note else "")


def differences_table(compared: ComparedQualities) -> StudyTable | None:
    """Return how far each method is from the reference; None if there is none."""
    methods = [method for method in compared.methods if method.reference_comparison is not None]
    names = [
        name
        for name in (*SUMMARIES, *compared.qualities)
        if any(method.difference(name) is not None for method in methods)
    ]
    if not names:
        return None
    return StudyTable.of_rows(
        (Heading("method"), *map(Heading, names)),
        (
            StudyRow(
                method.name,
                tuple(_difference(method.difference(name)) for name in names),
                model=method.model,
            )
            for method in methods
        ),
    )


def _difference(difference: Difference | None) -> StudyEntry:
    if difference is None:
        return StudyEntry(None)
    value = in_points(difference.value)
    if difference.interval is None:
        ends = difference.ends_text(".3f")
        return StudyEntry(value, plain=f"{value} ({ends})", below=(ends,))
    ends = f"{in_points(difference.interval.low)} to {in_points(difference.interval.high)}"
    return StudyEntry(value, plain=f"{value} ({ends})", below=(ends, gain_word(difference)))


def gain_word(difference: Difference) -> str:
    """Return the conclusion of a difference."""
    return "no gain shown" if difference.word == NOTHING_SHOWN else difference.word


def in_points(difference: float) -> str:
    """Return a difference of the AUC in points."""
    return f"{POINTS * difference:+.1f}".replace("-", "\N{MINUS SIGN}")
