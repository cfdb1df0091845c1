"""How evenly the models of a run err over groups of people: one row per model, dataset and grouping.

A gap alone has little meaning: a constant detector has none, and noise makes one. Each gap is shown with
its floor under shuffled groups and with the AUC. Only comparable methods are ranked. At a probability of
0.5 models differ in how often they predict fake, so their gaps also depend on calibration. At a common
false positive rate over all groups, the gap only measures how unevenly the errors are distributed. Start
reading at `fairness_rows`, then `methods`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from enum import IntEnum
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.evaluation.arrays import Floats
from trueface.evaluation.curves import threshold_at_fpr
from trueface.evaluation.estimate import Difference, Estimate, Over, interval_fields
from trueface.evaluation.estimates import (
    Sampled,
    SourcedScores,
    difference_of,
    mean_over_seeds,
    sample_metric,
)
from trueface.evaluation.finished_tests import GroupedTests, finite_tests, group_tests
from trueface.evaluation.group_columns import (
    MARGINS,
    AttributeFiles,
    GroupColumn,
    Missing,
    read_original,
)
from trueface.evaluation.group_rates import (
    GAP,
    MEASURES,
    OF_BOTH,
    PERCENT,
    GapVerdict,
    GroupTable,
    judge_gap,
)
from trueface.evaluation.metrics.curve import AUC
from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_SEEDS,
    MissingModels,
    MissingSeeds,
    SeedSummary,
    check_reference,
    short_names,
    strip_seed,
    summarize_seeds,
)
from trueface.evaluation.published_gaps import (
    NEITHER,
    GroupedLogits,
    places_in_list,
    with_published_gaps,
)
from trueface.evaluation.result_rows import (
    by_first_frame,
    common_videos,
    logit_of_mean_probability,
    without_clips,
)
from trueface.predictions.predictions import Predictions
from trueface.runtime import paths
from trueface.runtime.errors import CheckpointError
from trueface.runtime.files import Json
from trueface.runtime.ids import model_folder_name

TARGET_PERCENT = 10  # percentage of validation's reals that are called fake
TARGET = TARGET_PERCENT / 100
FEWEST = 20  # reals of validation: of fewer no image, or a single one, would be a tenth
LOWER = "lower AUC, not comparable"
OTHERS = "other images, not comparable"
SHOWN = (GAP, "f_fpr", "f_eo")  # measures beside a method, on screen and page
NO_VALIDATION = "these files contain no validation scores"
OF_VIDEOS = "each row is a video with the mean probability of its clips or frames, and with the group of its first one"


class ValidationThreshold(NamedTuple):
    """The threshold at which a model calls a given part of all reals fake, by its validation, or why there is none."""

    threshold: float | None  # in logits; values above are called fake
    reals: int  # number of reals of validation
    reason: str  # "" where there is a threshold


class FairnessRow(NamedTuple):
    """A model, a set of images, a grouping."""

    model: str
    data: str
    by: str
    pooled: bool
    auc: Estimate | None  # AUC of all images that have a group, with its interval over images
    table: GroupTable  # at a probability of a half
    common: GroupTable | None  # at the threshold of validation
    validation: ValidationThreshold
    why_not: str  # why it is not comparable; "" where it is
    attributes: tuple[str, ...]  # files
    to_best: Difference | None = None  # difference of the method's mean AUC
    to_reference: Difference | None = None
    ungrouped: int = 0  # images without a group, left out
    note: str = ""  # a remark on its logits
    grouped: "GroupedScores | None" = None  # its logits and groups
    unit: Over = Over.IMAGES  # counted rows are images or videos

    @property
    def worst_auc(self) -> float | None:
        """The lowest AUC of a group."""
        worst = self.table.worst
        return None if worst is None else worst.rates[OF_BOTH].value

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON: rates and gaps in per cent, AUC in 0 … 1."""
        worst, verdict = self.table.worst, self.table.verdict
        common: dict[str, Json] = {
            "target": PERCENT * TARGET,
            "validation_reals": self.validation.reals,
            "reason": self.validation.reason,
            "threshold": None,
        }
        if self.common is not None:
            common |= {**self.common.json_record, "verdict": str(self.common.verdict)}
        return {
            "model": self.model,
            "data": self.data,
            "pooled": self.pooled,
            "by": self.by,
            **interval_fields("auc", self.auc),
            "worst_group": None if worst is None else worst.name,
            "worst_group_auc": self.worst_auc,
            **self.table.json_record,
            "constant": self.table.constant,
            "verdict": str(verdict),
            "near_floor": verdict in {GapVerdict.NEAR, GapVerdict.WITHIN},
            "comparable": not self.why_not,
            "why_not": self.why_not,
            "auc_to_best": _record(self.to_best),
            "auc_to_reference": _record(self.to_reference),
            "at_common_fpr": common,
            "attributes": list(self.attributes),
            "ungrouped": self.ungrouped,
            "note": self.note,
            **({"unit": self.unit} if self.unit is Over.VIDEOS else {}),
        }


