"""Two models side by side: every measure of both, the differences, and whether chance made them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from trueface.evaluation import operating_point
from trueface.evaluation.bootstrap import Floats, Measure, interval, resamples
from trueface.evaluation.comparison_input import Side
from trueface.evaluation.comparison_input import (
    read_side as read_side,  # what is compared is read there
)
from trueface.evaluation.metrics import MEASURES, Measured, Report, measured
from trueface.evaluation.score_tables import Scores
from trueface.evaluation.significance import DeLong, McNemar, Pairs, delong, mcnemar, pair
from trueface.evaluation.source_intervals import BY_SHARE, sources_json
from trueface.evaluation.source_variance import (
    Design,
    Error,
    Scale,
    by_source,
    design,
    standard_error,
)
from trueface.evaluation.weighted_metrics import values
from trueface.runtime.errors import DataError
from trueface.runtime.files import Json

SCHEMA = 1  # of `document`


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two models on some images; a difference is after less before."""

    before: Report | None  # None: that model was not tested on such images
    after: Report | None
    difference: Mapping[str, Measure | None]
    same_images: bool  # both were resampled together


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceTest:
    """Whether two models differ over the population that the sources come from."""

    difference: Measure  # over images where it does not vary over sources
    freedom: float  # degrees of, of Student's t
    p: float | None  # two-sided; None: the difference does not vary over sources
    alike: bool  # not one answer differs: of the area, not even the order


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Tests of two models on the images that both scored."""

    pairs: Pairs
    mcnemar: McNemar
    delong: DeLong | None
    reason: str | None  # why there is no DeLong
    sources: Mapping[int, int]  # of each class
    by_source: Mapping[str, SourceTest]  # of the accuracy, and of the area where there is one


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """All that is said of two models."""

    before: Side
    after: Side
    whole: Contrast
    paired: Paired | None
    unpaired: str | None  # why there are no paired tests
    subsets: Mapping[str, Contrast]
    modifiers: Mapping[str, Contrast]


def compare(before: Side, after: Side, *, same_order: bool = False, seed: int = 0) -> Comparison:
    """Compare two models.

    Args:
        before: scores of one model.
        after: of the other.
        same_order: rows of old files, which name no images, are pairs as they stand.
        seed: root seed of the resampling.

    Raises:
        DataError: a logit that is no finite number, or `same_order` where labels do not agree.
    """
    sides = before.scores, after.scores
    paired, unpaired = None, None
    try:
        paired = _tests(pair(*sides, same_order=same_order), seed)
    except DataError as error:
        if same_order:
            raise
        unpaired = str(error)
    contrasted = partial(contrast, same_order=same_order, seed=seed)
    return Comparison(
        before=before,
        after=after,
        whole=contrasted(*sides),
        paired=paired,
        unpaired=unpaired,
        subsets=_parts(*sides, "subsets", contrasted),
        modifiers=_parts(*sides, "modifiers", contrasted),
    )


def contrast(before: Scores, after: Scores, *, same_order: bool = False, seed: int = 0) -> Contrast:
    """Return the measures of two tables and their differences, with intervals.

    Tables of the same images are resampled together: what is hard for both then cancels out.
    """
    pairs = _whole_pairs(before, after, same_order=same_order)
    if pairs is not None:
        one = measured(pairs.labels, pairs.first, keys=pairs.keys, seed=seed)
        two = measured(pairs.labels, pairs.second, keys=pairs.keys, seed=seed)
    else:
        one = measured(before.labels, before.logits, keys=before.keys, seed=seed)
        two = measured(after.labels, after.logits, keys=after.keys, seed=seed + 1)
    return Contrast(
        before=one.report,
        after=two.report,
        difference={
            name: difference(name, one, two, together=pairs is not None) for name in MEASURES
        },
        same_images=pairs is not None,
    )


def difference(name: str, one: Measured, two: Measured, *, together: bool) -> Measure | None:
    """Return by how much the second exceeds the first in a measure, with its interval.

    Args:
        name: of the measure.
        one: of one model.
        two: of the other.
        together: both are of the same images, and what is hard for both cancels out.
    """
    first, second = getattr(one.report, name), getattr(two.report, name)
    if first is None or second is None:
        return None
    value = second.value - first.value
    if not (one.design.drawn or two.design.drawn):
        return interval(value, two.spread[name] - one.spread[name])
    if name == "tpr_at_1fpr" and not (together and _alike(name, one, two)):
        return operating_point.shift(first, second)
    error = _error(name, one, two, together=together)
    if error.error == 0:  # in few sources by chance, and then images tell how far it may be off
        return interval(value, two.spread[name] - one.spread[name])
    return by_source(value, error, Scale.PLAIN if name == "loss" else Scale.SHIFT)


def document(comparison: Comparison) -> dict[str, Json]:
    """Return a comparison as JSON; a difference is after less before, shares are in 0 … 1."""
    whole = _contrast_json(comparison.whole)
    for which, side in (("before", comparison.before), ("after", comparison.after)):
        told: dict[str, Json] = {
            "title": side.title,
            "files": [str(file) for file in side.files],
            "notes": [*side.notes],
        }
        whole[which] = {**told, **_report_json(getattr(comparison.whole, which))}
    return {
        "schema": SCHEMA,
        **whole,
        "paired": _paired_json(comparison.paired, comparison.unpaired),
        "subsets": {name: _contrast_json(part) for name, part in comparison.subsets.items()},
        "modifiers": {name: _contrast_json(part) for name, part in comparison.modifiers.items()},
    }


def _whole_pairs(before: Scores, after: Scores, *, same_order: bool) -> Pairs | None:
    try:
        pairs = pair(before, after, same_order=same_order)
    except DataError:  # said once, of the whole tables
        return None
    return None if pairs.only_first or pairs.only_second else pairs


def _alike(name: str, one: Measured, two: Measured) -> bool:
    return np.array_equal(one.left[name], two.left[name])


def _error(name: str, one: Measured, two: Measured, *, together: bool) -> Error:
    """Return the standard error over sources of a difference."""
    even = name not in BY_SHARE
    if together:
        return standard_error(one.design, two.left[name] - one.left[name], even=even)
    also = (two.design, two.left[name])
    return standard_error(one.design, one.left[name], even=even, also=also)


def _tests(pairs: Pairs, seed: int) -> Paired:
    areas, reason = None, None
    try:
        areas = delong(pairs.labels, pairs.first, pairs.second)
    except DataError as error:
        reason = str(error)
    of = design(pairs.keys, pairs.labels, seed)
    return Paired(
        pairs=pairs,
        mcnemar=mcnemar(pairs.labels, pairs.first, pairs.second),
        delong=areas,
        reason=reason,
        sources=of.sources,
        by_source=_by_source(pairs, of, seed),
    )


def _by_source(pairs: Pairs, of: Design, seed: int) -> dict[str, SourceTest]:
    """Return tests of equal accuracy, and of equal area where both classes are there."""
    fake = pairs.labels == 1
    names = ("accuracy", "auc") if len(of.strata) > 1 else ("accuracy",)
    sides = pairs.first, pairs.second
    first, second = (values(fake, logits, of.weights, names, of.scale)[0] for logits in sides)
    tests = {}
    for name in names:
        change = second[name] - first[name]
        error, shift = standard_error(of, change, even=name not in BY_SHARE), float(change[0])
        found = by_source(shift, error, Scale.SHIFT)
        if error.error == 0:
            weights = resamples(pairs.keys, pairs.labels, seed)
            before, after = (values(fake, logits, weights, [name])[0][name] for logits in sides)
            found = interval(shift, after - before)
        tests[name] = SourceTest(
            difference=found,
            freedom=error.freedom,
            p=error.p(shift),
            alike=np.array_equal(_answers(name, pairs.first), _answers(name, pairs.second)),
        )
    return tests


def _answers(name: str, logits: Floats) -> NDArray[np.intp]:
    """Return what a measure rests on: whether each image is called fake, or the images' order."""
    if name == "accuracy":
        return (logits > 0).astype(np.intp)
    order: NDArray[np.intp] = np.unique(logits, return_inverse=True)[1]
    return order


