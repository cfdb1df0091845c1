"""The inputs of a comparison: the scores of a model, in any folder.

`runs/<run>/<model ID>`                   All score files of a model.
`runs/<run>`                              The same, if only one model of the run has scores.
`…/<model>_vs_<data>.csv, .pkl`           Single files, current or of the original system.
"""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation.intervals import (
    Counts,
    Floats,
    IntervalEstimate,
    JackknifeDesign,
    StandardError,
    interval,
    interval_from_error,
    jackknife_design,
    resamples,
    standard_error,
)
from trueface.evaluation.measurement import (
    METRICS,
    EvaluatedScores,
    Report,
    evaluate_with_resamples,
    sources_json,
)
from trueface.evaluation.metric import Metric, resampled_values
from trueface.evaluation.significance import DeLong, ImagePairs, McNemar, delong, mcnemar, pair
from trueface.evaluation.weighted_scores import ScoreTable
from trueface.predictions.predictions import Predictions, merge
from trueface.predictions.tables import OLD_SUFFIXES, SUFFIXES, load
from trueface.runtime import paths
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json, read_json
from trueface.runtime.launch_mode import read_launch_mode

FOLDER = "scores"  # below a model's folder, as in `paths.scores`
BETWEEN = "_vs_"  # model and data in the name of a score file
OF_TRAINING = "None_vs_"  # the original's trainings wrote those of training images under this name
LEAST_LOGITS = 10  # different ones; fewer can be in 0 … 1 by chance
SCHEMA = 1  # of `document`


class ComparisonInput(NamedTuple):
    """The scores of one model, each image once."""

    title: str
    files: tuple[Path, ...]
    scores: Predictions
    notes: tuple[str, ...]  # what a reader has to know of them


def merged_scores(*places: Path) -> Predictions:
    """Return the merged scores of a model's folder, a run's folder, or score files.

    Raises:
        DataError: no scores there, or those of several models.
    """
    return read_input(places, title="").scores


def read_input(places: Sequence[Path], *, title: str) -> ComparisonInput:
    """Return the compared scores, with a title; errors as in `merged_scores`.

    An image in two files counts once. Rows of old files get the file's data ID as their folder, so
    that sources are distinguished as far as possible.
    """
    files = tuple(dict.fromkeys(file for path in places for file in score_files(path)))
    tables = [_name_rows(load(file), file, number) for number, file in enumerate(files)]
    scores = merge(tables)
    if not len(scores):
        raise DataError(f"no rows in {', '.join(map(str, files))}. Test the model again.")
    return ComparisonInput(
        title=title, files=files, scores=scores, notes=tuple(_notes(tables, scores))
    )


def note_launch_modes(
    before: ComparisonInput, after: ComparisonInput
) -> tuple[ComparisonInput, ComparisonInput]:
    """Return both inputs, each with a note if the steps of their trainings were launched in different ways."""
    modes = [_launch_mode(each.files) for each in (before, after)]
    if None in modes or modes[0] == modes[1]:
        return before, after
    one, other = (
        each._replace(
            notes=(
                *each.notes,
                f"trained with accelerate: {mode}, so its weights also differ by rounding",
            )
        )
        for each, mode in zip((before, after), modes, strict=True)
    )
    return one, other


def titles(before: Sequence[Path], after: Sequence[Path]) -> tuple[str, str]:
    """Return short names that distinguish two inputs: of runs, models, files, or their paths."""
    (run, model), (other_run, other_model) = _place(before), _place(after)
    if run and other_run and (run, model) != (other_run, other_model):
        if run == other_run:
            return model, other_model
        return (
            (run, other_run)
            if model == other_model
            else (f"{run}/{model}", f"{other_run}/{other_model}")
        )
    if len(before) == len(after) == 1 and before != after:
        first, second = before[0].stem, after[0].stem
        return (first, second) if first != second else (str(before[0]), str(after[0]))
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
    if files := _of_model(path):
        return files
    models = [folder for folder in sorted(path.iterdir()) if _of_model(folder)]
    if not models:
        raise DataError(f"no scores in {path}. Test a model with --save_scores first.")
    if len(models) > 1:
        raise DataError(
            f"{len(models)} models in {path} have scores. Name one of them: "
            + ", ".join(map(str, models))
        )
    return _of_model(models[0])


def _of_model(folder: Path) -> tuple[Path, ...]:
    """Return the score files of a model's folder; of ours and old ones, ours."""
    within = folder if folder.name == FOLDER else folder / FOLDER
    if not within.is_dir():
        return ()
    files = sorted(
        file
        for file in within.iterdir()
        if file.suffix.lower() in SUFFIXES and not file.name.startswith((".", OF_TRAINING))
    )
    ours = [file for file in files if file.suffix.lower() not in OLD_SUFFIXES]
    return tuple(ours or files)


def _launch_mode(files: Sequence[Path]) -> str | None:
    """Return the mode of the model whose folder contains score files; None if it is unknown."""
    summary = read_json(paths.summary(files[0].parent.parent))
    return None if summary is None else read_launch_mode(summary)