class Comparability(IntEnum):
    """The verdict on a method's gap; better ones come first on the page."""

    COMPARABLE = 0
    LOWER_AUC = 1
    CONSTANT = 2


class FairnessMethod(NamedTuple):
    """The seeds of one model on one set of images, by one grouping."""

    model: str  # their ID without the seed
    name: str  # as short as it stays unique among the methods
    rows: tuple[FairnessRow, ...]
    rank: int | None = None  # by FPR gap, from 1 on; None: not ranked
    missing: MissingSeeds = NO_SEEDS  # seeds without a result

    @property
    def comparison_key(self) -> tuple[str, str]:
        """The comparison it belongs to: dataset and grouping."""
        return self.rows[0].data, self.rows[0].by

    @property
    def auc(self) -> SeedSummary | None:
        """The AUC of all images."""
        return summarize_seeds(None if row.auc is None else row.auc.value for row in self.rows)

    @property
    def worst_auc(self) -> SeedSummary | None:
        """The lowest AUC of a group, seed by seed."""
        return summarize_seeds(row.worst_auc for row in self.rows)

    @property
    def why_not(self) -> str:
        """Why it is not comparable; "" where it is."""
        return next((row.why_not for row in self.rows if row.why_not), "")

    @property
    def comparability(self) -> Comparability:
        """The verdict on its gap; one seed that is constant, or not comparable, decides it."""
        if any(row.table.constant for row in self.rows):
            return Comparability.CONSTANT
        return Comparability.LOWER_AUC if self.why_not else Comparability.COMPARABLE

    @property
    def verdict(self) -> GapVerdict:
        """The relation of the mean FPR gap to the mean of its floors."""
        gap, floor = self.measure(GAP), self.floor(GAP)
        return judge_gap(gap and gap.mean, floor and floor.mean)

    @property
    def agreeing(self) -> int:
        """Of how many seeds alone the verdict is the same."""
        return sum(row.table.verdict is self.verdict for row in self.rows)

    def tables(self, *, common: bool = False) -> list[GroupTable | None]:
        """Return the table of each seed at a probability of a half, or at the common rate of validation."""
        return [row.common if common else row.table for row in self.rows]

    def measure(self, name: str, *, common: bool = False) -> SeedSummary | None:
        """Return a measure over groups."""
        tables = self.tables(common=common)
        return summarize_seeds(None if table is None else table.measures[name] for table in tables)

    def groups_note(self, name: str, *, common: bool = False) -> str:
        """Return "2 of 3 groups" for a measure that some group is missing from; "" otherwise."""
        tables = self.tables(common=common)
        return next((part for table in tables if table and (part := table.groups_note(name))), "")

    @property
    def undefined_measures(self) -> tuple[str, ...]:
        """Titles of the shown measures that are undefined although there is an FPR gap."""
        if self.measure(GAP) is None:
            return ()
        return tuple(MEASURES[name] for name in SHOWN if self.measure(name) is None)

    def floor(self, name: str, *, common: bool = False) -> SeedSummary | None:
        """Return the 95 % point of a measure's shuffles."""
        tables = self.tables(common=common)
        return summarize_seeds(
            None if table is None else table.permutation_p95(name) for table in tables
        )

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        (data, by), first = self.comparison_key, self.rows[0]  # seeds are compared together
        values = {
            "auc": self.auc,
            "worst_group_auc": self.worst_auc,
            **{name: self.measure(name) for name in MEASURES},
            **{f"{name}_floor": self.floor(name) for name in MEASURES},
            f"{GAP}_at_common_fpr": self.measure(GAP, common=True),
            f"{GAP}_at_common_fpr_floor": self.floor(GAP, common=True),
        }
        return {
            "model": self.model,
            "data": data,
            "by": by,
            "seeds": len(self.rows),
            "missing": dict(self.missing),
            **{
                name: value and {"mean": value.mean, "sd": value.sd}
                for name, value in values.items()
            },
            **{
                f"{name}_groups": min(row.table.groups_with(name) for row in self.rows)
                for name in MEASURES
            },
            "constant": self.comparability is Comparability.CONSTANT,
            "verdict": str(self.verdict),
            "comparable": not self.why_not,
            "why_not": self.why_not,
            "auc_to_best": _record(first.to_best),
            "auc_to_reference": _record(first.to_reference),
            "rank": self.rank,
        }


