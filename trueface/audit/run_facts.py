"""The facts of a run that an audit checks, and the folders that contain them.

In runs of the original system, the models have no records:

runs/<rate>_poison[_unlearn_test]/<id>/scores/<id>_vs_<data>.pkl
runs/poison_info/poison_<rate>.pkl        one for all runs of that rate
runs/unlearning/unlearn_<rate>_poison/    config.json, results.npy
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from trueface.data.attribute_table import UNKNOWN, AttributeCounts
from trueface.data.image_headers import Header
from trueface.data.splits.equal_files import Contradiction
from trueface.data.video_headers import VideoSurvey
from trueface.evaluation.arrays import Floats
from trueface.predictions.predictions import Predictions
from trueface.runtime.files import Json
from trueface.training.history import Epoch

CHANCE_FLIP_RATE = 0.4  # fraction of wrong labels from which on chance performance is expected
EMPTY_JSON: Mapping[str, Json] = {}
UNTESTED = (
    "the model has no test without conditions such as corrupt or clips. Test it on both classes."
)

Evidence = dict[str, int | float | str]  # values that support a finding, by name


class GroupTest(NamedTuple):
    """One test by one column of groups, with real images and fakes together."""

    data: str
    by: str
    subgroup_counts: AttributeCounts
    gap: float | None  # gap of the FPR at threshold 0.5, in percent; None if undefined
    floor: float | None  # 95th percentile of the gap when groups are shuffled within classes


class GroupFacts(NamedTuple):
    """The groups of a model's training and test images, if its settings name attributes."""

    files: tuple[str, ...]
    train: Mapping[str, AttributeCounts]  # by column
    tests: tuple[GroupTest, ...]
    train_trouble: str = ""  # reason if `train` is empty
    test_trouble: str = ""  # reason if `tests` is incomplete


class SplitKeys(NamedTuple):
    """The keys in the lists of a split. A missing list is None."""

    path: str = ""
    train: frozenset[str] | None = None
    val: frozenset[str] | None = None
    test: frozenset[str] | None = None
    trouble: str = ""  # reason if lists are missing

    @property
    def missing_list_reason(self) -> str:
        """The reason why a list is missing, or a general one if unknown."""
        return self.trouble or "the split is unknown. Give --split-path."


class FlipRecord(NamedTuple):
    """The images whose labels were flipped, from a record of this or of the original system."""

    path: str
    keys: tuple[str, ...]  # without modifier
    total: int  # number of images in the set that they were drawn from
    kind: str  # "flip", "f2r", …
    indices: tuple[int, ...]
    images_sha256: str | None = None  # fingerprint of that set; None for the original system
    classes: tuple[int, ...] | None = None  # the true label of each key; None if unknown
    sha256: str | None = None  # digest of the file; None for the original system


class Poisoning(NamedTuple):
    """The flipped labels of a model, from its name and its records."""

    rate: float | None  # fraction of flipped labels in its last training; None if not poisoned
    kind: str  # "" if not poisoned
    said_by: str  # the source: "the model's ID", "the run's name"
    unlearned: bool
    record: FlipRecord | None
    trouble: str  # reason if a record is expected and missing

    @property
    def unreadable(self) -> bool:
        """Whether the record exists and cannot be read."""
        return self.trouble.startswith("cannot")


class AuditedTest(NamedTuple):
    """One test of a model."""

    data: str  # data ID, with the condition of the test, such as `gan2:pre@corrupt=jpeg50`
    modifiers: frozenset[str]
    scores: Predictions | None
    trouble: str  # reason if there are no scores
    metrics: Mapping[str, Json]  # metrics that the test wrote, or empty
    expected: int | None  # original images of this data in the split's test list; None if unknown
    written: float | None  # time when the scores were written, in seconds since the epoch
    lists: SplitKeys  # lists of the test's split, or of the training's if the test names none

    @property
    def settings(self) -> Mapping[str, Json]:
        """The settings of the test, or an empty mapping if unknown."""
        return read_mapping(self.metrics, "settings")


class FileSurvey(NamedTuple):
    """The facts on the image files."""

    # headers of a sample of the training images, with the same number for each class
    file_headers: tuple[Header, ...]
    unreadable: int  # number of unreadable files in that sample
    copies: tuple[tuple[str, str], ...]  # (training file, test file) with the same bytes
    trained: int  # number of training files that were compared, by size first
    tested: int
    uncompared: (
        int  # number of test files with the size of a training file that were not compared in time
    )
    contradictions: tuple[Contradiction, ...] = ()  # equal training files with different labels
    all_compared: bool = True  # whether all training files were compared with each other in time
    videos: VideoSurvey = VideoSurvey()  # videos of the training images
    repeated: tuple[tuple[str, str], ...] = ()  # pairs of test files with the same bytes


class BaseModel(NamedTuple):
    """The base model of an unlearned model."""

    name: str
    trouble: str  # reason if facts are missing
    sizes: Floats | None = None  # absolute logits over all tests; None if it was not tested
    equal: tuple[str, ...] = ()  # tests in which both models have bit-identical scores
    compared: int = 0  # number of tests that both models have


