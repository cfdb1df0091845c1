"""The rows of a table of results: the scores of a model on each dataset, by group and by video.

The score of a video is the mean probability of its frames, the video its path.

Source of the measure: Z. Yan et al., "DeepfakeBench", NeurIPS 2023. Its code identifies a video by the
name of its folder alone, so that videos of two datasets with one name become one. Here the key is the
whole path below the data root, which also contains class and modifier.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.evaluation.arrays import Floats
from trueface.evaluation.confounds import MARK, TestedFiles
from trueface.evaluation.estimate import Estimate, Over
from trueface.evaluation.estimates import SourcedScores, estimates_over_images
from trueface.evaluation.finished_tests import (
    FinishedTest,
    GroupedTests,
    group_tests,
    modifier_of,
    read_test,
)
from trueface.evaluation.group_columns import AttributeFiles
from trueface.evaluation.group_rates import GroupTable
from trueface.evaluation.measurement import (
    METRICS,
    evaluate_scores,
    measure_json,
    over_json,
    sources_json,
    undefined_metrics,
)
from trueface.evaluation.metrics.curve import AUC
from trueface.evaluation.operating_threshold import Calibration
from trueface.predictions.csv_tables import read_csv
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import condition_of_test, data_of_test, model_folder_name, tested

# measures after calibration: the metric, of which logits
AT_THRESHOLD = "balanced_accuracy_at_threshold"
UNSCALED, SCALED = "ece_unscaled", "ece_scaled"
OF_GROUPS = ("fpr_gap", "f_fpr")  # columns of a test with attributes
BY_IMAGES = ("accuracy", "balanced_accuracy", "auc")  # metrics of which a table has both intervals
OTHER_IMAGES = "other images"  # the verdict of a row whose images are not those of most models
OLD = "old scores"  # the verdict of a row whose model was trained again after its test
EDITED = "edited scores"  # the verdict of a row whose score file was changed after its test
CLIPS = "clips"  # the setting in the condition of a test
TRAINED = "train"  # the method of a model from which nothing was unlearned
_UNLEARNED = re.compile(r"~([A-Za-z0-9_.+\-]+)")  # method in a model ID


class VideoReport(NamedTuple):
    """The measurement of the videos of a score table."""

    videos: int
    auc: Estimate | None  # with its interval over videos; None where all are of one class


def by_video(scores: Predictions) -> Predictions:
    """Return a table with a row a video; rows of no video are left out.

    The logit is that of the mean probability of the frames, so that 0 is a mean of one half.
    """
    rows, logits = _rows_of_videos(scores), scores.margin
    return Predictions.from_margin(
        np.array([logit_of_mean_probability(logits[at]) for at in rows.values()], np.float64),
        np.array([scores.labels[at[0]] for at in rows.values()], np.int8),
        ids=tuple(rows),
        keys=tuple(scores.keys[at[0]].rpartition("/")[0] for at in rows.values()),
    )


def by_first_frame(scores: Predictions, common: frozenset[str] = frozenset()) -> Predictions:
    """Return the table of `by_video` with the path of the first scored frame of each video as its name.

    Args:
        scores: of frames or clips.
        common: the videos that count. Empty: all.
    """
    scores = _rows_of_common_videos(scores, common)
    firsts = (scores.ids[at[0]] for at in _rows_of_videos(scores).values())
    return replace(by_video(scores), ids=tuple(firsts))


def _rows_of_videos(scores: Predictions) -> dict[str, list[int]]:
    """Return the rows of each video, in the order of their first ones."""
    rows: dict[str, list[int]] = defaultdict(list)
    for row, video in enumerate(scores.videos):
        if video:
            rows[video].append(row)
    return rows


def _rows_of_common_videos(scores: Predictions, common: frozenset[str]) -> Predictions:
    if not common:
        return scores
    return scores.rows(np.array([video in common for video in scores.videos], np.bool_))


def common_videos(run_folder: Path, tests: Sequence[tuple[str, str]]) -> dict[str, frozenset[str]]:
    """Return the videos that all models scored, by test, of tests under several `clips`.

    Longer clips leave out shorter videos. Rows of a table shall be of the same videos.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs whose score files are all there.

    Raises:
        DataError: a score file cannot be read.
    """
    alike: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for model, test in tests:
        alike[without_clips(test)].append((model, test))
    common: dict[str, frozenset[str]] = {}
    for members in alike.values():
        if len({test for _, test in members}) > 1:
            shared = frozenset.intersection(
                *(
                    frozenset(
                        read_csv(paths.scores(run_folder / model_folder_name(m), m, t)).videos
                    )
                    for m, t in members
                )
            )
            common |= dict.fromkeys((test for _, test in members), shared - {""})
    return common


def without_clips(test: str) -> str:
    """Return the name of a test without the clips in its condition."""
    others = (
        each for each in condition_of_test(test).split(",") if not each.startswith(f"{CLIPS}=")
    )
    return tested(data_of_test(test), ",".join(others))


def video_report(scores: Predictions, common: frozenset[str] = frozenset()) -> VideoReport | None:
    """Return the measurement of the videos of a table. None if no row is a frame.

    Args:
        scores: of frames or clips.
        common: the videos that count. Empty: all.
    """
    table = by_video(_rows_of_common_videos(scores, common))
    if not len(table):
        return None
    videos = SourcedScores(
        labels=table.labels, logits=table.margin, keys=table.keys, unit=Over.VIDEOS
    )
    defined = [AUC] if AUC.name not in undefined_metrics(videos) else []
    return VideoReport(videos=len(table), auc=estimates_over_images(defined, videos).get(AUC.name))


def logit_of_mean_probability(logits: Floats) -> float:
    """Return the log odds of the mean probability of logits (N,)."""
    # log of the mean probability of fake, minus that of real: confident outputs are not rounded to 1. Sorted, so that
    # videos of the same frames in any order have equal scores, and are ties
    logits = np.sort(logits)
    fake, real = -np.logaddexp(0.0, -logits), -np.logaddexp(0.0, logits)
    return float(np.logaddexp.reduce(fake) - np.logaddexp.reduce(real))


def compare(
    run_folder: Path,
    tests: Sequence[tuple[str, str]],
    groups: AttributeFiles | None = None,
    files: TestedFiles | None = None,
) -> list[dict[str, Json]]:
    """Return the rows of `results.table` for tests whose score files are all there.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs.
        groups: tables of attributes to read. None: those that the tests name.
        files: the tested image files; None: those of this run.

    Raises:
        DataError: a score file cannot be read, or contains a non-finite number.
    """
    project = run_folder.parent.parent
    groups, files = groups or AttributeFiles(project=project), files or TestedFiles(project=project)
    common = common_videos(run_folder, tests)
    rows: list[dict[str, Json]] = []
    images: list[frozenset[str]] = []  # names of the images in each row
    for model in dict.fromkeys(model for model, _ in tests):
        done = [read_test(run_folder, model, data) for other, data in tests if other == model]
        folder = run_folder / model_folder_name(model)
        took = (read_json(paths.summary(folder)) or {}).get("seconds")
        by = _read_group_column(folder)
        named = {"model": model, "method": unlearning_methods_of(model)}
        for scored, row in _rows(done, groups, by, files, common):
            rows.append({**named, **row, "seconds": took})
            images.append(scored)
    return _mark_other_images(rows, images)


def _mark_other_images(
    rows: Sequence[dict[str, Json]], images: Sequence[frozenset[str]]
) -> list[dict[str, Json]]:
    """Return rows, those with a mark whose images are not the ones that most models have in this test."""
    tests = [(row["data"], row["modifier"], row["pooled"]) for row in rows]
    sets: dict[tuple[Json, ...], Counter[frozenset[str]]] = defaultdict(Counter)
    for test, scored in zip(tests, images, strict=True):
        sets[test][scored] += 1
    marked = []
    for row, test, scored in zip(rows, tests, images, strict=True):
        ((usual, _),) = sets[test].most_common(1)  # the first ones of equally many models
        verdict = ", ".join(filter(None, (OTHER_IMAGES, str(row["verdict"]))))
        marked.append(row if scored == usual else {**row, "verdict": verdict})
    return marked


def unlearning_methods_of(model: str) -> str:
    """Return the unlearning methods in a model's ID, such as `pgu`; of any other model `train`."""
    return "~".join(_UNLEARNED.findall(model)) or TRAINED


