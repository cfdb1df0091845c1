"""The inputs of a comparison: the scores of a model, in any folder.

`runs/<run>/<model ID>`                   All score files of a model.
`runs/<run>`                              The same, if only one model of the run has scores.
`…/<model>_vs_<data>.csv, .pkl`           Single files, current or of the original system.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from trueface.evaluation.estimate import Difference, Over, ends_record
from trueface.evaluation.estimates import (
    SourcedScores,
    SourceTest,
    differences,
    source_test,
)
from trueface.evaluation.finished_tests import describe_edit, is_of_earlier_weights
from trueface.evaluation.measurement import (
    METRICS,
    Report,
    evaluate_table,
    measure_json,
    sources_json,
)
from trueface.evaluation.result_rows import CLIPS, by_video
from trueface.evaluation.significance import DeLong, ImagePairs, McNemar, delong, mcnemar, pair
from trueface.predictions.predictions import Predictions, merge
from trueface.predictions.tables import OLD_SUFFIXES, SUFFIXES, load
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import condition_of_test
from trueface.runtime.launch_mode import read_launch_mode

FOLDER = "scores"  # below a model's folder, as in `paths.scores`
BETWEEN = "_vs_"  # model and data in the name of a score file
OF_TRAINING = "None_vs_"  # the original's trainings wrote those of training images under this name
LEAST_LOGITS = 10  # different ones; fewer can be in 0 … 1 by chance
SCHEMA = 1  # version of `document`


PROBABILITIES = "all logits are in 0 … 1, as probabilities are. If they are probabilities p, replace them by log(p / (1 - p))"


class ComparisonInput(NamedTuple):
    """The scores of one model, each image once."""

    title: str
    files: tuple[Path, ...]
    scores: Predictions
    notes: tuple[str, ...]  # remarks that a reader needs


def read_input(places: Sequence[Path], *, title: str) -> ComparisonInput:
    """Return the merged scores of a model's folder, a run's folder, or score files, with a title.

    An image in two files counts once. Rows of old files get the file's data ID as their folder, so
    that sources are distinguished as far as possible.

    Raises:
        DataError: no scores there, or those of several models.
    """
    files = tuple(dict.fromkeys(file for path in places for file in score_files(path)))
    tables = [_name_rows(load(file), file, number) for number, file in enumerate(files)]
    edits = [
        edit
        for file, table in zip(files, tables, strict=True)
        if (edit := _describe_edit(file, table))
    ]
    scores = merge(tables)
    if not len(scores):
        raise DataError(f"no rows in {', '.join(map(str, files))}. Test the model again.")
    return ComparisonInput(
        title=title, files=files, scores=scores, notes=(*edits, *_notes(tables, scores))
    )


def note_launch_modes(
    first: ComparisonInput, second: ComparisonInput
) -> tuple[ComparisonInput, ComparisonInput]:
    """Return both inputs, each with a note if the steps of their trainings were launched in different ways."""
    modes = [_launch_mode(each.files) for each in (first, second)]
    if None in modes or modes[0] == modes[1]:
        return first, second
    one, other = (
        each._replace(
            notes=(
                *each.notes,
                f"trained with accelerate: {mode}, so its weights also differ by rounding",
            )
        )
        for each, mode in zip((first, second), modes, strict=True)
    )
    return one, other


def titles(first_files: Sequence[Path], second_files: Sequence[Path]) -> tuple[str, str]:
    """Return short names that distinguish two inputs: of runs, models, files, or their paths."""
    (run, model), (other_run, other_model) = _place(first_files), _place(second_files)
    if run and other_run and (run, model) != (other_run, other_model):
        if run == other_run:
            return model, other_model
        return (
            (run, other_run)
            if model == other_model
            else (f"{run}/{model}", f"{other_run}/{other_model}")
        )
    if len(first_files) == len(second_files) == 1 and first_files != second_files:
        first, second = first_files[0].stem, second_files[0].stem
        return (first, second) if first != second else (str(first_files[0]), str(second_files[0]))
    return "before", "after"


def score_files(path: Path) -> tuple[Path, ...]:
    """Return the score files of a path, sorted.

    Raises:
        DataError: there are none, or those of several models.
    """
    if path.is_file():
        return (path,)
    if not path.is_dir():
        raise DataError(
            f"{path} does not exist. Name the folder of a model (runs/RUN/MODEL), the folder of a run, or score files."
        )
    if files := _list_score_files(path):
        return files
    models = [folder for folder in sorted(path.iterdir()) if _list_score_files(folder)]
    if not models:
        if under := next((path / paths.CONDITIONS).glob("[!.]*.csv"), None):
            raise DataError(
                f"{path} contains only scores of tests under conditions. Name one of their files, such as {under}."
            )
        raise DataError(f"no scores in {path}. Test a model with --save_scores first.")
    if len(models) > 1:
        raise DataError(
            f"{len(models)} models in {path} have scores. Name one of them: "
            + ", ".join(map(str, models))
        )
    return _list_score_files(models[0])


def _list_score_files(folder: Path) -> tuple[Path, ...]:
    """Return the score files of a model's folder; of ours and old ones, ours."""
    within = folder if folder.name == FOLDER else folder / FOLDER
    if not within.is_dir():
        return _list_files_of_clips(folder)
    files = sorted(
        file
        for file in within.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith((".", OF_TRAINING))
    )
    ours = [file for file in files if file.suffix.lower() not in OLD_SUFFIXES]
    return tuple(ours or files)


