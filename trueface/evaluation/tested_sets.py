"""The tests of a run: score files with what is known of them, and which of them belong together.

Score files of fakes and of reals are apart; a measure of two classes needs both. Scores of reals stand
beside each set of fakes under the same modifiers and condition, and all fakes of these are pooled.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from trueface.data.vocabulary import BUILT_IN
from trueface.evaluation.operating_threshold import Calibration
from trueface.evaluation.score_tables import Scores, merge, read_scores
from trueface.runtime import paths
from trueface.runtime.errors import DataError, UnknownName, UsageError
from trueface.runtime.files import Json, read_json
from trueface.runtime.ids import (
    condition_of_test,
    data_of_test,
    model_folder_name,
    parse_data,
    parse_model,
    tested,
)

SEED = "seed"  # the swept setting whose values are repetitions of one model


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """One test of one model."""

    data: str
    condition: str  # under which it was done; "" of a plain test
    modifier: str  # as written, "+" between several
    elementary: frozenset[str]  # what the modifier stands for
    root: str  # where its images lie; "" where that is not known
    scores: Scores
    calibration: Calibration | None  # of the model, by validation; None: it has none
    settings: Mapping[str, Json] = field(default_factory=dict)  # of the test; empty: not known

    @property
    def classes(self) -> frozenset[int]:
        """Which labels it has."""
        return frozenset(map(int, self.scores.labels))


@dataclass(frozen=True, slots=True, kw_only=True)
class TestedSet:
    """Tests of one model that are measured as one table."""

    __test__ = False  # not a test case, whatever its name

    data: str
    tests: tuple[Tested, ...]
    pooled: bool  # several sets of fakes

    @property
    def scores(self) -> Scores:
        """All rows, each image once."""
        return merge(test.scores for test in self.tests)


def read_test(run_folder: Path, model: str, data: str) -> Tested:
    """Return a test whose score file is there.

    Raises:
        DataError: the score file cannot be read.
    """
    modifiers = _modifiers(data)
    folder = run_folder / model_folder_name(model)
    record = read_json(paths.metrics(folder, data)) or {}
    settings = record.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    root = settings.get("data_root")
    return Tested(
        data=data,
        condition=condition_of_test(data),
        modifier=modifier_of(data),
        elementary=frozenset(key for modifier in modifiers for key in _elementary(modifier)),
        root=root if isinstance(root, str) else "",
        scores=read_scores(paths.scores(folder, model, data)),
        calibration=Calibration.read(record.get("calibration")),
        settings=settings,
    )


def finite_tests(run_folder: Path, model: str, tests: Iterable[tuple[str, str]]) -> list[Tested]:
    """Return the tests of a model that have a score file, in their order.

    Raises:
        DataError: a score file cannot be read, or a logit is no finite number; it is named with its
            line.
    """
    folder = run_folder / model_folder_name(model)
    made = []
    for data in [data for other, data in tests if other == model]:
        path = paths.scores(folder, model, data)
        if not path.exists():
            continue
        test = read_test(run_folder, model, data)
        broken = np.flatnonzero(~np.isfinite(test.scores.logits))
        if len(broken):
            raise DataError(
                f"{path}:{broken[0] + 2}: the logit {test.scores.logits[broken[0]]} is no finite "
                f"number ({len(broken)} such rows): the model is broken; train it with a lower lr"
            )
        made.append(test)
    return made


def by_place(tests: Sequence[Tested]) -> Mapping[tuple[str, str, frozenset[str]], list[Tested]]:
    """Return the tests that may be joined: by data root, condition and modifiers.

    Tests of two data roots stand apart: a path there is another image, or the same one again.
    """
    groups: dict[tuple[str, str, frozenset[str]], list[Tested]] = {}
    for test in tests:
        groups.setdefault((test.root, test.condition, test.elementary), []).append(test)
    return groups


def joined(group: Sequence[Tested]) -> Iterator[TestedSet]:
    """Yield each set of fakes of a group beside its reals, then all of them pooled."""
    reals = [test for test in group if test.classes == {0}]
    others = [test for test in group if test.classes != {0}]
    for test in others or reals:
        beside = reals if test.classes == {1} else []
        yield TestedSet(data=test.data, tests=(test, *beside), pooled=False)
    if len(others) > 1:
        every = "&".join(data_of_test(test.data) for test in (*others, *reals))
        yield TestedSet(data=tested(every, group[0].condition), tests=tuple(group), pooled=True)


def modifier_of(data: str) -> str:
    """Return the modifiers of a test as a table names them, with its condition."""
    return tested("+".join(_modifiers(data)), condition_of_test(data))


def without_seed(model: str) -> str:
    """Return a model's ID without the value of a swept seed; what is no ID as it is."""
    try:
        parsed = parse_model(model)
    except UsageError:
        return model
    stages = (
        replace(stage, variant=tuple(pair for pair in stage.variant if pair[0] != SEED))
        for stage in parsed.stages
    )
    return str(replace(parsed, stages=tuple(stages)))


def _modifiers(data: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.modifier for part in parse_data(data_of_test(data)).parts))


def _elementary(modifier: str) -> tuple[str, ...]:
    try:
        return BUILT_IN.modifier_keys(modifier)
    except UnknownName:  # a word of the user's: taken as written
        return (modifier,)