def methods(
    rows: Sequence[FairnessRow], missing: MissingModels = NO_MODELS
) -> list[FairnessMethod]:
    """Return the rows over seeds, in the order of their first one, with their ranks.

    The smallest mean FPR gap comes first. A ranked method has a gap and a floor, is not constant, and its AUC
    is not lower than the best one's beyond its interval. Otherwise a smaller gap than another's has no
    meaning.
    """
    names = short_names([strip_seed(row.model) for row in rows])
    groups: dict[tuple[str, str, str], list[FairnessRow]] = {}
    for row in rows:
        groups.setdefault((strip_seed(row.model), row.data, row.by), []).append(row)
    compared = [
        FairnessMethod(
            key[0],
            names[key[0]],
            tuple(seeds),
            missing=missing.count_missing_seeds({row.model for row in seeds}),
        )
        for key, seeds in groups.items()
    ]
    ranked: dict[tuple[str, str], list[tuple[float, int]]] = {}
    for at, method in enumerate(compared):
        gap = method.measure(GAP)
        is_comparable = method.comparability is Comparability.COMPARABLE
        if gap is not None and is_comparable and method.verdict is not GapVerdict.UNDEFINED:
            ranked.setdefault(method.comparison_key, []).append((gap.mean, at))
    for each in ranked.values():
        for rank, (_, at) in enumerate(sorted(each), start=1):
            compared[at] = compared[at]._replace(rank=rank)
    return compared


def _record(difference: Difference | None) -> Json:
    return None if difference is None else difference.json_record


class GroupedScores(NamedTuple):
    """A table of one model with its groups by one column."""

    model: str
    data: str
    pooled: bool
    scores: Predictions
    column: GroupColumn
    validation: ValidationThreshold
    attributes: tuple[str, ...]
    note: str = ""
    intersections: GroupColumn | None = None  # gender × race, if the column is one of them
    logits: str = MARGINS  # meaning of the scores; see `group_columns.OriginalScores`
    unit: Over = Over.IMAGES  # a row is one image or one video

    @property
    def grouped_scores(self) -> Predictions:
        """The rows that have a group."""
        return self.scores.rows(self.column.rows)

    @property
    def grouped_logits(self) -> GroupedLogits:
        """The logits of these rows with their groups."""
        scores, column = self.grouped_scores, self.column
        intersections = np.full(len(self.scores), NEITHER, np.int32)
        finer = self.intersections or column
        intersections[finer.rows] = finer.groups
        return GroupedLogits(
            fake=scores.labels == 1,
            logits=scores.margin,
            groups=column.groups,
            places=places_in_list(column.names, column.empty),
            intersections=intersections[column.rows],
            keys=SourcedScores.from_predictions(scores).unit_keys,
        )