def _parts(
    before: Scores,
    after: Scores,
    kind: Literal["subsets", "modifiers"],
    contrasted: Callable[[Scores, Scores], Contrast],
) -> dict[str, Contrast]:
    """Return the contrast of each subset or modifier that is in either table."""
    names = [np.array(getattr(table, kind)) for table in (before, after)]
    parts: dict[str, Contrast] = {}
    for name in dict.fromkeys(np.concatenate(names).tolist()):
        if not name:  # old files tell no modifier
            continue
        one, two = before.rows(names[0] == name), after.rows(names[1] == name)
        parts[name] = contrasted(one, two) if len(one) and len(two) else _alone(one, two)
    return parts


def _alone(before: Scores, after: Scores) -> Contrast:
    """Return what there is to say where only one of two tables has rows."""
    reports = [
        measured(table.labels, table.logits, keys=table.keys).report if len(table) else None
        for table in (before, after)
    ]
    return Contrast(
        before=reports[0],
        after=reports[1],
        difference=dict.fromkeys(MEASURES),
        same_images=False,
    )


def _paired_json(paired: Paired | None, unpaired: str | None) -> dict[str, Json]:
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
        **{name: None if one is None else _report_json(one) for name, one in reports.items()},
        "difference": {
            name: None if value is None else asdict(value)
            for name, value in contrast.difference.items()
        },
        "same_images": contrast.same_images,
    }


def _report_json(report: Report) -> dict[str, Json]:
    return {**asdict(report), "sources": sources_json(report.sources)}