def _list_files_of_clips(folder: Path) -> tuple[Path, ...]:
    """Return the score files of a model that was tested on clips of one kind alone; () of others."""
    files = sorted((folder / paths.CONDITIONS).glob(f"[!.]*{BETWEEN}*.csv"))
    conditions = [condition_of_test(file.stem.rpartition(BETWEEN)[2]) for file in files]
    plain = [
        (condition, file)
        for condition, file in zip(conditions, files, strict=True)
        if condition.startswith(f"{CLIPS}=") and "," not in condition
    ]
    several = len({condition for condition, _ in plain}) > 1
    return () if several else tuple(file for _, file in plain)


def _launch_mode(files: Sequence[Path]) -> str | None:
    """Return the mode of the model whose folder contains score files; None if it is unknown."""
    summary = read_json(paths.summary(files[0].parent.parent))
    return None if summary is None else read_launch_mode(summary)


def _describe_edit(file: Path, scores: Predictions) -> str:
    """Return why a score file is not that of a test of the model's weights; "" if it is, or nothing is known."""
    if file.parent.name not in {FOLDER, paths.CONDITIONS} or not scores.names_images:
        return ""
    folder = file.parent.parent
    record = read_json(paths.metrics(folder, file.stem.rpartition(BETWEEN)[2]))
    if record is None:
        return ""
    if is_of_earlier_weights(record, read_json(paths.provenance(folder)) or {}):
        return f"{file.name} is of earlier weights: the model was trained again since"
    edit = describe_edit(record, scores)
    return f"{file.name} was changed after its test: {edit}" if edit else ""


def _name_rows(scores: Predictions, file: Path, number: int) -> Predictions:
    """Give the rows of an old file names that no other file's rows have."""
    if scores.names_images:
        return scores
    data = file.stem.rpartition(BETWEEN)[2]
    start = number << 32  # no file has so many rows
    names = tuple(f"{data}/#{start + row}" for row in range(len(scores)))
    return replace(scores, ids=names, keys=names)


def _notes(tables: Sequence[Predictions], merged_tables: Predictions) -> list[str]:
    first = dict(zip(merged_tables.ids, merged_tables.margin.tolist(), strict=True))
    differing = sum(
        first[path] != logit
        for table in tables[1:]
        for path, logit in zip(table.ids, table.margin.tolist(), strict=True)
    )
    notes = []
    if differing:
        notes.append(
            f"{differing} images have different logits in two score files, and the first file counts"
        )
    if not merged_tables.names_images and any(table.names_images for table in tables):
        notes.append(
            "some files do not name their images, so an image that is also in another file counts twice"
        )
    values = np.unique(merged_tables.margin)
    if len(values) >= LEAST_LOGITS and values[0] >= 0 and values[-1] <= 1:
        notes.append(PROBABILITIES)
    share = float(np.mean(merged_tables.margin > 0))
    if share in {0.0, 1.0}:
        notes.append(f"every image was predicted {'fake' if share else 'real'}")
    return notes


def _place(places: Sequence[Path]) -> tuple[str, str]:
    """Return run and model ID of the model whose folder contains all score files of `places`.

    Both are empty where there is no such folder.
    """
    files = [file for path in places for file in score_files(path)]
    # no link is followed: a linked run is known by the name of the link
    folders = {Path(os.path.abspath(file)).parent for file in files}  # noqa: PTH100
    if len(folders) != 1 or (folder := folders.pop()).name not in {FOLDER, paths.CONDITIONS}:
        return "", ""
    return folder.parent.parent.name, paths.model_id(folder.parent)


