"""The measures of unlearning that a report shows, what each is called and what it says."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from trueface.unlearning.registry import Goal

Better = Literal["up", "down", ""]
Kind = Literal["share", "count", "number", "bytes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A measure of a table."""

    name: str  # as the ladder calls it
    title: str
    says: str  # what it is
    better: Better = ""  # "": as after retraining
    kind: Kind = "share"


TEST = Column(name="test", title="test", better="up", says="accuracy on the test set")
VALIDATION = Column(
    name="val", title="validation", better="up", says="accuracy on the validation set"
)
RETAIN = Column(
    name="retain", title="retain", says="accuracy on what was kept, by the labels as trained"
)
US = Column(
    name="us",
    title="US",
    better="up",
    says="unlearning score, of both accuracies on the test: 1 keeps all and forgets all; it does "
    "not see what is left in the features",
)
OF_RETRAIN = Column(
    name="of_retrain",
    title="time, retrain = 1",
    better="down",
    kind="number",
    says="time of the method alone by that of retraining with the same seed; of the model before, "
    "its training by retraining with the pass for features, which is in a training's time",
)
OF_TRAINING = Column(
    name="of_training",
    title="time, training = 1",
    better="down",
    kind="number",
    says="time of the method, with what it caches, by that of the training of the model before",
)
SECONDS = Column(
    name="seconds",
    title="seconds",
    better="down",
    kind="number",
    says="time of the method alone; of the model before, that of its training",
)
OF_GOAL: Mapping[Goal, tuple[Column, ...]] = {
    "flips": (
        TEST,
        VALIDATION,
        RETAIN,
        Column(
            name="forget",
            title="forget, flipped label",
            better="down",
            says="fraction of the forgotten that is still predicted as the flipped label",
        ),
        Column(
            name="forget_true",
            title="forget, true label",
            better="up",
            says="share of the forgotten that is called what it is",
        ),
        Column(
            name="recovery",
            title="recovery",
            better="up",
            says="share of the damage on the test that is undone: 0 is the model before, 1 the one "
            "that was trained with corrected labels",
        ),
    ),
    "class": (
        US,
        Column(
            name="test_retain",
            title="test, kept",
            better="up",
            says="accuracy on the test, on the classes that were kept",
        ),
        Column(
            name="test_forget",
            title="test, forgotten",
            better="down",
            says="accuracy on the test, on what was forgotten",
        ),
        RETAIN,
        Column(
            name="forget",
            title="forget",
            better="down",
            says="accuracy on the forgotten samples of the training",
        ),
    ),
    "instances": (
        TEST,
        VALIDATION,
        RETAIN,
        Column(name="forget", title="forget", says="accuracy on the forgotten samples"),
    ),
}
BESIDE = (
    Column(
        name="gap",
        title="gap to retrain",
        better="down",
        says="mean difference from retraining, of retain, forget, test and MIA, SVC",
    ),
    Column(
        name="tow",
        title="ToW",
        better="up",
        says="tug of war: 1 where retain, forget and test are as after retraining",
    ),
    Column(
        name="mia_svc",
        title="MIA, SVC",
        says="share of the forgotten that an attack on confidences takes for never seen",
    ),
    Column(
        name="mia_loss",
        title="MIA, loss",
        says="how often an attack on losses tells the forgotten from test images; 0.5 is a guess",
    ),
    Column(
        name="mia_tpr",
        title="MIA, TPR at 1 % FPR",
        says="share of the forgotten that losses give away where 1 % of the test images of their "
        "classes are accused; 0.01 is a guess",
    ),
    Column(name="auc", title="AUC", better="up", says="area under the ROC curve, on the test"),
    Column(name="ece", title="ECE", better="down", says="calibration error, on the test"),
    OF_RETRAIN,
    OF_TRAINING,
)
COSTS = (
    SECONDS,
    Column(
        name="cached_seconds",
        title="seconds for the cache",
        better="down",
        kind="number",
        says="time for what is computed once and kept, not in the time above",
    ),
    Column(
        name="samples",
        title="samples read",
        better="down",
        kind="count",
        says="samples that the method read, each time counted",
    ),
    Column(
        name="cached_samples",
        title="samples for the cache",
        better="down",
        kind="count",
        says="samples read for what is kept",
    ),
    Column(
        name="peak_bytes",
        title="peak memory, GiB",
        better="down",
        kind="bytes",
        says="most memory at a time",
    ),
    Column(
        name="relearn",
        title="relearn, steps",
        kind="number",
        says="steps of training until the forgotten is known again",
    ),
    Column(
        name="anamnesis",
        title="relearn, retrain = 1",
        kind="number",
        says="the same by the steps of the retrained model: far below 1, it was hidden, not "
        "forgotten",
    ),
    Column(
        name="probe",
        title="probe",
        says="accuracy of a linear probe of the features: the forgotten, or not",
    ),
    Column(name="probe_chance", title="probe, chance", says="what one answer to all scores there"),
    Column(
        name="attack",
        title="patch succeeds",
        better="down",
        says="how often the backdoor's patch gets its way",
    ),
    Column(
        name="kl_forget",
        title="KL, forget",
        better="down",
        kind="number",
        says="divergence from the retrained model's answers on the forgotten, in nats",
    ),
    Column(
        name="kl_test",
        title="KL, test",
        better="down",
        kind="number",
        says="divergence from the retrained model's answers on the test, in nats",
    ),
    Column(
        name="found_precision",
        title="found, precision",
        better="up",
        says="share of the labels called wrong that are wrong",
    ),
    Column(
        name="found_recall",
        title="found, recall",
        better="up",
        says="fraction of the unknown flipped labels that was found",
    ),
)
QUALITY: Mapping[Goal, tuple[Column, ...]] = {  # against time: the first that is known
    "flips": (replace(TEST, title=TEST.says), replace(VALIDATION, title=VALIDATION.says)),
    "class": (replace(US, title="unlearning score US"),),
    "instances": (replace(TEST, title=TEST.says), replace(VALIDATION, title=VALIDATION.says)),
}
TIMES = (
    replace(OF_RETRAIN, title="time as a fraction of retraining's"),
    replace(OF_TRAINING, title="time as a fraction of the training's"),
    replace(SECONDS, title="time in seconds"),
)
