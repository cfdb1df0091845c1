"""The facts of a run that an audit judges, and their folders: of models, current or of the original system.

The original's runs, whose models have no record of their own:

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
from trueface.data.equal_files import Contradiction
from trueface.data.image_headers import Header
from trueface.evaluation.intervals import Floats
from trueface.predictions.predictions import Predictions
from trueface.runtime.files import Json
from trueface.training.history import Epoch

CHANCE_FLIP_RATE = 0.4  # wrong labels from which on no loss needs to fall, and no test to go well
EMPTY_JSON: Mapping[str, Json] = {}
UNTESTED = "the model was not tested. Test it on both classes."

Evidence = dict[str, int | float | str]  # of a finding, by what it is


class GroupTest(NamedTuple):
    """One test by one column of groups, real images and fakes together."""

    data: str
    by: str
    subgroup_counts: AttributeCounts
    gap: float | None  # of the FPR at threshold .5, in percent; None: not defined
    floor: float | None  # 95 % point of the gap when groups are shuffled within classes


class GroupFacts(NamedTuple):
    """The groups of a model's training and test images, where its settings name attributes."""

    files: tuple[str, ...]
    train: Mapping[str, AttributeCounts]  # by column
    tests: tuple[GroupTest, ...]
    train_trouble: str = ""  # why `train` is empty
    test_trouble: str = ""  # why `tests` lacks some


class SplitKeys(NamedTuple):
    """The keys of a split's lists; None for a list that is not there."""

    path: str = ""
    train: frozenset[str] | None = None
    val: frozenset[str] | None = None
    test: frozenset[str] | None = None
    trouble: str = ""  # why lists are missing

    @property
    def missing_list_reason(self) -> str:
        """Why a list is missing, whatever the reason."""
        return self.trouble or "the split is unknown. Give --split-path."


class FlipRecord(NamedTuple):
    """Which images' labels were flipped, in today's form or in that of the original system."""

    path: str
    keys: tuple[str, ...]  # without modifier
    total: int  # images of the set from which they were drawn
    kind: str  # "flip", "f2r", …
    indices: tuple[int, ...]
    images_sha256: str | None = None  # fingerprint of that set; the original stored none
    classes: tuple[int, ...] | None = None  # the true label of each key, where it is known
    sha256: str | None = None  # of the file itself; that of the original is not needed


class Poisoning(NamedTuple):
    """The flipped labels of a model, by its name and its records."""

    rate: float | None  # fraction of flipped labels in its last training; None: not poisoned
    kind: str  # "" where there is none
    said_by: str  # the source: "the model's ID", "the run's name"
    unlearned: bool
    record: FlipRecord | None
    trouble: str  # why there is no record, though one is wanted

    @property
    def unreadable(self) -> bool:
        """Whether there is a record that cannot be read."""
        return self.trouble.startswith("cannot")


class AuditedTest(NamedTuple):
    """One test of a model."""

    data: str  # of a test under a condition: with that, as in `gan2:pre@corrupt=jpeg50`
    modifiers: frozenset[str]
    scores: Predictions | None
    trouble: str  # why there are no scores
    metrics: Mapping[str, Json]  # as the test wrote them; empty where it wrote none
    expected: int | None  # unshared images of this data in the split's test list, where known
    written: float | None  # when the scores were, seconds since the epoch
    lists: SplitKeys  # of the test's own split, else of the training's

    @property
    def settings(self) -> Mapping[str, Json]:
        """Its settings; empty if unknown."""
        return mapping(self.metrics, "settings")


class FileSurvey(NamedTuple):
    """The facts of the image files themselves."""

    # of a sample of the training images, equally many of each class
    file_headers: tuple[Header, ...]
    unreadable: int  # among that sample
    copies: tuple[tuple[str, str], ...]  # (training file, test file) with the same bytes
    trained: int  # training files that were compared, by size first
    tested: int
    uncompared: (
        int  # test files of a size that training files have, too, for which no time was left
    )
    contradictions: tuple[Contradiction, ...] = ()  # among the training files
    all_compared: bool = True  # with each other; else there was no time