class AuditedAncestor(NamedTuple):
    """A base or teacher of a model, with its training images in the model's data folder."""

    name: str
    student: (
        str  # the model that was distilled from it, or from a model that continues it; "": a base
    )
    description: str  # the model and its relation, such as "gan2:pre, the teacher of gan3:pre"
    keys: frozenset[str]
    trouble: str  # reason if training images are unknown
    rate: float | None  # fraction of flipped labels in its last training; None if not poisoned


class Model(NamedTuple):
    """One model of a run."""

    name: str
    folder: Path
    poison: Poisoning
    provenance: Mapping[str, Json]  # like the summary, empty if missing or damaged
    summary: Mapping[str, Json]
    epochs: tuple[Epoch, ...]
    lists: SplitKeys
    tests: tuple[AuditedTest, ...]  # tests of unchanged images
    conditioned: tuple[AuditedTest, ...]  # tests under conditions, such as corrupted images
    survey: FileSurvey | None
    survey_trouble: str  # reason if there is no survey
    modifiers: frozenset[str] | None  # modifiers of its training images
    weights_written: float | None  # seconds since the epoch, as for the next field
    provenance_written: float | None
    methods: Mapping[str, int]  # label by method folder, if known
    # for an old unlearning: (loss, accuracy in percent) after each epoch
    unlearning: Mapping[str, list[tuple[float, float]]]
    offset: float | None  # offset of that loss
    # number of images left out, by list ("train", "val") and class ("real", "fake")
    bad_lists: Mapping[str, Mapping[str, int]]
    misplaced: int  # number of recorded indices that are not the position of their key
    damaged: tuple[tuple[str, str], ...]  # (file, error)
    scoreless: tuple[str, ...]  # tests with metrics whose scores are missing
    base: BaseModel | None  # base of an unlearned model; None if unknown
    groups: GroupFacts | None  # groups of people in its images; None if no settings name attributes
    ancestors: tuple[AuditedAncestor, ...] = ()

    @property
    def settings(self) -> Mapping[str, Json]:
        """The settings of the training, or an empty mapping if unknown."""
        return read_mapping(self.provenance, "settings")

    @property
    def is_of_classes(self) -> bool:
        """Whether it is a network of any number of classes, not a detector."""
        return "class_names" in self.provenance

    @property
    def is_chance_expected(self) -> bool:
        """Whether the flip rate is so high that chance performance is expected."""
        return (self.poison.rate or 0) >= CHANCE_FLIP_RATE and not self.poison.unlearned


class Run(NamedTuple):
    """A run on disk."""

    name: str
    folder: Path
    models: tuple[Model, ...]


def read_number(record: Mapping[str, Json], key: str) -> float | None:
    """Return the number with a key of a record, or None if there is none."""
    value = record.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def read_mapping(
    record: Mapping[str, Json], key: str, default: Mapping[str, Json] = EMPTY_JSON
) -> Mapping[str, Json]:
    """Return the object with a key of a record, or `default` if there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else default


def pool_scores(model: Model) -> dict[str, Predictions]:
    """Return the predictions of a model, joined for each set of modifiers, by the tests' data. Each image counts once."""
    groups: dict[frozenset[str], list[tuple[str, Predictions]]] = {}
    for test in model.tests:
        if test.scores is not None and len(test.scores):
            groups.setdefault(test.modifiers, []).append((test.data, test.scores))
    return {"&".join(data for data, _ in tests): _pool(tests) for tests in groups.values()}


def _pool(tests: list[tuple[str, Predictions]]) -> Predictions:
    rows: dict[tuple[str, str], tuple[str, int, float]] = {}
    for data, scores in tests:
        named = scores.names_images
        for path, key, label, logit in zip(
            scores.ids, scores.keys, scores.labels, scores.margin, strict=True
        ):
            # score files of the original system do not name images, so test and position identify a row
            group_and_path = ("", path) if named else (data, path)
            rows.setdefault(group_and_path, (key if named else f"{data}/{key}", int(label), logit))
    return Predictions.from_margin(
        np.array([logit for _, _, logit in rows.values()], np.float64),
        np.array([label for _, label, _ in rows.values()], np.int8),
        keys=tuple(key for key, _, _ in rows.values()),
    )


def cramers_v(cells: AttributeCounts) -> float:
    """Return Cramér's V between group and class in 0 … 1, corrected for its bias.

    Without the correction, the value for eight random groups of 400 images is 0.13. Images without a group are
    left out. The value is 0 if there are fewer than two groups or classes.

    Source: W. Bergsma, "A bias-correction for Cramér's V and Tschuprow's T", J. of the Korean
    Statistical Society 42(3), 2013.
    """
    rows = [counts for name, counts in cells.counts.items() if name != UNKNOWN and any(counts)]
    classes = [sum(column) for column in zip(*rows, strict=True)]
    total, size = sum(classes), len(rows)
    if size < 2 or not all(classes) or total < 2:
        return 0.0
    squares = sum(
        (count - sum(row) * of_class / total) ** 2 / (sum(row) * of_class / total)
        for row in rows
        for count, of_class in zip(row, classes, strict=True)
    )
    phi = max(squares / total - (size - 1) / (total - 1), 0.0)
    least = min(size - (size - 1) ** 2 / (total - 1), 2 - 1 / (total - 1)) - 1
    return min(math.sqrt(phi / least), 1.0) if least > 0 else 0.0
