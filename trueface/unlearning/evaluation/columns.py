"""The measures of unlearning as columns: what each is called on the screen and on the page, and what it says.

Nothing here loads more than names, for help texts. Which measures stand in a table, and in which order, is a tuple of names for each
goal; a measure that has another title for one goal is listed for that goal.

Published figures of class unlearning on CIFAR-10 stand beside ours for orientation: one class of ten
forgotten. Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning", AAAI 2024, arXiv 2312.16823, as the
authors' slides give them. The unlearning scores were computed anew from the accuracies. Networks,
epochs and machines are others than ours; time is of theirs.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:  # the registry loads pydantic
    from trueface.unlearning.registry import Goal

Better = Literal["up", "down", ""]
Kind = Literal["percent", "score", "ratio", "seconds", "count", "steps", "bytes"]


class MeasureColumn(NamedTuple):
    """A measure of a table."""

    name: str  # as the ladder calls it
    screen: str  # title on the screen; "" where the screen does not show it
    page: str  # title on the page; likewise
    kind: Kind  # how its numbers are written; percent: shares of 0 … 1, on the screen in percent
    better: Better  # "": best as after retraining
    says: str  # what it is, for readers who have not read the papers
    old_screen: str = ""  # header for programs, where it differs from the title on the screen

    @property
    def header(self) -> str:
        """The header of its column for programs, which never changes."""
        return self.old_screen or self.screen


_COLUMNS = (
    MeasureColumn("test", "test %", "test", "percent", "up", "accuracy on the test set"),
    MeasureColumn("val", "val %", "validation", "percent", "up", "accuracy on the validation set"),
    MeasureColumn(
        "test_tuned", "test (tuned) %", "", "percent", "up",
        "test accuracy at the best validation threshold", "tuned %",
    ),
    MeasureColumn(
        "retain", "retain %", "retain", "percent", "",
        "accuracy on the kept training images, by the training labels",
    ),
    MeasureColumn("forget", "forget %", "forget", "percent", "", "accuracy on the images to be forgotten"),
    MeasureColumn(
        "forget_true", "forget (true) %", "forget, true label", "percent", "up",
        "share of the images to be forgotten that get their true label",
    ),
    MeasureColumn(
        "test_retain", "D_tr %", "test, kept", "percent", "up",
        "test accuracy on the kept classes",
    ),
    MeasureColumn(
        "test_forget", "D_tf %", "test, forgotten", "percent", "down",
        "test accuracy on the forgotten classes",
    ),
    MeasureColumn(
        "recovery", "recovery", "recovery", "score", "up",
        "share of the loss of test accuracy that is undone: 0 for the model before, 1 for a model trained "
        "with corrected labels",
    ),
    MeasureColumn(
        "us", "US", "US", "score", "up",
        "unlearning score of the accuracies on kept and on forgotten test images. 1 keeps all and "
        "forgets all. Traces in the features do not change it",
    ),
    MeasureColumn(
        "gap", "avg gap points", "average gap to retrain", "percent", "down",
        "mean difference to the retrained model on retain, forget, test and MIA (SVC). 0 is as after "
        "retraining", "gap points",
    ),
    MeasureColumn(
        "tow", "ToW", "ToW", "score", "up",
        "tug of war: the product of 1 minus the difference to the retrained model over retain, forget and "
        "test. 1 is as after retraining",
    ),
    MeasureColumn(
        "mia_svc", "MIA (SVC) %", "MIA (SVC)", "percent", "",
        "membership inference attack (MIA): it guesses from the predictions on which images the model was "
        "trained. A support vector classifier (SVC) learns from the confidences on kept training images and on "
        "test images. The value is the share of forgotten images that it classifies as not trained on",
    ),
    MeasureColumn(
        "mia_loss", "MIA (loss) %", "MIA (loss)", "percent", "",
        "accuracy of a membership inference attack that separates forgotten images from test images by their "
        "loss. 0.5 is a random guess",
    ),
    MeasureColumn(
        "mia_tpr", "MIA TPR@1%FPR %", "MIA, TPR at 1 % FPR", "percent", "",
        "share of forgotten images that are recognised as trained on by their loss, at 1 % false positives among "
        "test images of their classes. 0.01 is a random guess", "MIA TPR@1% %",
    ),
    MeasureColumn("auc", "AUC", "AUC", "score", "up", "area under the ROC curve on the test set. 0.5 is a random guess"),
    MeasureColumn(
        "ece", "ECE", "ECE", "score", "down",
        "expected calibration error on the test set: the mean difference between confidence and accuracy",
    ),
    MeasureColumn(
        "of_retrain", "time / retrain", "time, retrain = 1", "ratio", "down",
        "time of the method without its cache, divided by that of retraining with the same seed. For the model "
        "before: its training time divided by that of retraining, both with the pass for features", "× retrain",
    ),
    MeasureColumn(
        "of_training", "", "time, training = 1", "ratio", "down",
        "time of the method with its cache, divided by the training time of the model before",
    ),
    MeasureColumn(
        "seconds", "time s", "time, s", "seconds", "down",
        "time of the method; for the model before, its training time",
    ),
    MeasureColumn(
        "cached_seconds", "cached s", "time for the cache, s", "seconds", "down",
        "time to compute the cache, not included in the time above",
    ),
    MeasureColumn(
        "samples", "samples", "samples read", "count", "down",
        "samples that the method read, with repeats",
    ),
    MeasureColumn(
        "cached_samples", "", "samples for the cache", "count", "down", "samples read for the cache"
    ),
    MeasureColumn("peak_bytes", "", "peak memory, GiB", "bytes", "down", "peak memory use"),
    MeasureColumn(
        "relearn", "relearn steps", "relearn, steps", "steps", "",
        "training steps until the forgotten data is learned again", "relearn",
    ),
    MeasureColumn(
        "anamnesis", "", "relearn, retrain = 1", "ratio", "",
        "the same divided by the steps of the retrained model. Far below 1 means hidden, not forgotten",
    ),
    MeasureColumn(
        "probe", "linear probe %", "linear probe", "percent", "",
        "accuracy of a linear classifier on the features that separates forgotten from other images",
        "probe %",
    ),
    MeasureColumn(
        "probe_chance", "", "linear probe, chance", "percent", "", "accuracy of a constant prediction there"
    ),
    MeasureColumn(
        "attack", "", "attack success rate", "percent", "down",
        "share of images with the patch that get the class of the backdoor",
    ),
    MeasureColumn(
        "kl_forget", "", "KL, forget", "ratio", "down",
        "Kullback-Leibler divergence from the predictions of the retrained model on the forgotten images, in nats",
    ),
    MeasureColumn(
        "kl_test", "", "KL, test", "ratio", "down",
        "Kullback-Leibler divergence from the predictions of the retrained model on the test images, in nats",
    ),
    MeasureColumn(
        "found_precision", "", "precision of found labels", "percent", "up",
        "share of the found labels that are flipped",
    ),
    MeasureColumn(
        "found_recall", "", "recall of found labels", "percent", "up",
        "share of the unknown flipped labels that were found",
    ),
)  # fmt: skip
_OF_GOAL: Mapping[tuple["Goal", str], MeasureColumn] = {
    ("flips", "forget"): MeasureColumn(
        "forget", "forget (wrong) %", "forget, flipped label", "percent", "down",
        "share of the images to be forgotten that still get the flipped label",
    ),
    ("class", "forget"): MeasureColumn(
        "forget", "D_f %", "forget", "percent", "down",
        "accuracy on the training images to be forgotten",
    ),
    ("class", "retain"): MeasureColumn(
        "retain", "D_r %", "retain", "percent", "",
        "accuracy on the kept training images, by the training labels",
    ),
}  # fmt: skip
_NAMED = {column.name: column for column in _COLUMNS}

PUBLISHED = (
    "retain",
    "forget",
    "test_retain",
    "test_forget",
    "us",
    "seconds",
)  # of a `PublishedFigure`
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
COSTS = (  # of the page's second table
    "seconds", "cached_seconds", "samples", "cached_samples", "peak_bytes", "relearn", "anamnesis", "probe",
    "probe_chance", "attack", "kl_forget", "kl_test", "found_precision", "found_recall",
)  # fmt: skip
# what the page plots against each other, the first that is known of either, and what its axis is called
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


def columns(goal: "Goal", names: tuple[str, ...]) -> tuple[MeasureColumn, ...]:
    """Return the columns of some measures as tables of a goal have them, in the order of their names."""
    return tuple(_OF_GOAL.get((goal, name), _NAMED[name]) for name in names)


class PublishedFigure(NamedTuple):
    """A row of the published table; accuracies in percent."""

    method: str  # as we call it
    network: str
    retain: float  # on what was kept, of the training set
    forget: float
    test_retain: float
    test_forget: float
    us: float
    seconds: float | None


CIFAR_10 = tuple(map(PublishedFigure._make, (
    ("before", "VGG16", 99.98, 100.0, 92.07, 96.7, 0.4495, None),
    ("before", "ResNet18", 99.98, 100.0, 93.13, 96.6, 0.4575, None),
    ("before", "ResNet50", 99.94, 99.96, 93.44, 95.0, 0.4647, None),
    ("before", "ViT", 88.06, 93.52, 81.48, 88.4, 0.4021, None),
    ("retrain", "VGG16", 99.89, 0.0, 91.98, 0.0, 0.939, 3683.0),
    ("retrain", "ResNet18", 99.79, 0.0, 92.5, 0.0, 0.9428, 2871.0),
    ("retrain", "ResNet50", 99.77, 0.0, 92.48, 0.0, 0.9427, 4705.0),
    ("retrain", "ViT", 95.0, 0.0, 81.0, 0.0, 0.8631, 4441.0),
    ("ng", "VGG16", 88.53, 16.96, 79.86, 17.0, 0.7321, 73.0),
    ("ng", "ResNet18", 93.85, 28.38, 86.3, 25.54, 0.7204, 153.0),
    ("ng", "ResNet50", 88.75, 24.77, 82.52, 23.3, 0.7087, 174.0),
    ("ng", "ViT", 85.264, 18.69, 79.74, 16.7, 0.7333, 78.0),
    ("finetune", "VGG16", 99.63, 0.0, 90.09, 0.0, 0.9254, 433.0),
    ("finetune", "ResNet18", 99.63, 0.0, 91.25, 0.0, 0.9337, 546.0),
    ("finetune", "ResNet50", 99.45, 0.0, 90.79, 0.0, 0.9304, 1061.0),
    ("finetune", "ViT", 90.96, 1.77, 82.43, 1.62, 0.8598, 479.0),
    ("rl", "VGG16", 80.99, 3.56, 72.4, 3.69, 0.7806, 24.0),
    ("rl", "ResNet18", 91.38, 11.09, 84.0, 10.98, 0.8008, 30.0),
    ("rl", "ResNet50", 81.3, 12.91, 76.62, 11.84, 0.7468, 57.0),
    ("rl", "ViT", 77.58, 15.1, 73.42, 14.38, 0.7094, 23.0),
    ("fisher", "VGG16", 46.78, 55.24, 44.61, 52.3, 0.3415, 9710.0),
    ("fisher", "ResNet18", 59.0, 52.34, 55.57, 52.2, 0.3946, 12526.0),
    ("fisher", "ResNet50", 58.17, 58.06, 55.95, 56.2, 0.3781, 19850.0),
    ("fisher", "ViT", 42.68, 66.34, 43.34, 62.3, 0.2911, 13238.0),
    ("shrink", "VGG16", 90.73, 10.16, 81.53, 9.58, 0.7943, 116.0),
    ("shrink", "ResNet18", 95.88, 9.75, 87.91, 10.24, 0.8329, 191.0),
    ("shrink", "ResNet50", 86.03, 3.94, 80.09, 3.46, 0.8303, 471.0),
    ("shrink", "ViT", 85.22, 0.61, 79.29, 0.28, 0.8498, 163.0),
    ("iwu", "VGG16", 90.81, 0.0, 82.35, 0.1, 0.8712, 1351.0),
    ("iwu", "ResNet18", 89.41, 0.0, 82.55, 0.0, 0.8733, 362.0),
    ("iwu", "ResNet50", 86.11, 0.0, 79.98, 0.0, 0.8565, 1513.0),
    ("iwu", "ViT", 82.48, 3.92, 77.01, 2.58, 0.8174, 1563.0),
    ("lau", "VGG16", 99.97, 0.0, 92.18, 0.0, 0.9405, 3.76),
    ("lau", "ResNet18", 99.97, 0.0, 93.53, 0.0, 0.9504, 4.37),
    ("lau", "ResNet50", 99.92, 0.0, 93.52, 0.0, 0.9504, 7.76),
    ("lau", "ViT", 87.51, 0.0, 81.14, 0.0, 0.864, 25.93),
)))  # fmt: skip