class BaseModel(NamedTuple):
    """The model that an unlearned one was made from."""

    name: str
    trouble: str  # why there is less
    sizes: Floats | None = None  # of its logits over all tests; None: it was not tested
    equal: tuple[str, ...] = ()  # tests in which both have the same scores, to the last bit
    compared: int = 0  # tests that both have


class Model(NamedTuple):
    """One model of a run."""

    name: str
    folder: Path
    poison: Poisoning
    provenance: Mapping[str, Json]  # empty where nothing sound is there, as is the summary
    summary: Mapping[str, Json]
    epochs: tuple[Epoch, ...]
    lists: SplitKeys
    tests: tuple[AuditedTest, ...]  # of images as they are
    conditioned: tuple[AuditedTest, ...]  # under conditions, such as corrupted images
    survey: FileSurvey | None
    survey_trouble: str  # why there is none
    modifiers: frozenset[str] | None  # of its training images
    weights_written: float | None  # seconds since the epoch, as is the next
    provenance_written: float | None
    methods: Mapping[str, int]  # method folder → label, where known
    # of an old unlearning: (loss, accuracy in percent) after each epoch, and its loss's offset
    unlearning: Mapping[str, list[tuple[float, float]]]
    offset: float | None
    bad_lists: Mapping[str, int]  # "train", "val" → images left out
    misplaced: int  # recorded indices that are not the place of their key
    damaged: tuple[tuple[str, str], ...]  # file, and what is wrong with it
    scoreless: tuple[str, ...]  # tests with metrics whose scores are missing
    base: BaseModel | None  # of an unlearned model, where it is known
    groups: GroupFacts | None  # of people in its images; None: its settings name no attributes

    @property
    def settings(self) -> Mapping[str, Json]:
        """The settings of its training; empty if unknown."""
        return mapping(self.provenance, "settings")

    @property
    def is_chance_expected(self) -> bool:
        """Whether so many labels are flipped that chance performance is expected."""
        return (self.poison.rate or 0) >= CHANCE_FLIP_RATE and not self.poison.unlearned


class Run(NamedTuple):
    """A run on disk."""

    name: str
    folder: Path
    models: tuple[Model, ...]


class PooledScores(NamedTuple):
    """The scores of a model over all tests under the same modifiers."""

    data: str
    predictions: Predictions  # with keys


def number(record: Mapping[str, Json], key: str) -> float | None:
    """Return a number of a record; None where there is none."""
    value = record.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def mapping(
    record: Mapping[str, Json], key: str, default: Mapping[str, Json] = EMPTY_JSON
) -> Mapping[str, Json]:
    """Return a part of a record; `default` where there is none."""
    value = record.get(key)
    return value if isinstance(value, dict) else default


def pool_scores(model: Model) -> tuple[PooledScores, ...]:
    """Return a model's scores, joined for each set of modifiers; an image counts once."""
    groups: dict[frozenset[str], list[tuple[str, Predictions]]] = {}
    for test in model.tests:
        if test.scores is not None and len(test.scores):
            groups.setdefault(test.modifiers, []).append((test.data, test.scores))
    return tuple(map(_pool, groups.values()))


def _pool(tests: list[tuple[str, Predictions]]) -> PooledScores:
    rows: dict[tuple[str, str], tuple[str, int, float]] = {}
    for data, scores in tests:
        named = scores.names_images
        for path, key, label, logit in zip(
            scores.ids, scores.keys, scores.labels, scores.margin, strict=True
        ):
            # the original named no image: its rows are identified by test and position
            place = ("", path) if named else (data, path)
            rows.setdefault(place, (key if named else f"{data}/{key}", int(label), logit))
    predictions = Predictions.from_margin(
        np.array([logit for _, _, logit in rows.values()], np.float64),
        np.array([label for _, label, _ in rows.values()], np.int8),
        keys=tuple(key for key, _, _ in rows.values()),
    )
    return PooledScores("&".join(data for data, _ in tests), predictions)


def cramers_v(cells: AttributeCounts) -> float:
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
