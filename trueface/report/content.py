"""The content of a report: the tests of each model in one table, with the data of the plots."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it tells no types

from trueface.audit.run_facts import AuditedTest, Model
from trueface.evaluation.arrays import Floats
from trueface.evaluation.curves import Labels
from trueface.evaluation.finished_tests import FinishedTest, GroupedTests, group_tests
from trueface.evaluation.measurement import METRICS, Report, evaluate_scores, subset_masks
from trueface.evaluation.result_rows import VideoReport, video_report
from trueface.predictions.predictions import Predictions, merge
from trueface.runtime.errors import DataError
from trueface.runtime.process_pool import chunks_of, map_chunks

IN_REPORT = frozenset(metric.name for metric in METRICS.values() if metric.in_report)

MANY = 50  # models; with fewer, starting processes (1 s each) takes longer than measuring
SHARE = 10  # models that a process measures at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportRow:
    """One test of a model, with images of the other class if the model was tested on them."""

    data: str
    pooled: bool
    labels: Labels
    logits: Floats
    report: Report
    videos: VideoReport | None = None  # None if no image is a frame of a video


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReport:
    """All tested images of one subset or modifier, with those of the other class if there are any."""

    data: str
    report: Report
    pooled: bool = False
    videos: None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelReport:
    """A model and the rows of its tests."""

    model: Model
    rows: tuple[ReportRow, ...]
    parts: tuple[PartReport, ...]  # subsets, then modifiers; empty if the scores do not name images
    troubles: tuple[str, ...]  # tests that cannot be shown, with the reasons
    conditioned: tuple[ReportRow, ...] = ()  # tests under conditions, such as corrupted images


def make_model_reports(models: Sequence[Model], workers: int | None = None) -> list[ModelReport]:
    """Return the report of each model in order. Several processes measure if there are many models.

    Args:
        models: models of the run.
        workers: number of processes. None: one per available core.

    Raises:
        MachineError: a process was killed.
    """
    if len(models) < MANY:
        return [make_model_report(model) for model in models]
    parts = chunks_of(models, SHARE)
    measured = map_chunks(
        _make_reports_of_chunk, parts, workers, doing="measured the models of a report"
    )
    return [each for part in measured for each in part]


def _make_reports_of_chunk(models: Sequence[Model]) -> list[ModelReport]:
    # one thread each, because there is a process per core
    with threadpool_limits(1, user_api="blas"):
        return [make_model_report(model) for model in models]


def make_model_report(model: Model) -> ModelReport:
    """Return the report of a model, with the rows of the table of its run.

    For each set of modifiers, there is a row for each set of fakes with all real images, then a row for all images.
    """
    troubles: list[str] = []
    reports = ReportCache()
    return ModelReport(
        model=model,
        rows=tuple(_rows(model.tests, troubles, reports)),
        parts=tuple(_parts(model, reports)),
        conditioned=tuple(_rows(model.conditioned, troubles, reports)),
        troubles=tuple(troubles),
    )


class ReportCache:
    """The measures of score tables, computed once for equal tables, such as a test and its only subset.

    A table is measured with the real images first, so that equal tables have equal keys.
    """

    def __init__(self) -> None:
        self._known: dict[tuple[bytes, bytes, tuple[str, ...], tuple[str, ...]], Report] = {}

    def measure_once(self, scores: Predictions) -> Report:
        """Return the measures that a report shows.

        Raises:
            DataError: there is no image, or a logit is not finite.
        """
        scores = scores.rows(np.argsort(scores.labels, kind="stable"))
        labels, logits = scores.labels, scores.margin
        table = labels.tobytes(), logits.tobytes(), scores.keys, scores.videos
        if table not in self._known:
            self._known[table] = evaluate_scores(
                labels, logits, keys=scores.keys, videos=scores.videos, names=IN_REPORT
            )
        return self._known[table]


def _rows(
    tests: Sequence[AuditedTest], troubles: list[str], reports: ReportCache
) -> Iterator[ReportRow]:
    """Yield the rows of tests, separately for each condition. Add tests that cannot be shown to `troubles`."""
    measured = []
    for test in tests:
        if test.scores is None:
            troubles.append(f"{test.data}: {test.trouble}")
        elif not len(test.scores.labels):
            troubles.append(f"{test.data}: no scores to measure")
        else:
            measured.append(_finished_test(test, test.scores))
    for each in group_tests(measured):
        try:
            yield _row(each, reports)
        except DataError as error:
            troubles.append(f"{each.data}: {error}")


def _parts(model: Model, reports: ReportCache) -> Sequence[PartReport]:
    tables = [test.scores for test in model.tests if test.scores and test.scores.names_images]
    if not tables:
        return ()
    try:
        scores = merge(tables)
        return [
            PartReport(
                data=name,
                report=reports.measure_once(scores.rows(rows)),
            )
            for name, rows in subset_masks(scores)
        ]
    except DataError:  # already reported for its test
        return ()


def _row(tests: GroupedTests, reports: ReportCache) -> ReportRow:
    scores = tests.scores
    return ReportRow(
        data=tests.with_root(tests.data),
        pooled=tests.pooled,
        labels=scores.labels,
        logits=scores.margin,
        report=reports.measure_once(scores),
        videos=video_report(scores),
    )


def _finished_test(test: AuditedTest, scores: Predictions) -> FinishedTest:
    if not scores.names_images:
        # score files of the original system do not name images, so test and position identify a row
        names = tuple(f"{test.data}/{key}" for key in scores.keys)
        scores = replace(scores, ids=names, keys=names)
    root = test.settings.get("data_root")
    return FinishedTest(
        test.data, test.modifiers, scores, root=root if isinstance(root, str) else ""
    )