def fairness_rows(
    run_folder: Path,
    tests: Sequence[tuple[str, str]],
    column_names: Sequence[str] = (),
    *,
    attributes: Sequence[Path] = (),
    missing: Missing | None = None,
    reference: str = "",
) -> list[FairnessRow]:
    """Return a row for each model, set of images and grouping, in the order of the tests.

    Scores of reals are joined with each set of fakes, as in `results.table`. Tests without attributes are
    left out, and so are those without a score file. Tests on clips, and tests of the same images without clips, have a
    row for each video that all their models scored.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs.
        column_names: columns of groups. (): those of gender, race and intersec that exist.
        attributes: files in the place of those that the tests were done with.
        missing: treatment of images without a group. None: as in the tests.
        reference: a model, or one without its seed, that the AUC of others is compared with.

    Raises:
        DataError: a score file or a table of attributes cannot be read, contains a non-finite number, or has
            no such column.
        UsageError: an unknown reference.
    """
    models = list(dict.fromkeys(model for model, _ in tests))
    check_reference(reference, models)
    project = run_folder.parent.parent
    files = AttributeFiles(project=project, files=tuple(attributes), missing=missing)
    videos = _find_video_tests(run_folder, tests)
    return _rows(
        [
            each
            for model in models
            for each in _read_model_scores(run_folder, model, tests, column_names, files, videos)
        ],
        reference,
    )


class _VideoTests(NamedTuple):
    """The tests that are measured by video: those on clips, and those of the same images without clips."""

    common: Mapping[str, frozenset[str]]  # test → the videos that count; empty: all of it
    has_one_name: bool  # no model was tested twice, so that tests on other clips are compared

    def unit(self, tests: GroupedTests) -> Over:
        """Return what a row of some tests is."""
        return Over.VIDEOS if all(test.data in self.common for test in tests.tests) else Over.IMAGES

    def by_video(self, tests: GroupedTests) -> GroupedTests:
        """Return tests with a row for each video. Its name is its first frame, which tables of attributes know."""
        rows = (
            test._replace(scores=by_first_frame(test.scores, self.common[test.data]))
            for test in tests.tests
        )
        data = without_clips(tests.data) if self.has_one_name else tests.data
        return tests._replace(tests=tuple(rows), data=data)


def _find_video_tests(run_folder: Path, tests: Sequence[tuple[str, str]]) -> _VideoTests:
    scored = [
        (model, test)
        for model, test in tests
        if paths.scores(run_folder / model_folder_name(model), model, test).exists()
    ]
    alike: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for model, test in scored:
        alike[without_clips(test)].append((model, test))
    # the name of a test without clips is the name of its group
    on_clips = [group for name, group in alike.items() if {test for _, test in group} != {name}]
    common = common_videos(run_folder, scored) if on_clips else {}
    return _VideoTests(
        common={test: common.get(test, frozenset()) for group in on_clips for _, test in group},
        has_one_name=all(len({model for model, _ in group}) == len(group) for group in on_clips),
    )


def original_rows(folder: Path, column_names: Sequence[str] = ()) -> list[FairnessRow]:
    """Return the rows of a folder of the original's files; see `group_columns.read_original`.

    Raises:
        DataError: a file is absent or broken, or there is no such column.
    """
    read = read_original(folder)
    none, name = ValidationThreshold(None, 0, NO_VALIDATION), folder.name
    columns = map(read.column, column_names or read.columns)
    return _rows(
        [
            GroupedScores(
                name,
                "",
                False,
                read.scores,
                column,
                none,
                (),
                note=read.note,
                intersections=read.intersections(column.by),
                logits=read.logits,
            )
            for column in columns
        ]
    )


