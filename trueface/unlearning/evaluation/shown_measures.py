"""Measures of unlearning that each table shows, in their order."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the registry loads pydantic
    from trueface.unlearning.registry import Goal

# measures of a `PublishedFigure`
PUBLISHED = "retain", "forget", "test_retain", "test_forget", "us", "seconds"
SCREEN: Mapping["Goal", tuple[str, ...]] = {
    "flips": (
        "retain", "forget", "forget_true", "val", "test", "test_tuned", "auc", "ece", "recovery", "gap",
        "mia_loss", "mia_tpr", "seconds", "cached_seconds", "of_retrain", "samples",
    ),
    "class": (
        *PUBLISHED, "of_retrain", "cached_seconds", "samples", "probe", "relearn", "mia_loss", "mia_tpr", "gap",
    ),
    "instances": (
        "retain", "forget", "val", "test", "tow", "gap", "mia_svc", "mia_loss", "mia_tpr", "relearn",
        "seconds", "of_retrain", "samples",
    ),
}  # fmt: skip
_BESIDE = (
    "gap",
    "tow",
    "mia_svc",
    "mia_loss",
    "mia_tpr",
    "auc",
    "ece",
    "of_retrain",
    "of_training",
)
PAGE: Mapping["Goal", tuple[str, ...]] = {
    "flips": ("test", "val", "retain", "forget", "forget_true", "recovery", *_BESIDE),
    "class": ("us", "test_retain", "test_forget", "retain", "forget", *_BESIDE),
    "instances": ("test", "val", "retain", "forget", *_BESIDE),
}
COSTS = (  # measures of the page's second table
    "seconds", "cached_seconds", "samples", "cached_samples", "peak_bytes", "relearn", "anamnesis", "probe",
    "probe_chance", "attack", "kl_forget", "kl_test", "found_precision", "found_recall",
)  # fmt: skip
# measures that the page plots against each other, the first known one of either, and the name of its axis
QUALITY = {
    "us": "unlearning score US",
    "test": "accuracy on the test set",
    "val": "accuracy on the validation set",
}
TIMES = {
    "of_retrain": "time as a fraction of retraining's",
    "of_training": "time as a fraction of the training's",
    "seconds": "time in seconds",
}