def _name_rows(scores: Predictions, file: Path, number: int) -> Predictions:
    """Give the rows of an old file names that no other file's rows have."""
    if scores.names_images:
        return scores
    data = file.stem.rpartition(BETWEEN)[2]
    start = number << 32  # no file has so many rows
    names = tuple(f"{data}/#{start + row}" for row in range(len(scores)))
    return replace(scores, ids=names, keys=names)


def _notes(tables: Sequence[Predictions], merged: Predictions) -> list[str]:
    first = dict(zip(merged.ids, merged.margin.tolist(), strict=True))
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
    if not merged.names_images and any(table.names_images for table in tables):
        notes.append(
            "some files do not name their images, so an image that is also in another file counts twice"
        )
    values = np.unique(merged.margin)
    if len(values) >= LEAST_LOGITS and values[0] >= 0 and values[-1] <= 1:
        notes.append(
            "all logits are in 0 … 1, as probabilities are. If they are probabilities p, replace them by "
            "log(p / (1 - p))"
        )
    share = float(np.mean(merged.margin > 0))
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
    if len(folders) != 1 or (folder := folders.pop()).name != FOLDER:
        return "", ""
    return folder.parent.parent.name, paths.model_id(folder.parent)


class Contrast(NamedTuple):
    """Two models on some images; a difference is after minus before."""

    before: Report | None  # None: that model was not tested on such images
    after: Report | None
    difference: Mapping[str, IntervalEstimate | None]
    same_images: bool  # both were resampled together


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTest:
    """Whether two models differ over the population that the sources come from."""

    difference: IntervalEstimate  # over images where it does not vary over sources
    freedom: float  # degrees of, of Student's t
    p: float | None  # two-sided; None: the difference does not vary over sources
    alike: bool  # no prediction differs; for the area, not even the order


class PairedTests(NamedTuple):
    """Tests of two models on the images that both scored."""

    pairs: ImagePairs
    mcnemar: McNemar
    delong: DeLong | None
    reason: str | None  # why there is no DeLong
    sources: Mapping[int, int]  # of each class
    by_source: Mapping[str, SourceTest]  # of the accuracy, and of the area where there is one


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
    before: ComparisonInput, after: ComparisonInput, *, same_order: bool = False
) -> Comparison:
    """Compare two models.

    Args:
        before: scores of one model.
        after: of the other.
        same_order: rows of old files, which name no images, are paired in their order.

    Raises:
        DataError: a logit that is not finite, or `same_order` where labels do not agree.
    """
    tables = before.scores, after.scores
    paired, unpaired = None, None
    try:
        paired = _tests(pair(*tables, same_order=same_order))
    except DataError as error:
        if same_order:
            raise
        unpaired = str(error)
    contrasted = partial(contrast, same_order=same_order)
    return Comparison(
        before=before,
        after=after,
        whole=contrasted(*tables),
        paired=paired,
        unpaired=unpaired,
        subsets=_parts(*tables, "subsets", contrasted),
        modifiers=_parts(*tables, "modifiers", contrasted),
    )


def contrast(before: Predictions, after: Predictions, *, same_order: bool = False) -> Contrast:
    """Return the measures of two tables, one of which may be empty, and their differences, with intervals.

    Tables of the same images are resampled together, so that images that are hard for both cancel out.
    """
    pairs = _whole_pairs(before, after, same_order=same_order)
    sides: list[EvaluatedScores | None]
    if pairs is not None:
        sides = [
            evaluate_with_resamples(pairs.labels, logits, keys=pairs.keys)
            for logits in (pairs.first, pairs.second)
        ]
    else:
        several = bool(len(before) and len(after))  # then the resamples differ as well
        sides = [
            evaluate_with_resamples(
                table.labels, table.margin, keys=table.keys, seed=at if several else 0
            )
            if len(table)
            else None
            for at, table in enumerate((before, after))
        ]
    first, second = sides
    return Contrast(
        before=None if first is None else first.report,
        after=None if second is None else second.report,
        difference={
            name: None
            if first is None or second is None
            else difference(metric, first, second, together=pairs is not None)
            for name, metric in METRICS.items()
        },
        same_images=pairs is not None,
    )


def difference(
    metric: Metric, before: EvaluatedScores, after: EvaluatedScores, *, together: bool
) -> IntervalEstimate | None:
    """Return by how much the second model exceeds the first in a metric, with its interval.

    Args:
        metric: which.
        before: of one model.
        after: of the other.
        together: both are of the same images, and images that are hard for both cancel out.
    """
    name = metric.name
    first, second = before.report.metrics.get(name), after.report.metrics.get(name)
    if first is None or second is None:
        return None
    value = second.value - first.value
    by_images = partial(
        interval, value, after.resampled_metrics[name] - before.resampled_metrics[name]
    )
    if not (before.design.has_several_sources or after.design.has_several_sources):
        return by_images()
    alike = together and np.array_equal(before.jackknife_values[name], after.jackknife_values[name])
    if metric.difference is not None and not alike:
        return metric.difference(first, second)
    error = _error(metric, before, after, together=together)
    if error.error == 0:  # by chance in few sources; then the interval is that over images
        return by_images()
    return interval_from_error(value, error, metric.difference_scale)