def _read_model_scores(
    run_folder: Path,
    model: str,
    tests: Sequence[tuple[str, str]],
    column_names: Sequence[str],
    files: AttributeFiles,
    videos: _VideoTests,
) -> Iterator[GroupedScores]:
    folder = run_folder / model_folder_name(model)
    validation = cache(partial(find_validation_threshold, folder))
    for group in group_tests(finite_tests(run_folder, model, tests)):
        unit = videos.unit(group)
        each = videos.by_video(group) if unit is Over.VIDEOS else group
        attributes, scores = tuple(map(str, files.files_of_tests(each))), each.scores
        if not attributes:
            continue
        for column in files.columns(each, column_names):
            yield GroupedScores(
                model,
                each.with_root(each.data),
                each.pooled,
                _name_videos(scores) if unit is Over.VIDEOS else scores,
                column,
                validation(unit=unit),
                attributes,
                note=OF_VIDEOS if unit is Over.VIDEOS else "",
                intersections=files.intersections(each, column.by),
                unit=unit,
            )


def _name_videos(scores: Predictions) -> Predictions:
    """Return the rows of videos with the names of these. Clips of other lengths may begin at other frames."""
    return replace(scores, ids=tuple(name.rpartition("/")[0] for name in scores.ids))


def find_validation_threshold(folder: Path, *, unit: Over = Over.IMAGES) -> ValidationThreshold:
    """Return the threshold of a model's folder by the validation logits in its checkpoint.

    It is the lowest of the reals' logits with at most `TARGET` of them above it. For videos, these are the log odds
    of mean probabilities.
    """

    def make_unknown_threshold(reason: str, reals: int = 0) -> ValidationThreshold:
        return ValidationThreshold(None, reals, reason)

    path = paths.checkpoint(folder)
    if not path.is_file():
        return make_unknown_threshold("the checkpoint with the validation scores is missing")
    # torch takes a second to import
    from trueface.models import checkpoint

    try:
        reference = checkpoint.load(path).reference
    except CheckpointError as error:
        return make_unknown_threshold(str(error))
    labels, logits = reference.get("labels"), reference.get("logits")
    if labels is None or logits is None or labels.shape != logits.shape:
        return make_unknown_threshold("the checkpoint contains no validation scores")
    is_real, values = labels.numpy() == 0, logits.double().numpy()
    if unit is Over.VIDEOS:
        videos = reference.get("videos")
        if videos is None or videos.shape != labels.shape:
            return make_unknown_threshold(
                "the checkpoint contains validation scores of single images, and the table has a row for each video"
            )
        names = videos.numpy()[is_real]
        of_reals = values[is_real]
        reals: Floats = np.array(
            [logit_of_mean_probability(of_reals[names == name]) for name in np.unique(names)]
        )
    else:
        reals = values[is_real]
    if len(reals) < FEWEST:
        return make_unknown_threshold(
            f"only {len(reals)} real validation {unit}, and {FEWEST} are needed", len(reals)
        )
    return ValidationThreshold(threshold_at_fpr(reals, TARGET_PERCENT), len(reals), "")


class _Compared(NamedTuple):
    """The AUC of a model, and whether it is near the best one's."""

    auc: Estimate | None  # None: the images are of one class
    why_not: str
    # differences of the method's mean AUC to the best one's and the reference's; None: there is none
    to_best: Difference | None = None
    to_reference: Difference | None = None


