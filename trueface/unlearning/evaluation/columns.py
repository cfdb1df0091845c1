"""The measures of unlearning as columns: the title of each on the screen and on the page, and its meaning.

This module loads only names, for help texts. The measures of a table and their order are a tuple of
names for each goal. A measure that has another title for one goal is listed for that goal.

Published figures of class unlearning on CIFAR-10 are shown next to ours for orientation: one class of ten
forgotten. Source: H. Kim, S. Lee, S. Woo, "Layer attack unlearning", AAAI 2024, arXiv 2312.16823, as the
authors' slides give them. The unlearning scores were computed again from the accuracies. Networks,
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

    name: str  # its name in the leaderboard
    screen: str  # title on the screen; "" where the screen does not show it
    page: str  # title on the page
    kind: Kind  # format of its numbers; percent: shares of 0 … 1, on the screen in percent
    better: Better  # "": best as after retraining
    says: str  # its meaning, for readers who have not read the papers
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
# the table of membership attacks, whose titles need no "MIA"
ATTACKS = (
    MeasureColumn(
        "mia_svc_correctness", "correctness %", "", "percent", "",
        "share of forgotten images that an SVC classifies as not trained on, by whether their class is right",
    ),
    MeasureColumn("mia_svc", "confidence %", "", "percent", "", "the same by the confidence in the label"),
    MeasureColumn("mia_svc_entropy", "entropy %", "", "percent", "", "the same by the entropy"),
    MeasureColumn(
        "mia_svc_modified_entropy", "modified entropy %", "", "percent", "",
        "the same by the modified entropy of L. Song and P. Mittal (arXiv 2003.10595)",
    ),
    MeasureColumn(
        "mia_svc_modified_entropy_program", "m_entropy of SVC-MIA %", "", "percent", "",
        "the same by what the program SVC-MIA computes as modified entropy",
    ),
    MeasureColumn(
        "mia_svc_probability", "probability %", "", "percent", "", "the same by the probabilities of all classes"
    ),
    MeasureColumn(
        "mia_entropy", "members by entropy %", "", "percent", "",
        "share of forgotten images that a logistic regression on the entropy classifies as trained on",
    ),
    MeasureColumn(
        "mia_loss", "accuracy by loss %", "", "percent", "",
        "accuracy of separating forgotten images from test images by their loss",
    ),
    MeasureColumn(
        "mia_tpr", "TPR@1%FPR by loss %", "", "percent", "",
        "share of forgotten images recognised by their loss at 1 % false positives",
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


def columns(goal: "Goal", names: tuple[str, ...]) -> tuple[MeasureColumn, ...]:
    """Return the columns of some measures as tables of a goal have them, in the order of their names."""
    return tuple(_OF_GOAL.get((goal, name), _NAMED[name]) for name in names)
