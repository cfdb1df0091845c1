"""One model on one dataset in several qualities, for tables, pages and JSON."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.evaluation.arrays import Floats, mean_or_none
from trueface.evaluation.calibration import probabilities
from trueface.evaluation.curves import Labels
from trueface.evaluation.estimate import Difference, Estimate, interval_fields
from trueface.evaluation.estimates import (
    RESAMPLES,
    Sampled,
    SourcedScores,
    difference_of,
    mean_of,
    mean_over_seeds,
    sample_metric,
    share_of,
)
from trueface.evaluation.finished_tests import FinishedTest, finite_tests, group_tests
from trueface.evaluation.metrics.curve import AUC
from trueface.evaluation.over_seeds import (
    NO_MODELS,
    NO_SEEDS,
    MissingModels,
    MissingSeeds,
    SeedSummary,
    by_method,
    check_reference,
    short_names,
    strip_seed,
    summarize_seeds,
)
from trueface.predictions.predictions import Predictions
from trueface.runtime.errors import DataError, UnknownName, UsageError
from trueface.runtime.files import Json
from trueface.runtime.ids import data_of_test

SUMMARIES = ("mean", "worst", "pooled")
NOT_IN_TWO = "not tested on the same images in two qualities"  # why a model has no row
RAW = "raw"  # the name of images as they are
FEWEST = 2  # qualities
WORSE_WITH_MORE = ("blur", "h264", "median", "noise")
_NUMBER = re.compile(r"(\d+)")


class QualityScores(NamedTuple):
    """The results of a model in one quality, except its AUC."""

    name: str
    reals: int
    fakes: int
    accuracy: Estimate  # 0 … 1, at a probability of a half, Wilson's interval over images or videos
    real_score: float | None  # mean probability of a fake over the reals; None: there is none
    fake_score: float | None


class ReferenceComparison(NamedTuple):
    """A method compared with the reference: its mean over seeds, on the same images."""

    model: str  # the reference
    seeds: int  # seeds of the method
    differences: Mapping[str, Difference]  # differences of SUMMARIES, then by quality

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON."""
        records: dict[str, Json] = {
            name: each.json_record for name, each in self.differences.items()
        }
        return {
            "model": self.model,
            "seeds": self.seeds,
            **{name: records.pop(name) for name in SUMMARIES},
            "qualities": records,
        }


class QualityRow(NamedTuple):
    """A model and a set of images."""

    model: str
    data: str
    pooled_sets: bool  # several sets of fakes
    qualities: tuple[QualityScores, ...]
    areas: Mapping[str, Estimate | None]  # AUC by quality, and SUMMARIES
    worst_quality: str  # "" where there is no AUC
    left_out: int  # images that were not scored in every quality
    images: frozenset[str] = frozenset()  # the compared ones
    reference_comparison: ReferenceComparison | None = None
    why_not: str = ""  # why there is no difference to the reference

    @property
    def names(self) -> tuple[str, ...]:
        """The names of its qualities."""
        return tuple(each.name for each in self.qualities)

    @property
    def json_record(self) -> dict[str, Json]:
        """The same as JSON: AUC and accuracy in 0 … 1."""
        summaries: dict[str, Json] = {}
        for name in SUMMARIES:
            summaries |= interval_fields(name, self.areas[name])
        return {
            "model": self.model,
            "data": self.data,
            "pooled_sets": self.pooled_sets,
            "qualities": [
                {
                    "quality": each.name,
                    "n_real": each.reals,
                    "n_fake": each.fakes,
                    **interval_fields("auc", self.areas[each.name]),
                    **interval_fields("acc", each.accuracy),
                    "mean_real": each.real_score,
                    "mean_fake": each.fake_score,
                }
                for each in self.qualities
            ],
            **summaries,
            "worst_quality": self.worst_quality or None,
            "left_out": self.left_out,
            "against": None
            if self.reference_comparison is None
            else self.reference_comparison.json_record,
            "why_not": self.why_not,
        }