def not_run(run_folder: Path, model: str, data: str, reason: str) -> dict[str, Json]:
    """Return the row of a test that was not run: no measure, and why."""
    calibrated = (AT_THRESHOLD, UNSCALED, SCALED, "threshold", "temperature")
    by_images = (f"{name}_by_images" for name in BY_IMAGES)
    took = (read_json(paths.summary(run_folder / model_folder_name(model))) or {}).get("seconds")
    return {
        "model": model,
        "method": unlearning_methods_of(model),
        "data": data,
        "modifier": modifier_of(data),
        "condition": condition_of_test(data),
        "pooled": False,
        "n": 0,
        **dict.fromkeys((*METRICS, *by_images, *calibrated)),
        "sources": {"real": 0, "fake": 0},
        "over": {},
        "few_sources": "",
        "confusion": [[0, 0], [0, 0]],
        "verdict": f"not run: {reason}",
        "reason": reason,
        "reasons": {},
        "data_root": None,
        "seconds": took,
    }


def _rows(
    tests: Sequence[FinishedTest],
    groups: AttributeFiles,
    column_name: str,
    files: TestedFiles,
    common: Mapping[str, frozenset[str]],
) -> Iterator[tuple[frozenset[str], dict[str, Json]]]:
    """Yield a model's rows with their images: of each modifier first every set of fakes, then all of them pooled.

    Tests of two data roots are separate: a path there is another image, or the same one again.
    """
    for each in group_tests(tests):
        row = _row(each, groups, column_name, common)
        paths_of_images = each.scores.ids if each.scores.names_images else ()
        yield (
            frozenset(paths_of_images),
            {
                **row,
                **_mark_confound(each, row, files),
                **_mark_edits(each),
                "modifier": each.with_root(str(row["modifier"])),
                "data_root": each.data_root or None,
            },
        )


