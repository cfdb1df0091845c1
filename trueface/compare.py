"""Two models side by side: every measure of both, the differences, and whether chance made them."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from typing import Literal

import numpy as np

from launcher.api import Json
from trueface.bootstrap import Measure, interval
from trueface.errors import DataError
from trueface.metrics import MEASURES, Measured, Report, measured
from trueface.paired import DeLong, McNemar, Pairs, delong, mcnemar, pair
from trueface.scores import Scores
from trueface.sides import Side
from trueface.sides import read_side as read_side  # what is compared is read there

SCHEMA = 1  # of `document`


@dataclass(frozen=True, slots=True, kw_only=True)
class Contrast:
    """Two models on some images; a difference is after less before."""

    before: Report | None  # None: that model was not tested on such images
    after: Report | None
    difference: Mapping[str, Measure | None]
    same_images: bool  # both were resampled together


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """Tests of two models on the images that both scored."""

    pairs: Pairs
    mcnemar: McNemar
    delong: DeLong | None
    reason: str | None  # why there is no DeLong


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
        paired = _tests(pair(*sides, same_order=same_order))
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
        difference={name: _difference(name, one, two) for name in MEASURES},
        same_images=pairs is not None,
    )


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


def _difference(name: str, one: Measured, two: Measured) -> Measure | None:
    first, second = getattr(one.report, name), getattr(two.report, name)
    if first is None or second is None:
        return None
    return interval(second.value - first.value, two.spread[name] - one.spread[name])


def _tests(pairs: Pairs) -> Paired:
    areas, reason = None, None
    try:
        areas = delong(pairs.labels, pairs.first, pairs.second)
    except DataError as error:
        reason = str(error)
    return Paired(
        pairs=pairs,
        mcnemar=mcnemar(pairs.labels, pairs.first, pairs.second),
        delong=areas,
        reason=reason,
    )


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
    told: dict[str, Json] = asdict(report)
    return told
