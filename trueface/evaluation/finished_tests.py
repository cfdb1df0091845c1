"""The finished tests of a model, and how they are joined into the tables that are measured."""

import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from trueface.data.vocabulary import BUILT_IN
from trueface.evaluation.operating_threshold import Calibration
from trueface.predictions.cross_entropy import mean_cross_entropy
from trueface.predictions.csv_tables import read_csv
from trueface.predictions.predictions import Predictions, merge
from trueface.runtime import paths
from trueface.runtime.errors import UnknownName
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import (
    condition_of_test,
    data_of_test,
    model_folder_name,
    parse_data,
    tested,
)

log = logging.getLogger(__name__)
ROUNDING = 1e-5  # relative; score files have nine digits of a logit, and loss is a sum of them


class FinishedTest(NamedTuple):
    """One test of one model."""

    data: str
    elementary: frozenset[str]  # the meaning of its modifiers
    scores: Predictions
    root: str = ""  # folder of its images; "" if unknown
    calibration: Calibration | None = None  # the model's, by validation; None: it has none
    settings: Mapping[str, Json] = MappingProxyType({})  # settings of the test; empty: not known
    edited: str = ""  # the difference from the scores that the test wrote; "": none
    outdated: bool = False  # the model was trained again since

    @property
    def condition(self) -> str:
        """Under which it was done; "" of a plain test."""
        return condition_of_test(self.data)

    @property
    def classes(self) -> frozenset[int]:
        """Which labels it has."""
        return frozenset(map(int, np.unique(self.scores.labels)))


class GroupedTests(NamedTuple):
    """Tests of one model that are measured as one table."""

    data: str
    tests: tuple[FinishedTest, ...]
    pooled: bool  # several sets of fakes
    data_root: (
        str  # folder of its images if the model was tested on several data roots; otherwise ""
    )

    def with_root(self, text: str) -> str:
        """Return a name of it with its place."""
        return f"{text} in {self.data_root}" if self.data_root else text

    @property
    def scores(self) -> Predictions:
        """All rows, each image once."""
        return merge(test.scores for test in self.tests)


def read_test(run_folder: Path, model: str, data: str) -> FinishedTest:
    """Return a test whose score file is there.

    Raises:
        DataError: the score file cannot be read, or a logit is not a finite number.
    """
    folder = run_folder / model_folder_name(model)
    record = read_json(paths.metrics(folder, data)) or {}
    settings = record.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    root = settings.get("data_root")
    scores = read_csv(paths.scores(folder, model, data))
    return FinishedTest(
        data=data,
        elementary=frozenset(key for modifier in _modifiers(data) for key in _elementary(modifier)),
        root=root if isinstance(root, str) else "",
        scores=scores,
        calibration=Calibration.read(record.get("calibration")),
        settings=settings,
        edited=describe_edit(record, scores),
        outdated=is_of_earlier_weights(record, read_json(paths.provenance(folder)) or {}),
    )


def is_of_earlier_weights(record: Mapping[str, Json], provenance: Mapping[str, Json]) -> bool:
    """Return whether a test scored other weights than those of the model now.

    Temperature and threshold are fitted to the weights, so other weights have others. Without them it is not known.

    Args:
        record: content of the test's metrics file.
        provenance: of the model's weights.
    """
    tested, current = (Calibration.read(each.get("calibration")) for each in (record, provenance))
    return tested is not None and current is not None and tested != current


def describe_edit(record: Mapping[str, Json], scores: Predictions) -> str:
    """Return how a score table differs from the metrics that its test recorded; "" if it does not.

    Args:
        record: content of the test's metrics file. A measure that it lacks is not compared.
        scores: the table, whose logits are finite.
    """
    fake, called = scores.labels == 1, scores.margin > 0
    for name, value in (
        ("n", float(len(scores))),
        ("fake", float(fake.sum())),
        ("accuracy", float(np.mean(called == fake)) if len(scores) else math.nan),
        ("called_fake", float(np.mean(called)) if len(scores) else math.nan),
        ("mean_logit", float(scores.margin.mean()) if len(scores) else math.nan),
        ("loss", mean_cross_entropy(fake, scores.margin) if len(scores) else math.nan),
    ):
        known = record.get(name)
        if isinstance(known, int | float) and not math.isclose(
            known, value, rel_tol=ROUNDING, abs_tol=ROUNDING
        ):
            return (
                f"{name} is {value:.6g} by the score file and {known:.6g} by the record of the test"
            )
    return ""


def finite_tests(
    run_folder: Path, model: str, tests: Iterable[tuple[str, str]]
) -> list[FinishedTest]:
    """Return the tests of a model that have a score file, in their order. Edited and old scores are logged.

    Raises:
        DataError: a score file cannot be read, or a logit is not a finite number.
    """
    folder = run_folder / model_folder_name(model)
    found = [
        read_test(run_folder, model, data)
        for other, data in tests
        if other == model and paths.scores(folder, model, data).exists()
    ]
    for test in found:
        if test.outdated:
            log.warning(
                "model=%s test=%s state=old scores reason=the model was trained again since advice=test again",
                model,
                test.data,
            )
        if test.edited:
            log.warning(
                "model=%s test=%s state=edited scores reason=%s advice=test again",
                model,
                test.data,
                test.edited,
            )
    return found


def group_tests(tests: Sequence[FinishedTest]) -> Iterator[GroupedTests]:
    """Yield the score tables of a model: each set of fakes with its reals, then all of them pooled.

    Only tests of one data root, condition and modifiers are joined: a path below another root is another
    image, or the same one again. Sets that one of them holds already are not pooled.
    """
    several = len({test.root for test in tests}) > 1
    groups: dict[tuple[str, str, frozenset[str]], list[FinishedTest]] = {}
    for test in tests:
        groups.setdefault((test.root, test.condition, test.elementary), []).append(test)
    for (root, condition, _), group in groups.items():
        data_root = (root or "an unknown data root") if several else ""
        reals = [test for test in group if test.classes == {0}]
        others = [test for test in group if test.classes != {0}]
        sets = []
        for test in others or reals:
            beside = reals if test.classes == {1} else []
            sets.append(
                GroupedTests(
                    data=test.data, tests=(test, *beside), pooled=False, data_root=data_root
                )
            )
        yield from sets
        if len(others) > 1:
            data = tested(_join_test_data(others, reals), condition)
            every = GroupedTests(data=data, tests=tuple(group), pooled=True, data_root=data_root)
            if len(every.scores) > max(len(each.scores) for each in sets):
                yield every


def _join_test_data(others: Iterable[FinishedTest], reals: Iterable[FinishedTest]) -> str:
    """Return the data of all tests, each part once, those of real images last, in whatever order tests are."""
    last, first = (
        {part for test in tests for part in data_of_test(test.data).split("&")}
        for tests in (reals, others)
    )
    return "&".join((*sorted(first - last), *sorted(last)))


def modifier_of(data: str) -> str:
    """Return the modifiers of a test as a table names them, with its condition."""
    return tested("+".join(_modifiers(data)), condition_of_test(data))


def _modifiers(data: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.modifier for part in parse_data(data_of_test(data)).parts))


def _elementary(modifier: str) -> tuple[str, ...]:
    try:
        return BUILT_IN.modifier_keys(modifier)
    except UnknownName:  # a word of the user's: taken as written
        return (modifier,)
