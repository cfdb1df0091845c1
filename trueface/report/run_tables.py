"""The table of a model's tests in a report: each measure with its interval, and the verdict."""

from collections.abc import Sequence

from trueface.evaluation.estimate import Estimate
from trueface.evaluation.measurement import METRICS, Report
from trueface.evaluation.over_seeds import NO_VALUE
from trueface.report.content import PartReport, ReportRow
from trueface.report.study_table import Column, StudyEntry, StudyRow, StudyTable

SHOWN = tuple(metric for metric in METRICS.values() if metric.in_report)
CAPTION = (
    "Value and 95 % interval over image sources (folders). If a class has one source, the interval is over "
    "its videos or images. If it has two, there is also an interval over their videos or images. Positive is fake. "
    f"{NO_VALUE}: undefined."
)


def tests_table(rows: Sequence[ReportRow | PartReport]) -> StudyTable:
    """Return all measures of tests with their intervals."""
    measures = (Column(metric.heading, key=metric.name) for metric in SHOWN)
    head = (Column("data"), Column("images"), *measures, Column("verdict", is_text=True))
    return StudyTable.of_rows(head, map(_test, rows))


def _test(row: ReportRow | PartReport) -> StudyRow:
    report = row.report
    measures = (_measure(report, report.metrics.get(metric.name)) for metric in SHOWN)
    images = StudyEntry(str(report.n), below=tuple(_counts(row)))
    entries = (images, *measures, StudyEntry(report.verdict))
    return StudyRow(row.data, entries, below="pooled" if row.pooled else "")


def _measure(report: Report, measure: Estimate | None) -> StudyEntry:
    if measure is None or measure.interval is None or measure.images is None:
        return StudyEntry(measure)
    units = " and ".join(sorted(set(measure.images.over.values())))
    ends = f"over {units} of these sources: {measure.images.ends_text('.3f')}"
    if report.has_two_sources:
        return StudyEntry(measure, below=(ends,))
    return StudyEntry(measure, hint=ends)


def _counts(row: ReportRow | PartReport) -> list[str]:
    """Return a few sources, and how many videos the images are frames of with their AUC."""
    few = [row.report.few_sources] if row.report.few_sources else []
    if row.videos is None:
        return few
    area = f", AUC {row.videos.auc.text('.3f')}" if row.videos.auc else ""
    return [*few, f"{row.videos.videos} videos{area}"]