class QualityMethod(NamedTuple):
    """Models that differ only in their seed, on one dataset."""

    model: str  # their ID without the seed
    name: str  # as short as it stays unique among the methods
    rows: tuple[QualityRow, ...]  # one a seed
    missing: MissingSeeds = NO_SEEDS  # seeds without a result

    def area(self, name: str) -> SeedSummary | None:
        """Return the AUC at a quality, or one of SUMMARIES."""
        areas = (row.areas.get(name) for row in self.rows)
        return summarize_seeds(None if area is None else area.value for area in areas)

    def over_images(self, name: str) -> Estimate | None:
        """Return the same with its interval over images; None where not exactly one seed has a value."""
        known = [area for row in self.rows if (area := row.areas.get(name)) is not None]
        return known[0] if len(known) == 1 else None

    def mean_probability(self, quality: str, *, fake: bool) -> SeedSummary | None:
        """Return the mean probability of a fake, over the real or the fake images at a quality."""
        return summarize_seeds(
            each.fake_score if fake else each.real_score
            for row in self.rows
            for each in row.qualities
            if each.name == quality
        )

    @property
    def reference_comparison(self) -> ReferenceComparison | None:
        """The comparison of the method, all seeds together, with the reference."""
        return next(
            (row.reference_comparison for row in self.rows if row.reference_comparison is not None),
            None,
        )

    def difference(self, name: str) -> Difference | None:
        """Return how far it is from the reference, at a quality or by one of SUMMARIES."""
        return (
            None
            if self.reference_comparison is None
            else self.reference_comparison.differences.get(name)
        )


class ComparedQualities(NamedTuple):
    """Methods on one set of images."""

    data: str
    qualities: tuple[str, ...]  # qualities of any of them
    methods: tuple[QualityMethod, ...]

    @property
    def left_out(self) -> list[int]:
        """How many images were not scored in every quality: each number of any model, sorted."""
        counts = {row.left_out for method in self.methods for row in method.rows}
        return sorted(counts - {0})


def comparisons(
    rows: Sequence[QualityRow], missing: MissingModels = NO_MODELS, *, separate_names: bool = False
) -> tuple[ComparedQualities, ...]:
    """Return rows by set of images and method, each in the order of its first row.

    Models that were scored on other images of the same data are compared by themselves.

    Args:
        rows: one per model and dataset.
        missing: models of the run without a result.
        separate_names: models of other qualities are compared by themselves.
    """
    names = short_names([strip_seed(row.model) for row in rows])
    sets: dict[str, dict[frozenset[str], None]] = {}
    for row in rows:
        if row.areas["pooled"] is not None:  # a model without an AUC is in no mean of AUCs
            sets.setdefault(row.data, {})[row.images] = None

    def name_images(row: QualityRow) -> str:
        of_data = [*sets.get(row.data, ())]
        if len(of_data) < 2:
            return row.data
        number = of_data.index(row.images) if row.images in of_data else 0
        return f"{row.data}, {len(of_data[number])} images, set {number + 1} of {len(of_data)}"

    places = by_method(
        rows,
        lambda row: row.model,
        lambda row: (name_images(row), row.names if separate_names else ()),
    )
    return tuple(
        ComparedQualities(
            data,
            tuple(
                dict.fromkeys(
                    name for seeds in methods.values() for row in seeds for name in row.names
                )
            ),
            tuple(
                QualityMethod(
                    model,
                    names[model],
                    tuple(seeds),
                    missing.count_missing_seeds({row.model for row in seeds}),
                )
                for model, seeds in methods.items()
            ),
        )
        for (data, _), methods in places.items()
    )


class QualityTable(NamedTuple):
    """N images in Q qualities."""

    paths: tuple[str, ...]  # sorted
    keys: tuple[str, ...]
    labels: Labels  # (N,) 1 fake
    qualities: tuple[str, ...]
    logits: Floats  # (Q, N)
    left_out: int  # images that were not scored in every quality
    videos: tuple[str, ...] = ()  # (N,) video of a frame, "" of no frame; or ()

    @classmethod
    def from_predictions(cls, tables: Mapping[str, Predictions]) -> "QualityTable | None":
        """Return the images that every table has; None where there is none.

        Args:
            tables: by quality.
        """
        common = set.intersection(*(set(scores.ids) for scores in tables.values()))
        every = set.union(*(set(scores.ids) for scores in tables.values()))
        if not common:
            return None
        paths = tuple(sorted(common))
        first = next(iter(tables.values()))
        places = [
            dict(zip(scores.ids, range(len(scores)), strict=True)) for scores in tables.values()
        ]
        rows = [np.array([place[path] for path in paths], np.intp) for place in places]
        return cls(
            paths=paths,
            keys=tuple(first.keys[row] for row in rows[0]),
            labels=first.labels[rows[0]],
            qualities=tuple(tables),
            logits=np.stack(
                [
                    scores.margin[quality_rows]
                    for scores, quality_rows in zip(tables.values(), rows, strict=True)
                ]
            ),
            left_out=len(every) - len(common),
            videos=tuple(first.videos[row] for row in rows[0]) if first.videos else (),
        )


