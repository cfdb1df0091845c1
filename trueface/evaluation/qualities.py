"""One model on one set of images in several qualities: what tables, pages and JSON show."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import curves
from trueface.evaluation.calibration import Labels, probabilities
from trueface.evaluation.intervals import (
    Difference,
    Floats,
    Measure,
    difference,
    interval,
    over_seeds,
    resamples,
    unvaried,
)
from trueface.evaluation.score_tables import (
    Scores,
    Tested,
    by_place,
    finite_tests,
    joined,
    without_seed,
)
from trueface.runtime.errors import DataError, UnknownName, UsageError
from trueface.runtime.files import Json
from trueface.runtime.ids import data_of_test

SUMMARIES = ("mean", "worst", "pooled")
RAW = "raw"  # the name of images as they are
FEWEST = 2  # qualities
WORSE_WITH_MORE = ("blur", "h264", "median", "noise")
_NUMBER = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """What a model does in one quality."""

    name: str
    reals: int
    fakes: int
    auc: Measure | None  # None: images of one class
    accuracy: Measure  # 0 … 1, at a probability of a half, Wilson's interval
    real_score: float | None  # mean probability of a fake over the reals; None: there is none
    fake_score: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Against:
    """A method beside the reference: its mean over seeds, by the same images."""

    model: str  # the reference
    seeds: int  # of the method
    summaries: Mapping[str, Difference]  # by mean, worst, pooled
    qualities: Mapping[str, Difference]

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON."""
        return {
            "model": self.model,
            "seeds": self.seeds,
            **{name: each.record for name, each in self.summaries.items()},
            "qualities": {name: each.record for name, each in self.qualities.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityRow:
    """A model and a set of images."""

    model: str
    data: str
    pooled_sets: bool  # several sets of fakes
    qualities: tuple[Quality, ...]
    summaries: Mapping[str, Measure | None]  # AUC by mean, worst, pooled
    worst_quality: str  # "" where there is no AUC
    left_out: int  # images that were not scored in every quality
    against: Against | None = None
    why_not: str = ""  # why there is no difference to the reference

    @property
    def record(self) -> dict[str, Json]:
        """The same as JSON: AUC and accuracy in 0 … 1."""
        summaries = {
            key: value
            for name in SUMMARIES
            for key, value in _bounds(name, self.summaries[name]).items()
        }
        return {
            "model": self.model,
            "data": self.data,
            "pooled_sets": self.pooled_sets,
            "qualities": [
                {
                    "quality": each.name,
                    "n_real": each.reals,
                    "n_fake": each.fakes,
                    **_bounds("auc", each.auc),
                    **_bounds("acc", each.accuracy),
                    "mean_real": each.real_score,
                    "mean_fake": each.fake_score,
                }
                for each in self.qualities
            ],
            **summaries,
            "worst_quality": self.worst_quality or None,
            "left_out": self.left_out,
            "against": None if self.against is None else self.against.record,
            "why_not": self.why_not,
        }


def _bounds(name: str, measure: Measure | None) -> dict[str, Json]:
    if measure is None:
        return {name: None, f"{name}_low": None, f"{name}_high": None}
    return {name: measure.value, f"{name}_low": measure.low, f"{name}_high": measure.high}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class QualityTable:
    """N images in Q qualities."""

    paths: tuple[str, ...]  # sorted
    keys: tuple[str, ...]
    labels: Labels  # (N,) 1 fake
    qualities: tuple[str, ...]
    logits: Floats  # (Q, N)
    left_out: int  # images that were not scored in every quality

    @classmethod
    def of(cls, tables: Mapping[str, Scores]) -> "QualityTable | None":
        """Return the images that every table has; None where there is none.

        Args:
            tables: by quality.
        """
        common = set.intersection(*(set(scores.paths) for scores in tables.values()))
        every = set.union(*(set(scores.paths) for scores in tables.values()))
        if not common:
            return None
        paths = tuple(sorted(common))
        first = next(iter(tables.values()))
        places = [
            dict(zip(scores.paths, range(len(scores)), strict=True)) for scores in tables.values()
        ]
        rows = [np.array([place[path] for path in paths], np.intp) for place in places]
        return cls(
            paths=paths,
            keys=tuple(first.keys[row] for row in rows[0]),
            labels=first.labels[rows[0]],
            qualities=tuple(tables),
            logits=np.stack(
                [scores.logits[of] for scores, of in zip(tables.values(), rows, strict=True)]
            ),
            left_out=len(every) - len(common),
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Areas:
    """The AUC in each quality, and of all qualities together; NaN of images of one class."""

    values: Floats  # (Q,)
    spread: Floats  # (Q, R) under each resample of the images
    pooled: float
    pooled_spread: Floats  # (R,)

    @classmethod
    def of(cls, table: QualityTable, *, seed: int = 0) -> "Areas":
        """Measure a table; the same images have the same resamples in every quality and model."""
        fake = table.labels == 1
        weights = resamples(table.keys, table.labels, seed)
        count = len(table.qualities)
        if fake.all() or not fake.any():
            nothing = np.full((count, len(weights)), np.nan)
            return cls(
                values=nothing[:, 0], spread=nothing, pooled=np.nan, pooled_spread=nothing[0]
            )
        every, all_fake = table.logits.ravel(), np.tile(fake, count)
        return cls(
            values=np.array([_area(fake, logits) for logits in table.logits]),
            spread=np.stack(
                [curves.resampled(curves.area, fake, logits, weights) for logits in table.logits]
            ),
            pooled=_area(all_fake, every),
            pooled_spread=curves.resampled(
                curves.area, all_fake, every, np.tile(weights, (1, count))
            ),
        )

    @property
    def summaries(self) -> Mapping[str, tuple[float, Floats]]:
        """Mean and worst over qualities, and all pooled: value and resamples (R,)."""
        return {
            "mean": (float(self.values.mean()), self.spread.mean(0)),
            "worst": (float(self.values.min()), self.spread.min(0)),
            "pooled": (self.pooled, self.pooled_spread),
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


def _area(fake: NDArray[np.bool_], logits: Floats) -> float:
    return float(curves.area(curves.plain_curve(fake, logits))[0])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Measured:
    """A model on a set of images, measured."""

    model: str
    data: str
    pooled_sets: bool
    table: QualityTable
    areas: Areas

    @property
    def place(self) -> tuple[object, ...]:
        """What both sides of a difference have in common."""
        return self.data, self.table.paths, self.table.qualities


def against(
    measured: Sequence[Measured], reference: str
) -> Mapping[tuple[str, str], Against | str]:
    """Return how each model's method stands to the reference, by (model, data), or why it does not.

    Three seeds or more are resampled, the same draws for methods of as many seeds.

    Args:
        measured: all models.
        reference: ID of a model, or of a method, which is a model's ID without its seed.

    Raises:
        UsageError: no such model.
    """
    names = [each.model for each in measured]
    chosen = [each for each in measured if each.model == reference]
    chosen = chosen or [each for each in measured if without_seed(each.model) == reference]
    if not chosen:
        known = [*map(without_seed, names), *names]
        raise UsageError(str(UnknownName("model", reference, list(dict.fromkeys(known)))))
    made: dict[tuple[str, str], Against | str] = {}
    for each in measured:
        beside = [other for other in chosen if other.place == each.place]
        seeds = [
            other
            for other in measured
            if other.place == each.place and without_seed(other.model) == without_seed(each.model)
        ]
        made[each.model, each.data] = _against(
            reference, seeds, beside, is_reference=each in chosen
        )
    return made


def _against(
    reference: str, seeds: Sequence[Measured], beside: Sequence[Measured], *, is_reference: bool
) -> Against | str:
    if is_reference:
        return "the reference"
    if not beside:
        return f"{reference} was not tested on the same images in the same qualities"
    if not np.isfinite(seeds[0].areas.pooled):
        return "images of one class have no AUC"
    summaries, others = _mean_over_seeds(seeds), _mean_over_seeds(beside)
    return Against(
        model=reference,
        seeds=len(seeds),
        summaries={name: difference(summaries[name], others[name]) for name in SUMMARIES},
        qualities={
            name: difference(summaries[name], others[name]) for name in seeds[0].table.qualities
        },
    )


def _mean_over_seeds(seeds: Sequence[Measured]) -> Mapping[str, tuple[float, Floats]]:
    """Return each summary and quality over seeds: its mean, and that under each resample."""
    listed: list[dict[str, tuple[float, Floats]]] = []
    for seed in seeds:
        areas = seed.areas
        by_quality = zip(seed.table.qualities, areas.values, areas.spread, strict=True)
        of_quality = {name: (float(value), spread) for name, value, spread in by_quality}
        listed.append({**of_quality, **areas.summaries})
    return {
        name: (
            float(np.mean([each[name][0] for each in listed])),
            over_seeds([each[name][1] for each in listed]),
        )
        for name in listed[0]
    }


def quality_rows(
    run_folder: Path,
    tests: Sequence[tuple[str, str]],
    *,
    reference: str = "",
    qualities: Sequence[str] = (),
) -> list[QualityRow]:
    """Return a row for each model and set of images that was tested in two qualities or more.

    Scores of reals stand beside each set of fakes, as in `results.table`. Only images that were
    scored in every quality count.

    Args:
        run_folder: runs/<run>.
        tests: (model ID, test) pairs; plain tests and those under a corruption alone are qualities.
        reference: model, or model without its seed, that the others are compared with; "": none.
        qualities: the ones that count, in their order; (): raw, then all others by name, each kind
            from its mildest on.

    Raises:
        DataError: a score file cannot be read, or holds what is no finite number; an unknown quality.
        UsageError: an unknown reference.
    """
    measured: list[Measured] = []
    for model in dict.fromkeys(model for model, _ in tests):
        done = finite_tests(run_folder, model, tests)
        measured += _of_model(model, done, qualities)
    beside = against(measured, reference) if reference else {}
    return [_row(each, beside.get((each.model, each.data))) for each in measured]


def _of_model(model: str, tests: Sequence[Tested], wanted: Sequence[str]) -> Iterator[Measured]:
    several = len({test.root for test in tests}) > 1
    sets: dict[tuple[str, str, bool], dict[str, Scores]] = {}
    for (root, condition, _), group in by_place(tests).items():
        corrupt = group[0].settings.get("corrupt")
        quality = quality_of(condition, corrupt if isinstance(corrupt, str) else "")
        if quality is None:
            continue
        for each in joined(group):
            data = data_of_test(each.data)
            named = f"{data} in {root}" if several else data
            sets.setdefault((root, named, each.pooled), {})[quality] = each.scores
    for (_, data, pooled), tables in sets.items():
        table = QualityTable.of(_ordered(tables, wanted)) if len(tables) >= FEWEST else None
        if table is None or len(table.qualities) < FEWEST:
            continue
        yield Measured(
            model=model, data=data, pooled_sets=pooled, table=table, areas=Areas.of(table)
        )


def _ordered(tables: Mapping[str, Scores], wanted: Sequence[str]) -> dict[str, Scores]:
    for name in wanted:
        if name not in tables:
            raise DataError(str(UnknownName("quality", name, list(tables))))
    names = wanted or sorted(tables, key=_place)
    return {name: tables[name] for name in names}


def _place(name: str) -> tuple[object, ...]:
    """Return where a quality stands: raw, fewer steps, then each kind from its mildest on."""
    sign = 1 if name.startswith(WORSE_WITH_MORE) else -1  # a JPEG quality falls
    parts = _NUMBER.split(name)
    numbers = [sign * int(number) for number in parts[1::2]]
    return name != RAW, name.count("+"), tuple(zip(parts[::2], [*numbers, 0], strict=True))


def _row(measured: Measured, beside: Against | str | None) -> QualityRow:
    table, areas = measured.table, measured.areas
    worst = table.qualities[int(np.argmin(areas.values))] if np.isfinite(areas.pooled) else ""
    return QualityRow(
        model=measured.model,
        data=measured.data,
        pooled_sets=measured.pooled_sets,
        qualities=tuple(_qualities(table, areas)),
        summaries={name: _measure(*summary) for name, summary in areas.summaries.items()},
        worst_quality=worst,
        left_out=table.left_out,
        against=beside if isinstance(beside, Against) else None,
        why_not=beside if isinstance(beside, str) else "",
    )


def _qualities(table: QualityTable, areas: Areas) -> Iterator[Quality]:
    fake = table.labels == 1
    for name, logits, area, spread in zip(
        table.qualities, table.logits, areas.values, areas.spread, strict=True
    ):
        likely = probabilities(logits)
        right = float(np.mean((logits > 0) == fake))
        yield Quality(
            name=name,
            reals=int(np.sum(~fake)),
            fakes=int(np.sum(fake)),
            auc=_measure(float(area), spread),
            accuracy=unvaried(right, len(fake)),
            real_score=_mean(likely[~fake]),
            fake_score=_mean(likely[fake]),
        )


def _measure(value: float, spread: Floats) -> Measure | None:
    return interval(value, spread) if np.isfinite(value) else None


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if len(values) else None