def _row(
    tests: GroupedTests,
    groups: AttributeFiles,
    column_name: str,
    common: Mapping[str, frozenset[str]],
) -> dict[str, Json]:
    scores, first = tests.scores, tests.tests[0]
    report = evaluate_scores(scores.labels, scores.margin, keys=scores.keys, videos=scores.videos)
    shared = [common.get(test.data, frozenset()) for test in tests.tests]
    videos = video_report(scores, frozenset().union(*shared) if all(shared) else frozenset())
    by_group, ungrouped = _by_group(tests, groups, column_name)
    return {
        "data": tests.data,
        "modifier": modifier_of(first.data),
        "condition": first.condition,
        "pooled": tests.pooled,
        "n": report.n,
        **{name: measure_json(report, name, brief=True) for name in METRICS},
        **{
            f"{name}_by_images": _json_without_scope(report.by_images.get(name))
            for name in BY_IMAGES
        },
        **_calibrate_scores(scores, first.calibration),
        **({"videos": videos.videos, "video_auc": _json(videos.auc)} if videos else {}),
        **by_group,
        "sources": sources_json(report.sources),
        "over": over_json(report.over),
        "few_sources": report.few_sources,
        "confusion": [list(row) for row in report.confusion],
        "verdict": report.verdict,
        "reason": report.reason,
        "reasons": {**report.reasons, **ungrouped},
    }


def _mark_confound(
    tests: GroupedTests, row: Mapping[str, Json], files: TestedFiles
) -> dict[str, Json]:
    """Return the mark of a row if the form of its image files reveals their class; otherwise nothing."""
    shortcut = files.confound(tests)
    if shortcut is None:
        return {}
    mark = row["verdict"] or f"{MARK} by {shortcut.name.removeprefix('the ')}"
    is_seen = shortcut.shapes_pixels
    meaning = shortcut.sentence if is_seen else f"{shortcut.sentence}; {shortcut.remedy}"
    return {"verdict": mark, MARK: meaning}


def _mark_edits(tests: GroupedTests) -> dict[str, Json]:
    """Return the mark of a row if a score file is not that of a test of these weights; otherwise nothing."""
    edited = [f"{test.data}: {test.edited}" for test in tests.tests if test.edited]
    outdated = [OLD] if any(test.outdated for test in tests.tests) else []
    words = [*outdated, *([EDITED] if edited else [])]
    if not words:
        return {}
    return {"verdict": ", ".join(words), **({"edited": "; ".join(edited)} if edited else {})}


def _read_group_column(folder: Path) -> str:
    """Return the column of the groups that a model's training saw; "" where it is not known."""
    settings = (read_json(paths.provenance(folder)) or {}).get("settings")
    by = settings.get("groups_by") if isinstance(settings, dict) else None
    return by if isinstance(by, str) else ""


def _by_group(
    tests: GroupedTests, groups: AttributeFiles, column_name: str
) -> tuple[dict[str, Json], dict[str, str]]:
    """Return the gaps between groups, or why there are none; nothing without groups."""
    try:
        if not groups.files_of_tests(tests):
            return {}, {}
        column = groups.column(tests, column_name)
        scores = tests.scores.rows(column.rows)
        table = GroupTable.from_logits(
            scores.labels,
            scores.margin,
            column.groups,
            column.names,
            keys=SourcedScores.from_predictions(scores).unit_keys,
        )
    except DataError as error:  # the other measures need no groups
        return dict.fromkeys(OF_GROUPS), dict.fromkeys(OF_GROUPS, str(error))
    return {
        "groups_by": column.by,
        **{name: _json(table.intervals.get(name)) for name in OF_GROUPS},
        **{f"{name}_floor": table.permutation_p95(name) for name in OF_GROUPS},
    }, {each.rate: each.reason for each in table.undefined if each.rate in OF_GROUPS}


def _calibrate_scores(scores: Predictions, calibration: Calibration | None) -> dict[str, Json]:
    """Return the measures with temperature and threshold of validation."""
    if calibration is None:
        columns = (AT_THRESHOLD, UNSCALED, SCALED, "threshold", "temperature")
        return dict.fromkeys(columns)

    def measure_of(name: str, logits: Floats) -> Json:
        report = evaluate_scores(
            scores.labels, logits, keys=scores.keys, videos=scores.videos, names={name}
        )
        return measure_json(report, name, brief=True)

    return {
        UNSCALED: measure_of("ece", calibration.undo_temperature(scores.margin)),
        SCALED: measure_of("ece", calibration.apply_temperature(scores.margin)),
        AT_THRESHOLD: measure_of("balanced_accuracy", scores.margin - calibration.threshold),
        "threshold": calibration.threshold,
        "temperature": calibration.temperature,
    }


def _json_without_scope(value: Estimate | None) -> Json:
    """Return a measure as JSON without its scope, which the name of its column says."""
    record = {} if value is None else value.json_record
    return {key: part for key, part in record.items() if key != "over"} or None


def _json(value: Estimate | None) -> Json:
    return None if value is None else value.json_record
