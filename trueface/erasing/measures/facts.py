"""What was measured as JSON: `metrics.json` and `recovery.json`."""

from trueface.erasing.measures.measuring import Measured
from trueface.erasing.measures.rates import Rates
from trueface.erasing.measures.recognition import Recogniser
from trueface.erasing.measures.recovery import Curve
from trueface.erasing.measures.verdict import RULE, Point, verdict
from trueface.runtime.files import Json


def facts(measured: Measured, recogniser: Recogniser) -> dict[str, Json]:
    """Return the measures, the shares of names by class, the curves and the verdict.

    `measures` holds numbers, and of rates an object with `value`, `low`, `high` (95 %) and `n`. Each curve is a
    list of points with `images`, `steps` and `rate`; the floor is empty where it was not measured.
    """
    student, teacher, alike = measured.student, measured.teacher, measured.likeness
    curve, floor, ceiling = points(measured.curve), points(measured.floor), points(measured.ceiling)
    judged = verdict(
        (student.erased.value, teacher.erased.value),
        (student.others.value, teacher.others.value),
        curve,
        floor,
        ceiling,
    )
    measures: dict[str, Json] = {
        "erased": student.erased.record,
        "teacher_erased": teacher.erased.record,
        "erased_relative": _share(student.erased.value, teacher.erased.value),
        "anchor": None if student.anchor is None else student.anchor.record,
        "others": student.others.record,
        "teacher_others": teacher.others.record,
        "ssim": alike.ssim,
        "feature_distance": alike.feature_distance,
        "frechet": alike.frechet,
        "frechet_floor": alike.frechet_floor,
        "null_drift": measured.null_drift,
        "diverged": measured.diverged,
    }
    return {
        "measures": measures,
        "rates": {"student": _rates(student), "teacher": _rates(teacher)},
        "features": recogniser.features,
        "pairs": alike.n,
        "recovery": measured.curve.record,
        "recovery_floor": [] if measured.floor is None else measured.floor.record,
        "recovery_ceiling": measured.ceiling.record,
        "verdict": judged.text,
        "verdict_at": judged.at,
        "rule": RULE,
    }


def points(curve: Curve | None) -> tuple[Point, ...]:
    """Return the points of a curve, rates of the better start; () of none."""
    if curve is None:
        return ()
    return tuple(
        Point(images=images, steps=steps, rate=rate)
        for images, row in zip(curve.images, curve.best, strict=True)
        for steps, rate in zip(curve.steps, row, strict=True)
    )


def _share(value: float, whole: float) -> float | None:
    return value / whole if whole else None


def _rates(rates: Rates) -> dict[str, Json]:
    return {
        name: {**rates.right[name].record, "called": dict(called)}
        for name, called in rates.called.items()
    }