Areas = Mapping[str, Sampled]  # an AUC, by quality, then SUMMARIES


def resampled_aucs(table: QualityTable) -> Areas:
    """Return the AUC in each quality, mean and worst over them, and of all together; NaN of one class.

    The same images have the same resamples in every quality and model.
    """
    fake, count = table.labels == 1, len(table.qualities)
    if fake.all() or not fake.any():
        undefined = Sampled(np.nan, np.full(RESAMPLES, np.nan))
        return dict.fromkeys((*table.qualities, *SUMMARIES), undefined)
    by_quality = {
        name: sample_metric(
            AUC,
            SourcedScores(labels=table.labels, logits=logits, keys=table.keys, videos=table.videos),
        )
        for name, logits in zip(table.qualities, table.logits, strict=True)
    }
    areas = list(by_quality.values())
    spread = np.stack([each.draws for each in areas])  # (Q, R)
    worst = min(areas, key=lambda each: each.value)
    every = SourcedScores(
        labels=np.tile(table.labels, count),
        logits=table.logits.ravel(),
        keys=table.keys * count,
        videos=table.videos * count,
    )
    return {
        **by_quality,
        "mean": mean_of(areas, spread.mean(0)),
        "worst": mean_of([worst], spread.min(0)),
        "pooled": sample_metric(AUC, every),
    }


def quality_of(condition: str, corrupt: str) -> str | None:
    """Return the quality of a test; None where it was done under more than a corruption.

    Args:
        condition: of the test: "", "corrupt=jpeg50".
        corrupt: the chain of corruptions as the test's settings have it; "" where they are not known.
    """
    if not condition:
        return RAW
    name, _, value = condition.partition("=")
    if name != "corrupt" or "," in value:
        return None
    return corrupt or value


class MeasuredQualities(NamedTuple):
    """A model on a set of images, measured."""

    model: str
    data: str
    pooled_sets: bool
    table: QualityTable
    areas: Areas

    @property
    def comparison_key(self) -> tuple[object, ...]:
        """The common part of both sides of a difference."""
        return self.data, self.table.paths, self.table.qualities


def compare_with_reference(
    model_qualities: Sequence[MeasuredQualities], reference: str
) -> Mapping[tuple[str, str], ReferenceComparison | str]:
    """Return the comparison of each model's method with the reference, by (model, data), or why there is none.

    Three seeds or more are resampled, the same draws for methods of as many seeds.

    Args:
        model_qualities: all models.
        reference: ID of a model, or of a method, which is a model's ID without its seed.

    Raises:
        UsageError: no such model.
    """
    check_reference(reference, [each.model for each in model_qualities])
    chosen = {reference} if any(each.model == reference for each in model_qualities) else set()
    chosen = chosen or {
        each.model for each in model_qualities if strip_seed(each.model) == reference
    }
    found_by_model: dict[tuple[str, str], ReferenceComparison | str] = {}
    for methods in by_method(
        model_qualities, lambda each: each.model, lambda each: each.comparison_key
    ).values():
        here = [each for seeds in methods.values() for each in seeds]
        beside = [each for each in here if each.model in chosen]
        for seeds in methods.values():
            found: ReferenceComparison | str
            if not beside:
                found = f"{reference} was not tested on the same images in the same qualities"
            elif not np.isfinite(seeds[0].areas["pooled"].value):
                found = "the AUC is undefined, because all images are of one class"
            else:
                found = ReferenceComparison(reference, len(seeds), _differences(seeds, beside))
            for each in seeds:
                is_reference = each.model in chosen
                found_by_model[each.model, each.data] = "the reference" if is_reference else found
    return found_by_model


def _differences(
    seeds: Sequence[MeasuredQualities], reference_seeds: Sequence[MeasuredQualities]
) -> dict[str, Difference]:
    """Return how far a method is from the reference: SUMMARIES, then by quality."""

    def mean(side: Sequence[MeasuredQualities], name: str) -> Sampled:
        return mean_over_seeds([each.areas[name] for each in side])

    names = (*SUMMARIES, *seeds[0].table.qualities)
    return {name: difference_of(mean(seeds, name), mean(reference_seeds, name)) for name in names}


