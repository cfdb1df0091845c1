"""The columns of `trueface unlearned`: which measures, under which titles, with which digits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

NOTHING = "–"


def _percent(value: float, _: float) -> str:
    return f"{100 * value:.2f}"


def _number(value: float, _: float) -> str:
    return f"{value:.3f}"


def seconds(value: float, beside: float) -> str:
    """Return seconds with the digits that fit the size of `beside`."""
    return f"{value:.3f}" if beside < 1 else f"{value:.1f}" if beside < 100 else f"{value:.0f}"


def _times(value: float, beside: float) -> str:
    return f"{value:.3f}" if beside < 10 else f"{value:.1f}"


def _count(value: float, _: float) -> str:
    return f"{value:.0f}"


@dataclass(frozen=True, slots=True)
class Column:
    """A measure as a column of the table."""

    measure: str
    title: str
    text: Callable[
        [float, float], str
    ]  # formats a value with the digits that fit another, as a mean's


COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "flips": (
        Column("retain", "retain %", _percent),
        Column("forget", "forget (wrong) %", _percent),
        Column("forget_true", "forget (true) %", _percent),
        Column("val", "val %", _percent),
        Column("test", "test %", _percent),
        Column("test_tuned", "tuned %", _percent),
        Column("auc", "AUC", _number),
        Column("ece", "ECE", _number),
        Column("recovery", "recovery", _number),
        Column("gap", "gap points", _percent),
        Column("mia_loss", "MIA (loss) %", _percent),
        Column("mia_tpr", "MIA TPR@1% %", _percent),
        Column("seconds", "time s", seconds),
        Column("cached_seconds", "cached s", seconds),
        Column("of_retrain", "× retrain", _times),
        Column("samples", "samples", _count),
    ),
    "class": (
        Column("retain", "D_r %", _percent),
        Column("forget", "D_f %", _percent),
        Column("test_retain", "D_tr %", _percent),
        Column("test_forget", "D_tf %", _percent),
        Column("us", "US", _number),
        Column("seconds", "time s", seconds),
        Column("of_retrain", "× retrain", _times),
        Column("cached_seconds", "cached s", seconds),
        Column("samples", "samples", _count),
        Column("probe", "probe %", _percent),
        Column("relearn", "relearn", _count),
        Column("mia_loss", "MIA (loss) %", _percent),
        Column("mia_tpr", "MIA TPR@1% %", _percent),
        Column("gap", "gap points", _percent),
    ),
    "instances": (
        Column("retain", "retain %", _percent),
        Column("forget", "forget %", _percent),
        Column("val", "val %", _percent),
        Column("test", "test %", _percent),
        Column("tow", "ToW", _number),
        Column("gap", "gap points", _percent),
        Column("mia_svc", "MIA (SVC) %", _percent),
        Column("mia_loss", "MIA (loss) %", _percent),
        Column("mia_tpr", "MIA TPR@1% %", _percent),
        Column("relearn", "relearn", _count),
        Column("seconds", "time s", seconds),
        Column("of_retrain", "× retrain", _times),
        Column("samples", "samples", _count),
    ),
}
