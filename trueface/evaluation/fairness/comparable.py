"""Which models are good enough to be compared by their gaps: those near the best one's AUC.

A detector that learned little errs everywhere alike and looks fair. So a gap counts beside another
only where the AUC is not lower beyond what other images and other seeds would explain. Models whose
IDs differ in their seed alone are repetitions of one method, which is compared by its mean.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from trueface.evaluation import curves
from trueface.evaluation.bootstrap import (
    Difference,
    Floats,
    Measure,
    difference,
    interval,
    over_seeds,
    resamples,
)
from trueface.evaluation.score_tables import Scores
from trueface.evaluation.tested_sets import without_seed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answers:
    """What a model said of a set of images."""

    model: str
    data: str
    scores: Scores  # those that have a group


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """The AUC of a model, and whether it is near the best one's."""

    auc: Measure | None  # None: the images are of one class
    comparable: bool
    why_not: str
    # of the method's mean AUC to the best one's, and to the reference's; None: there is none
    to_best: Difference | None = None
    to_reference: Difference | None = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Method:
    """The models of one method on the same images."""

    name: str
    models: tuple[str, ...]
    mean: tuple[float, Floats]  # of the AUC over seeds: value, and that under each resample (R,)


def compared(answers: Sequence[Answers], reference: str = "") -> Mapping[tuple[str, str], Compared]:
    """Return the AUC of each model on each set of images, by (model, data), and whether it compares.

    Only models that were tested on the same images are compared, with the same resamples of these;
    three seeds or more are resampled as well.

    Args:
        answers: of all models.
        reference: a model, or one without its seed, that the others are compared with; "": none.
    """
    made: dict[tuple[str, str], Compared] = {}
    spreads: dict[tuple[str, str], tuple[float, Floats]] = {}
    sets: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for each in answers:
        key, fake = (each.model, each.data), each.scores.labels == 1
        if fake.all() or not fake.any():
            kind = "fake" if fake.any() else "real"
            reason = f"all images are {kind}: there is no AUC"
            made[key] = Compared(auc=None, comparable=False, why_not=reason)
            continue
        # in one order for all models, as their resamples are paired by it
        order = np.argsort(np.array(each.scores.paths))
        paths = tuple(each.scores.paths[row] for row in order)
        keys = [each.scores.keys[row] for row in order]
        weights = resamples(keys, each.scores.labels[order], 0)
        logits = each.scores.logits[order]
        area = float(curves.area(curves.plain_curve(fake[order], logits))[0])
        spreads[key] = area, curves.resampled(curves.area, fake[order], logits, weights)
        sets.setdefault((each.data, paths), []).append(each.model)
    for (data, _), models in sets.items():
        methods = _methods(data, models, spreads)
        best = max(methods, key=lambda method: method.mean[0])
        others = [method for method in methods if reference in {method.name, *method.models}]
        for method in methods:
            to_best = None if method is best else difference(method.mean, best.mean)
            to_reference = None
            if others and others[0] is not method:
                to_reference = difference(method.mean, others[0].mean)
            why_not = _why_not(to_best, best)
            for model in method.models:
                area, spread = spreads[model, data]
                made[model, data] = Compared(
                    auc=interval(area, spread),
                    comparable=not why_not,
                    why_not=why_not,
                    to_best=to_best,
                    to_reference=to_reference,
                )
    return made


def _methods(
    data: str, models: Sequence[str], spreads: Mapping[tuple[str, str], tuple[float, Floats]]
) -> list[_Method]:
    names: dict[str, list[str]] = {}
    for model in models:
        names.setdefault(without_seed(model), []).append(model)
    return [
        _Method(
            name=name,
            models=tuple(seeds),
            mean=(
                float(np.mean([spreads[model, data][0] for model in seeds])),
                over_seeds([spreads[model, data][1] for model in seeds]),
            ),
        )
        for name, seeds in names.items()
    ]


def _why_not(to_best: Difference | None, best: _Method) -> str:
    """Return why a method is not comparable with the best one; "" where it is."""
    if to_best is None or to_best.word != "loss":
        return ""
    return (
        f"lower AUC, not comparable: {to_best.value:+.3f} [{to_best.low:+.3f}, {to_best.high:+.3f}] "
        f"to {best.name}"
    )