def _whole_pairs(before: Predictions, after: Predictions, *, same_order: bool) -> ImagePairs | None:
    try:
        pairs = pair(before, after, same_order=same_order)
    except DataError:  # reported once, for the whole tables
        return None
    return None if pairs.only_first or pairs.only_second else pairs


def _error(
    metric: Metric, before: EvaluatedScores, after: EvaluatedScores, *, together: bool
) -> StandardError:
    """Return the standard error over sources of a difference."""
    even, first, second = (
        not metric.pooled,
        before.jackknife_values[metric.name],
        after.jackknife_values[metric.name],
    )
    if together:
        return standard_error(before.design, second - first, even=even)
    return standard_error(before.design, first, even=even, also=(after.design, second))


def _tests(pairs: ImagePairs) -> PairedTests:
    areas, reason = None, None
    try:
        areas = delong(pairs.labels, pairs.first, pairs.second)
    except DataError as error:
        reason = str(error)
    of = jackknife_design(pairs.keys, pairs.labels)
    return PairedTests(
        pairs=pairs,
        mcnemar=mcnemar(pairs.labels, pairs.first, pairs.second),
        delong=areas,
        reason=reason,
        sources=of.sources,
        by_source=_by_source(pairs, of),
    )


def _by_source(pairs: ImagePairs, of: JackknifeDesign) -> dict[str, SourceTest]:
    """Return tests of equal accuracy, and of equal area where both classes are there."""
    metrics = [METRICS["accuracy"], *([METRICS["auc"]] if len(of.strata) > 1 else [])]

    def values(logits: Floats, weights: Counts, scale: Floats | None = None) -> dict[str, Floats]:
        table = ScoreTable(labels=pairs.labels, logits=logits)
        return resampled_values(metrics, table, weights, scale)

    first, second = (values(logits, of.weights, of.scale) for logits in (pairs.first, pairs.second))
    tests = {}
    for metric in metrics:
        name = metric.name
        change = second[name] - first[name]
        error, shift = standard_error(of, change, even=not metric.pooled), float(change[0])
        measure = interval_from_error(shift, error, metric.difference_scale)
        if error.error == 0:
            weights = resamples(pairs.keys, pairs.labels)
            before, after = (values(logits, weights) for logits in (pairs.first, pairs.second))
            measure = interval(shift, after[name] - before[name])
        tests[name] = SourceTest(
            difference=measure,
            freedom=error.freedom,
            p=error.p(shift),
            alike=np.array_equal(_answers(name, pairs.first), _answers(name, pairs.second)),
        )
    return tests


def _answers(name: str, logits: Floats) -> NDArray[np.intp]:
    """Return the input of a measure: whether each image is classified as fake, or their order."""
    if name == "accuracy":
        return (logits > 0).astype(np.intp)
    order: NDArray[np.intp] = np.unique(logits, return_inverse=True)[1]
    return order


def _parts(
    before: Predictions,
    after: Predictions,
    kind: Literal["subsets", "modifiers"],
    contrasted: Callable[[Predictions, Predictions], Contrast],
) -> dict[str, Contrast]:
    """Return the contrast of each subset or modifier that is in either table."""
    names = [np.array(getattr(table, kind)) for table in (before, after)]
    parts: dict[str, Contrast] = {}
    for name in dict.fromkeys(np.concatenate(names).tolist()):
        if not name:  # old files name no modifier
            continue
        parts[name] = contrasted(before.rows(names[0] == name), after.rows(names[1] == name))
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


def _paired_json(paired: PairedTests | None, unpaired: str | None) -> dict[str, Json]:
    if paired is None:
        return {"images": 0, "reason": unpaired}
    return {
        "images": len(paired.pairs),
        "joined_by": paired.pairs.joined_by,
        "only_before": paired.pairs.only_first,
        "only_after": paired.pairs.only_second,
        "doubt": paired.pairs.doubt,
        "mcnemar": asdict(paired.mcnemar),
        "delong": None if paired.delong is None else asdict(paired.delong),
        "reason": paired.reason,
        "sources": sources_json(paired.sources),
        "by_source": {name: asdict(test) for name, test in paired.by_source.items()},
    }


def _contrast_json(contrast: Contrast) -> dict[str, Json]:
    reports = {"before": contrast.before, "after": contrast.after}
    return {
        **{
            name: None if report is None else _report_json(report)
            for name, report in reports.items()
        },
        "difference": {
            name: None if value is None else asdict(value)
            for name, value in contrast.difference.items()
        },
        "same_images": contrast.same_images,
    }


def _report_json(report: Report) -> dict[str, Json]:
    whole = {**asdict(report), "sources": sources_json(report.sources)}
    measures = whole.pop("metrics")
    first = {key: whole.pop(key) for key in ("n", "sources")}
    return {**first, **{name: measures.get(name) for name in METRICS}, **whole}
