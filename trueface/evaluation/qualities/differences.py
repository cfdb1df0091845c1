"""Methods beside a reference: differences of mean, worst and pooled AUC over images and seeds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trueface.evaluation.bootstrap import Floats, difference, over_seeds
from trueface.evaluation.qualities.quality_table import Areas, QualityTable
from trueface.evaluation.qualities.row import SUMMARIES, Against
from trueface.evaluation.tested_sets import without_seed
from trueface.runtime.errors import UnknownName, UsageError


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
    summaries, others = _mean(seeds), _mean(beside)
    return Against(
        model=reference,
        seeds=len(seeds),
        summaries={name: difference(summaries[name], others[name]) for name in SUMMARIES},
        qualities={
            name: difference(summaries[name], others[name]) for name in seeds[0].table.qualities
        },
    )


def _mean(seeds: Sequence[Measured]) -> Mapping[str, tuple[float, Floats]]:
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
