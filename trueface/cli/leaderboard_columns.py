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
    # formats a value with the digits that fit another, as a mean's
    text: Callable[[float, float], str]


RETAIN = Column("retain", "retain %", _percent)
VALIDATION = Column("val", "val %", _percent)
TEST = Column("test", "test %", _percent)
US = Column("us", "US", _number)
GAP = Column("gap", "gap points", _percent)
MIA_LOSS = Column("mia_loss", "MIA (loss) %", _percent)
MIA_TPR = Column("mia_tpr", "MIA TPR@1% %", _percent)
RELEARN = Column("relearn", "relearn", _count)
SECONDS = Column("seconds", "time s", seconds)
CACHED_SECONDS = Column("cached_seconds", "cached s", seconds)
OF_RETRAIN = Column("of_retrain", "× retrain", _times)
SAMPLES = Column("samples", "samples", _count)

# the columns of `published.Figure`
PUBLISHED = (
    Column("retain", "D_r %", _percent),
    Column("forget", "D_f %", _percent),
    Column("test_retain", "D_tr %", _percent),
    Column("test_forget", "D_tf %", _percent),
    US,
    SECONDS,
)
COLUMNS: Mapping[str, tuple[Column, ...]] = {
    "flips": (
        RETAIN,
        Column("forget", "forget (wrong) %", _percent),
        Column("forget_true", "forget (true) %", _percent),
        VALIDATION,
        TEST,
        Column("test_tuned", "tuned %", _percent),
        Column("auc", "AUC", _number),
        Column("ece", "ECE", _number),
        Column("recovery", "recovery", _number),
        GAP,
        MIA_LOSS,
        MIA_TPR,
        SECONDS,
        CACHED_SECONDS,
        OF_RETRAIN,
        SAMPLES,
    ),
    "class": (
        *PUBLISHED,
        OF_RETRAIN,
        CACHED_SECONDS,
        SAMPLES,
        Column("probe", "probe %", _percent),
        RELEARN,
        MIA_LOSS,
        MIA_TPR,
        GAP,
    ),
    "instances": (
        RETAIN,
        Column("forget", "forget %", _percent),
        VALIDATION,
        TEST,
        Column("tow", "ToW", _number),
        GAP,
        Column("mia_svc", "MIA (SVC) %", _percent),
        MIA_LOSS,
        MIA_TPR,
        RELEARN,
        SECONDS,
        OF_RETRAIN,
        SAMPLES,
    ),
}