class Contrast(NamedTuple):
    """Two models on some images; a difference is after minus before."""

    before: Report | None  # None: that model was not tested on such images
    after: Report | None
    difference: Mapping[str, Difference | None]  # None: a metric is undefined in one table
    same_images: bool  # both tables are of the same images


class PairedTests(NamedTuple):
    """Tests of two models on the images that both scored."""

    pairs: ImagePairs
    mcnemar: McNemar
    delong: DeLong | None
    reason: str | None  # why there is no DeLong
    sources: Mapping[int, int]  # number of sources of each class
    over: Mapping[int, Over]  # units of each class that the tests by source leave out
    by_source: Mapping[str, SourceTest]  # test of the accuracy, and of the area where there is one


class Comparison(NamedTuple):
    """The measures and tests of two models."""

    before: ComparisonInput
    after: ComparisonInput
    whole: Contrast
    paired: PairedTests | None
    unpaired: str | None  # why there are no paired tests
    subsets: Mapping[str, Contrast]
    modifiers: Mapping[str, Contrast]


def compare(
    first: ComparisonInput, second: ComparisonInput, *, same_order: bool = False
) -> Comparison:
    """Compare two models.

    Args:
        first: scores of one model.
        second: of the other.
        same_order: rows of old files, which name no images, are paired in their order.

    Raises:
        DataError: a logit that is not finite, or `same_order` where labels do not agree.
    """
    first, second = _select_common_videos(first, second)
    tables = first.scores, second.scores
    paired, unpaired = None, None
    try:
        paired = _tests(pair(*tables, same_order=same_order))
    except DataError as error:
        if same_order:
            raise
        unpaired = str(error)
    contrasted = partial(contrast, same_order=same_order)
    return Comparison(
        before=first,
        after=second,
        whole=contrasted(*tables),
        paired=paired,
        unpaired=unpaired,
        subsets=_parts(*tables, "subsets", contrasted),
        modifiers=_parts(*tables, "modifiers", contrasted),
    )


def _select_common_videos(
    first: ComparisonInput, second: ComparisonInput
) -> tuple[ComparisonInput, ComparisonInput]:
    """Return the scores of the videos that both inputs have, if these are of different clips or frames of them."""
    tables = first.scores, second.scores
    if not all(table.videos and all(table.videos) for table in tables):
        return first, second
    common = set(tables[0].videos) & set(tables[1].videos)
    if not common or not set(tables[0].keys).isdisjoint(tables[1].keys):
        return first, second
    note = f"compared by {len(common)} videos, because both were scored on other clips or frames of them"
    one, other = (
        each._replace(
            scores=by_video(
                each.scores.rows(np.array([video in common for video in each.scores.videos]))
            ),
            notes=(*each.notes, note),
        )
        for each in (first, second)
    )
    return one, other


def contrast(first: Predictions, second: Predictions, *, same_order: bool = False) -> Contrast:
    """Return the measures of two tables, one of which may be empty, and their differences, with intervals.

    Tables of the same images are resampled together, so that images that are hard for both cancel out.
    """
    pairs = _whole_pairs(first, second, same_order=same_order)
    sides: list[SourcedScores | None]
    if pairs is not None:
        sides = [
            SourcedScores(labels=pairs.labels, logits=logits, keys=pairs.keys, videos=pairs.videos)
            for logits in (pairs.first, pairs.second)
        ]
    else:
        several = bool(len(first) and len(second))  # then the resamples differ as well
        sides = [
            SourcedScores.from_predictions(table, seed=at if several else 0) if len(table) else None
            for at, table in enumerate((first, second))
        ]
    reports = [None if side is None else evaluate_table(side) for side in sides]
    return Contrast(
        before=reports[0],
        after=reports[1],
        difference=_differences(sides, reports, is_paired=pairs is not None),
        same_images=pairs is not None,
    )


def _differences(
    sides: Sequence[SourcedScores | None], reports: Sequence[Report | None], *, is_paired: bool
) -> dict[str, Difference | None]:
    """Return the differences of the metrics that both tables have."""
    (before, after), (first, second) = sides, reports
    changes: Mapping[str, Difference] = {}
    if before is not None and after is not None and first is not None and second is not None:
        both = [METRICS[name] for name in METRICS if name in first.metrics.keys() & second.metrics]
        changes = differences(both, before, after, are_paired=is_paired)
    return {name: changes.get(name) for name in METRICS}


