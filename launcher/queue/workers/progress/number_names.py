"""The names under which printed numbers count: with the title of their line or block where two titles have a name."""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

_SEPARATORS = re.compile(r"[\s_\-/.:|,]+")
_TESTS = frozenset({"test", "testing", "tst", "holdout", "predict", "prediction"})
_VALIDATIONS = frozenset(
    {"val", "valid", "validation", "validate", "dev", "eval", "evaluation", "evaluate", "heldout"}
)
_BEST = frozenset({"best", "final", "mean", "average", "cv", "overall"})
_TRAININGS = frozenset({"train", "training", "tr", "trn"})
EVALUATION = re.compile(
    r"\b(?:test|testing|val|valid|validation|validate|eval|evaluation|dev|holdout)", re.IGNORECASE
)
TRAINING = re.compile(r"\b(?:train|training|tr|trn)\b", re.IGNORECASE)
_MEAN = re.compile(r"\b(?:mean|average|avg|overall|cv)\b", re.IGNORECASE)
_OF_MEAN = re.compile(
    r"\b(?:mean|average|avg|overall|cv|cross.?validat\w+|over \w+)\b", re.IGNORECASE
)
REPLACED = "a mean replaces it"
OF_BATCH = "it is of a few batches of the training, and an evaluation has one, too"
SEVERAL_ROWS = "its table has several rows without a name"
UNTITLED = "its line does not name its phase, as other lines with this name do"


class FoundNumber(NamedTuple):
    """A number with a name of a result."""

    name: str
    title: str  # the title of the number's line or block
    value: float
    line: int
    rule: str
    step: int = -1  # place of the step before the number among all steps
    is_batch: bool = False  # the number is of a batch; the mean of the phase replaces it
    is_counted: bool = False  # the number's line has a step or an epoch
    is_instance: bool = False  # the title is that of one of several, such as a fold
    table: int = 0  # number of its table, if its row has no label


class NamedNumber(NamedTuple):
    """A number under the name that counts, or why it does not."""

    name: str
    found: FoundNumber
    reason: str = ""


def name_numbers(
    found_numbers: Sequence[FoundNumber],
    table_rows: Mapping[int, int],
    evaluated_names: Iterable[str],
) -> list[NamedNumber]:
    """Return numbers with the names under which they count, in the order in which they were printed.

    Args:
        found_numbers: The numbers.
        table_rows: Number of a table → its rows without a label.
        evaluated_names: Plain names of numbers of evaluations that a mean replaced.
    """
    titles: dict[str, set[str]] = {}
    for each in found_numbers:
        titles.setdefault(plain_name(each.name), set()).add(plain_name(each.title))
    means = {
        plain_name(_OF_MEAN.sub("", each.name))
        for each in found_numbers
        if not each.is_instance and _MEAN.search(each.name)
    }
    # a number without a title below all that have one is that of the whole
    last = {
        plain_name(each.name): place
        for place, each in enumerate(found_numbers)
        if each.title and EVALUATION.match(each.title)
    }
    seen = frozenset(evaluated_names)
    named = []
    for place, each in enumerate(found_numbers):
        plain = plain_name(each.name)
        is_final = not each.title and not each.is_counted and place > last.get(plain, place)
        named.append(
            NamedNumber(each.name, each)
            if is_final and not table_rows.get(each.table)
            else _name_number(each, titles[plain], means, seen, table_rows)
        )
    return named


def _name_number(
    each: FoundNumber,
    titles: set[str],
    means: set[str],
    evaluated_names: frozenset[str],
    table_rows: Mapping[int, int],
) -> NamedNumber:
    plain = plain_name(each.name)
    titled = NamedNumber(f"{each.title} {each.name}", each)
    if table_rows.get(each.table, 0) > 1:
        return NamedNumber(each.name, each, SEVERAL_ROWS)
    if len(titles) > 1:
        if each.is_instance and any(map(plain.endswith, means)):
            return NamedNumber(each.name, each, REPLACED)
        is_evaluated = any(EVALUATION.match(title) for title in titles if title)
        if each.is_batch and TRAINING.match(each.title) and is_evaluated:
            return titled._replace(reason=OF_BATCH)
        if each.title:
            return titled
        if is_evaluated:
            return NamedNumber(each.name, each, UNTITLED)
    elif each.title and plain in evaluated_names and TRAINING.match(each.title):
        return titled
    return NamedNumber(each.name, each)


def is_of_mean(name: str) -> bool:
    """Return whether a name says that its number is the mean of others, or the best of them."""
    return _MEAN.search(name) is not None


@lru_cache(maxsize=4096)
def plain_name(name: str) -> str:
    """Return a name without differences that do not matter: case, and what separates its words."""
    return _SEPARATORS.sub(" ", name.lower()).strip()


def has_phase(name: str) -> bool:
    """Return whether a name says that its number is from a training or an evaluation."""
    words = plain_name(name).split()
    return any(word in _TESTS or word in _VALIDATIONS or word in _TRAININGS for word in words)


def mentions(name: str, title: str) -> bool:
    """Return whether a name contains the words of its title: `test_acc` of `Test`."""
    return set(plain_name(title).split()) <= set(plain_name(name).split())


def table_rank(name: str) -> int:
    """Return the place of a name in a table: results of tests come first, those of trainings last."""
    words = plain_name(name).split()
    for rank, phase in enumerate((_TESTS, _VALIDATIONS)):
        if any(word in phase for word in words[:3]):
            return rank
    if any(word in _BEST for word in words):
        return 2
    return 4 if any(word in _TRAININGS for word in words) else 3