def _compare_areas(
    tables: Iterable[GroupedScores], reference: str
) -> Mapping[tuple[str, str], _Compared]:
    """Return the AUC of each model on each set of images, by (model, data), and whether it compares.

    Only models that were tested on the same images are compared, with the same draws of these;
    three seeds or more are drawn as well.
    """
    compared: dict[tuple[str, str], _Compared] = {}
    areas: dict[tuple[str, tuple[str, ...]], dict[str, Sampled]] = {}
    for each in tables:
        scores = each.grouped_scores
        # in one order for all models, as their resamples are paired by it
        scores = scores.rows(np.argsort(np.array(scores.ids)))
        fake = scores.labels == 1
        if fake.all() or not fake.any():
            kind = "fake" if fake.any() else "real"
            compared[each.model, each.data] = _Compared(
                None, f"all {each.unit} are {kind}, so the AUC is undefined"
            )
            continue
        here = areas.setdefault((each.data, scores.ids), {})
        sourced = replace(SourcedScores.from_predictions(scores), unit=each.unit)
        here[each.model] = sample_metric(AUC, sourced)
    usual = _usual_images(areas)
    for (data, ids), of_models in areas.items():
        other_images = ""
        if ids != usual[data]:
            other_images = f"{OTHERS}: {len(ids)} here, and {len(usual[data])} of other models. Test all on one list"
        seeds: dict[str, list[str]] = {}
        for model in of_models:
            seeds.setdefault(strip_seed(model), []).append(model)
        means = {
            name: mean_over_seeds([of_models[model] for model in models])
            for name, models in seeds.items()
        }
        best = max(means, key=lambda name: means[name].value)
        beside = next((name for name in seeds if reference in {name, *seeds[name]}), None)
        for name, models in seeds.items():
            to_best = None if name == best else difference_of(means[name], means[best])
            why_not = other_images
            if not why_not and to_best is not None and to_best.word == "loss":
                ends = f"({to_best.ends_text('+.3f')})"
                why_not = f"{LOWER}: {to_best.value:+.3f} {ends} compared with {best}"
            to_reference = None
            if beside is not None and name != beside:
                to_reference = difference_of(means[name], means[beside])
            for model in models:
                area = of_models[model].estimate
                compared[model, data] = _Compared(area, why_not, to_best, to_reference)
    return compared


def _usual_images(
    areas: Mapping[tuple[str, tuple[str, ...]], Mapping[str, Sampled]],
) -> Mapping[str, tuple[str, ...]]:
    """Return the images on which most models were tested, by data; the first ones of equally many models."""
    usual: dict[str, tuple[str, ...]] = {}
    for data, ids in areas:
        if data not in usual or len(areas[data, ids]) > len(areas[data, usual[data]]):
            usual[data] = ids
    return usual


def _rows(group_scores: Sequence[GroupedScores], reference: str = "") -> list[FairnessRow]:
    # most often every image has a group in every column: the areas are the same then
    same: dict[tuple[object, ...], Mapping[tuple[str, str], _Compared]] = {}
    areas: dict[str, Mapping[tuple[str, str], _Compared]] = {}
    for by in dict.fromkeys(each.column.by for each in group_scores):
        here = [each for each in group_scores if each.column.by == by]
        key = tuple((each.model, each.data, each.column.rows.tobytes()) for each in here)
        if key not in same:
            same[key] = _compare_areas(here, reference)
        areas[by] = same[key]
    return [_row(each, areas[each.column.by][each.model, each.data]) for each in group_scores]


def _row(group_scores: GroupedScores, area: _Compared) -> FairnessRow:
    scores, column, threshold = (
        group_scores.grouped_scores,
        group_scores.column,
        group_scores.validation.threshold,
    )

    logits = group_scores.grouped_logits

    def table(threshold: float, base_table: GroupTable | None = None) -> GroupTable:
        group_table = GroupTable.from_logits(
            scores.labels,
            scores.margin,
            column.groups,
            column.names,
            threshold,
            keys=logits.keys,
            base_table=base_table,
        )
        return with_published_gaps(group_table, logits, base_table=base_table)

    even = table(0.0)
    return FairnessRow(
        model=group_scores.model,
        data=group_scores.data,
        by=column.by,
        pooled=group_scores.pooled,
        auc=area.auc,
        table=even,
        common=None if threshold is None else table(threshold, even),
        validation=group_scores.validation,
        why_not=area.why_not,
        attributes=group_scores.attributes,
        to_best=area.to_best,
        to_reference=area.to_reference,
        ungrouped=len(group_scores.scores) - len(scores),
        note=group_scores.note,
        grouped=group_scores,
        unit=group_scores.unit,
    )