def _whole_pairs(first: Predictions, second: Predictions, *, same_order: bool) -> ImagePairs | None:
    try:
        pairs = pair(first, second, same_order=same_order)
    except DataError:  # reported once, for the whole tables
        return None
    return None if pairs.only_first or pairs.only_second else pairs


def _tests(pairs: ImagePairs) -> PairedTests:
    areas, reason = None, None
    try:
        areas = delong(pairs.labels, pairs.first, pairs.second)
    except DataError as error:
        reason = str(error)
    tables = [
        SourcedScores(labels=pairs.labels, logits=logits, keys=pairs.keys, videos=pairs.videos)
        for logits in (pairs.first, pairs.second)
    ]
    first, second = tables
    names = ["accuracy", *(["auc"] if len(first.sources) > 1 else [])]
    return PairedTests(
        pairs=pairs,
        mcnemar=mcnemar(pairs.labels, pairs.first, pairs.second),
        delong=areas,
        reason=reason,
        sources=first.sources,
        over=first.design.scopes,
        by_source={name: source_test(METRICS[name], first, second) for name in names},
    )


def _parts(
    first: Predictions,
    second: Predictions,
    kind: Literal["subsets", "modifiers"],
    compare_parts: Callable[[Predictions, Predictions], Contrast],
) -> dict[str, Contrast]:
    """Return the contrast of each subset or modifier that is in either table."""
    names = [np.array(getattr(table, kind)) for table in (first, second)]
    parts: dict[str, Contrast] = {}
    for name in dict.fromkeys(np.concatenate(names).tolist()):
        if not name:  # old files name no modifier
            continue
        parts[name] = compare_parts(first.rows(names[0] == name), second.rows(names[1] == name))
    return parts


def document(comparison: Comparison) -> dict[str, Json]:
    """Return a comparison as JSON; a difference is after minus before, fractions are in 0 … 1."""
    whole = _contrast_json(comparison.whole)
    for which, given in (("before", comparison.before), ("after", comparison.after)):
        inputs: dict[str, Json] = {
            "title": given.title,
            "files": [str(file) for file in given.files],
            "notes": [*given.notes],
        }
        whole[which] = {**inputs, **_report_json(getattr(comparison.whole, which))}
    return {
        "schema": SCHEMA,
        **whole,
        "paired": _paired_json(comparison.paired, comparison.unpaired),
        "subsets": {name: _contrast_json(part) for name, part in comparison.subsets.items()},
        "modifiers": {name: _contrast_json(part) for name, part in comparison.modifiers.items()},
    }


def _paired_json(paired_tests: PairedTests | None, unpaired_reason: str | None) -> dict[str, Json]:
    if paired_tests is None:
        return {"images": 0, "reason": unpaired_reason}
    return {
        "images": len(paired_tests.pairs),
        "joined_by": paired_tests.pairs.joined_by,
        "only_before": paired_tests.pairs.only_first,
        "only_after": paired_tests.pairs.only_second,
        "doubt": paired_tests.pairs.doubt,
        "mcnemar": asdict(paired_tests.mcnemar),
        "delong": None if paired_tests.delong is None else asdict(paired_tests.delong),
        "reason": paired_tests.reason,
        "sources": sources_json(paired_tests.sources),
        "by_source": {
            name: _source_test_json(test) for name, test in paired_tests.by_source.items()
        },
    }


def _source_test_json(test: SourceTest) -> dict[str, Json]:
    record: dict[str, Json] = {"freedom": test.freedom, "p": test.p, "alike": test.alike}
    return {"difference": _difference_json(test.difference), **record}


def _difference_json(difference: Difference) -> dict[str, Json]:
    record: dict[str, Json] = {"value": difference.value, **ends_record(difference.interval)}
    return {**record, "why": difference.why} if difference.why else record


def _contrast_json(contrast: Contrast) -> dict[str, Json]:
    reports = {"before": contrast.before, "after": contrast.after}
    return {
        **{
            name: None if report is None else _report_json(report)
            for name, report in reports.items()
        },
        "difference": {
            name: None if value is None else _difference_json(value)
            for name, value in contrast.difference.items()
        },
        "same_images": contrast.same_images,
    }


def _report_json(report: Report) -> dict[str, Json]:
    """Return a report as JSON; measures of a class of two sources have both intervals."""
    return {
        "n": report.n,
        "sources": sources_json(report.sources),
        **{name: measure_json(report, name) for name in METRICS},
        "confusion": [list(row) for row in report.confusion],
        "reason": report.reason,
        "reasons": dict(report.reasons),
        "verdict": report.verdict,
        "by_images": {name: each.json_record for name, each in report.by_images.items()},
    }
