"""The facts of a run that an audit judges; nothing in here reads a file."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trueface.data.attribute_table import UNKNOWN, Cells
from trueface.data.image_headers import Header
from trueface.evaluation.calibration import Labels
from trueface.evaluation.intervals import Floats
from trueface.evaluation.score_tables import Scores
from trueface.runtime.files import Json
from trueface.training.history import Epoch


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedGroups:
    """One test by one column of groups, real images and fakes together."""

    __test__ = False  # not a test case, whatever its name

    data: str
    by: str
    cells: Cells
    gap: float | None  # of the FPR at threshold .5, in percent; None: not defined
    floor: float | None  # 95 % point of the gap when groups are shuffled within classes


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The groups of a model's training and test images, where its settings name attributes."""

    files: tuple[str, ...]
    train: Mapping[str, Cells]  # by column
    tests: tuple[TestedGroups, ...]
    train_trouble: str = ""  # why `train` is empty
    test_trouble: str = ""  # why `tests` lacks some


def dependence(cells: Cells) -> float:
    """Return Cramér's V between group and class in 0 … 1, corrected for its bias.

    Without the correction, eight groups of 400 images that depend on nothing have .13. Images without
    a group are left out; 0 where there are fewer than two groups or classes.

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


HOPELESS_RATE = (
    0.4  # from here on too many labels are wrong for a loss to fall or a test to go well
)
UNTESTED = "the model was not tested: test it on both classes"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lists:
    """The keys of a split; None for a list that is not there."""

    path: str
    train: frozenset[str] | None
    val: frozenset[str] | None
    test: frozenset[str] | None
    trouble: str = ""  # why lists are missing


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Which images' labels were flipped, in today's form or in that of the original system."""

    path: str
    keys: tuple[str, ...]  # without modifier
    total: int  # images of the set from which they were drawn
    kind: str  # "flip", "f2r", …
    images_sha256: str | None  # fingerprint of that set; the original kept none
    classes: tuple[int, ...] | None  # the true label of each key, where it is known
    indices: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One test of a model."""

    data: str  # of a test under a condition: with that, as in `gan2:pre@corrupt=jpeg50`
    modifiers: frozenset[str]
    scores: Scores | None
    trouble: str  # why there are no scores
    metrics: Mapping[str, Json]  # as the test wrote them; empty where it wrote none
    expected: int | None  # unshared images of this data in the split's test list, where known
    written: float | None  # when the scores were, seconds since the epoch
    lists: Lists | None = None  # of the test's own split; None: those of the training


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What the image files themselves told."""

    looks: tuple[Header, ...]  # of a sample of the training images, equally many of each class
    unreadable: int  # among that sample
    copies: tuple[tuple[str, str], ...]  # (training file, test file) with the same bytes
    trained: int  # training files that were compared, by size first
    tested: int
    left: int  # test files of a size that training files have, too, for which no time was left


@dataclass(frozen=True, slots=True, kw_only=True)
class Base:
    """The model that an unlearned one was made from."""

    name: str
    sizes: Floats = field(default_factory=lambda: np.zeros(0))  # of its logits over all tests
    equal: tuple[str, ...] = ()  # tests in which both have the same scores, to the last bit
    compared: int = 0  # tests that both have
    trouble: str = ""  # why there is less


@dataclass(frozen=True, slots=True, kw_only=True)
class Model:
    """One model of a run."""

    name: str
    folder: Path
    # fraction of flipped labels in its last training, by its ID; None: not poisoned
    rate: float | None
    kind: str  # of that poison, "" where there is none
    said_by: str  # who says so: "the model's ID", "the run's name"
    unlearned: bool
    provenance: Mapping[str, Json] | None
    summary: Mapping[str, Json]
    epochs: tuple[Epoch, ...]
    record: Record | None
    record_trouble: str  # why there is none, though one is wanted
    lists: Lists
    tests: tuple[Tested, ...]  # of images as they are
    survey: Survey | None
    survey_trouble: str  # why there is none
    modifiers: frozenset[str] | None  # of its training images
    weights_written: float | None  # seconds since the epoch, as is the next
    provenance_written: float | None
    methods: Mapping[str, int] = field(default_factory=dict)  # method folder → label, where known
    # of an old unlearning: (loss, accuracy in percent) after each epoch
    unlearning: Mapping[str, list[tuple[float, float]]] = field(default_factory=dict)
    bad_lists: Mapping[str, int] = field(default_factory=dict)  # "train", "val" → images left out
    record_sha256: str | None = None  # of poison.json as it lies there
    misplaced: int = 0  # recorded indices that are not the place of their key
    damaged: tuple[tuple[str, str], ...] = ()  # file, and what is wrong with it
    scoreless: tuple[str, ...] = ()  # tests with metrics whose scores are gone
    base: Base | None = None  # of an unlearned model, where it is known
    offset: float | None = None  # of the loss of an old unlearning
    conditioned: tuple[Tested, ...] = ()  # tests under conditions, such as corrupted images
    groups: Groups | None = None  # of people in its images; None: its settings name no attributes

    @property
    def settings(self) -> Mapping[str, Json]:
        """The settings of its training; empty where nothing tells them."""
        recorded = (self.provenance or {}).get("settings")
        return recorded if isinstance(recorded, dict) else {}

    @property
    def hopeless(self) -> bool:
        """Whether so many labels are wrong on purpose that chance is what to expect of it."""
        return self.rate is not None and self.rate >= HOPELESS_RATE and not self.unlearned


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """A run as it lies on the disk."""

    name: str
    folder: Path
    models: tuple[Model, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pooled:
    """The scores of a model over all tests under the same modifiers."""

    data: str
    keys: tuple[str, ...]
    labels: Labels
    logits: Floats


def pooled(model: Model) -> tuple[Pooled, ...]:
    """Return a model's scores, joined for each set of modifiers; an image counts once."""
    groups: dict[frozenset[str], list[Tested]] = {}
    for test in model.tests:
        if test.scores is not None and len(test.scores):
            groups.setdefault(test.modifiers, []).append(test)
    return tuple(_pool(tests) for tests in groups.values())


def number(record: Mapping[str, Json], key: str) -> float | None:
    """Return a number of a record; None where there is none."""
    value = record.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _pool(tests: list[Tested]) -> Pooled:
    rows: dict[tuple[str, str], tuple[str, int, float]] = {}
    for test in tests:
        scores = test.scores
        if scores is None:
            continue
        named = scores.names_images
        for path, key, label, logit in zip(
            scores.paths, scores.keys, scores.labels, scores.logits, strict=True
        ):
            # the original named no image: its rows are identified by test and position
            place = ("", path) if named else (test.data, path)
            rows.setdefault(place, (key if named else f"{test.data}/{key}", int(label), logit))
    return Pooled(
        data="&".join(test.data for test in tests),
        keys=tuple(key for key, _, _ in rows.values()),
        labels=np.array([label for _, label, _ in rows.values()], np.int8),
        logits=np.array([logit for _, _, logit in rows.values()], np.float64),
    )