def quality_rows(
    run_folder: Path,
    tests: Sequence[tuple[str, str]],
    *,
    reference: str = "",
    qualities: Sequence[str] = (),
) -> list[QualityRow]:
    """Return a row for each model and set of images that was tested in two qualities or more.

    Scores of reals are joined with each set of fakes, as in `results.table`. Only images that were
    scored in every quality count.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs; plain tests and those under a corruption alone are qualities.
        reference: model, or model without its seed, that the others are compared with. "": none.
        qualities: the ones that count, in their order. (): raw, then all others by name, each kind by
            increasing strength.

    Raises:
        DataError: a score file cannot be read, or contains a non-finite number; an unknown quality.
        UsageError: an unknown reference, or one without a row.
    """
    measured: list[MeasuredQualities] = []
    for model in dict.fromkeys(model for model, _ in tests):
        done = finite_tests(run_folder, model, tests)
        measured += _measure_model(model, done, qualities)
    lacking = find_unmeasured_models(tests, (each.model for each in measured))
    known = {each.model for each in measured}
    if reference in {*lacking, *map(strip_seed, lacking)} - known - {*map(strip_seed, known)}:
        raise UsageError(
            f"{reference} was {NOT_IN_TWO}. Test it in two qualities, or choose another reference."
        )
    beside = compare_with_reference(measured, reference) if reference else {}
    return [_row(each, beside.get((each.model, each.data))) for each in measured]


def find_unmeasured_models(
    tests: Iterable[tuple[str, str]], measured_models: Iterable[str]
) -> list[str]:
    """Return the models among (model ID, test) pairs that were NOT_IN_TWO, in their order."""
    there = set(measured_models)
    return [model for model in dict.fromkeys(model for model, _ in tests) if model not in there]


def _measure_model(
    model: str, tests: Sequence[FinishedTest], names: Sequence[str]
) -> Iterator[MeasuredQualities]:
    sets: dict[tuple[str, bool], dict[str, Predictions]] = {}
    for each in group_tests(tests):
        first = each.tests[0]
        corrupt = first.settings.get("corrupt")
        quality = quality_of(first.condition, corrupt if isinstance(corrupt, str) else "")
        if quality is not None:
            data = each.with_root(data_of_test(each.data))
            sets.setdefault((data, each.pooled), {})[quality] = each.scores
    for (data, pooled), tables in sets.items():
        table = (
            QualityTable.from_predictions(_order_tables(tables, names))
            if len(tables) >= FEWEST
            else None
        )
        if table is None or len(table.qualities) < FEWEST:
            continue
        yield MeasuredQualities(
            model=model, data=data, pooled_sets=pooled, table=table, areas=resampled_aucs(table)
        )


def _order_tables(
    tables: Mapping[str, Predictions], order: Sequence[str]
) -> dict[str, Predictions]:
    for name in order:
        if name not in tables:
            raise DataError(str(UnknownName("quality", name, list(tables))))
    names = order or sorted(tables, key=_place)
    return {name: tables[name] for name in names}


def _place(name: str) -> tuple[object, ...]:
    """Return the sort key of a quality: raw, fewer steps, then each kind by increasing strength."""
    sign = 1 if name.startswith(WORSE_WITH_MORE) else -1  # a JPEG quality falls
    parts = _NUMBER.split(name)
    numbers = [sign * int(number) for number in parts[1::2]]
    return name != RAW, name.count("+"), tuple(zip(parts[::2], [*numbers, 0], strict=True))


def _row(
    model_qualities: MeasuredQualities, reference_comparison: ReferenceComparison | str | None
) -> QualityRow:
    table, areas = model_qualities.table, model_qualities.areas
    has_areas = bool(np.isfinite(areas["pooled"].value))
    return QualityRow(
        model=model_qualities.model,
        data=model_qualities.data,
        pooled_sets=model_qualities.pooled_sets,
        qualities=tuple(_qualities(table)),
        areas={name: area.estimate if has_areas else None for name, area in areas.items()},
        worst_quality=min(table.qualities, key=lambda name: areas[name].value) if has_areas else "",
        left_out=table.left_out,
        images=frozenset(table.paths),
        reference_comparison=reference_comparison
        if isinstance(reference_comparison, ReferenceComparison)
        else None,
        why_not=reference_comparison if isinstance(reference_comparison, str) else "",
    )


def _qualities(table: QualityTable) -> Iterator[QualityScores]:
    fake = table.labels == 1
    units = SourcedScores(
        labels=table.labels, logits=table.logits[0], keys=table.keys, videos=table.videos
    ).unit_keys
    for name, logits in zip(table.qualities, table.logits, strict=True):
        likely = probabilities(logits)
        yield QualityScores(
            name=name,
            reals=int(np.sum(~fake)),
            fakes=int(np.sum(fake)),
            accuracy=share_of((logits > 0) == fake, units),
            real_score=mean_or_none(likely[~fake]),
            fake_score=mean_or_none(likely[fake]),
        )
